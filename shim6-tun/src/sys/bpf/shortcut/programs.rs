//! The programs of the shortcut. Those on Ethernet interfaces see packets with their link-layer header.

use std::os::fd::RawFd;

use super::super::assembler::{Alu, Assembler, Helper, If, Instruction, Label, Register, Size};
use super::layout::{count, incoming, outgoing};
use crate::sys::{IPV6_HEADER_OCTETS, SHIM6_NEXT_HEADER};

use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};

/// Lets the next program on the interface, and then the kernel, decide about the packet.
const NEXT: i32 = -1;
/// The packet ends here.
const DROP: i32 = 2;

/// Fields of the packet's record (`struct __sk_buff`).
mod record {
    pub(super) const LENGTH: i16 = 0;
    pub(super) const PACKET_TYPE: i16 = 4;
    pub(super) const QUEUE: i16 = 12;
    pub(super) const PROTOCOL: i16 = 16;
    pub(super) const SEGMENT_SIZE: i16 = 176;
}

const TCP: i32 = 6;
const UDP: i32 = 17;
const FRAGMENT: i32 = 44;
/// What is taken: what directly follows the IPv6 header, and is no control message of any kind.
const TAKEN: [i32; 3] = [TCP, UDP, FRAGMENT];

const LINK_HEADER_OCTETS: i32 = 14;
const IPV6_OCTETS: i32 = IPV6_HEADER_OCTETS as i32;
const PAYLOAD_HEADER_OCTETS: i32 = 8;
const UDP_HEADER_OCTETS: i32 = 8;

/// Where things are in an IPv6 header.
const PAYLOAD_LENGTH: i16 = 4;
const NEXT_HEADER: i16 = 6;
const SOURCE: i16 = 8;
const DESTINATION: i16 = 24;

/// Room is made or taken behind the IPv6 header (`BPF_ADJ_ROOM_NET`).
const BEHIND_IPV6_HEADER: i32 = 0;
/// The packet's checksum, where the interface has computed one, is kept right.
const KEEP_CHECKSUM: i32 = 1;
/// As if it came in on the interface.
const INTO: i32 = 1;

/// Queues of the virtual link that each processor has for itself: 2 to the power of this.
///
/// What a processor puts into a queue of its own, it takes out itself. Else packets of a flow, taken out by another that had
/// something to do for another flow, could be overtaken by those after them. One has room for 256 packets: too few for bursts of
/// several flows.
pub(super) const LOG_QUEUES: i32 = 2;

/// The maps, by their descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub(super) outgoing: RawFd,
    pub(super) incoming: RawFd,
    pub(super) counts: RawFd,
}

