//! A passive tap: sees the IPv6 headers that cross one interface, in both directions, without being
//! in their way.
//!
//! It is an `AF_PACKET` socket for all protocols on one interface. All protocols, because only such
//! sockets are shown *outgoing* packets; a socket bound to IPv6 alone sees what comes in and
//! nothing else. A filter in the kernel keeps what is of interest, so that the rest costs no copy
//! (see [`PacketTap::open`]). What passes is cut to its first octets and put into a ring that is
//! shared with the kernel (`TPACKET_V3`), which wakes the reader once per block of packets and not
//! once per packet.
//!
//! The tap sits above segmentation: what the kernel cuts later or has put together is one packet
//! here, and its length counts whole.

mod filter;
mod ring;

#[cfg(test)]
mod tests;

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use self::ring::{Frame, Ring};
use super::{IPV6_HEADER_OCTETS, socket_option, while_doing, while_opening};

/// Sizes and times of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// Size of the ring in octets, rounded up to whole blocks of 64 KiB, two at least. A packet takes about 150
    /// octets of it, and each block timeout uses up a block: the default of 4 MiB lets the reader be more than a
    /// second late. Default 4 MiB.
    pub ring_octets: usize,
    /// The longest time for which a packet waits in a block that is not full, in whole
    /// milliseconds, at least one. The kernel's timer runs at this interval even without traffic.
    /// Each block wakes the reader: hence not shorter than failure detection needs. Default 20 ms.
    pub block_timeout: Duration,
    /// How many octets of each packet are shown, from its IPv6 header on: 40 to 256. Default 64.
    pub snap_octets: usize,
    /// Packets of at most so many octets are shown whole: 0 to 256. Default 0.
    pub whole_octets: usize,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            ring_octets: 4 * 1024 * 1024,
            block_timeout: Duration::from_millis(20),
            snap_octets: 64,
            whole_octets: 0,
        }
    }
}

/// A tap on one interface.
#[derive(Debug)]
pub struct PacketTap {
    // Before the socket, because fields are dropped in order: unmapped first, then closed.
    ring: Ring,
    socket: Socket,
    statistics: TapStatistics,
}

/// One packet that the tap saw.
#[derive(Clone, Copy, Debug)]
pub struct TapPacket<'a> {
    /// True if this host sent (or forwarded) it out of the interface, false if it came in.
    pub outgoing: bool,
    /// Its whole length in octets, IPv6 header included and link-layer padding excluded. A packet
    /// that is segmented below the tap, or was put together by receive offload, counts whole.
    pub length: u32,
    /// When the kernel saw it, as time since the Unix epoch on the system's (adjustable) clock.
    pub seen_at: Duration,
    /// Its first octets, IPv6 header on: at least 40, at most [`TapOptions::snap_octets`] or all of a packet of at most
    /// [`TapOptions::whole_octets`].
    pub octets: &'a [u8],
}

impl TapPacket<'_> {
    /// The source address in its header.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        self.address(8)
    }

    /// The destination address in its header.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        self.address(24)
    }

    fn address(&self, offset: usize) -> Ipv6Addr {
        let mut address = [0; 16];
        address.copy_from_slice(&self.octets[offset..offset + 16]);
        Ipv6Addr::from(address)
    }
}

/// Counters of a tap since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapStatistics {
    /// Packets that passed the filter, dropped ones included.
    pub packets: u64,
    /// Packets that passed the filter but found the ring full.
    pub drops: u64,
    /// How often the ring ran full.
    pub freezes: u64,
    /// Packets that were skipped because they were too short for an IPv6 header, or of another
    /// version.
    pub malformed: u64,
}

