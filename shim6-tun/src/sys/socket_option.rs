//! Socket options for which neither `nix` nor `socket2` has a safe wrapper.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

/// A plain C structure that the kernel reads or writes as the value of a socket option.
///
/// # Safety
///
/// Every bit pattern must be a valid value, and there must be no padding.
pub(super) unsafe trait OptionValue: Copy {}

// SAFETY: an integer.
unsafe impl OptionValue for libc::c_int {}
// SAFETY: integers only.
unsafe impl<const N: usize> OptionValue for [u32; N] {}
// SAFETY: seven 32-bit integers, hence no padding.
unsafe impl OptionValue for libc::tpacket_req3 {}
// SAFETY: three 32-bit integers, hence no padding.
unsafe impl OptionValue for libc::tpacket_stats_v3 {}
// SAFETY: two 64-bit and four 32-bit integers, hence no padding.
unsafe impl OptionValue for libc::xdp_umem_reg {}
// SAFETY: 64-bit integers only.
unsafe impl OptionValue for libc::xdp_mmap_offsets {}

/// Sets one option.
pub(super) fn set<T: OptionValue>(socket: &impl AsFd, level: i32, name: i32, value: T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel only
    // reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads one option; an answer of another size is an error.
pub(super) fn get<T: OptionValue>(socket: &impl AsFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which the kernel fills with at most
    // `length` octets.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != size_of::<T>() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "socket option {level}/{name} has {length} octets, expected {}",
                size_of::<T>()
            ),
        ));
    }
    // SAFETY: zeroed and then overwritten by the kernel; any bit pattern is valid for an
    // `OptionValue`.
    Ok(unsafe { value.assume_init() })
}

/// Binds a packet socket to `protocol` (an EtherType) on the interface with index `interface`.
pub(super) fn bind_packet_socket(socket: &Socket, protocol: u16, interface: u32) -> io::Result<()> {
    // SAFETY: an all-zero `sockaddr_ll` is valid: integers only.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface.cast_signed();
    // SAFETY: the pointer and the length describe `address`, which outlives the call; the kernel
    // only reads it.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks for a receive buffer of `octets`, beyond the system's limit where that is permitted.
///
/// The limit can be passed only with `CAP_NET_ADMIN` in the initial user namespace; otherwise the
/// kernel cuts the request down to `net.core.rmem_max` without an error, and that is good enough.
pub(super) fn grow_receive_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &octets).is_ok() {
        return Ok(());
    }
    socket.set_recv_buffer_size(octets)
}

/// [`grow_receive_buffer`] for the send buffer (`net.core.wmem_max`).
pub(super) fn grow_send_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::SndBufForce, &octets).is_ok() {
        return Ok(());
    }
    socket.set_send_buffer_size(octets)
}
