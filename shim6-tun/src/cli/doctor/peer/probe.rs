//! Sends, and notes what comes back.

use std::io::{self, Read as _};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand::Rng as _;
use shim6_core::wire::{ContextTag, I1, Message, UlidPair};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::wire_socket::{RecvBatch, WireReceiver, WireSender};
use crate::sys::{IPV6_HEADER_OCTETS, SHIM6_NEXT_HEADER};

/// Each question is asked so often, at this distance.
const ROUNDS: u8 = 4;
const DISTANCE: Duration = Duration::from_millis(300);
/// How long answers are waited for after the last question.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The most routers on a way.
pub(super) const MOST_HOPS: u8 = 24;
/// Between two questions that routers are to answer, which do so at some rate only.
const HOP_DISTANCE: Duration = Duration::from_millis(15);
const HOP_LIMIT: u8 = 64;
/// Ports of which hosts often answer at least one, if only to say no.
const PORTS: [u16; 3] = [443, 22, 80];
const TCP_PATIENCE: Duration = Duration::from_secs(1);
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const ICMPV6: u8 = 58;
const TIME_EXCEEDED: u8 = 3;

/// A pair of addresses to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) local: Ipv6Addr,
    pub(super) remote: Ipv6Addr,
    /// The ULIDs, ours first, of the context that it could carry.
    pub(super) ulids: (Ipv6Addr, Ipv6Addr),
}

/// An ICMPv6 error, and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) from: Ipv6Addr,
    pub(super) kind: u8,
    pub(super) code: u8,
}

/// How far packets came: the routers that said so, by their distance, from 1 on.
pub(super) type Hops = Vec<(u8, Ipv6Addr)>;

/// What came back on a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) pair: Pair,
    /// Until the answer to an I1 came.
    pub(super) shim6: Option<Duration>,
    /// Of an I1.
    pub(super) refused: Option<Refusal>,
    pub(super) echo: Option<Duration>,
    /// A port that answered, where there was no echo.
    pub(super) tcp: Option<u16>,
    pub(super) shim6_hops: Hops,
    pub(super) echo_hops: Hops,
}

/// One pair under test.
struct Probed {
    outcome: Outcome,
    sender: WireSender,
    echo: Socket,
    asked_at: Option<Instant>,
    /// Of the first question; those with a hop limit have this and their hop limit, XORed.
    nonce: u32,
    tag: ContextTag,
    /// In echo requests.
    id: u16,
    fork: u32,
}

pub(super) struct Prober {
    pairs: Vec<Probed>,
    shim6: WireReceiver,
    errors: WireReceiver,
    fwmark: u32,
}

impl Prober {
    /// Opens the sockets; packets bear the daemon's mark, so that they go where they are sent.
    pub(super) fn open(pairs: Vec<Pair>, fwmark: u32) -> io::Result<Self> {
        let mut rng = rand::rng();
        let mut probed = Vec::new();
        for pair in pairs {
            let echo = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            echo.set_nonblocking(true)?;
            echo.set_mark(fwmark)?;
            echo.bind(&SocketAddr::from((pair.local, 0)).into())?;
            probed.push(Probed {
                outcome: Outcome {
                    pair,
                    shim6: None,
                    refused: None,
                    echo: None,
                    tcp: None,
                    shim6_hops: Vec::new(),
                    echo_hops: Vec::new(),
                },
                sender: WireSender::open(pair.local, fwmark)?,
                echo,
                asked_at: None,
                nonce: rng.next_u32() & !0xff,
                tag: ContextTag::from_random_bits(rng.next_u64()),
                id: rng.next_u32() as u16,
                fork: rng.next_u32() | 1,
            });
        }
        Ok(Self {
            pairs: probed,
            shim6: WireReceiver::open()?,
            errors: WireReceiver::open_icmp_errors()?,
            fwmark,
        })
    }

