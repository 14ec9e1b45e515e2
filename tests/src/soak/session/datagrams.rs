//! Sessions over UDP. Datagrams may be lost; what arrives has to be right.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV6;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::{End, number, ticks, wrong};

const PERIOD: Duration = Duration::from_millis(20);
const QUESTION: usize = 300;
/// 20 ms of G.711, and the header that RTP has.
const SOUND: usize = 172;
/// How many of the last numbers are kept, to know a datagram that comes twice.
const KEPT: usize = 512;

/// Numbers that have been seen.
#[derive(Debug, Default)]
struct Seen {
    newest: VecDeque<u64>,
}

impl Seen {
    /// Whether it is new.
    fn note(&mut self, number: u64) -> bool {
        if self.newest.iter().rev().any(|&other| other == number) {
            return false;
        }
        if self.newest.len() == KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(number);
        true
    }
}

/// The caller of a call.
pub(super) async fn talk(end: End, socket: UdpSocket, to: SocketAddrV6) -> io::Result<()> {
    let mut sound = [0; SOUND];
    let mut ticks = ticks(PERIOD);
    for number in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = end.stopped() => break,
        }
        send(&end, &socket, to, number, &mut sound).await;
    }
    Ok(())
}

/// The other end of a call, which is silent.
pub(super) async fn listen(end: End, socket: UdpSocket) -> io::Result<()> {
    let mut seen = Seen::default();
    let mut buffer = [0; 2 * SOUND];
    loop {
        let got = tokio::select! {
            got = socket.recv(&mut buffer) => got,
            () = end.stopped() => return Ok(()),
        };
        // An error is about a datagram that was sent.
        if let Ok(got) = got {
            take::<SOUND>(&end, &mut seen, &buffer[..got])?;
        }
    }
}

/// The client: questions, however many are not answered yet.
pub(super) async fn ask(end: End, socket: UdpSocket, to: SocketAddrV6) -> io::Result<()> {
    let mut seen = Seen::default();
    let (mut question, mut buffer) = ([0; QUESTION], [0; 2 * QUESTION]);
    let mut ticks = ticks(PERIOD);
    let mut number = 0;
    loop {
        let got = tokio::select! {
            _ = ticks.tick() => {
                send(&end, &socket, to, number, &mut question).await;
                number += 1;
                continue;
            }
            got = socket.recv(&mut buffer) => got,
            () = end.stopped() => return Ok(()),
        };
        if let Ok(got) = got {
            take::<QUESTION>(&end, &mut seen, &buffer[..got])?;
        }
    }
}

/// The server.
pub(super) async fn echo(end: End, socket: UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 2 * QUESTION];
    loop {
        let got = tokio::select! {
            got = socket.recv_from(&mut buffer) => got,
            () = end.stopped() => return Ok(()),
        };
        if let Ok((got, from)) = got {
            // As lost as one that gets lost on the way.
            let _ = socket.send_to(&buffer[..got], from).await;
        }
    }
}

async fn send(end: &End, socket: &UdpSocket, to: SocketAddrV6, number: u64, message: &mut [u8]) {
    end.message(number, message);
    end.meter.sent.fetch_add(1, Relaxed);
    // Without a route just now it is as lost as one that gets lost on the way.
    let _ = socket.send_to(message, to).await;
}

fn take<const SIZE: usize>(end: &End, seen: &mut Seen, got: &[u8]) -> io::Result<()> {
    let mut expected = [0; SIZE];
    let Some(number) = number(got) else {
        return Err(wrong(format!("a datagram of {} octets", got.len())));
    };
    end.message(number, &mut expected);
    if got != expected {
        return Err(wrong(format!("wrong octets in datagram {number}")));
    }
    if seen.note(number) {
        end.meter.arrived.fetch_add(1, Relaxed);
        end.meter.arrive(SIZE);
    }
    Ok(())
}
