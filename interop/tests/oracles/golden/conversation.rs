//! Two conversations of two hosts, packet by packet: with a failure, an update, a loss of the context and an error in the first;
//! the second one is begun by both at once.
//!
//! Which packet belongs to which context is for others to find out; the numbers are in the test of Wireshark's script.

use shim6_core::wire::{
    Announcement, ContextTag, Error, ErrorCode, I1, I2, I2bis, Keepalive, Message, Probe, R1, R1bis, R2,
    UpdateAcknowledgement, UpdateRequest,
};
use shim6_interop::packet::Upper;
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use super::{Host, Timed, control, datagram, steered, tag};

/// Both hosts, and the packets so far.
struct Story {
    hosts: [Host; 2],
    packets: Vec<Timed>,
    millis: u64,
    /// Next sequence numbers of one TCP connection.
    sequences: [u32; 2],
}

const TAGS: [u64; 2] = [0x0a0a_0a0a_0a0a, 0x0b0b_0b0b_0b0b];
/// A message type that nobody has defined.
pub(super) const STRANGE: u8 = 70;
/// B's after it has forgotten the context.
const NEW_TAG: u64 = 0x0b0b_0b0b_0b0c;

impl Story {
    /// `host` sends a message from one of its locators to one of the peer's.
    fn message(&mut self, host: usize, locators: (usize, usize), message: &Message) {
        let (from, to) = self.addresses(host, locators);
        self.add(control(from, to, message));
    }

    /// `host` sends a segment, steered if it says to which tag.
    fn segment(&mut self, host: usize, locators: (usize, usize), tag: Option<ContextTag>) {
        let ulids = self.addresses(host, (0, 0));
        let payload = b"a segment of 24 octets..";
        let upper = Upper::Tcp {
            ports: if host == 0 { (40000, 4242) } else { (4242, 40000) },
            sequence: self.sequences[host],
            acknowledgement: self.sequences[1 - host],
            options: Vec::new(),
        };
        self.sequences[host] += payload.len() as u32;
        let packet = datagram(ulids.0, ulids.1, upper, payload);
        let (from, to) = self.addresses(host, locators);
        self.add(match tag {
            Some(tag) => steered(&packet, from, to, tag),
            None => packet,
        });
    }

    fn addresses(&self, host: usize, locators: (usize, usize)) -> (std::net::Ipv6Addr, std::net::Ipv6Addr) {
        (
            self.hosts[host].locator(locators.0),
            self.hosts[1 - host].locator(locators.1),
        )
    }

    fn add(&mut self, packet: Vec<u8>) {
        self.packets.push((self.millis, packet));
        self.millis += 20;
    }

    /// From I1 to R2.
    fn set_up(&mut self) {
        let [a, b] = TAGS.map(tag);
        let (initiator_nonce, responder_nonce) = (0x1111_1111, 0x2222_2222);
        let i1 = Message::I1(I1 {
            initiator_context_tag: a,
            initiator_nonce,
            ulid_pair: None,
            forked_instance: None,
        });
        // The first one is lost.
        self.message(0, (0, 0), &i1);
        self.message(0, (0, 0), &i1);
        let r1 = R1 {
            initiator_nonce,
            responder_nonce,
            validator: vec![0xaa; 20],
        };
        self.message(1, (0, 0), &Message::R1(r1));
        let i2 = I2 {
            initiator_context_tag: a,
            initiator_nonce,
            responder_nonce,
            validator: vec![0xaa; 20],
            ulid_pair: None,
            forked_instance: None,
            announcement: self.hosts[0].announcement(1),
        };
        self.message(0, (0, 0), &Message::I2(i2));
        let r2 = R2 {
            responder_context_tag: b,
            initiator_nonce,
            announcement: self.hosts[1].announcement(2),
        };
        self.message(1, (0, 0), &Message::R2(r2));
    }

    fn record(&self, host: usize, locators: (usize, usize), nonce: u32, data: u32) -> ProbeRecord {
        let (source, destination) = self.addresses(host, locators);
        ProbeRecord {
            source,
            destination,
            nonce,
            data,
        }
    }

    fn probe(&mut self, host: usize, locators: (usize, usize), state: ProbeState, records: [&[ProbeRecord]; 2]) {
        let probe = Probe {
            receiver_context_tag: tag(TAGS[1 - host]),
            report: Report {
                state,
                sent: records[0].to_vec(),
                received: records[1].to_vec(),
            },
        };
        self.message(host, locators, &Message::Probe(probe));
    }