/// On the way out of the TUN device: what the shortcut takes goes to the interface with the index `inside`.
pub(super) fn divert(maps: Maps, inside: u32) -> Vec<Instruction> {
    const HEADER: i16 = -40;
    const LINK_HEADER: i16 = -56;
    const PEEK: i16 = -64;
    let mut program = Program::new(maps);
    let (check, single) = (program.code.label(), program.code.label());
    program.start();
    program.load_packet(0, HEADER, IPV6_OCTETS);
    let next = program.next;
    let code = &mut program.code;
    code.load(Size::Word, R9, (R6, record::LENGTH));
    code.load(Size::Half, R1, (R10, HEADER + PAYLOAD_LENGTH));
    code.jump_if(If::Equal, R1, 0, next);
    code.load(Size::Byte, R7, (R10, HEADER + NEXT_HEADER));
    program.take_only(R7);
    program.code.look_up(maps.outgoing, HEADER + SOURCE);
    let code = &mut program.code;
    code.jump_if(If::Equal, R0, 0, next);
    code.alu(Alu::Move, R8, R0);
    // What is larger than the path takes is not for us, whether it is to be cut or not.
    code.load(Size::Word, R1, (R6, record::SEGMENT_SIZE));
    code.jump_if(If::Equal, R1, 0, single);
    code.alu(Alu::Move, R9, R1);
    code.alu(Alu::Add, R9, IPV6_OCTETS);
    code.jump_if(If::Equal, R7, FRAGMENT, next);
    let tcp = code.label();
    code.jump_if(If::Equal, R7, TCP, tcp);
    code.alu(Alu::Add, R9, UDP_HEADER_OCTETS);
    code.jump(check);
    code.place(tcp);
    program.load_packet(IPV6_OCTETS + 12, PEEK, 1);
    let code = &mut program.code;
    code.load(Size::Byte, R1, (R10, PEEK));
    code.alu(Alu::ShiftRight, R1, 4);
    code.alu(Alu::ShiftLeft, R1, 2);
    code.alu(Alu::Add, R9, R1);
    code.place(single);
    code.place(check);
    code.load(Size::Word, R1, (R8, outgoing::MOST));
    code.jump_if(If::Greater, R9, R1, next);
    code.alu(Alu::Move, R1, R6);
    code.alu(Alu::Move, R2, LINK_HEADER_OCTETS);
    code.alu(Alu::Move, R3, 0);
    code.call(Helper::AddLinkHeader);
    code.jump_if(If::NotEqual, R0, 0, next);
    program.link_header(LINK_HEADER, [0; 6]);
    program.store_packet(0, LINK_HEADER, LINK_HEADER_OCTETS, 0);
    program.redirect(inside, 0);
    program.finish()
}

/// On the way into the interface `outside`, where packets come cut and with their checksums: they get their locators and go to the
/// next hop.
pub(super) fn rewrite(maps: Maps) -> Vec<Instruction> {
    const HEADER: i16 = -40;
    const NEW: i16 = HEADER - 48;
    const NEW_PAYLOAD_HEADER: i16 = NEW + 40;
    let mut program = Program::new(maps);
    // Nobody else is behind this interface.
    program.otherwise = DROP;
    program.start();
    program.load_packet(LINK_HEADER_OCTETS, HEADER, IPV6_OCTETS);
    program.code.look_up(maps.outgoing, HEADER + SOURCE);
    let next = program.next;
    let code = &mut program.code;
    code.jump_if(If::Equal, R0, 0, next);
    code.alu(Alu::Move, R7, R0);
    program.adjust_room(PAYLOAD_HEADER_OCTETS);
    let code = &mut program.code;
    code.load(Size::Double, R1, (R10, HEADER));
    code.store(Size::Double, (R10, NEW), R1);
    code.load(Size::Half, R1, (R10, HEADER + PAYLOAD_LENGTH));
    code.network_to_host(R1);
    code.alu(Alu::Add, R1, PAYLOAD_HEADER_OCTETS);
    code.network_to_host(R1);
    code.store(Size::Half, (R10, NEW + PAYLOAD_LENGTH), R1);
    code.store(Size::Byte, (R10, NEW + NEXT_HEADER), i32::from(SHIM6_NEXT_HEADER));
    for word in (0..40).step_by(8) {
        code.load(Size::Double, R1, (R7, outgoing::ADDRESSES + word));
        code.store(Size::Double, (R10, NEW + SOURCE + word), R1);
    }
    code.load(Size::Byte, R1, (R10, HEADER + NEXT_HEADER));
    code.store(Size::Byte, (R10, NEW_PAYLOAD_HEADER), R1);
    program.store_packet(LINK_HEADER_OCTETS, NEW, IPV6_OCTETS + PAYLOAD_HEADER_OCTETS, 0);
    program.count(count::REWRITTEN, Some(LINK_HEADER_OCTETS + PAYLOAD_HEADER_OCTETS));
    let code = &mut program.code;
    code.load(Size::Word, R1, (R7, outgoing::INTERFACE));
    code.alu(Alu::Move, R2, R7);
    code.alu(Alu::Add, R2, i32::from(outgoing::NEXT_HOP));
    code.alu(Alu::Move, R3, outgoing::NEXT_HOP_OCTETS);
    code.alu(Alu::Move, R4, 0);
    code.call(Helper::RedirectToNeighbour);
    code.exit();
    program.finish()
}

