//! Control messages: the checked view, the owned form, and what is common to both.

pub mod error;
pub mod i1;
pub mod i2;
pub mod i2bis;
pub mod keepalive;
pub mod probe;
pub mod r1;
pub mod r1bis;
pub mod r2;
pub mod update_acknowledgement;
pub mod update_request;

pub use error::{Error, ErrorView};
pub use i1::{I1, I1View};
pub use i2::{I2, I2View};
pub use i2bis::{I2bis, I2bisView};
pub use keepalive::{Keepalive, KeepaliveView};
pub use probe::{Probe, ProbeView};
pub use r1::{R1, R1View};
pub use r1bis::{R1bis, R1bisView};
pub use r2::{R2, R2View};
pub use update_acknowledgement::{UpdateAcknowledgement, UpdateAcknowledgementView};
pub use update_request::{UpdateRequest, UpdateRequestView};

use super::header::{self, Control};
use super::option::{ANNOUNCEMENT, OptionSet};
use super::{EmitError, MAX_MESSAGE, MessageType, OptionType, ParseError};

impl MessageType {
    /// The options that are defined for a message of this type; any other counts as unknown there (RFC 5533 section 5.15).
    pub const fn options(self) -> &'static [OptionType] {
        match self {
            MessageType::I1 => i1::OPTIONS,
            MessageType::R1 => r1::OPTIONS,
            MessageType::I2 | MessageType::I2BIS => i2::OPTIONS,
            MessageType::R1BIS => r1bis::OPTIONS,
            MessageType::R2 | MessageType::UPDATE_REQUEST => &ANNOUNCEMENT,
            _ => &[],
        }
    }
}

