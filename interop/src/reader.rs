//! A second reading of Shim6 headers, made from the figures of RFC 5533 section 5 and RFC 5534 section 5 alone.
//!
//! Each figure is a declaration for libpnet's packet macro, bit field by bit field; what is variable is walked here. It
//! shares no code with `shim6-core`, and judges little: it says which octets are which field, and what the checksum
//! should be. Whether a value makes sense is not its business.

pub(crate) mod figure;
mod options;

use std::net::Ipv6Addr;

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An unsigned integer of up to 64 bits.
    Number(u64),
    /// An IPv6 address.
    Address(Ipv6Addr),
    /// A field of variable length.
    Octets(Vec<u8>),
}

macro_rules! numbers {
    ($($integer:ty)*) => { $(
        impl From<$integer> for Value {
            fn from(number: $integer) -> Self {
                Self::Number(number.into())
            }
        }
    )* };
}

numbers!(u8 u16 u32 u64);

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Self::Address(address)
    }
}

impl From<&[u8]> for Value {
    fn from(octets: &[u8]) -> Self {
        Self::Octets(octets.to_vec())
    }
}

/// A field: its name in the figure, in lower case with underscores, and its value. Fields of options and of probe
/// records have the name of the option or the kind of the record in front: `locator_list.generation`, `sent.nonce`.
pub type Field = (&'static str, Value);

/// A Shim6 header as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// All fields, reserved ones and padding included, in the order of the octets.
    pub fields: Vec<Field>,
    /// Octets of the header, as Hdr Ext Len gives them. What follows is not part of it.
    pub len: usize,
    /// What the checksum field should hold; `None` for a payload header, which has none.
    pub checksum: Option<u16>,
}

impl Reading {
    /// The value of the first field with this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// The number in the first field with this name; `None` also if it holds something else.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            Value::Address(_) | Value::Octets(_) => None,
        }
    }

    /// Whether the checksum field holds what it should. True for a payload header.
    pub fn checksum_is_right(&self) -> bool {
        self.number("checksum") == self.checksum.map(u64::from)
    }
}

/// Why octets have no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The octets end within a field of the named figure.
    #[error("the octets end within {0}")]
    Short(&'static str),
    /// The figure of this message type is not known.
    #[error("no figure for message type {0}")]
    MessageType(u8),
}

/// Reads the Shim6 header, control message or payload header, that `octets` start with.
///
/// # Errors
///
/// See [`ReadError`]. A wrong checksum is none: see [`Reading::checksum_is_right`].
pub fn read(octets: &[u8]) -> Result<Reading, ReadError> {
    let common = figure::CommonPacket::new(octets).ok_or(ReadError::Short("the common header"))?;
    let len = 8 * (usize::from(common.get_hdr_ext_len()) + 1);
    let header = octets.get(..len).ok_or(ReadError::Short("what Hdr Ext Len promises"))?;
    if common.get_p() == 1 {
        let fields = figure::payload(header)?;
        return Ok(Reading {
            fields,
            len,
            checksum: None,
        });
    }
    let mut fields = Vec::new();
    let rest = figure::message(common.get_message_type(), header, &mut fields)?;
    options::read(rest, &mut fields)?;
    // The checksum is the third 16-bit word of the header.
    let checksum = pnet_packet::util::checksum(header, 2);
    Ok(Reading {
        fields,
        len,
        checksum: Some(checksum),
    })
}

#[cfg(test)]
mod tests;
