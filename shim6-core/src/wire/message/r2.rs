//! R2, the last message of the context exchange (RFC 5533 section 5.7).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 4   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                  Responder Context Tag                        |
//! |                    Initiator Nonce                            |
//! ~                         Options                               ~
//! ```
//!
//! A Locator List without CGA parameters is well formed here: it is for who verifies the locators
//! to refuse it.

use alloc::vec::Vec;

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{
    LocatorList, OptionSet, OptionWriter, cga_parameters, keepalive_timeout, keepalive_timeout_ms,
};
use crate::wire::{ContextTag, OptionType, ParseError};

const INITIATOR_NONCE: usize = 12;
const LEN: usize = 16;

const OPTIONS: &[OptionType] = &[
    OptionType::LOCATOR_LIST,
    OptionType::CGA_PARAMETERS,
    OptionType::KEEPALIVE_TIMEOUT,
    OptionType::KEEPALIVE_TIMEOUT_MS,
];

/// An R2 in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2View<'a> {
    fixed: &'a [u8; LEN],
    options: OptionSet<'a>,
}

impl<'a> R2View<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(R2View { fixed, options })
    }

    /// The tag that the responder has allocated.
    pub fn responder_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// Copied from I2.
    pub fn initiator_nonce(&self) -> u32 {
        u32_at(self.fixed, INITIATOR_NONCE)
    }

    /// All options.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> R2 {
        R2 {
            responder_context_tag: self.responder_context_tag(),
            initiator_nonce: self.initiator_nonce(),
            locators: self.options.locators.map(|list| list.to_list()),
            cga_parameters: self.options.cga_parameters.map(<[u8]>::to_vec),
            keepalive_timeout: self.options.keepalive_timeout,
            keepalive_timeout_ms: self.options.keepalive_timeout_ms,
        }
    }
}

/// R2: the responder has the context and tells its locators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct R2 {
    /// The tag that the responder has allocated.
    pub responder_context_tag: ContextTag,
    /// Copied from I2.
    pub initiator_nonce: u32,
    /// The responder's locators.
    pub locators: Option<LocatorList>,
    /// CGA Parameter Data Structure with which the locators are verified.
    pub cga_parameters: Option<Vec<u8>>,
    /// The responder's Send Timeout in seconds.
    pub keepalive_timeout: Option<u16>,
    /// The responder's Send Timeout in milliseconds.
    pub keepalive_timeout_ms: Option<u32>,
}

impl R2 {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + self.locators.as_ref().map_or(0, LocatorList::buffer_len)
            + self
                .cga_parameters
                .as_deref()
                .map_or(0, cga_parameters::buffer_len)
            + self
                .keepalive_timeout
                .map_or(0, |_| keepalive_timeout::BUFFER_LEN)
            + self
                .keepalive_timeout_ms
                .map_or(0, |_| keepalive_timeout_ms::BUFFER_LEN)
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.responder_context_tag);
        put_u32(out, INITIATOR_NONCE, self.initiator_nonce);
        let mut writer = OptionWriter::new(&mut out[LEN..]);
        if let Some(list) = &self.locators {
            list.emit(&mut writer);
        }
        if let Some(parameters) = &self.cga_parameters {
            cga_parameters::emit(parameters, &mut writer);
        }
        if let Some(seconds) = self.keepalive_timeout {
            keepalive_timeout::emit(seconds, &mut writer);
        }
        if let Some(milliseconds) = self.keepalive_timeout_ms {
            keepalive_timeout_ms::emit(milliseconds, &mut writer);
        }
    }
}
