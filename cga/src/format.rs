//! Constants of the CGA Parameters data structure (RFC 3972 section 3), for those who hash it as well as those who read it.

use core::fmt;

/// A modifier (RFC 3972 section 3): 128 bits in network order.
pub type Modifier = [u8; 16];

/// The highest collision count that verifies (RFC 3972 section 5, step 1).
pub const MAX_COLLISION_COUNT: u8 = 2;

/// Length in octets of the fields before the public key.
pub const PARAMETERS_HEAD_LEN: usize = 25;

/// Where the subnet prefix is, behind the modifier.
pub(crate) const PREFIX_AT: usize = 16;
/// Where the collision count is.
pub(crate) const COLLISION_COUNT_AT: usize = 24;

/// Subnet prefix and collision count: what the hashes of one set differ in.
pub(crate) type Varying = [u8; PARAMETERS_HEAD_LEN - PREFIX_AT];

/// Type of an extension field (RFC 4581 section 2); unknown values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionType(pub u16);

impl ExtensionType {
    /// The Multi-Prefix extension (RFC 5535 section 10).
    pub const MULTI_PREFIX: Self = Self(0x0012);
}

impl fmt::Display for ExtensionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}