/// A control message in the octets that it came in, checked as a whole. Making one allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View<'a> {
    /// I1.
    I1(I1View<'a>),
    /// R1.
    R1(R1View<'a>),
    /// I2.
    I2(I2View<'a>),
    /// R2.
    R2(R2View<'a>),
    /// R1bis.
    R1bis(R1bisView<'a>),
    /// I2bis.
    I2bis(I2bisView<'a>),
    /// Update Request.
    UpdateRequest(UpdateRequestView<'a>),
    /// Update Acknowledgement.
    UpdateAcknowledgement(UpdateAcknowledgementView<'a>),
    /// Keepalive.
    Keepalive(KeepaliveView<'a>),
    /// Probe.
    Probe(ProbeView<'a>),
    /// Error.
    Error(ErrorView<'a>),
}

impl<'a> View<'a> {
    /// Checks the control message that `octets` start with. Hdr Ext Len says where it ends; what
    /// follows is ignored, and so is a Next Header that promises something.
    ///
    /// # Errors
    ///
    /// The first fault, in the order given in the [module](crate::wire)'s description.
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let control = Control::parse(octets)?;
        Ok(match control.message_type() {
            MessageType::I1 => View::I1(I1View::parse(control)?),
            MessageType::R1 => View::R1(R1View::parse(control)?),
            MessageType::I2 => View::I2(I2View::parse(control)?),
            MessageType::R2 => View::R2(R2View::parse(control)?),
            MessageType::R1BIS => View::R1bis(R1bisView::parse(control)?),
            MessageType::I2BIS => View::I2bis(I2bisView::parse(control)?),
            MessageType::UPDATE_REQUEST => View::UpdateRequest(UpdateRequestView::parse(control)?),
            MessageType::UPDATE_ACKNOWLEDGEMENT => {
                View::UpdateAcknowledgement(UpdateAcknowledgementView::parse(control)?)
            }
            MessageType::KEEPALIVE => View::Keepalive(KeepaliveView::parse(control)?),
            MessageType::PROBE => View::Probe(ProbeView::parse(control)?),
            MessageType::ERROR => View::Error(ErrorView::parse(control)?),
            unknown => return Err(ParseError::UnknownMessageType(unknown)),
        })
    }

    /// The options, in a message for which any are defined: not in Update Acknowledgement, Keepalive, Probe and Error.
    pub fn options(&self) -> Option<&OptionSet<'a>> {
        match self {
            View::I1(view) => Some(view.options()),
            View::R1(view) => Some(view.options()),
            View::I2(view) => Some(view.options()),
            View::R2(view) => Some(view.options()),
            View::R1bis(view) => Some(view.options()),
            View::I2bis(view) => Some(view.options()),
            View::UpdateRequest(view) => Some(view.options()),
            View::UpdateAcknowledgement(_) | View::Keepalive(_) | View::Probe(_) | View::Error(_) => None,
        }
    }

    /// Copies the message.
    pub fn to_message(&self) -> Message {
        match self {
            View::I1(view) => Message::I1(view.to_message()),
            View::R1(view) => Message::R1(view.to_message()),
            View::I2(view) => Message::I2(view.to_message()),
            View::R2(view) => Message::R2(view.to_message()),
            View::R1bis(view) => Message::R1bis(view.to_message()),
            View::I2bis(view) => Message::I2bis(view.to_message()),
            View::UpdateRequest(view) => Message::UpdateRequest(view.to_message()),
            View::UpdateAcknowledgement(view) => Message::UpdateAcknowledgement(view.to_message()),
            View::Keepalive(view) => Message::Keepalive(view.to_message()),
            View::Probe(view) => Message::Probe(view.to_message()),
            View::Error(view) => Message::Error(view.to_message()),
        }
    }
}

/// A control message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First message of the exchange.
    I1(I1),
    /// Answer to I1.
    R1(R1),
    /// Third message of the exchange.
    I2(I2),
    /// Last message of the exchange.
    R2(R2),
    /// Answer to a reference to a context that does not exist.
    R1bis(R1bis),
    /// Answer to R1bis.
    I2bis(I2bis),
    /// New locators or preferences.
    UpdateRequest(UpdateRequest),
    /// Answer to an Update Request.
    UpdateAcknowledgement(UpdateAcknowledgement),
    /// Shows the peer that its packets arrive.
    Keepalive(Keepalive),
    /// Explores locator pairs.
    Probe(Probe),
    /// Tells the peer what could not be processed.
    Error(Error),
}

impl Message {
    /// Reads the control message that `octets` start with. A message that is refused has allocated
    /// nothing, another at most about as much as its own length.
    ///
    /// # Errors
    ///
    /// As [`View::parse`].
    pub fn parse(octets: &[u8]) -> Result<Message, ParseError> {
        View::parse(octets).map(|view| view.to_message())
    }

    /// The type on the wire.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Message::I1(_) => MessageType::I1,
            Message::R1(_) => MessageType::R1,
            Message::I2(_) => MessageType::I2,
            Message::R2(_) => MessageType::R2,
            Message::R1bis(_) => MessageType::R1BIS,
            Message::I2bis(_) => MessageType::I2BIS,
            Message::UpdateRequest(_) => MessageType::UPDATE_REQUEST,
            Message::UpdateAcknowledgement(_) => MessageType::UPDATE_ACKNOWLEDGEMENT,
            Message::Keepalive(_) => MessageType::KEEPALIVE,
            Message::Probe(_) => MessageType::PROBE,
            Message::Error(_) => MessageType::ERROR,
        }
    }

    /// Octets of the message, a multiple of 8.
    pub fn buffer_len(&self) -> usize {
        match self {
            Message::I1(message) => message.buffer_len(),
            Message::R1(message) => message.buffer_len(),
            Message::I2(message) => message.buffer_len(),
            Message::R2(message) => message.buffer_len(),
            Message::R1bis(message) => message.buffer_len(),
            Message::I2bis(message) => message.buffer_len(),
            Message::UpdateRequest(message) => message.buffer_len(),
            Message::UpdateAcknowledgement(message) => message.buffer_len(),
            Message::Keepalive(message) => message.buffer_len(),
            Message::Probe(message) => message.buffer_len(),
            Message::Error(message) => message.buffer_len(),
        }
    }

    /// Writes the message with its checksum to the start of `buffer`, and gives its length. After an
    /// error the buffer is as before.
    ///
    /// # Errors
    ///
    /// The message is over [`MAX_MESSAGE`] or longer than the buffer, or has a value that the format
    /// cannot hold.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<usize, EmitError> {
        self.check()?;
        let needed = self.buffer_len();
        if needed > MAX_MESSAGE {
            return Err(EmitError::TooLarge { octets: needed });
        }
        let octets = buffer.len();
        let out = buffer
            .get_mut(..needed)
            .ok_or(EmitError::BufferTooSmall { needed, octets })?;
        out.fill(0);
        match self {
            Message::I1(message) => message.write(out),
            Message::R1(message) => message.write(out),
            Message::I2(message) => message.write(out),
            Message::R2(message) => message.write(out),
            Message::R1bis(message) => message.write(out),
            Message::I2bis(message) => message.write(out),
            Message::UpdateRequest(message) => message.write(out),
            Message::UpdateAcknowledgement(message) => message.write(out),
            Message::Keepalive(message) => message.write(out),
            Message::Probe(message) => message.write(out),
            Message::Error(message) => message.write(out),
        }
        header::finish(out, self.message_type());
        Ok(needed)
    }

    /// Whether the format can hold the message's values.
    fn check(&self) -> Result<(), EmitError> {
        match self {
            Message::I2(message) => message.check(),
            Message::R2(message) => message.check(),
            Message::I2bis(message) => message.check(),
            Message::UpdateRequest(message) => message.check(),
            Message::Probe(message) => message.check(),
            Message::Error(message) => message.check(),
            Message::I1(_)
            | Message::R1(_)
            | Message::R1bis(_)
            | Message::UpdateAcknowledgement(_)
            | Message::Keepalive(_) => Ok(()),
        }
    }
}
