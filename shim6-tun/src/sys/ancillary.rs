//! Any socket option, and what comes beside a datagram (RFC 3542), for the tests of the lab: they look at each field of each
//! header that a socket can show. The daemon itself has no use for it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// The longest datagram.
const MAX_DATA: usize = 65_536;
/// Room for all extension headers of a packet, and more.
const CONTROL_OCTETS: usize = 8_192;

/// What [`receive`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The datagram.
    pub data: Vec<u8>,
    /// Who sent it; `None` where the kernel does not say.
    pub source: Option<SocketAddrV6>,
    /// What came beside it, in the order in which the kernel gave it.
    pub items: Vec<Item>,
    /// `MSG_TRUNC`, `MSG_CTRUNC` and so on.
    pub flags: i32,
}

/// One piece of ancillary data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Such as `IPPROTO_IPV6`.
    pub level: i32,
    /// Such as `IPV6_HOPLIMIT`.
    pub kind: i32,
    /// Its octets, in the host's order where they are integers of the kernel's.
    pub value: Vec<u8>,
}

impl Received {
    /// The value of the first item of this kind.
    pub fn item(&self, level: i32, kind: i32) -> Option<&[u8]> {
        let mut items = self.items.iter();
        let item = items.find(|item| (item.level, item.kind) == (level, kind))?;
        Some(&item.value)
    }

    /// As [`item`](Self::item), where it is an `int`.
    pub fn integer(&self, level: i32, kind: i32) -> Option<i32> {
        Some(i32::from_ne_bytes(*self.item(level, kind)?.first_chunk()?))
    }
}

/// Sets a socket option to these octets.
///
/// # Errors
///
/// The kernel's.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    checked(result as isize).map(drop)
}

/// Reads up to `octets` octets of a socket option.
///
/// # Errors
///
/// The kernel's.
pub fn option(socket: &impl AsFd, level: i32, name: i32, octets: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0_u8; octets];
    let mut length = octets as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, of which the kernel fills at most `length` octets.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    checked(result as isize)?;
    value.truncate(length as usize);
    Ok(value)
}

/// Receives a datagram with all that comes beside it. `flags` as for `recvmsg`, such as `MSG_ERRQUEUE`.
///
/// # Errors
///
/// The kernel's.
pub fn receive(socket: &impl AsFd, flags: i32) -> io::Result<Received> {
    #[repr(align(8))]
    struct Control([u8; CONTROL_OCTETS]);
    let mut control = Control([0; CONTROL_OCTETS]);
    let mut data = vec![0_u8; MAX_DATA];
    let mut vector = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero values are valid for these: integers, and null pointers with length zero.
    let (mut name, mut header): (libc::sockaddr_in6, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_OCTETS as _;
    // SAFETY: the header points to a name, a buffer and a control buffer of the stated lengths, which are otherwise unused
    // until the call returns.
    let length = checked(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) })?;
    data.truncate(length);
    let has_name =
        header.msg_namelen as usize >= size_of::<libc::sockaddr_in6>() && i32::from(name.sin6_family) == libc::AF_INET6;
    let source = has_name.then(|| {
        let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
        SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id)
    });
    #[allow(clippy::unnecessary_cast, reason = "another type than usize with musl")]
    let filled = (header.msg_controllen as usize).min(CONTROL_OCTETS);
    Ok(Received {
        data,
        source,
        items: items(&control.0[..filled]),
        flags: header.msg_flags,
    })
}

/// A sequence of `cmsghdr`, each followed by its value and padded.
fn items(mut control: &[u8]) -> Vec<Item> {
    const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(size_of::<usize>());
    let mut items = Vec::new();
    while let Some(item) = item(control, HEADER) {
        let next = (HEADER + item.value.len()).next_multiple_of(size_of::<usize>());
        items.push(item);
        control = control.get(next..).unwrap_or_default();
    }
    items
}

fn item(control: &[u8], value_at: usize) -> Option<Item> {
    let int = |offset: usize| Some(i32::from_ne_bytes(*control.get(offset..)?.first_chunk()?));
    let length = control.get(std::mem::offset_of!(libc::cmsghdr, cmsg_len)..)?;
    let length = usize::from_ne_bytes(*length.first_chunk()?);
    Some(Item {
        level: int(std::mem::offset_of!(libc::cmsghdr, cmsg_level))?,
        kind: int(std::mem::offset_of!(libc::cmsghdr, cmsg_type))?,
        value: control.get(value_at..length)?.to_vec(),
    })
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn options_are_set_and_read_and_what_comes_beside_a_datagram_is_found() {
        let receiver = UdpSocket::bind("[::1]:0").unwrap();
        let sender = UdpSocket::bind("[::1]:0").unwrap();
        let on = 1_i32.to_ne_bytes();
        for name in [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS, libc::IPV6_RECVPKTINFO] {
            set_option(&receiver, libc::IPPROTO_IPV6, name, &on).unwrap();
        }
        let (hops, class) = (77_i32, 0xb9_i32);
        set_option(
            &sender,
            libc::IPPROTO_IPV6,
            libc::IPV6_UNICAST_HOPS,
            &hops.to_ne_bytes(),
        )
        .unwrap();
        set_option(&sender, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class.to_ne_bytes()).unwrap();
        assert_eq!(
            option(&sender, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 4).unwrap(),
            class.to_ne_bytes()
        );
        sender.send_to(b"octets", receiver.local_addr().unwrap()).unwrap();

        let received = receive(&receiver, 0).unwrap();
        assert_eq!(received.data, b"octets");
        assert_eq!(received.source.map(Into::into), Some(sender.local_addr().unwrap()));
        assert_eq!(received.integer(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT), Some(hops));
        assert_eq!(received.integer(libc::IPPROTO_IPV6, libc::IPV6_TCLASS), Some(class));
        assert!(received.item(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO).is_some());
        assert_eq!(received.item(libc::IPPROTO_IPV6, libc::IPV6_RTHDR), None);
    }

    #[test]
    fn control_data_that_is_cut_off_ends_the_list() {
        let whole = [
            &20_usize.to_ne_bytes()[..],
            &41_i32.to_ne_bytes(),
            &52_i32.to_ne_bytes(),
            &63_i32.to_ne_bytes(),
            &[0; 4],
        ]
        .concat();
        assert_eq!(items(&whole).len(), 1);
        for length in 0..20 {
            assert_eq!(items(&whole[..length]), []);
        }
        for length in [0_usize, 1, usize::MAX] {
            let mut broken = whole.clone();
            broken[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(items(&broken), []);
        }
    }
}