/// On the way into an uplink: payload packets of contexts that are known get their ULIDs, and go to the interface with the index
/// `outside` as if this host had sent them there; they then come in on the other one, which has this link-layer address.
pub(super) fn restore(maps: Maps, outside: u32, inside_address: [u8; 6]) -> Vec<Instruction> {
    const PAYLOAD_HEADER: i16 = -8;
    const HEADER: i16 = PAYLOAD_HEADER - 40;
    const KEY: i16 = HEADER - 8;
    const LINK_HEADER: i16 = KEY - 16;
    let mut program = Program::new(maps);
    let (found, next) = (program.code.label(), program.next);
    program.start();
    let code = &mut program.code;
    code.load(Size::Word, R1, (R6, record::PACKET_TYPE));
    code.jump_if(If::NotEqual, R1, i32::from(libc::PACKET_HOST), next);
    program.load_packet(LINK_HEADER_OCTETS, HEADER, IPV6_OCTETS + PAYLOAD_HEADER_OCTETS);
    let code = &mut program.code;
    code.load(Size::Byte, R1, (R10, HEADER + NEXT_HEADER));
    code.jump_if(If::NotEqual, R1, i32::from(SHIM6_NEXT_HEADER), next);
    // The P bit, and the header's length beyond 8 octets (RFC 5533 section 5.2).
    code.load(Size::Byte, R1, (R10, PAYLOAD_HEADER + 2));
    code.jump_if(If::Less, R1, 0x80, next);
    code.load(Size::Byte, R1, (R10, PAYLOAD_HEADER + 1));
    code.jump_if(If::NotEqual, R1, 0, next);
    code.load(Size::Byte, R7, (R10, PAYLOAD_HEADER));
    program.take_only(R7);
    // Whoever counts malformed packets gets those that say to be shorter or longer than they are.
    let code = &mut program.code;
    code.load(Size::Half, R8, (R10, HEADER + PAYLOAD_LENGTH));
    code.network_to_host(R8);
    code.jump_if(If::LessOrEqual, R8, PAYLOAD_HEADER_OCTETS, next);
    code.load(Size::Word, R1, (R6, record::LENGTH));
    code.alu(Alu::Sub, R1, LINK_HEADER_OCTETS + IPV6_OCTETS);
    code.jump_if(If::Greater, R8, R1, next);
    // The P bit and the tag.
    code.load(Size::Double, R1, (R10, PAYLOAD_HEADER));
    code.store(Size::Double, (R10, KEY), R1);
    code.store(Size::Half, (R10, KEY), 0);
    program.code.look_up(maps.incoming, KEY);
    let code = &mut program.code;
    code.jump_if(If::Equal, R0, 0, next);
    code.alu(Alu::Move, R9, R0);
    for local in [incoming::LOCATOR, incoming::ULID] {
        let other = code.label();
        for (half, different) in [(0, other), (8, other)] {
            code.load(Size::Double, R1, (R10, HEADER + DESTINATION + half));
            code.load(Size::Double, R2, (R9, local + half));
            code.jump_if(If::NotEqual, R1, R2, different);
        }
        code.jump(found);
        code.place(other);
    }
    code.jump(next);
    code.place(found);
    program.adjust_room(-PAYLOAD_HEADER_OCTETS);
    let code = &mut program.code;
    code.alu(Alu::Sub, R8, PAYLOAD_HEADER_OCTETS);
    code.network_to_host(R8);
    code.store(Size::Half, (R10, HEADER + PAYLOAD_LENGTH), R8);
    code.store(Size::Byte, (R10, HEADER + NEXT_HEADER), R7);
    for word in (0..32).step_by(8) {
        code.load(Size::Double, R1, (R9, incoming::ADDRESSES + word));
        code.store(Size::Double, (R10, HEADER + SOURCE + word), R1);
    }
    program.store_packet(LINK_HEADER_OCTETS, HEADER, IPV6_OCTETS, KEEP_CHECKSUM);
    program.link_header(LINK_HEADER, inside_address);
    program.store_packet(0, LINK_HEADER, LINK_HEADER_OCTETS, 0);
    // The other end takes the link-layer header out of the checksum, in which it is not.
    let code = &mut program.code;
    code.alu(Alu::Move, R1, R6);
    code.load_number(R2, u64::from(sum_of_link_header(inside_address)));
    code.call(Helper::UpdateChecksum);
    program.choose_queue(R7);
    program.count(count::RESTORED, Some(LINK_HEADER_OCTETS));
    program.redirect(outside, 0);
    program.finish()
}