    /// Asks, waits, and follows the ways on which nothing came back.
    pub(super) fn run(mut self) -> io::Result<Vec<Outcome>> {
        for _ in 0..ROUNDS {
            for probed in self.pairs.iter_mut().filter(|probed| !probed.is_answered()) {
                probed.asked_at = Some(Instant::now());
                probed.ask_shim6(0);
                probed.ask_echo(0);
            }
            self.collect(DISTANCE, Probed::is_answered)?;
        }
        self.collect(PATIENCE, Probed::is_answered)?;
        for probed in &mut self.pairs {
            if probed.outcome.shim6.is_none() && probed.outcome.echo.is_none() {
                probed.outcome.tcp = tcp(probed.outcome.pair, self.fwmark);
            }
        }
        let is_followed = |probed: &Probed| probed.outcome.shim6.is_none() && probed.outcome.refused.is_none();
        for hops in 1..=MOST_HOPS {
            for probed in self.pairs.iter_mut().filter(|probed| is_followed(probed)) {
                probed.ask_shim6(hops);
                probed.ask_echo(hops);
            }
            if self.pairs.iter().any(is_followed) {
                self.collect(HOP_DISTANCE, |_| false)?;
            }
        }
        if self.pairs.iter().any(is_followed) {
            self.collect(PATIENCE, |_| false)?;
        }
        Ok(self.pairs.into_iter().map(Probed::finish).collect())
    }

