//! Sending whole IPv6 packets with `sendmmsg`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::{MAX_BATCH, SOCKET_BUFFER_OCTETS};
use crate::sys::{IPV6_HEADER_OCTETS, socket_option, while_doing, while_opening};

/// A raw IPv6 socket that sends complete IPv6 packets which all have the same source address.
///
/// The source address is bound, so that the route is looked up with it: the packet leaves by the
/// uplink that owns the locator. The address need not be assigned at the moment.
#[derive(Debug)]
pub struct WireSender {
    socket: Socket,
    local: Ipv6Addr,
}

/// A whole IPv6 packet in one or two pieces of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct WirePacket<'a> {
    /// Its beginning, with the IPv6 header.
    pub head: &'a [u8],
    /// What follows.
    pub body: &'a [u8],
}

/// What became of the packets of one [`WireSender::send_parts`]. The fields add up to the number of
/// packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct SendOutcome {
    /// Handed to the network.
    pub sent: usize,
    /// No route, or its interface is down or gone.
    pub unreachable: usize,
    /// Longer than the outgoing interface's MTU.
    pub too_big: usize,
    /// The kernel was out of buffer space, or the interface's queue was full.
    pub no_buffers: usize,
    /// Forbidden by a route, a policy or a packet filter.
    pub forbidden: usize,
    /// Not sent because it is not an IPv6 packet that this sender may send (see
    /// [`WireSender::send_parts`]).
    pub invalid: usize,
    /// Refused for another reason, see `last_error`.
    pub other: usize,
    /// Not tried, because the socket's send buffer is full: these are the *last* packets of the
    /// batch. The socket polls as writable when it is worth trying them again.
    pub blocked: usize,
    /// The last error number counted in `other`.
    pub last_error: Option<i32>,
}

impl WireSender {
    /// Opens a sender for packets from `local`, whose packets carry the firewall mark `fwmark` (0
    /// for none).
    ///
    /// It works while `local` is not assigned or its interface is down; packets are then counted as
    /// unreachable.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `local` is unspecified or a multicast address; `PermissionDenied` without
    /// `CAP_NET_RAW` and, for the mark, `CAP_NET_ADMIN`; otherwise the kernel's error and the
    /// option it refused.
    pub fn open(local: Ipv6Addr, fwmark: u32) -> io::Result<Self> {
        if local.is_unspecified() || local.is_multicast() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{local} cannot be a source address: expected a unicast address"),
            ));
        }
        // IPPROTO_RAW never receives, and has IPV6_HDRINCL set. It is set again all the same: it is
        // what counts.
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
            .map_err(|error| while_opening("opening the raw IPv6 socket for sending", error))?;
        socket.set_nonblocking(true)?;
        let set = |name, result: io::Result<()>| {
            result.map_err(|error| while_doing(format_args!("setting {name} on the raw IPv6 socket"), error))
        };
        set("IPV6_HDRINCL", socket.set_header_included_v6(true))?;
        set("IPV6_FREEBIND", socket.set_freebind_v6(true))?;
        if fwmark != 0 {
            set("SO_MARK (which needs CAP_NET_ADMIN)", socket.set_mark(fwmark))?;
        }
        socket_option::grow_send_buffer(&socket, SOCKET_BUFFER_OCTETS)?;
        socket
            .bind(&SocketAddrV6::new(local, 0, 0, 0).into())
            .map_err(|error| while_doing(format_args!("binding the raw IPv6 socket to {local}"), error))?;
        Ok(Self { socket, local })
    }

    /// The source address of every packet.
    #[must_use]
    pub fn local(&self) -> Ipv6Addr {
        self.local
    }

    /// As [`WireSender::send_parts`], for packets in one piece.
    ///
    /// # Errors
    ///
    /// Only if the socket itself cannot be used.
    pub fn send_batch(&self, packets: &[&[u8]]) -> io::Result<SendOutcome> {
        let packets: Vec<_> = packets.iter().map(|&packet| packet.into()).collect();
        self.send_parts(&packets)
    }

    /// Sends whole IPv6 packets, in order, each to the destination in its header. What happened to
    /// each is counted; a packet that cannot be sent does not keep the others back.
    ///
    /// A packet is `invalid` unless its version is 6, its Payload Length is what follows its
    /// header, its source is [`WireSender::local`] and its destination is neither multicast nor
    /// unspecified: Shim6 is spoken between two hosts, and another source would leave by the wrong
    /// uplink.
    ///
    /// # Errors
    ///
    /// Only if the socket itself cannot be used.
    pub fn send_parts(&self, packets: &[WirePacket<'_>]) -> io::Result<SendOutcome> {
        send_all(self.socket.as_raw_fd(), packets, |packet| {
            let destination = destination(packet, self.local)?;
            // SAFETY: an all-zero `sockaddr_in6` is valid: integers only.
            let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_addr.s6_addr = destination.octets();
            Some(name)
        })
    }
}