impl PacketTap {
    /// Opens a tap on the interface with index `interface`, in the network namespace of the calling
    /// thread.
    ///
    /// It shows unicast IPv6 packets that go out of the interface or come in for this host, except
    /// for protocol 140 (also behind extension headers) and for Neighbor Discovery (ICMPv6 types
    /// 133 to 137): those are not traffic of applications. The filter is in place before the first
    /// packet can arrive. An interface that is down is no error: packets come once it is up. After
    /// the interface was removed nothing comes any more.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`, `InvalidInput` for options out of range, otherwise
    /// the kernel's error and the step that it refused, such as setting up or mapping the ring.
    pub fn open(interface: u32, options: TapOptions) -> io::Result<Self> {
        if interface == 0 {
            return Err(invalid(
                "interface index 0 means all interfaces: expected the index of one",
            ));
        }
        if !(IPV6_HEADER_OCTETS..=256).contains(&options.snap_octets) {
            return Err(invalid("the snap length of a tap has to be 40 to 256 octets"));
        }
        if options.whole_octets > 256 {
            return Err(invalid("packets that a tap shows whole have 256 octets at most"));
        }
        // Protocol 0: deaf until it is bound, so that no packet precedes filter and ring.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)
            .map_err(|error| while_opening("opening a packet socket", error))?;
        socket.set_nonblocking(true)?;
        let program = filter::program(options.snap_octets as u32, options.whole_octets as u32);
        socket
            .attach_filter(&program)
            .map_err(|error| while_doing("attaching the filter to the packet socket", error))?;
        let ring = Ring::map(&socket, options.ring_octets, options.block_timeout)?;
        socket_option::bind_packet_socket(&socket, libc::ETH_P_ALL as u16, interface).map_err(|error| {
            while_doing(
                format_args!("binding the packet socket to interface index {interface}"),
                error,
            )
        })?;
        Ok(Self {
            ring,
            socket,
            statistics: TapStatistics::default(),
        })
    }

    /// Shows to `see` all packets in the blocks that are ready, in order; returns how many it has
    /// shown.
    ///
    /// It goes at most once around the ring.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when no block is ready; the descriptor polls as readable when there is one.
    /// `NetworkDown` once after the interface went down or away, without a packet being shown. If
    /// it comes up again, so do its packets.
    pub fn read(&mut self, see: &mut dyn FnMut(TapPacket<'_>)) -> io::Result<usize> {
        let (mut shown, mut ready) = (0, false);
        for _ in 0..self.ring.blocks() {
            let Some(block) = self.ring.ready_block() else {
                break;
            };
            ready = true;
            for frame in block.frames() {
                if let Some(packet) = packet(&frame) {
                    see(packet);
                    shown += 1;
                } else {
                    self.statistics.malformed += 1;
                }
            }
        }
        if ready {
            return Ok(shown);
        }
        // Also clears it: an error that is left pending would poll as an error from then on.
        Err(self
            .socket
            .take_error()?
            .unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
    }

    /// The counters since the tap was opened.
    ///
    /// # Errors
    ///
    /// The kernel's, if it cannot tell.
    pub fn statistics(&mut self) -> io::Result<TapStatistics> {
        // Reading them sets the kernel's to zero.
        let recent: libc::tpacket_stats_v3 =
            socket_option::get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
        self.statistics.packets += u64::from(recent.tp_packets);
        self.statistics.drops += u64::from(recent.tp_drops);
        self.statistics.freezes += u64::from(recent.tp_freeze_q_cnt);
        Ok(self.statistics)
    }
}

impl AsFd for PacketTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketTap {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The packet in a frame, if it has a whole IPv6 header.
fn packet<'a>(frame: &Frame<'a>) -> Option<TapPacket<'a>> {
    let header = frame.octets.first_chunk::<IPV6_HEADER_OCTETS>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    // Ethernet pads short packets. Zero stands for a length beyond 16 bits: a jumbogram or a
    // super-packet.
    let stated = match u32::from(u16::from_be_bytes([header[4], header[5]])) {
        0 => u32::MAX,
        payload => payload + IPV6_HEADER_OCTETS as u32,
    };
    Some(TapPacket {
        outgoing: frame.packet_type == libc::PACKET_OUTGOING,
        length: frame.length.min(stated),
        seen_at: frame.seen_at,
        octets: frame.octets,
    })
}
