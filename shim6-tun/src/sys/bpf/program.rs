//! The programs that count: one for each direction of an interface.
//!
//! What a packet of a known pair costs is this: its IPv6 header is copied to the stack, a hash table finds the number of the
//! pair, and an array, which we read as memory, has its counts. Everything else happens rarely, and behind that.

use std::os::fd::RawFd;

use super::assembler::{Alu, Assembler, Atomic, Helper, If, Instruction, Label, Operand, Register, Size};
use super::layout::{self, event, flow, pair, small};
use crate::sys::{IPV6_HEADER_OCTETS, SHIM6_NEXT_HEADER};

use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};

/// Lets the next program on the interface, and then the kernel, decide about the packet.
const NEXT: i32 = -1;

/// Fields of the packet's record (`struct __sk_buff`).
mod record {
    pub(super) const LENGTH: i16 = 0;
    pub(super) const PACKET_TYPE: i16 = 4;
    pub(super) const PROTOCOL: i16 = 16;
}

/// Where things are on the stack.
mod stack {
    /// The IPv6 header.
    pub(super) const HEADER: i16 = -40;
    pub(super) const PAYLOAD_LENGTH: i16 = HEADER + 4;
    pub(super) const NEXT_HEADER: i16 = HEADER + 6;
    pub(super) const SOURCE: i16 = HEADER + 8;
    pub(super) const DESTINATION: i16 = HEADER + 24;
    /// An event.
    pub(super) const EVENT: i16 = HEADER - super::event::OCTETS as i16;
    /// The number of the pair.
    pub(super) const SLOT: i16 = EVENT - 8;
    /// A few octets of the packet.
    pub(super) const PEEK: i16 = SLOT - 8;
    /// The time.
    pub(super) const NOW: i16 = PEEK - 8;
    /// What is known of a pair without a context.
    pub(super) const PAIR: i16 = NOW - super::pair::OCTETS as i16;
}

const HOP_BY_HOP: i32 = 0;
const TCP: i32 = 6;
const UDP: i32 = 17;
const ROUTING: i32 = 43;
const FRAGMENT: i32 = 44;
const ICMPV6: i32 = 58;
const DESTINATION_OPTIONS: i32 = 60;
/// Stands for what follows an extension header.
const BEHIND_EXTENSION: i32 = 255;

/// First and last ICMPv6 type of Neighbor Discovery (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: (i32, i32) = (133, 137);

/// Extension headers that are followed in search of protocol 140, as by the tap.
const EXTENSION_HEADERS: usize = 3;

/// The shortest TCP packet, in octets.
const SHORTEST_TCP: i32 = IPV6_HEADER_OCTETS as i32 + 20;

/// Of a pair without a context, at most one event is made in this time, in nanoseconds.
const BETWEEN_EVENTS: i32 = 100_000_000;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// The maps, by their descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub(super) pairs: RawFd,
    pub(super) flows: RawFd,
    pub(super) small: Option<RawFd>,
    pub(super) locals: RawFd,
    pub(super) candidates: RawFd,
    pub(super) events: RawFd,
}

/// When a pair without a context makes an event: at so many packets or octets, if that is not 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    pub(super) packets: u64,
    pub(super) octets: u64,
}

/// The program for one direction.
pub(super) fn program(direction: Direction, maps: Maps, threshold: Threshold) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let end = code.label();
    let mut program = Program {
        code,
        direction,
        maps,
        end,
    };
    let unknown = program.code.label();
    program.read_header();
    program.find(unknown);
    program.count();
    program.keep_small();
    program.code.jump(end);
    program.code.place(unknown);
    if threshold.packets > 0 || threshold.octets > 0 {
        program.count_unknown(threshold);
    }
    program.code.place(end);
    program.code.alu(Alu::Move, R0, NEXT);
    program.code.exit();
    program.code.finish()
}

/// R6 is the packet's record, R7 its Next Header, R9 its length, R8 what was found for it.
struct Program {
    code: Assembler,
    direction: Direction,
    maps: Maps,
    end: Label,
}

