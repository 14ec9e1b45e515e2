//! The path manager's three requests, over generic netlink.
//!
//! By hand, because a library for them would bring along netlink crates of other versions than those
//! that the daemon uses.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::{Endpoint, Role};

/// A part of a message: its type and what it carries.
type Attribute<'a> = (u16, &'a [u8]);

/// Octets of `nlmsghdr` and of `genlmsghdr`.
const NETLINK_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;
/// `NLMSG_ERROR`: also what acknowledges.
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;

/// The family of families: `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and its attributes.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `MPTCP_PM_CMD_*`, `MPTCP_PM_ATTR_*`, `MPTCP_PM_ADDR_ATTR_*` and `MPTCP_PM_ADDR_FLAG_*`.
const PATH_MANAGER: &[u8] = b"mptcp_pm\0";
const ADD_ADDRESS: u8 = 1;
const SET_LIMITS: u8 = 5;
const ADDRESS: u16 = 1;
const ACCEPTED_ADDRESSES: u16 = 2;
const SUBFLOWS: u16 = 3;
const ADDRESS_FAMILY: u16 = 1;
const ADDRESS_IPV6: u16 = 4;
const ADDRESS_FLAGS: u16 = 6;
const ADDRESS_INTERFACE: u16 = 7;
const FLAG_SIGNAL: u32 = 1;
const FLAG_SUBFLOW: u32 = 2;
const FLAG_BACKUP: u32 = 4;
const FLAG_FULLMESH: u32 = 8;

/// The kernel answers at once, or never will.
const PATIENCE: i64 = 5;

/// A connection to the path manager of one namespace.
#[derive(Debug)]
pub(super) struct PathManager {
    socket: OwnedFd,
    family: u16,
}

