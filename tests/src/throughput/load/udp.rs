//! Datagrams with numbers.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use shim6_tun::demo::stage::{self, Locators};
use shim6_tun::lab::Topology;
use socket2::SockRef;

use super::{Load, Shared};

/// How long the receiver waits before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(50);
/// Asked for as receive buffer, in octets. The kernel gives what the system allows: room for some hundred datagrams at
/// least.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

pub(super) fn start(load: &mut Load, topology: &Topology, [a, b]: Locators, octets: usize) -> anyhow::Result<()> {
    let (receiver, destination) = stage::udp(&topology.b, b)?;
    let (sender, _) = stage::udp(&topology.a, a)?;
    for socket in [&sender, &receiver] {
        socket.set_nonblocking(false)?;
    }
    receiver.set_read_timeout(Some(LOOK))?;
    SockRef::from(&receiver).set_recv_buffer_size(RECEIVE_BUFFER)?;
    sender
        .connect(destination)
        .with_context(|| format!("cannot send from {a} to {destination}"))?;
    load.spawn(move |shared| receive(&receiver, octets, shared))?;
    load.spawn(move |shared| send(&sender, octets, shared))?;
    Ok(())
}

fn send(socket: &UdpSocket, octets: usize, shared: &Shared) -> io::Result<()> {
    let mut datagram = vec![0x5a; octets];
    for number in 0_u64.. {
        if shared.is_over() {
            break;
        }
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        match socket.send(&datagram) {
            Ok(_) => {}
            // A full queue of a device: lost, as it would be further on.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
        shared.sent.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

fn receive(socket: &UdpSocket, octets: usize, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; octets + 1];
    let mut order = Order::default();
    while !shared.is_over() {
        let got = match socket.recv(&mut buffer) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error),
        };
        match buffer.first_chunk() {
            Some(number) if got == octets => {
                if order.is_late(u64::from_be_bytes(*number)) {
                    shared.reordered.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a datagram of {got} octets"),
                ));
            }
        }
        shared.datagrams.fetch_add(1, Ordering::Relaxed);
        shared.octets.fetch_add(octets as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Which datagrams come after one that was sent later, or twice.
#[derive(Debug, Default)]
struct Order {
    /// One more than the highest number so far.
    next: u64,
}

impl Order {
    fn is_late(&mut self, number: u64) -> bool {
        let late = number < self.next;
        self.next = self.next.max(number.saturating_add(1));
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_repeated_datagrams_are_told_from_lost_ones() {
        let mut order = Order::default();
        let numbers = [0, 1, 5, 3, 4, 6, 6, u64::MAX, 7];
        let late: Vec<u64> = numbers.into_iter().filter(|&number| order.is_late(number)).collect();
        assert_eq!(late, [3, 4, 6, 7]);
    }
}
