//! The captures in `interop/captures`: what the stack's own encoder makes of fixed values, kept, so that other programs can be
//! held against them and that a change of the wire format shows.
//!
//! With `SHIM6_WRITE_CAPTURES=1` the files are written anew.

mod conversation;
mod faults;
mod messages;

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::Instant;
use shim6_core::wire::{
    Announcement, ContextTag, LocatorList, LocatorPreferences, Message, Preference, PreferenceFlags,
    VerificationMethod, payload,
};
use shim6_interop::capture::Writer;
use shim6_interop::packet::{self, Extensions, Packet, Upper};
use shim6_interop::reader;

use crate::strategies::emitted;

/// Set to 1 to write the files.
const WRITE: &str = "SHIM6_WRITE_CAPTURES";
/// Time of the first packet, in seconds since 1970.
const START: u64 = 1_700_000_000;
const UDP: u8 = 17;
/// Octets of an IPv6 header.
const IPV6: usize = 40;

/// A packet and the milliseconds after the first one.
type Timed = (u64, Vec<u8>);

/// A host with two locators, one below each prefix, and what proves that they are its own.
struct Host {
    set: HbaSet,
}

impl Host {
    fn new(seed: u8, nets: [u16; 2]) -> Self {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let prefixes: [SubnetPrefix; 2] = nets.map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 0).into());
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("an HBA set");
        Self { set }
    }

    fn a() -> Self {
        Self::new(1, [0xa1, 0xa2])
    }

    fn b() -> Self {
        Self::new(2, [0xb1, 0xb2])
    }

    fn locator(&self, index: usize) -> Ipv6Addr {
        self.set.addresses()[index]
    }

    fn list(&self, generation: u32) -> LocatorList {
        let locators = self.set.addresses().iter();
        LocatorList {
            generation,
            locators: locators.map(|locator| (VerificationMethod::HBA, *locator)).collect(),
        }
    }

    /// Locators, preferences and their proof, and both timeouts.
    fn announcement(&self, generation: u32) -> Announcement {
        let preference = |priority| Preference {
            flags: PreferenceFlags::default(),
            priority,
            weight: 10,
        };
        Announcement {
            locators: Some(self.list(generation)),
            preferences: Some(LocatorPreferences::new(generation, vec![preference(1), preference(2)])),
            cga_parameters: Some(self.set.parameters().to_vec()),
            cga_signature: None,
            keepalive_timeout: Some(15),
            keepalive_timeout_ms: Some(120),
        }
    }
}

fn tag(bits: u64) -> ContextTag {
    ContextTag::from_random_bits(bits)
}

fn control(from: Ipv6Addr, to: Ipv6Addr, message: &Message) -> Vec<u8> {
    packet::control(from, to, &emitted(message)).expect("a small packet")
}

fn datagram(from: Ipv6Addr, to: Ipv6Addr, upper: Upper, payload: &[u8]) -> Vec<u8> {
    let packet = Packet {
        source: from,
        destination: to,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: 64,
        extensions: Extensions::default(),
        upper,
        payload: payload.to_vec(),
    };
    packet.build().expect("a small packet")
}

/// The packet between ULIDs with other addresses and a payload header: what a steered packet looks like on the wire.
fn steered(packet: &[u8], from: Ipv6Addr, to: Ipv6Addr, tag: ContextTag) -> Vec<u8> {
    let mut header = [0; payload::LEN];
    payload::emit(tag, packet[6], &mut header);
    let carried = [&header[..], &packet[IPV6..]].concat();
    packet::control(from, to, &carried).expect("a small packet")
}

fn captured(packets: &[Timed]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("a capture");
    let interface = writer.add_interface("eth0").expect("an interface");
    for (millis, packet) in packets {
        let at = Instant::from_micros(1_000_000 * START + 1000 * millis);
        writer.write(interface, at, packet).expect("a packet");
    }
    writer.finish().expect("a whole capture")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name)
}

fn check(name: &str, packets: &[Timed]) {
    let made = captured(packets);
    if std::env::var_os(WRITE).is_some_and(|value| value == "1") {
        fs::write(file(name), &made).expect("the file");
    }
    let kept = fs::read(file(name)).unwrap_or_default();
    assert!(
        kept == made,
        "{name} is not what the encoder makes. If the wire format is meant to change, write it anew with {WRITE}=1"
    );
}

#[test]
fn messages_are_what_the_encoder_makes() {
    check("messages.pcapng", &messages::packets());
}

#[test]
fn conversation_is_what_the_encoder_makes() {
    check("conversation.pcapng", &conversation::packets());
}

#[test]
fn faults_are_what_the_encoder_makes_with_the_damage() {
    check("faults.pcapng", &faults::packets());
}

#[test]
fn independent_reader_reads_all_messages_that_are_kept() {
    let mut types = std::collections::BTreeSet::new();
    let mut options = std::collections::BTreeSet::new();
    let packets = messages::packets().into_iter().chain(conversation::packets());
    for (_, packet) in packets.filter(|(_, packet)| packet[6] == 140) {
        let reading = match reader::read(&packet[IPV6..]) {
            Err(reader::ReadError::MessageType(strange)) if strange == conversation::STRANGE => continue,
            reading => reading.expect("a reading"),
        };
        assert!(reading.checksum_is_right(), "{reading:?}");
        types.extend(reading.number("type"));
        let all = reading.fields.iter().filter(|(name, _)| *name == "option.type");
        options.extend(all.map(|(_, value)| format!("{value:?}")));
    }
    assert!(types.iter().eq(&[1, 2, 3, 4, 5, 6, 64, 65, 66, 67, 68]), "{types:?}");
    let known = [1u16, 2, 3, 4, 5, 6, 7, 10, 21302].map(|number| format!("{:?}", reader::Value::from(number)));
    assert_eq!(options, known.into());
}