    /// Takes what comes, until the time is over or all are done.
    fn collect(&mut self, time: Duration, is_done: impl Fn(&Probed) -> bool) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut batch = RecvBatch::with_message_octets(16, 2048);
        loop {
            drain(&self.shim6, &mut batch, |from, to, message| {
                self.pairs
                    .iter_mut()
                    .for_each(|probed| probed.handle_shim6(from, to, message));
            })?;
            drain(&self.errors, &mut batch, |from, _, message| {
                self.pairs
                    .iter_mut()
                    .for_each(|probed| probed.handle_error(from, message));
            })?;
            self.pairs.iter_mut().for_each(Probed::read_echo);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.pairs.iter().all(&is_done) {
                return Ok(());
            }
            let mut waited: Vec<_> = self.pairs.iter().map(|probed| probed.echo.as_fd()).collect();
            waited.extend([self.shim6.as_fd(), self.errors.as_fd()]);
            let mut waited: Vec<_> = waited
                .into_iter()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            // A millisecond more, or the last wait would be none.
            let left = left.as_millis().saturating_add(1);
            match poll(&mut waited, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn drain(
    receiver: &WireReceiver,
    batch: &mut RecvBatch,
    mut handle: impl FnMut(Ipv6Addr, Ipv6Addr, &[u8]),
) -> io::Result<()> {
    loop {
        match receiver.recv_batch(batch) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        for packet in batch.packets_mut() {
            handle(packet.source, packet.destination, packet.message());
        }
    }
}

impl Probed {
    fn is_answered(&self) -> bool {
        self.outcome.echo.is_some() && (self.outcome.shim6.is_some() || self.outcome.refused.is_some())
    }

    fn finish(self) -> Outcome {
        let mut outcome = self.outcome;
        for hops in [&mut outcome.shim6_hops, &mut outcome.echo_hops] {
            hops.sort_unstable();
            hops.dedup_by_key(|(distance, _)| *distance);
        }
        outcome
    }

    /// With a hop limit, or the usual one for 0. What cannot be sent will not be answered, which is what is reported.
    fn ask_shim6(&self, hops: u8) {
        let Pair { local, remote, ulids } = self.outcome.pair;
        let message = Message::I1(I1 {
            initiator_context_tag: self.tag,
            initiator_nonce: self.nonce ^ u32::from(hops),
            ulid_pair: (ulids != (local, remote)).then_some(UlidPair {
                sender: ulids.0,
                receiver: ulids.1,
            }),
            // A context of its own: none that exists is concerned.
            forked_instance: Some(self.fork),
        });
        let mut packet = [0; 512];
        let Ok(length) = message.emit(&mut packet[IPV6_HEADER_OCTETS..]) else {
            return;
        };
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        packet[6] = SHIM6_NEXT_HEADER;
        packet[7] = if hops == 0 { HOP_LIMIT } else { hops };
        packet[8..24].copy_from_slice(&local.octets());
        packet[24..40].copy_from_slice(&remote.octets());
        drop(self.sender.send_batch(&[&packet[..IPV6_HEADER_OCTETS + length]]));
    }

    fn ask_echo(&self, hops: u8) {
        let mut message = [0; 24];
        message[0] = ECHO_REQUEST;
        message[4..6].copy_from_slice(&self.id.to_be_bytes());
        message[7] = hops;
        let limit = if hops == 0 { HOP_LIMIT } else { hops };
        drop(self.echo.set_unicast_hops_v6(u32::from(limit)));
        let to = SocketAddrV6::new(self.outcome.pair.remote, 0, 0, 0);
        drop(self.echo.send_to(&message, &to.into()));
    }

    fn handle_shim6(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) {
        if (from, to) != (self.outcome.pair.remote, self.outcome.pair.local) {
            return;
        }
        let nonce = match Message::parse(message) {
            Ok(Message::R1(r1)) => r1.initiator_nonce,
            Ok(Message::R2(r2)) => r2.initiator_nonce,
            _ => return,
        };
        // Also one with a hop limit, which happened to suffice.
        if nonce & !0xff == self.nonce {
            let took = self.asked_at.map(|at| at.elapsed()).unwrap_or_default();
            self.outcome.shim6.get_or_insert(took);
        }
    }

    /// An ICMPv6 error, which quotes the packet that it is about.
    fn handle_error(&mut self, from: Ipv6Addr, message: &[u8]) {
        let Some((&[kind, code, ..], quoted)) = message.split_first_chunk::<8>() else {
            return;
        };
        let Some((header, rest)) = quoted.split_first_chunk::<IPV6_HEADER_OCTETS>() else {
            return;
        };
        let address = |at: usize| Ipv6Addr::from(core::array::from_fn(|octet| header[at + octet]));
        if (address(8), address(24)) != (self.outcome.pair.local, self.outcome.pair.remote) {
            return;
        }
        match header[6] {
            SHIM6_NEXT_HEADER => {
                let nonce = rest.get(12..16).and_then(|octets| octets.first_chunk().copied());
                let Some(nonce) = nonce
                    .map(u32::from_be_bytes)
                    .filter(|nonce| nonce & !0xff == self.nonce)
                else {
                    return;
                };
                match (kind, (nonce & 0xff) as u8) {
                    (TIME_EXCEEDED, 0) => {}
                    (TIME_EXCEEDED, hops) => self.outcome.shim6_hops.push((hops, from)),
                    _ => {
                        self.outcome.refused.get_or_insert(Refusal { from, kind, code });
                    }
                }
            }
            ICMPV6 if kind == TIME_EXCEEDED && rest.get(4..6) == Some(&self.id.to_be_bytes()) => {
                let hops = rest.get(7).copied().unwrap_or_default();
                self.outcome.echo_hops.push((hops, from));
            }
            _ => {}
        }
    }

    fn read_echo(&mut self) {
        let mut message = [0; 128];
        while let Ok(length) = (&self.echo).read(&mut message) {
            let message = &message[..length];
            if message.first() == Some(&ECHO_REPLY) && message.get(4..6) == Some(&self.id.to_be_bytes()) {
                let took = self.asked_at.map(|at| at.elapsed()).unwrap_or_default();
                self.outcome.echo.get_or_insert(took);
            }
        }
    }
}

/// A port from which anything comes back.
fn tcp(pair: Pair, fwmark: u32) -> Option<u16> {
    PORTS.into_iter().find(|&port| {
        let connect = || {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_mark(fwmark)?;
            socket.bind(&SocketAddr::from((pair.local, 0)).into())?;
            socket.connect_timeout(&SocketAddr::from((pair.remote, port)).into(), TCP_PATIENCE)
        };
        match connect() {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        }
    })
}
