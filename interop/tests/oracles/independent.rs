//! Messages by the independent writer, which the stack never saw being made.

use proptest::{prop_assert_eq, proptest};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shim6_core::wire::Message;
use shim6_interop::reader::{self, Field, Value};
use shim6_interop::writer::{self, WriteError};

use crate::messages::{expected, type_and_specific};
use crate::strategies::{emitted, one_of_each};

/// Fields that receivers ignore, and their bits. Reserved2 has other widths in other messages; what is too wide is cut off.
const IGNORED: [(&str, u32); 5] = [
    ("r", 1),
    ("reserved2", 49),
    ("option.critical", 1),
    ("ulid_pair.reserved2", 32),
    ("keepalive_timeout.reserved", 16),
];
const IGNORED_OCTETS: [&str; 3] = ["option.padding", "locator_list.padding", "locator_preferences.rest"];

/// Types that nobody has defined, from each range of RFC 5533 section 17.
const UNKNOWN: [u16; 4] = [0, 8, 16383, 32767];

/// What has no meaning is changed: reserved bits, padding, the order of options; and unknown options that are not critical
/// are added.
fn disguised(fields: &[Field], rng: &mut ChaCha12Rng) -> Vec<Field> {
    let mut fields = fields.to_vec();
    for (name, value) in &mut fields {
        if let Some((_, bits)) = IGNORED.iter().find(|(ignored, _)| ignored == name) {
            *value = Value::Number(rng.next_u64() >> (64 - bits));
        }
        if let (true, Value::Octets(octets)) = (IGNORED_OCTETS.contains(name), value) {
            rng.fill_bytes(octets);
        }
    }
    let is_start = |(name, _): &Field| *name == "option.type";
    let start = fields.iter().position(is_start).unwrap_or(fields.len());
    let mut options: Vec<_> = fields[start..]
        .chunk_by(|_, next| !is_start(next))
        .map(<[Field]>::to_vec)
        .collect();
    // The packet in error takes all the room that there is.
    let has_room = !fields.iter().any(|(name, _)| *name == "packet_in_error");
    for _ in 0..rng.next_u32() % 4 * u32::from(has_room) {
        options.push(unknown(rng));
    }
    for last in (1..options.len()).rev() {
        options.swap(last, rng.next_u32() as usize % (last + 1));
    }
    fields.truncate(start);
    fields.extend(options.into_iter().flatten());
    fields
}

fn unknown(rng: &mut ChaCha12Rng) -> Vec<Field> {
    let mut contents = vec![0; rng.next_u32() as usize % 24];
    rng.fill_bytes(&mut contents);
    let used = 4 + contents.len();
    let padding = vec![0xff; used.next_multiple_of(8) - used];
    let option_type = UNKNOWN[rng.next_u32() as usize % UNKNOWN.len()];
    let mut fields: Vec<Field> = vec![
        ("option.type", option_type.into()),
        ("option.critical", 0u8.into()),
        ("option.contents", contents[..].into()),
    ];
    if !padding.is_empty() {
        fields.push(("option.padding", padding[..].into()));
    }
    fields
}

proptest! {
    #[test]
    fn writer_makes_the_octets_that_the_stack_makes(messages in one_of_each()) {
        for message in messages {
            let (message_type, specific) = type_and_specific(&message);
            let written = writer::write(message_type as u8, specific as u8, &expected(&message));
            prop_assert_eq!(written, Ok(emitted(&message)));
        }
    }

    #[test]
    fn stack_reads_what_the_writer_wrote_whatever_it_has_to_ignore(messages in one_of_each(), seed: [u8; 32]) {
        let mut rng = ChaCha12Rng::from_seed(seed);
        for message in messages {
            let (message_type, mut specific) = type_and_specific(&message);
            if message_type != 68 {
                specific = u64::from(rng.next_u32() % 128);
            }
            let fields = expected(&message);
            let written = writer::write(message_type as u8, specific as u8, &disguised(&fields, &mut rng));
            let octets = written.map_err(|error| proptest::test_runner::TestCaseError::fail(error.to_string()))?;
            let parsed = Message::parse(&octets).map_err(|error| {
                proptest::test_runner::TestCaseError::fail(format!("{error}: {octets:02x?}"))
            })?;
            prop_assert_eq!(expected(&parsed), fields);
        }
    }

    #[test]
    fn writer_undoes_what_the_reader_does(messages in one_of_each(), seed: [u8; 32]) {
        let mut rng = ChaCha12Rng::from_seed(seed);
        for message in messages {
            let (message_type, specific) = type_and_specific(&message);
            let fields = disguised(&expected(&message), &mut rng);
            let octets = writer::write(message_type as u8, specific as u8, &fields).unwrap_or_default();
            let reading = reader::read(&octets).map_err(|error| {
                proptest::test_runner::TestCaseError::fail(error.to_string())
            })?;
            let again = writer::write(message_type as u8, specific as u8, &reading.fields[7..]);
            prop_assert_eq!(again, Ok(octets));
        }
    }
}

#[test]
fn fields_that_no_figure_has_are_refused() {
    let keepalive: [Field; 3] = [
        ("r", 0u8.into()),
        ("receiver_context_tag", 1u8.into()),
        ("reserved2", 0u8.into()),
    ];
    assert!(writer::write(66, 0, &keepalive).is_ok());
    assert_eq!(
        writer::write(66, 0, &keepalive[..2]),
        Err(WriteError::Expected("reserved2"))
    );
    assert_eq!(
        writer::write(66, 0, &[&keepalive[..], &[("pointer", 1u8.into())]].concat()),
        Err(WriteError::NoPlace("pointer"))
    );
    assert_eq!(writer::write(70, 0, &keepalive), Err(WriteError::MessageType(70)));
    let short = [("pointer", 0u8.into()), ("packet_in_error", Value::Octets(vec![0; 7]))];
    assert_eq!(writer::write(68, 0, &short), Err(WriteError::Length(15)));
}