impl AsFd for WireSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for WireSender {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// An address of a socket's family.
pub(super) trait Name: Copy {}

impl Name for libc::sockaddr_in6 {}
impl Name for libc::sockaddr_ll {}

/// Sends the packets in order to the addresses that `name_of` gives; those for which it gives none are invalid.
pub(super) fn send_all<N: Name>(
    socket: RawFd,
    packets: &[WirePacket<'_>],
    name_of: impl Fn(&WirePacket<'_>) -> Option<N>,
) -> io::Result<SendOutcome> {
    let mut outcome = SendOutcome::default();
    let mut rest = packets;
    while !rest.is_empty() && outcome.blocked == 0 {
        let (chunk, after) = rest.split_at(rest.len().min(MAX_BATCH));
        send_chunk(socket, chunk, &name_of, &mut outcome)?;
        rest = after;
    }
    outcome.blocked += rest.len();
    Ok(outcome)
}

/// Sends at most [`MAX_BATCH`] packets; what is left when the socket is full is added to `blocked`.
fn send_chunk<N: Name>(
    socket: RawFd,
    packets: &[WirePacket<'_>],
    name_of: impl Fn(&WirePacket<'_>) -> Option<N>,
    outcome: &mut SendOutcome,
) -> io::Result<()> {
    let mut names = [const { None::<N> }; MAX_BATCH];
    // SAFETY: all-zero values are valid for these: integers, and null pointers with length zero.
    let (mut vectors, mut headers): ([[libc::iovec; 2]; MAX_BATCH], [libc::mmsghdr; MAX_BATCH]) =
        unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for packet in packets {
        let Some(name) = name_of(packet) else {
            outcome.invalid += 1;
            continue;
        };
        let (name, parts) = (names[count].insert(name), &mut vectors[count]);
        for (vector, part) in parts.iter_mut().zip([packet.head, packet.body]) {
            // `sendmmsg` does not write through this pointer.
            vector.iov_base = part.as_ptr().cast_mut().cast();
            vector.iov_len = part.len();
        }
        let header = &mut headers[count].msg_hdr;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = size_of::<N>() as libc::socklen_t;
        header.msg_iov = parts.as_mut_ptr();
        header.msg_iovlen = if packet.body.is_empty() { 1 } else { 2 };
        count += 1;
    }
    let mut pending = &mut headers[..count];
    while !pending.is_empty() {
        // SAFETY: the headers in `pending` point to names, vectors and packets of the stated
        // lengths, which all outlive the call; the kernel writes only each header's `msg_len`.
        let result = unsafe {
            libc::sendmmsg(
                socket,
                pending.as_mut_ptr(),
                pending.len() as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        // The call stops at the first packet that fails. It reports the failure only if that
        // was the first one, so after a partial success the next round meets it.
        let done = match usize::try_from(result) {
            Ok(sent) => {
                outcome.sent += sent;
                sent
            }
            Err(_) => match outcome.count(&io::Error::last_os_error(), pending.len())? {
                Failure::Retry => 0,
                Failure::OnePacket => 1,
                Failure::AllBlocked => return Ok(()),
            },
        };
        pending = &mut pending[done..];
    }
    Ok(())
}

/// How much of what is pending a failed call has dealt with.
enum Failure {
    Retry,
    OnePacket,
    AllBlocked,
}

impl std::ops::Add for SendOutcome {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            unreachable: self.unreachable + other.unreachable,
            too_big: self.too_big + other.too_big,
            no_buffers: self.no_buffers + other.no_buffers,
            forbidden: self.forbidden + other.forbidden,
            invalid: self.invalid + other.invalid,
            other: self.other + other.other,
            blocked: self.blocked + other.blocked,
            last_error: other.last_error.or(self.last_error),
        }
    }
}

impl SendOutcome {
    fn count(&mut self, error: &io::Error, pending: usize) -> io::Result<Failure> {
        let number = error.raw_os_error().unwrap_or(0);
        match number {
            libc::EINTR => return Ok(Failure::Retry),
            libc::EAGAIN => {
                self.blocked += pending;
                return Ok(Failure::AllBlocked);
            }
            libc::EBADF | libc::ENOTSOCK | libc::EFAULT => {
                return Err(io::Error::from_raw_os_error(number));
            }
            // EINVAL is how a blackhole route answers; the packet itself was checked before.
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV | libc::ENXIO | libc::EINVAL => {
                self.unreachable += 1;
            }
            libc::EMSGSIZE => self.too_big += 1,
            libc::ENOBUFS | libc::ENOMEM => self.no_buffers += 1,
            libc::EPERM | libc::EACCES => self.forbidden += 1,
            _ => {
                self.other += 1;
                self.last_error = Some(number);
            }
        }
        Ok(Failure::OnePacket)
    }
}

impl WirePacket<'_> {
    /// Octets of the whole packet.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a packet has at least a header")]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

impl<'a> From<&'a [u8]> for WirePacket<'a> {
    fn from(packet: &'a [u8]) -> Self {
        Self {
            head: packet,
            body: &[],
        }
    }
}

/// Where to send `packet`, if it is a unicast IPv6 packet from `local`.
fn destination(packet: &WirePacket<'_>, local: Ipv6Addr) -> Option<Ipv6Addr> {
    let header = packet.head.first_chunk::<IPV6_HEADER_OCTETS>()?;
    let payload_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&header[24..]).ok()?);
    let valid = header[0] >> 4 == 6
        && packet.len() - IPV6_HEADER_OCTETS == payload_length
        && source == local.octets()
        && !destination.is_multicast()
        && !destination.is_unspecified();
    valid.then_some(destination)
}
