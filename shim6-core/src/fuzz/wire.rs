//! Control messages, their options, and payload headers.

use alloc::vec;
use alloc::vec::Vec;

use super::{Source, sealed};
use crate::wire::message::View;
use crate::wire::option::{RawOptions, padded_len};
use crate::wire::payload as payload_header;
use crate::wire::{Discard, EmitError, MAX_MESSAGE, Message, MessageType, PacketKind, ParseError, classify};

/// The message types, each with the octets of its fixed part.
pub(super) const FIXED_PARTS: [(MessageType, usize); 11] = [
    (MessageType::I1, 16),
    (MessageType::R1, 16),
    (MessageType::I2, 24),
    (MessageType::R2, 16),
    (MessageType::R1BIS, 16),
    (MessageType::I2BIS, 32),
    (MessageType::UPDATE_REQUEST, 16),
    (MessageType::UPDATE_ACKNOWLEDGEMENT, 16),
    (MessageType::KEEPALIVE, 16),
    (MessageType::PROBE, 56),
    (MessageType::ERROR, 16),
];

/// A control message: as it is, and once more with a right header, so that the rest is looked at.
pub fn message(octets: &[u8]) {
    check_message(octets);
    check_message(&sealed(octets));
}

/// The options of a message whose type the first octet chooses and whose fixed part is almost empty.
pub fn options(octets: &[u8]) {
    let mut source = Source::new(octets);
    let (message_type, fixed) = source.one_of(&FIXED_PARTS);
    let mut message = vec![0; fixed];
    message[2] = message_type.0;
    if message_type == MessageType::PROBE {
        // One probe sent.
        message[12] = 0x10;
    }
    message.extend_from_slice(source.rest());
    let message = sealed(&message);
    check_walk(&message[fixed..], fixed);
    check_message(&message);
}

/// A payload header, with whatever follows.
pub fn payload(octets: &[u8]) {
    let Ok((tag, next_header)) = payload_header::parse(octets) else {
        assert!(!matches!(classify(octets), Ok(PacketKind::Payload { .. })));
        return;
    };
    assert_eq!(classify(octets), Ok(PacketKind::Payload { tag, next_header }));
    let mut emitted = [0; payload_header::LEN];
    payload_header::emit(tag, next_header, &mut emitted);
    assert_eq!(octets[..payload_header::LEN], emitted);
}

/// A message is refused in an orderly way, or can be written again.
fn check_message(octets: &[u8]) {
    let view = match View::parse(octets) {
        Ok(view) => view,
        Err(error) => {
            assert_eq!(Message::parse(octets), Err(error));
            check_refusal(octets, &error);
            return;
        }
    };
    let Ok(PacketKind::Control(bounded)) = classify(octets) else {
        panic!("accepted, but not a control message");
    };
    // What follows the message is not looked at, and what is missing is noticed.
    let message = view.to_message();
    assert_eq!(Message::parse(bounded).as_ref(), Ok(&message));
    assert!(View::parse(&bounded[..bounded.len() - 1]).is_err());
    check_offsets(bounded, &view);
    check_written_again(bounded, &message);
}

/// What an Error message may point at lies in the message.
fn check_offsets(octets: &[u8], view: &View<'_>) {
    let Some(options) = view.options() else { return };
    if let Some(list) = &options.locators {
        assert_eq!(list.locators().count(), list.count());
        for (index, (method, _)) in list.locators().enumerate() {
            assert_eq!(list.method_offset(index).map(|at| octets[at]), Some(method.0));
        }
        assert_eq!(list.method_offset(list.count()), None);
        assert_eq!(octets[list.generation_offset()..][..4], list.generation().to_be_bytes());
    }
    if let Some(preferences) = &options.preferences {
        assert_eq!(
            octets[preferences.generation_offset()..][..4],
            preferences.generation().to_be_bytes()
        );
        let length = 5 + preferences.count() * usize::from(preferences.element_len());
        let field = octets[preferences.length_offset()..][..2]
            .try_into()
            .expect("two octets");
        assert_eq!(usize::from(u16::from_be_bytes(field)), length);
    }
}

fn check_refusal(octets: &[u8], error: &ParseError) {
    assert!(Discard::ALL.contains(&error.reason()));
    if let Some((_, offset)) = error.error_report() {
        let Ok(PacketKind::Control(bounded)) = classify(octets) else {
            panic!("an answer to what is not a control message");
        };
        assert!(offset < bounded.len(), "{error}");
    }
}

fn check_written_again(octets: &[u8], message: &Message) {
    let length = message.buffer_len();
    assert!(length.is_multiple_of(8) && length <= octets.len());
    let mut buffer = vec![0xa5; octets.len()];
    if length > MAX_MESSAGE {
        let refused = Err(EmitError::TooLarge { octets: length });
        assert_eq!(message.emit(&mut buffer), refused);
        return;
    }
    assert_eq!(message.emit(&mut buffer), Ok(length));
    let written = &buffer[..length];
    let again = Message::parse(written).expect("what was accepted can be written and read");
    // Of the packet in an Error, only as much is written as fits.
    let is_cut = matches!(message, Message::Error(error) if error.packet_in_error.len() + 8 > MAX_MESSAGE);
    assert!(is_cut || again == *message);
    let mut twice = vec![0; length];
    assert_eq!(again.emit(&mut twice), Ok(length));
    assert_eq!(twice, written);
}

/// Walking over options ends, and gives pieces that lie in the message one after the other.
fn check_walk(options: &[u8], offset: usize) {
    let mut at = offset;
    let walked: Vec<_> = RawOptions::new(options, offset).collect();
    for (index, option) in walked.iter().enumerate() {
        match option {
            Ok(option) => {
                assert_eq!(option.offset, at);
                let contents = at - offset + 4..at - offset + 4 + option.contents.len();
                assert_eq!(options[contents], *option.contents);
                at += padded_len(option.contents.len());
            }
            Err(error) => {
                assert_eq!(*error, ParseError::OptionPastEnd { offset: at });
                assert_eq!(index + 1, walked.len());
                return;
            }
        }
    }
    assert_eq!(at, offset + options.len());
}