impl PathManager {
    /// Connects, in the namespace of the calling thread.
    ///
    /// # Errors
    /// `NotFound` where the kernel has no MPTCP.
    pub(super) fn connect() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        let mut manager = Self {
            socket,
            family: CONTROLLER,
        };
        let answer = manager.request(GET_FAMILY, &[(FAMILY_NAME, PATH_MANAGER)])?;
        manager.family = answer
            .and_then(|answer| find(&answer, FAMILY_ID))
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(manager)
    }

    /// How many addresses of the peer are used and how many further subflows there may be.
    pub(super) fn set_limits(&mut self, addresses: u32, subflows: u32) -> io::Result<()> {
        let (addresses, subflows) = (addresses.to_ne_bytes(), subflows.to_ne_bytes());
        let attributes: [Attribute<'_>; 2] = [(ACCEPTED_ADDRESSES, &addresses), (SUBFLOWS, &subflows)];
        self.request(SET_LIMITS, &attributes).map(drop)
    }

    /// Lets an address be used.
    pub(super) fn add_endpoint(&mut self, endpoint: &Endpoint) -> io::Result<()> {
        let mut flags = match endpoint.role {
            Role::FullMesh => FLAG_SUBFLOW | FLAG_FULLMESH,
            Role::Signal => FLAG_SIGNAL,
        };
        if endpoint.backup {
            flags |= FLAG_BACKUP;
        }
        let nested = attributes(&[
            (ADDRESS_FAMILY, &(AddressFamily::Inet6 as u16).to_ne_bytes()),
            (ADDRESS_IPV6, &endpoint.address.octets()),
            (ADDRESS_FLAGS, &flags.to_ne_bytes()),
            (ADDRESS_INTERFACE, &endpoint.interface.to_ne_bytes()),
        ]);
        self.request(ADD_ADDRESS, &[(ADDRESS | NESTED, &nested)]).map(drop)
    }

    /// Sends a request and waits for its acknowledgement; gives the attributes of the answer before
    /// it, if there was one.
    fn request(&mut self, command: u8, list: &[Attribute<'_>]) -> io::Result<Option<Vec<u8>>> {
        let message = message(self.family, command, &attributes(list));
        let kernel = NetlinkAddr::new(0, 0);
        let fd = self.socket.as_raw_fd();
        sendmsg(fd, &[IoSlice::new(&message)], &[], MsgFlags::empty(), Some(&kernel))?;
        let mut answer = None;
        loop {
            let mut buffer = [0; 8192];
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let got = recvmsg::<NetlinkAddr>(fd, &mut parts, None, MsgFlags::empty())?.bytes;
            for (kind, body) in messages(&buffer[..got]) {
                if kind == ERROR {
                    return acknowledgement(body).map(|()| answer);
                }
                answer = body.get(GENERIC_HEADER..).map(<[u8]>::to_vec);
            }
        }
    }
}

/// A generic netlink message of version 1, which all that is used here has.
fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER + GENERIC_HEADER + attributes.len();
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and sender, which the kernel repeats or fills in, then the generic header.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

fn attributes(list: &[Attribute<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (kind, value) in list {
        octets.extend(((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes());
        octets.extend(kind.to_ne_bytes());
        octets.extend(*value);
        octets.resize(octets.len().next_multiple_of(4), 0);
    }
    octets
}

/// The type and body of each message in a datagram, up to the first that is not whole.
fn messages(mut datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let mut list = Vec::new();
    while let Some((&[a, b, c, d, k, l], _)) = datagram.split_first_chunk() {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(body) = datagram.get(NETLINK_HEADER..length) else {
            break;
        };
        list.push((u16::from_ne_bytes([k, l]), body));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    list
}

/// A 16-bit attribute.
fn find(mut octets: &[u8], wanted: u16) -> Option<u16> {
    while let Some((&[a, b, c, d], _)) = octets.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = octets.get(ATTRIBUTE_HEADER..length)?;
        if u16::from_ne_bytes([c, d]) == wanted {
            return value.try_into().ok().map(u16::from_ne_bytes);
        }
        octets = octets.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The kernel's answer: a negated error number, or zero.
fn acknowledgement(body: &[u8]) -> io::Result<()> {
    let (&code, _) = body.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        negated => Err(io::Error::from_raw_os_error(negated.wrapping_neg())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use shim6_tun::lab::isolated;

    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let octets = attributes(&[(7, &[1, 2, 3]), (9, &513_u16.to_ne_bytes())]);
        assert_eq!(octets.len(), 8 + 8);
        assert_eq!(find(&octets, 9), Some(513));
        assert_eq!(find(&octets, 7), None);
        assert_eq!(find(&octets, 8), None);
        assert_eq!(find(&octets[..9], 9), None);
    }

    #[test]
    fn messages_that_are_not_whole_are_left_out() {
        let whole = message(0x1234, 5, &attributes(&[(1, &[0; 4])]));
        let two = [whole.clone(), whole.clone()].concat();
        assert_eq!(messages(&two).len(), 2);
        assert_eq!(messages(&two)[1], (0x1234, &whole[NETLINK_HEADER..]));
        assert_eq!(messages(&two[..two.len() - 1]).len(), 1);
        assert_eq!(messages(&[0; 40]).len(), 0);
        assert_eq!(messages(&[]).len(), 0);
    }

    #[test]
    fn kernel_takes_limits_and_refuses_what_is_too_much() {
        let name = "failover::mptcp::netlink::tests::kernel_takes_limits_and_refuses_what_is_too_much";
        if let Err(why) = super::super::support() {
            // Not `lab::skip`: a lab does not need MPTCP.
            let _ = writeln!(io::stderr(), "skipped: {name}: {why}");
            return;
        }
        isolated(name, || async {
            let mut manager = PathManager::connect().expect("there is one");
            manager.set_limits(8, 8).expect("allowed");
            let error = manager.set_limits(0, 9).expect_err("too many");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let mut endpoint = Endpoint {
                address: "2001:db8::1".parse().expect("an address"),
                interface: 1,
                role: Role::FullMesh,
                backup: true,
            };
            manager.add_endpoint(&endpoint).expect("new");
            let error = manager.add_endpoint(&endpoint).expect_err("there already");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            endpoint.role = Role::Signal;
            endpoint.address = "2001:db8::2".parse().expect("an address");
            manager.add_endpoint(&endpoint).expect("new");
        });
    }
}