/// On the way into the interface `inside`, where restored packets have been put together: they come in on the TUN device, as those
/// do that the daemon restores. Packets of more than `most` octets that are not put together would not fit there.
pub(super) fn arrive(maps: Maps, tun: u32, most: u32) -> Vec<Instruction> {
    let mut program = Program::new(maps);
    let joined = program.code.label();
    program.start();
    let next = program.next;
    let code = &mut program.code;
    code.load(Size::Word, R1, (R6, record::SEGMENT_SIZE));
    code.jump_if(If::NotEqual, R1, 0, joined);
    code.load(Size::Word, R1, (R6, record::LENGTH));
    code.load_number(R2, u64::from(most) + LINK_HEADER_OCTETS as u64);
    code.jump_if(If::Greater, R1, R2, next);
    code.place(joined);
    program.redirect(tun, INTO);
    program.finish()
}

/// R6 is the packet's record.
struct Program {
    code: Assembler,
    maps: Maps,
    /// Where it goes with a packet that is not for it.
    next: Label,
    /// Where it goes with one that it has spoilt, if it can spoil any.
    failed: Option<Label>,
    /// What is said of a packet that is not for it.
    otherwise: i32,
}

impl Program {
    fn new(maps: Maps) -> Self {
        let mut code = Assembler::default();
        let next = code.label();
        Self {
            code,
            maps,
            next,
            failed: None,
            otherwise: NEXT,
        }
    }

    fn start(&mut self) {
        let code = &mut self.code;
        code.alu(Alu::Move, R6, R1);
        code.load(Size::Word, R1, (R6, record::PROTOCOL));
        code.jump_if(If::NotEqual, R1, ethernet_type(), self.next);
    }

    fn finish(mut self) -> Vec<Instruction> {
        // The kernel refuses what is never reached.
        if let Some(failed) = self.failed {
            self.code.place(failed);
            self.count(count::FAILED, None);
            self.code.alu(Alu::Move, R0, DROP);
            self.code.exit();
        }
        self.code.place(self.next);
        self.code.alu(Alu::Move, R0, self.otherwise);
        self.code.exit();
        self.code.finish()
    }

    fn take_only(&mut self, next_header: Register) {
        let taken = self.code.label();
        for kind in TAKEN {
            self.code.jump_if(If::Equal, next_header, kind, taken);
        }
        self.code.jump(self.next);
        self.code.place(taken);
    }

    /// Gets octets of the packet to the stack; goes on to the next program if there are not so many.
    fn load_packet(&mut self, offset: i32, to: i16, octets: i32) {
        let code = &mut self.code;
        code.alu(Alu::Move, R1, R6);
        code.alu(Alu::Move, R2, offset);
        code.alu(Alu::Move, R3, R10);
        code.alu(Alu::Add, R3, i32::from(to));
        code.alu(Alu::Move, R4, octets);
        code.call(Helper::LoadPacket);
        code.jump_if(If::NotEqual, R0, 0, self.next);
    }

    /// Writes octets from the stack into the packet.
    fn store_packet(&mut self, offset: i32, from: i16, octets: i32, flags: i32) {
        let code = &mut self.code;
        code.alu(Alu::Move, R1, R6);
        code.alu(Alu::Move, R2, offset);
        code.alu(Alu::Move, R3, R10);
        code.alu(Alu::Add, R3, i32::from(from));
        code.alu(Alu::Move, R4, octets);
        code.alu(Alu::Move, R5, flags);
        code.call(Helper::StorePacket);
        self.fail_if_refused();
    }

