//! Keepalive (RFC 5534 section 5.1).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 66  |  Reserved1  |0|
//! |            Checksum           |R|                             |
//! |                    Receiver Context Tag                       |
//! |                           Reserved2                           |
//! ~                            Options                            ~
//! ```
//!
//! No option is defined for it.

use crate::wire::header::{Control, put_tag, tag_of};
use crate::wire::option::OptionSet;
use crate::wire::{ContextTag, ParseError};

const LEN: usize = 16;

/// A Keepalive in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepaliveView<'a> {
    fixed: &'a [u8; LEN],
}

impl<'a> KeepaliveView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        OptionSet::collect(options, LEN, &[])?;
        Ok(KeepaliveView { fixed })
    }

    /// The tag that the receiver has allocated.
    pub fn receiver_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// Copies the message.
    pub fn to_message(&self) -> Keepalive {
        Keepalive {
            receiver_context_tag: self.receiver_context_tag(),
        }
    }
}

/// Keepalive: shows the peer that its packets arrive, when there is no payload to show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// The tag that the receiver has allocated.
    pub receiver_context_tag: ContextTag,
}

impl Keepalive {
    pub(super) fn buffer_len(&self) -> usize {
        LEN
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
    }
}