    /// The path of the ULIDs fails in both directions, and the hosts find another.
    fn fail_over(&mut self) {
        let lost = self.record(0, (0, 0), 1, 0);
        self.probe(0, (0, 0), ProbeState::Exploring, [&[lost], &[]]);
        let heard = self.record(0, (1, 1), 2, 0);
        self.probe(0, (1, 1), ProbeState::Exploring, [&[heard, lost], &[]]);
        let back = self.record(1, (1, 1), 3, 150);
        self.probe(1, (1, 1), ProbeState::InboundOk, [&[back], &[heard]]);
        let last = self.record(0, (1, 1), 4, 40);
        self.probe(0, (1, 1), ProbeState::Operational, [&[last, heard], &[back]]);
        self.segment(0, (1, 1), Some(tag(TAGS[1])));
        self.segment(1, (1, 1), Some(tag(TAGS[0])));
        // The path of the ULIDs is tried again.
        let test = self.record(0, (0, 0), 5, u32::MAX);
        self.probe(0, (0, 0), ProbeState::InboundOk, [&[test], &[back]]);
    }

    fn update(&mut self) {
        let request = UpdateRequest {
            receiver_context_tag: tag(TAGS[1]),
            request_nonce: 0x3333_3333,
            announcement: Announcement {
                keepalive_timeout: None,
                keepalive_timeout_ms: None,
                ..self.hosts[0].announcement(9)
            },
        };
        self.message(0, (1, 1), &Message::UpdateRequest(request));
        let acknowledgement = UpdateAcknowledgement {
            receiver_context_tag: tag(TAGS[0]),
            request_nonce: 0x3333_3333,
        };
        self.message(1, (1, 1), &Message::UpdateAcknowledgement(acknowledgement));
        let keepalive = Keepalive {
            receiver_context_tag: tag(TAGS[0]),
        };
        self.message(1, (1, 1), &Message::Keepalive(keepalive));
    }

    /// B has forgotten the context.
    fn recover(&mut self) {
        self.segment(0, (1, 1), Some(tag(TAGS[1])));
        let (initiator_nonce, responder_nonce) = (0x4444_4444, 0x5555_5555);
        let r1bis = R1bis {
            packet_context_tag: tag(TAGS[1]),
            responder_nonce,
            validator: vec![0xbb; 20],
        };
        self.message(1, (1, 1), &Message::R1bis(r1bis));
        let (sender, receiver) = self.addresses(0, (0, 0));
        let i2bis = I2bis {
            initiator_context_tag: tag(TAGS[0]),
            initiator_nonce,
            responder_nonce,
            packet_context_tag: tag(TAGS[1]),
            validator: vec![0xbb; 20],
            ulid_pair: Some(shim6_core::wire::UlidPair { sender, receiver }),
            forked_instance: None,
            announcement: self.hosts[0].announcement(9),
        };
        self.message(0, (1, 1), &Message::I2bis(i2bis));
        let r2 = R2 {
            responder_context_tag: tag(NEW_TAG),
            initiator_nonce,
            announcement: self.hosts[1].announcement(3),
        };
        self.message(1, (1, 1), &Message::R2(r2));
        self.segment(0, (1, 1), Some(tag(NEW_TAG)));
    }

    /// A message of a type that A has never heard of, and what A says to it.
    fn refuse(&mut self) {
        let keepalive = Keepalive {
            receiver_context_tag: tag(TAGS[0]),
        };
        let (from, to) = self.addresses(1, (1, 1));
        let mut strange = control(from, to, &Message::Keepalive(keepalive));
        // The checksum changes as much as the type.
        let more = STRANGE - strange[42];
        strange[42] = STRANGE;
        let sum = u16::from_be_bytes([strange[44], strange[45]]) - (u16::from(more) << 8);
        strange[44..46].copy_from_slice(&sum.to_be_bytes());
        self.add(strange.clone());
        let error = Error {
            code: ErrorCode::UNKNOWN_MESSAGE_TYPE,
            pointer: 42,
            packet_in_error: strange,
        };
        self.message(0, (1, 1), &Message::Error(error));
    }

    /// Both hosts set up another instance at the same time, and one of them repeats itself.
    fn cross(&mut self) {
        let tags = [tag(0x0c0c_0c0c_0c0c), tag(0x0d0d_0d0d_0d0d)];
        let nonces = [0x6666_6666, 0x7777_7777];
        for host in [0, 1] {
            let i1 = I1 {
                initiator_context_tag: tags[host],
                initiator_nonce: nonces[host],
                ulid_pair: None,
                forked_instance: Some(5),
            };
            self.message(host, (0, 0), &Message::I1(i1));
        }
        for host in [0, 1] {
            let r2 = R2 {
                responder_context_tag: tags[host],
                initiator_nonce: nonces[1 - host],
                announcement: Announcement::default(),
            };
            self.message(host, (0, 0), &Message::R2(r2));
        }
        let keepalive = Keepalive {
            receiver_context_tag: tags[1],
        };
        self.message(0, (0, 0), &Message::Keepalive(keepalive));
    }
}

pub(super) fn packets() -> Vec<Timed> {
    let mut story = Story {
        hosts: [Host::a(), Host::b()],
        packets: Vec::new(),
        millis: 0,
        sequences: [1000, 5000],
    };
    story.segment(0, (0, 0), None);
    story.segment(1, (0, 0), None);
    story.set_up();
    story.segment(0, (0, 0), None);
    story.fail_over();
    story.update();
    story.recover();
    story.refuse();
    story.cross();
    story.packets
}
