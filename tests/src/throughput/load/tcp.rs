//! TCP streams.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use shim6_tun::demo::stage::{self, Locators};
use shim6_tun::lab::Topology;
use socket2::Socket;

use super::{Load, STALLED};
use crate::throughput::case::Direction;

/// Octets per read and write.
const BUFFER: usize = 256 * 1024;

/// A connection from host a to host b: its ends there.
pub(super) fn connect(load: &mut Load, topology: &Topology, addresses: Locators) -> anyhow::Result<[TcpStream; 2]> {
    let (listener, server) = stage::listen(&topology.b, addresses[1], None)?;
    connect_to(load, topology, addresses[0], &listener, server)
}

fn connect_to(
    load: &mut Load,
    topology: &Topology,
    from: Ipv6Addr,
    listener: &TcpListener,
    server: SocketAddrV6,
) -> anyhow::Result<[TcpStream; 2]> {
    let client = Socket::from(stage::tcp_client(&topology.a, from)?);
    client.set_nonblocking(false)?;
    let connected = client.connect_timeout(&server.into(), STALLED);
    connected.with_context(|| format!("no connection from {from} to {server}"))?;
    // The handshake is done, so the connection waits in the listener's queue.
    listener.set_nonblocking(false)?;
    let (accepted, _) = listener.accept()?;
    let client = TcpStream::from(client);
    for end in [&client, &accepted] {
        end.set_nonblocking(false)?;
        end.set_read_timeout(Some(STALLED))?;
        end.set_write_timeout(Some(STALLED))?;
        load.sockets.push(end.try_clone()?.into());
    }
    Ok([client, accepted])
}

pub(super) fn start(
    load: &mut Load,
    topology: &Topology,
    addresses: Locators,
    streams: usize,
    direction: Direction,
) -> anyhow::Result<()> {
    let (listener, server) = stage::listen(&topology.b, addresses[1], None)?;
    for _ in 0..streams {
        let [client, accepted] = connect_to(load, topology, addresses[0], &listener, server)?;
        let (mut sender, mut receiver) = match direction {
            Direction::AToB => (client, accepted),
            Direction::BToA => (accepted, client),
        };
        load.spawn(move |shared| {
            let data = vec![0x5a; BUFFER];
            while !shared.is_over() {
                sender.write_all(&data)?;
            }
            Ok(())
        })?;
        load.spawn(move |shared| {
            let mut buffer = vec![0; BUFFER];
            while !shared.is_over() {
                match receiver.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    got => shared.octets.fetch_add(got as u64, Ordering::Relaxed),
                };
            }
            Ok(())
        })?;
    }
    Ok(())
}
