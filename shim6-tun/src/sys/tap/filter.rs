//! The tap's packet filter, in classic BPF.
//!
//! Offsets count from the IPv6 header, because the socket is of type `SOCK_DGRAM`. A load past the
//! packet's end ends the program and drops the packet.

use libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
    BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_RET, BPF_ST, BPF_TAX, BPF_W, BPF_X,
};
use socket2::SockFilter;

use crate::sys::{IPV6_HEADER_OCTETS, SHIM6_NEXT_HEADER};

const HEADER: u32 = IPV6_HEADER_OCTETS as u32;
const SHIM6: u32 = SHIM6_NEXT_HEADER as u32;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const ICMPV6: u32 = 58;
const DESTINATION_OPTIONS: u32 = 60;

/// First and last ICMPv6 type of Neighbor Discovery (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: (u32, u32) = (133, 137);

/// Extension headers that are followed in search of protocol 140; classic BPF has no loops.
const EXTENSION_HEADERS: usize = 3;

/// Where a conditional jump goes.
#[derive(Clone, Copy)]
enum Target {
    /// To the next instruction.
    Next,
    /// Over this many instructions.
    Skip(usize),
    /// To the end, keeping the packet.
    Keep,
    /// To the end, dropping the packet.
    Drop,
}

use Target::{Drop, Keep, Next, Skip};

/// One instruction: operation, operand, and for a jump where it goes if the condition holds and if
/// not.
type Instruction = (u32, u32, Target, Target);

/// A program that returns `snap_octets` for the packets that the tap shows and 0 for the others; `whole_octets` for those that
/// are not larger than that.
///
/// The protocol and the packet type come from the kernel's own record of the packet and not from
/// octets in it, so that VLAN tags and offloads do not matter. Packets shorter than an IPv6 header
/// pass: the reader counts them.
pub(super) fn program(snap_octets: u32, whole_octets: u32) -> Vec<SockFilter> {
    let mut code: Vec<Instruction> = vec![
        load_ancillary(libc::SKF_AD_PROTOCOL),
        if_equal(libc::ETH_P_IPV6 as u32, Next, Drop),
        load_ancillary(libc::SKF_AD_PKTTYPE),
        if_equal(u32::from(libc::PACKET_OUTGOING), Skip(1), Next),
        if_equal(u32::from(libc::PACKET_HOST), Next, Drop),
        plain(BPF_LD | BPF_W | BPF_LEN, 0),
        jump(BPF_JGE, HEADER, Next, Keep),
        // The destination's first octet: multicast?
        plain(BPF_LD | BPF_B | BPF_ABS, 24),
        if_equal(0xff, Drop, Next),
        // From here on X is the length of the extension headers passed, A the Next Header value
        // behind them.
        plain(BPF_LDX | BPF_IMM, 0),
        plain(BPF_LD | BPF_B | BPF_ABS, 6),
    ];
    let step = step_over_extension_header();
    for _ in 0..EXTENSION_HEADERS {
        code.extend([
            if_equal(HOP_BY_HOP, Skip(2), Next),
            if_equal(ROUTING, Skip(1), Next),
            if_equal(DESTINATION_OPTIONS, Next, Skip(step.len())),
        ]);
        code.extend(step);
    }
    code.extend([
        // A fragment's header says what was fragmented; what follows need not be the start of a
        // header.
        if_equal(FRAGMENT, Next, Skip(2)),
        plain(BPF_LD | BPF_B | BPF_IND, HEADER),
        if_equal(SHIM6, Drop, Keep),
        if_equal(SHIM6, Drop, Next),
        if_equal(ICMPV6, Next, Keep),
        plain(BPF_LD | BPF_B | BPF_IND, HEADER),
        jump(BPF_JGE, NEIGHBOR_DISCOVERY.0, Next, Keep),
        jump(BPF_JGT, NEIGHBOR_DISCOVERY.1, Keep, Drop),
    ]);
    assemble(&code, snap_octets, whole_octets)
}

/// Moves X over the extension header that starts there and loads its Next Header value (RFC 8200
/// section 4).
fn step_over_extension_header() -> [Instruction; 8] {
    [
        plain(BPF_LD | BPF_B | BPF_IND, HEADER),
        plain(BPF_ST, 0),
        // Its length, in units of 8 octets beyond the first.
        plain(BPF_LD | BPF_B | BPF_IND, HEADER + 1),
        plain(BPF_ALU | BPF_ADD | BPF_K, 1),
        plain(BPF_ALU | BPF_LSH | BPF_K, 3),
        plain(BPF_ALU | BPF_ADD | BPF_X, 0),
        plain(BPF_MISC | BPF_TAX, 0),
        plain(BPF_LD | BPF_MEM, 0),
    ]
}

fn plain(operation: u32, operand: u32) -> Instruction {
    (operation, operand, Next, Next)
}

fn jump(condition: u32, operand: u32, then: Target, otherwise: Target) -> Instruction {
    (BPF_JMP | condition | BPF_K, operand, then, otherwise)
}

fn if_equal(operand: u32, then: Target, otherwise: Target) -> Instruction {
    jump(BPF_JEQ, operand, then, otherwise)
}

fn load_ancillary(item: i32) -> Instruction {
    plain(BPF_LD | BPF_W | BPF_ABS, (libc::SKF_AD_OFF + item).cast_unsigned())
}

/// Appends the ends and resolves the jumps. All distances fit: the program is far below 256
/// instructions.
fn assemble(code: &[Instruction], snap_octets: u32, whole_octets: u32) -> Vec<SockFilter> {
    let end = |operation: u32, operand: u32, otherwise: u8| SockFilter::new(operation as u16, 0, otherwise, operand);
    // The first four are for a packet that is kept, and the last one for one that is not.
    let ends = [
        end(BPF_LD | BPF_W | BPF_LEN, 0, 0),
        // Over one instruction if it is not larger.
        end(BPF_JMP | BPF_JGT | BPF_K, whole_octets, 1),
        end(BPF_RET | BPF_K, snap_octets, 0),
        end(BPF_RET | BPF_K, snap_octets.max(whole_octets), 0),
        end(BPF_RET | BPF_K, 0, 0),
    ];
    let kept = ends.len() - 1;
    let distance = |position: usize, target: Target| {
        let to_end = code.len() - position - 1;
        match target {
            Next => 0,
            Skip(count) => count as u8,
            Keep => to_end as u8,
            Drop => (to_end + kept) as u8,
        }
    };
    let body = code
        .iter()
        .enumerate()
        .map(|(position, &(operation, operand, then, otherwise))| {
            SockFilter::new(
                operation as u16,
                distance(position, then),
                distance(position, otherwise),
                operand,
            )
        });
    body.chain(ends).collect()
}