impl Program {
    /// Gets the IPv6 header onto the stack, and ends here for what is none of our business.
    fn read_header(&mut self) {
        let (header, length_known) = (self.code.label(), self.code.label());
        let code = &mut self.code;
        code.alu(Alu::Move, R6, R1);
        code.load(Size::Word, R1, (R6, record::PROTOCOL));
        let ipv6 = i32::from((libc::ETH_P_IPV6 as u16).to_be());
        code.jump_if(If::NotEqual, R1, ipv6, self.end);
        if self.direction == Direction::In {
            code.load(Size::Word, R1, (R6, record::PACKET_TYPE));
            code.jump_if(If::NotEqual, R1, i32::from(libc::PACKET_HOST), self.end);
        }
        self.load_packet(0, stack::HEADER, IPV6_HEADER_OCTETS as i32);
        let code = &mut self.code;
        code.load(Size::Half, R9, (R10, stack::PAYLOAD_LENGTH));
        code.network_to_host(R9);
        code.jump_if(If::NotEqual, R9, 0, header);
        // Larger than 16 bits can say.
        code.load(Size::Word, R9, (R6, record::LENGTH));
        code.jump(length_known);
        code.place(header);
        code.alu(Alu::Add, R9, IPV6_HEADER_OCTETS as i32);
        code.place(length_known);
        code.load(Size::Byte, R7, (R10, stack::NEXT_HEADER));
        self.sort_out();
    }

