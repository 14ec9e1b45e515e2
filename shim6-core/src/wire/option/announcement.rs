//! What a host tells of itself in each message that can make a context: a group of options, always in this order.

use super::{LocatorList, OptionWriter, cga_parameters, cga_signature, keepalive_timeout, keepalive_timeout_ms};

/// The sender's locators, what proves them, and how fast it notices a failure.
pub(in crate::wire) struct Announcement<'a> {
    pub(in crate::wire) locators: Option<&'a LocatorList>,
    pub(in crate::wire) cga_parameters: Option<&'a [u8]>,
    pub(in crate::wire) cga_signature: Option<&'a [u8]>,
    /// In seconds.
    pub(in crate::wire) keepalive_timeout: Option<u16>,
    pub(in crate::wire) keepalive_timeout_ms: Option<u32>,
}

impl Announcement<'_> {
    /// Octets of the options.
    pub(in crate::wire) fn buffer_len(&self) -> usize {
        self.locators.map_or(0, LocatorList::buffer_len)
            + self.cga_parameters.map_or(0, cga_parameters::buffer_len)
            + self.cga_signature.map_or(0, cga_signature::buffer_len)
            + self.keepalive_timeout.map_or(0, |_| keepalive_timeout::BUFFER_LEN)
            + self
                .keepalive_timeout_ms
                .map_or(0, |_| keepalive_timeout_ms::BUFFER_LEN)
    }

    pub(in crate::wire) fn emit(&self, writer: &mut OptionWriter<'_>) {
        if let Some(list) = self.locators {
            list.emit(writer);
        }
        if let Some(parameters) = self.cga_parameters {
            cga_parameters::emit(parameters, writer);
        }
        if let Some(signature) = self.cga_signature {
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
