//! What a host tells of itself in I2, R2, I2bis and Update Request: a group of options, always in this order.

use alloc::vec::Vec;

use super::{
    LocatorList, LocatorPreferences, OptionSet, OptionWriter, cga_parameters, cga_signature, keepalive_timeout,
    keepalive_timeout_ms,
};
use crate::wire::{EmitError, OptionType};

/// The options of an announcement, all of which may be left out (RFC 5533 sections 5.6, 5.7, 5.9, 5.10; RFC 5534
/// section 5.3).
pub(in crate::wire) const OPTIONS: [OptionType; 6] = [
    OptionType::LOCATOR_LIST,
    OptionType::LOCATOR_PREFERENCES,
    OptionType::CGA_PARAMETERS,
    OptionType::CGA_SIGNATURE,
    OptionType::KEEPALIVE_TIMEOUT,
    OptionType::KEEPALIVE_TIMEOUT_MS,
];

/// The sender's locators, how it likes each, what proves them, and how fast it notices a failure.
///
/// A Locator List without CGA parameters is well formed here: it is for who verifies the locators to refuse it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Announcement {
    /// The sender's locators.
    pub locators: Option<LocatorList>,
    /// What the sender says of each of its locators.
    pub preferences: Option<LocatorPreferences>,
    /// CGA Parameter Data Structure with which the locators are verified.
    pub cga_parameters: Option<Vec<u8>>,
    /// CGA Signature over the locators whose method is CGA.
    pub cga_signature: Option<Vec<u8>>,
    /// The sender's Send Timeout in seconds.
    pub keepalive_timeout: Option<u16>,
    /// The sender's Send Timeout in milliseconds.
    pub keepalive_timeout_ms: Option<u32>,
}

impl Announcement {
    /// Copies these options of a message.
    pub(in crate::wire) fn of(options: &OptionSet<'_>) -> Self {
        Announcement {
            locators: options.locators.map(|list| list.to_list()),
            preferences: options.preferences.map(|preferences| preferences.to_preferences()),
            cga_parameters: options.cga_parameters.map(<[u8]>::to_vec),
            cga_signature: options.cga_signature.map(<[u8]>::to_vec),
            keepalive_timeout: options.keepalive_timeout,
            keepalive_timeout_ms: options.keepalive_timeout_ms,
        }
    }

    /// Octets of the options.
    pub fn buffer_len(&self) -> usize {
        let octets = |octets: &Option<Vec<u8>>, len: fn(&[u8]) -> usize| octets.as_deref().map_or(0, len);
        self.locators.as_ref().map_or(0, LocatorList::buffer_len)
            + self.preferences.as_ref().map_or(0, LocatorPreferences::buffer_len)
            + octets(&self.cga_parameters, cga_parameters::buffer_len)
            + octets(&self.cga_signature, cga_signature::buffer_len)
            + self.keepalive_timeout.map_or(0, |_| keepalive_timeout::BUFFER_LEN)
            + self
                .keepalive_timeout_ms
                .map_or(0, |_| keepalive_timeout_ms::BUFFER_LEN)
    }

    /// Whether the format can hold the values.
    pub(in crate::wire) fn check(&self) -> Result<(), EmitError> {
        self.locators.as_ref().map_or(Ok(()), LocatorList::check)?;
        self.preferences.as_ref().map_or(Ok(()), LocatorPreferences::check)
    }

    pub(in crate::wire) fn emit(&self, writer: &mut OptionWriter<'_>) {
        if let Some(list) = &self.locators {
            list.emit(writer);
        }
        if let Some(preferences) = &self.preferences {
            preferences.emit(writer);
        }
        if let Some(parameters) = &self.cga_parameters {
            cga_parameters::emit(parameters, writer);
        }
        if let Some(signature) = &self.cga_signature {
            cga_signature::emit(signature, writer);
        }
        if let Some(seconds) = self.keepalive_timeout {
            keepalive_timeout::emit(seconds, writer);
        }
        if let Some(milliseconds) = self.keepalive_timeout_ms {
            keepalive_timeout_ms::emit(milliseconds, writer);
        }
    }
}