    /// Ends for protocol 140, also behind extension headers, and Neighbor Discovery.
    fn sort_out(&mut self) {
        let (ours, icmp, fragment) = (self.code.label(), self.code.label(), self.code.label());
        let walked = self.code.label();
        let code = &mut self.code;
        code.jump_if(If::Equal, R7, TCP, ours);
        code.jump_if(If::Equal, R7, UDP, ours);
        // From here on R8 is where what R7 names starts.
        code.alu(Alu::Move, R8, IPV6_HEADER_OCTETS as i32);
        for _ in 0..EXTENSION_HEADERS {
            let step = self.code.label();
            for extension in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] {
                self.code.jump_if(If::Equal, R7, extension, step);
            }
            self.code.jump(walked);
            self.code.place(step);
            self.peek(R8, 2);
            let code = &mut self.code;
            code.load(Size::Byte, R7, (R10, stack::PEEK));
            // Its length, in units of 8 octets beyond the first.
            code.load(Size::Byte, R1, (R10, stack::PEEK + 1));
            code.alu(Alu::Add, R1, 1);
            code.alu(Alu::ShiftLeft, R1, 3);
            code.alu(Alu::Add, R8, R1);
        }
        let code = &mut self.code;
        code.place(walked);
        code.jump_if(If::Equal, R7, i32::from(SHIM6_NEXT_HEADER), self.end);
        code.jump_if(If::Equal, R7, ICMPV6, icmp);
        code.jump_if(If::Equal, R7, FRAGMENT, fragment);
        code.alu(Alu::Move, R7, BEHIND_EXTENSION);
        code.jump(ours);
        code.place(fragment);
        self.peek(R8, 1);
        self.code.alu(Alu::Move, R7, BEHIND_EXTENSION);
        self.code.load(Size::Byte, R1, (R10, stack::PEEK));
        self.code.jump_if(If::Equal, R1, i32::from(SHIM6_NEXT_HEADER), self.end);
        self.code.jump(ours);
        self.code.place(icmp);
        self.peek(R8, 1);
        let code = &mut self.code;
        code.alu(Alu::Move, R7, BEHIND_EXTENSION);
        code.load(Size::Byte, R1, (R10, stack::PEEK));
        code.jump_if(If::Less, R1, NEIGHBOR_DISCOVERY.0, ours);
        code.jump_if(If::LessOrEqual, R1, NEIGHBOR_DISCOVERY.1, self.end);
        code.place(ours);
    }

    /// R8 becomes the record of the packet's pair; goes to `unknown` if it has none.
    fn find(&mut self, unknown: Label) {
        self.code.look_up(self.maps.pairs, stack::SOURCE);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, unknown);
        code.load(Size::Word, R1, (R0, 0));
        code.store(Size::Word, (R10, stack::SLOT), R1);
        self.code.look_up(self.maps.flows, stack::SLOT);
        self.code.jump_if(If::Equal, R0, 0, self.end);
        self.code.alu(Alu::Move, R8, R0);
    }

    /// Counts the packet for its pair.
    fn count(&mut self) {
        let counts = flow::counts(self.direction);
        let sent = i32::from(self.direction == Direction::Out);
        let (quiet, start, go_on) = (self.code.label(), self.code.label(), self.code.label());
        let code = &mut self.code;
        code.call(Helper::MonotonicNanoseconds);
        code.store(Size::Double, (R10, stack::NOW), R0);
        code.atomic(Atomic::Add, (R8, counts.octets), R9);
        code.store(Size::Double, (R8, counts.last), R0);
        // Whoever is to be told of the next packet is told, and for them this is a first packet.
        code.load(Size::Double, R1, (R8, flow::ARMED));
        code.jump_if(If::Equal, R1, 0, quiet);
        code.alu(Alu::Move, R1, 0);
        code.atomic(Atomic::Exchange, (R8, flow::ARMED), R1);
        code.jump_if(If::Equal, R1, 0, quiet);
        code.store(
            Size::Word,
            (R10, stack::EVENT + event::KIND),
            layout::ACTIVE.cast_signed(),
        );
        code.load(Size::Word, R1, (R10, stack::SLOT));
        code.store(Size::Word, (R10, stack::EVENT + event::SLOT), R1);
        self.start_run(sent);
        self.tell(event::PAIR as i32);
        self.code.jump(go_on);

        let code = &mut self.code;
        code.place(quiet);
        code.load(Size::Double, R0, (R10, stack::NOW));
        code.load(Size::Double, R1, (R8, flow::FIRST));
        code.jump_if(If::Equal, R1, 0, start);
        code.alu(Alu::And, R1, 1);
        code.jump_if(If::Equal, R1, sent, go_on);
        code.place(start);
        self.start_run(sent);
        let code = &mut self.code;
        code.place(go_on);
        // Last, as for `Activity`: whoever sees the count sees the rest too, or will look again.
        code.alu(Alu::Move, R1, 1);
        code.atomic(Atomic::Add, (R8, counts.packets), R1);
    }

    /// The packet is the first since one of the other direction. R0 is the time, and stays it.
    fn start_run(&mut self, sent: i32) {
        let code = &mut self.code;
        code.load(Size::Double, R0, (R10, stack::NOW));
        code.alu(Alu::Move, R2, R0);
        code.alu(Alu::ShiftLeft, R2, 1);
        code.alu(Alu::Or, R2, sent);
        code.store(Size::Double, (R8, flow::FIRST), R2);
    }

    /// Keeps a small TCP packet on its way out that asks for an acknowledgement, in place of the one before.
    fn keep_small(&mut self) {
        let (Some(map), Direction::Out) = (self.maps.small, self.direction) else {
            return;
        };
        let end = self.end;
        let (keep, kept) = (self.code.label(), self.code.label());
        let code = &mut self.code;
        code.jump_if(If::NotEqual, R7, TCP, end);
        code.jump_if(If::Greater, R9, small::MOST as i32, end);
        code.jump_if(If::Less, R9, SHORTEST_TCP, end);
        code.alu(Alu::Move, R8, IPV6_HEADER_OCTETS as i32 + 12);
        self.peek(R8, 2);
        let code = &mut self.code;
        // The end of a stream, or more than a header?
        code.load(Size::Byte, R1, (R10, stack::PEEK + 1));
        code.alu(Alu::And, R1, 1);
        code.jump_if(If::NotEqual, R1, 0, keep);
        code.load(Size::Byte, R1, (R10, stack::PEEK));
        code.alu(Alu::ShiftRight, R1, 4);
        code.alu(Alu::ShiftLeft, R1, 2);
        code.alu(Alu::Add, R1, IPV6_HEADER_OCTETS as i32);
        code.jump_if(If::LessOrEqual, R9, R1, end);
        code.place(keep);
        self.code.look_up(map, stack::SLOT);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, end);
        code.alu(Alu::Move, R8, R0);
        // Whoever finds another packet being written leaves it: they go out at the same time.
        code.alu(Alu::Move, R0, 0);
        code.alu(Alu::Move, R1, 1);
        code.atomic(Atomic::CompareExchange, (R8, small::LOCK), R1);
        code.jump_if(If::NotEqual, R0, 0, end);
        // Odd while it is written.
        code.alu(Alu::Move, R1, 1);
        code.atomic(Atomic::Add, (R8, small::SEQUENCE), R1);
        code.load(Size::Double, R1, (R10, stack::NOW));
        code.store(Size::Double, (R8, small::SENT_AT), R1);
        code.store(Size::Double, (R8, small::LENGTH), R9);
        code.alu(Alu::Move, R1, R6);
        // Nothing is behind a packet that goes out, so what is more is in front of it.
        code.load(Size::Word, R2, (R6, record::LENGTH));
        code.alu(Alu::Sub, R2, R9);
        code.alu(Alu::Move, R3, R8);
        code.alu(Alu::Add, R3, i32::from(small::OCTETS));
        code.alu(Alu::Move, R4, R9);
        code.call(Helper::LoadPacket);
        code.jump_if(If::Equal, R0, 0, kept);
        code.store(Size::Double, (R8, small::LENGTH), 0);
        code.place(kept);
        code.alu(Alu::Move, R1, 1);
        code.atomic(Atomic::Add, (R8, small::SEQUENCE), R1);
        code.store(Size::Double, (R8, small::LOCK), 0);
    }

    /// Counts a packet of a pair without a context, and tells when it deserves one. One direction alone never suffices.
    fn count_unknown(&mut self, threshold: Threshold) {
        let end = self.end;
        let (local, peer) = match self.direction {
            Direction::Out => (stack::SOURCE, stack::DESTINATION),
            Direction::In => (stack::DESTINATION, stack::SOURCE),
        };
        self.code.look_up(self.maps.locals, local);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, end);
        let key = stack::EVENT + event::PAIR;
        for (to, from) in [
            (key, local),
            (key + 8, local + 8),
            (key + 16, peer),
            (key + 24, peer + 8),
        ] {
            code.load(Size::Double, R1, (R10, from));
            code.store(Size::Double, (R10, to), R1);
        }
        let found = self.code.label();
        self.code.look_up(self.maps.candidates, key);
        let code = &mut self.code;
        code.jump_if(If::NotEqual, R0, 0, found);
        for offset in (0..pair::OCTETS as i16).step_by(8) {
            code.store(Size::Double, (R10, stack::PAIR + offset), 0);
        }
        code.load_map(R1, self.maps.candidates);
        for (register, offset) in [(R2, key), (R3, stack::PAIR)] {
            code.alu(Alu::Move, register, R10);
            code.alu(Alu::Add, register, i32::from(offset));
        }
        code.alu(Alu::Move, R4, layout::ONLY_NEW);
        code.call(Helper::MapUpdate);
        self.code.look_up(self.maps.candidates, key);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, end);
        code.place(found);
        code.alu(Alu::Move, R8, R0);
        code.alu(Alu::Move, R1, 1);
        let packets = match self.direction {
            Direction::Out => pair::SENT,
            Direction::In => pair::RECEIVED,
        };
        code.atomic(Atomic::Add, (R8, packets), R1);
        code.atomic(Atomic::Add, (R8, pair::OCTETS_OF_BOTH), R9);
        self.tell_if_enough(threshold);
    }

    fn tell_if_enough(&mut self, threshold: Threshold) {
        let end = self.end;
        let (enough, tell) = (self.code.label(), self.code.label());
        let code = &mut self.code;
        code.load(Size::Double, R1, (R8, pair::SENT));
        code.jump_if(If::Equal, R1, 0, end);
        code.load(Size::Double, R2, (R8, pair::RECEIVED));
        code.jump_if(If::Equal, R2, 0, end);
        code.alu(Alu::Add, R1, R2);
        if threshold.packets > 0 {
            code.load_number(R2, threshold.packets);
            code.jump_if(If::GreaterOrEqual, R1, R2, enough);
        }
        if threshold.octets > 0 {
            code.load(Size::Double, R1, (R8, pair::OCTETS_OF_BOTH));
            code.load_number(R2, threshold.octets);
            code.jump_if(If::GreaterOrEqual, R1, R2, enough);
        }
        code.jump(end);
        code.place(enough);
        code.call(Helper::MonotonicNanoseconds);
        code.load(Size::Double, R1, (R8, pair::TOLD_AT));
        code.jump_if(If::Equal, R1, 0, tell);
        code.alu(Alu::Move, R2, R0);
        code.alu(Alu::Sub, R2, R1);
        code.jump_if(If::Less, R2, BETWEEN_EVENTS, end);
        code.place(tell);
        code.store(Size::Double, (R8, pair::TOLD_AT), R0);
        for count in [pair::SENT, pair::RECEIVED, pair::OCTETS_OF_BOTH] {
            code.store(Size::Double, (R8, count), 0);
        }
        let kind = layout::CANDIDATE.cast_signed();
        code.store(Size::Word, (R10, stack::EVENT + event::KIND), kind);
        code.store(Size::Word, (R10, stack::EVENT + event::SLOT), 0);
        self.tell(event::OCTETS as i32);
    }

    /// Puts the first octets of the event on the stack into the ring; if it is full, nobody reads it now.
    fn tell(&mut self, octets: i32) {
        let code = &mut self.code;
        code.load_map(R1, self.maps.events);
        code.alu(Alu::Move, R2, R10);
        code.alu(Alu::Add, R2, i32::from(stack::EVENT));
        code.alu(Alu::Move, R3, octets);
        code.alu(Alu::Move, R4, 0);
        code.call(Helper::RingOutput);
    }

    /// Gets octets of the packet to `PEEK`; ends if there are not so many.
    fn peek(&mut self, offset: Register, octets: i32) {
        self.load_packet(offset, stack::PEEK, octets);
    }

    /// Gets octets of the packet, from its IPv6 header on, to the stack; ends if there are not so many.
    fn load_packet(&mut self, offset: impl Into<Operand>, to: i16, octets: i32) {
        let offset = offset.into();
        let (loaded, short) = (self.code.label(), self.code.label());
        self.try_load_packet(offset, to, octets);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, loaded);
        // That looks only at what the driver has put into one piece.
        code.alu(Alu::Move, R1, R6);
        code.load(Size::Word, R2, (R6, record::LENGTH));
        code.jump_if(If::LessOrEqual, R2, HEADERS, short);
        code.alu(Alu::Move, R2, HEADERS);
        code.place(short);
        code.call(Helper::PullPacket);
        self.try_load_packet(offset, to, octets);
        self.code.jump_if(If::NotEqual, R0, 0, self.end);
        self.code.place(loaded);
    }

    /// As [`load_packet`](Self::load_packet); R0 is 0 if it worked.
    fn try_load_packet(&mut self, offset: Operand, to: i16, octets: i32) {
        let code = &mut self.code;
        code.alu(Alu::Move, R1, R6);
        code.alu(Alu::Move, R2, offset);
        code.alu(Alu::Move, R3, R10);
        code.alu(Alu::Add, R3, i32::from(to));
        code.alu(Alu::Move, R4, octets);
        code.alu(Alu::Move, R5, FROM_NETWORK_HEADER);
        code.call(Helper::LoadHeaders);
    }
}

/// The most octets of a packet that are asked for in one piece.
const HEADERS: i32 = 256;

/// For `bpf_skb_load_bytes_relative`: so the link layer does not matter.
const FROM_NETWORK_HEADER: i32 = 1;
