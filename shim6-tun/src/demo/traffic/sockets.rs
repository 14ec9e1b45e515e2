//! Sockets for the traffic. They belong to the network namespace of the calling thread.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Send buffer of a paced server, in octets: small enough that what the server has written is
/// about what the network has taken.
pub const PACED_BUFFER: usize = 512 * 1024;

/// A TCP listener on `address` and a port of the kernel's choice. Accepted connections get
/// `send_buffer` octets of send buffer, or what the kernel finds best.
pub fn listen(address: Ipv6Addr, send_buffer: Option<usize>) -> io::Result<TcpListener> {
    let socket = bound(Type::STREAM, Protocol::TCP, address)?;
    if let Some(octets) = send_buffer {
        socket.set_send_buffer_size(octets)?;
    }
    socket.listen(16)?;
    Ok(socket.into())
}

/// A TCP socket bound to `source`, ready for a non-blocking connect.
pub fn unconnected(source: Ipv6Addr) -> io::Result<TcpStream> {
    Ok(bound(Type::STREAM, Protocol::TCP, source)?.into())
}

/// A UDP socket bound to `address` and a port of the kernel's choice.
pub fn datagram(address: Ipv6Addr) -> io::Result<UdpSocket> {
    Ok(bound(Type::DGRAM, Protocol::UDP, address)?.into())
}

/// The IPv6 address and port a listener is bound to.
pub fn local(address: io::Result<std::net::SocketAddr>) -> io::Result<SocketAddrV6> {
    match address? {
        std::net::SocketAddr::V6(address) => Ok(address),
        std::net::SocketAddr::V4(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

fn bound(kind: Type, protocol: Protocol, address: Ipv6Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.set_only_v6(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
    Ok(socket)
}