    fn fail_if_refused(&mut self) {
        let code = &mut self.code;
        let failed = *self.failed.get_or_insert_with(|| code.label());
        code.jump_if(If::NotEqual, R0, 0, failed);
    }

    /// Makes the packet longer or shorter behind its IPv6 header.
    fn adjust_room(&mut self, octets: i32) {
        let code = &mut self.code;
        code.alu(Alu::Move, R1, R6);
        code.alu(Alu::Move, R2, octets);
        code.alu(Alu::Move, R3, BEHIND_IPV6_HEADER);
        code.alu(Alu::Move, R4, 0);
        code.call(Helper::AdjustRoom);
        self.fail_if_refused();
    }

    /// Puts a link-layer header from and to one address on the stack.
    fn link_header(&mut self, at: i16, address: [u8; 6]) {
        for (offset, half) in (0..).step_by(2).zip(link_header(address)) {
            self.code.store(Size::Half, (R10, at + offset), i32::from(half));
        }
    }

    /// Counts a packet, and its octets but for so many. R0 to R5 are lost.
    fn count(&mut self, what: i16, but_for: Option<i32>) {
        const KEY: i16 = -128;
        let counted = self.code.label();
        self.code.store(Size::Word, (R10, KEY), 0);
        self.code.look_up(self.maps.counts, KEY);
        let code = &mut self.code;
        code.jump_if(If::Equal, R0, 0, counted);
        code.load(Size::Double, R1, (R0, what));
        code.alu(Alu::Add, R1, 1);
        code.store(Size::Double, (R0, what), R1);
        if let Some(but_for) = but_for {
            code.load(Size::Double, R1, (R0, what + 8));
            code.load(Size::Word, R2, (R6, record::LENGTH));
            code.alu(Alu::Add, R1, R2);
            code.alu(Alu::Sub, R1, but_for);
            code.store(Size::Double, (R0, what + 8), R1);
        }
        code.place(counted);
    }

    /// One of the processor's own queues of the interface to which the packet goes. R0 to R5 and R8 are lost.
    fn choose_queue(&mut self, next_header: Register) {
        let code = &mut self.code;
        let chosen = code.label();
        code.call(Helper::Processor);
        code.alu(Alu::Move, R8, R0);
        code.alu(Alu::ShiftLeft, R8, LOG_QUEUES);
        // Fragments of datagrams have another hash than the whole ones of their flow.
        code.jump_if(If::NotEqual, next_header, TCP, chosen);
        code.alu(Alu::Move, R1, R6);
        code.call(Helper::Hash);
        code.alu(Alu::And, R0, (1 << LOG_QUEUES) - 1);
        code.alu(Alu::Or, R8, R0);
        code.place(chosen);
        // The record has them from one on.
        code.alu(Alu::Add, R8, 1);
        code.store(Size::Word, (R6, record::QUEUE), R8);
    }

    /// Ends with the packet on its way to another interface.
    fn redirect(&mut self, interface: u32, flags: i32) {
        let code = &mut self.code;
        code.alu(Alu::Move, R1, interface.cast_signed());
        code.alu(Alu::Move, R2, flags);
        code.call(Helper::Redirect);
        code.exit();
    }
}

fn ethernet_type() -> i32 {
    i32::from((libc::ETH_P_IPV6 as u16).to_be())
}

/// As 16-bit numbers in memory.
fn link_header(address: [u8; 6]) -> [u16; 7] {
    let half = |at: usize| u16::from_ne_bytes([address[at], address[at + 1]]);
    let (a, b, c) = (half(0), half(2), half(4));
    [a, b, c, a, b, c, (libc::ETH_P_IPV6 as u16).to_be()]
}

/// What it adds to a checksum (RFC 1071).
fn sum_of_link_header(address: [u8; 6]) -> u32 {
    link_header(address).into_iter().map(u32::from).sum()
}
