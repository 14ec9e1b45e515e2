//! Somebody between the hosts: sees every packet, and sends what it likes with any source address, but changes nothing on its way.
//! Off the path it makes no use of what it sees.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shim6_core::LocatorPair;
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::addresses;
use shim6_core::wire::{Announcement, ContextTag, I1, I2, LocatorList, Message, UlidPair, VerificationMethod};
use shim6_tun::lab::{Namespace, Topology};
use shim6_tun::netlink::{MAIN_TABLE, RouteKind, RouteSpec};
use shim6_tun::sys::tun::PolledTun;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};

use crate::sim::dice::{Dice, Stream};
use crate::sim::packet::{control_of, control_packet};

const DEVICE: &str = "mallory";
const MTU: u32 = 1500;
/// What is routed to it: 2001:db8:bad0::/44.
const HOME: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0xdb8, 0xbad0, 0, 0, 0, 0, 0), 44);
/// The prefixes of its own addresses: 2001:db8:bad0:1::/64 and 2001:db8:bad0:2::/64.
const PREFIXES: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xbad0, 1, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0xbad0, 2, 0, 0, 0, 0),
];
/// From <linux/if_ether.h>.
const ETH_P_IPV6: u16 = 0x86dd;
/// Packets that it remembers of each kind.
const MEMORY: usize = 20_000;
/// How often its threads look whether they have to end.
const TICK: Duration = Duration::from_millis(20);
/// How long it waits for an answer that it must get.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A third party with a set of hash-based addresses of its own, at the router in which all paths meet. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Attacker {
    device: Arc<PolledTun>,
    set: HbaSet,
    pub(super) dice: Dice,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Control messages that passed.
    overheard: Mutex<VecDeque<Vec<u8>>>,
    /// What was sent to its own addresses.
    received: Mutex<VecDeque<Vec<u8>>>,
    is_deaf: AtomicBool,
    over: AtomicBool,
}

/// What is said in an I1 and an I2.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// From where to where.
    pub(super) on: LocatorPair,
    /// The ULIDs, if they are others than the addresses.
    pub(super) ulids: Option<UlidPair>,
    /// The locators, and what shall prove them.
    pub(super) announcement: Announcement,
}

impl Attacker {
    /// Sets it up, and listens.
    pub(super) async fn at_the_core(topology: &Topology, seed: u64) -> anyhow::Result<Self> {
        let core = topology.core();
        let device = core.run(|| PolledTun::create(DEVICE, MTU))?.context("no TUN device")?;
        let route = RouteSpec {
            destination: HOME,
            source: None,
            gateway: None,
            output: Some(device.index()),
            table: MAIN_TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        core.netlink()?.add_route(&route).await?;
        let mut dice = Dice::new(seed, Stream::Adversary);
        let mut rng = dice.generator();
        let set = HbaSet::generate(&PREFIXES.map(SubnetPrefix::from), Sec::ZERO, &mut rng)?;
        let mut attacker = Self {
            device: Arc::new(device),
            set,
            dice,
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let tap = tap(core).context("cannot watch the packets that pass")?;
        let device = Arc::clone(&attacker.device);
        attacker.thread("overhears", move |shared| overhear(&tap, shared))?;
        attacker.thread("receives", move |shared| receive(&device, shared))?;
        Ok(attacker)
    }

    fn thread(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(format!("attacker {name}"));
        self.threads.push(thread.spawn(move || work(&shared))?);
        Ok(())
    }

    /// Its addresses: a set that it can prove.
    pub(super) fn addresses(&self) -> [Ipv6Addr; 2] {
        let addresses = self.set.addresses();
        [addresses[0], addresses[1]]
    }

    /// What proves its addresses.
    pub(super) fn announcement(&self) -> Announcement {
        let locators = self.set.addresses().iter();
        Announcement {
            locators: Some(LocatorList {
                generation: 1,
                locators: locators.map(|&address| (VerificationMethod::HBA, address)).collect(),
            }),
            cga_parameters: self.set.parameters_for(0).map(|parameters| parameters.to_vec()),
            ..Announcement::default()
        }
    }

    /// Sends a packet, from whomever it says.
    pub(super) async fn send(&self, packet: &[u8]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.device.try_send(packet) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context("it cannot send"),
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Sends a message, from whomever it says.
    pub(super) async fn say(&self, on: LocatorPair, message: &Message) -> anyhow::Result<()> {
        self.send(&control_packet(on, message)).await
    }

    /// Stops listening to what passes, and says what it has heard: packets with control messages, each once.
    pub(super) fn overheard(&self) -> Vec<Vec<u8>> {
        self.shared.is_deaf.store(true, Ordering::Relaxed);
        unpoisoned(&self.shared.overheard).iter().cloned().collect()
    }

    /// What was sent to its addresses and is Shim6: control messages.
    pub(super) fn told(&self) -> Vec<(LocatorPair, Message)> {
        unpoisoned(&self.shared.received)
            .iter()
            .filter_map(|packet| parsed(packet))
            .collect()
    }

    /// How many packets were sent to its addresses that are no control messages: other people's payload.
    pub(super) fn intercepted(&self) -> usize {
        let received = unpoisoned(&self.shared.received);
        received.iter().filter(|packet| control_of(packet).is_none()).count()
    }

    /// How many packets were sent to its addresses.
    pub(super) fn received(&self) -> usize {
        unpoisoned(&self.shared.received).len()
    }

    /// Tries to set up a context (RFC 5533 section 7): whether the host has agreed to it with an R2 before `patience` was over.
    pub(super) async fn knock(&mut self, claim: &Claim, patience: Duration) -> anyhow::Result<bool> {
        let (tag, nonce) = (self.tag(), self.dice.u32());
        let i1 = Message::I1(I1 {
            initiator_context_tag: tag,
            initiator_nonce: nonce,
            ulid_pair: claim.ulids,
            forked_instance: None,
        });
        self.say(claim.on, &i1).await?;
        let r1 = self.answer(PATIENCE, |message| match message {
            Message::R1(r1) if r1.initiator_nonce == nonce => Some(r1),
            _ => None,
        });
        let r1 = r1.await.context("no R1 came back: the attack could not be made")?;
        let i2 = Message::I2(I2 {
            initiator_context_tag: tag,
            initiator_nonce: nonce,
            responder_nonce: r1.responder_nonce,
            validator: r1.validator,
            ulid_pair: claim.ulids,
            forked_instance: None,
            announcement: claim.announcement.clone(),
        });
        self.say(claim.on, &i2).await?;
        let agreed = self.answer(patience, |message| match message {
            Message::R2(r2) if r2.initiator_nonce == nonce => Some(true),
            // Refused, and said so (RFC 5533 section 5.13).
            Message::Error(_) => Some(false),
            _ => None,
        });
        Ok(agreed.await.unwrap_or(false))
    }

    /// A tag at random.
    pub(super) fn tag(&mut self) -> ContextTag {
        ContextTag::from_random_bits(self.dice.u64())
    }

    async fn answer<T>(&self, patience: Duration, pick: impl Fn(Message) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            let picked = self.told().into_iter().find_map(|(_, message)| pick(message));
            if picked.is_some() || Instant::now() > deadline {
                return picked;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Forgets what was sent to its addresses.
    pub(super) fn forget(&self) {
        unpoisoned(&self.shared.received).clear();
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The control message in a packet, and its addresses as its sender sees them.
pub(super) fn parsed(packet: &[u8]) -> Option<(LocatorPair, Message)> {
    let (source, destination) = addresses(packet)?;
    let message = Message::parse(control_of(packet)?).ok()?;
    Some((LocatorPair::new(source, destination), message))
}

/// A socket that is shown every IPv6 packet that a namespace sees, from its IPv6 header on.
fn tap(namespace: &Namespace) -> anyhow::Result<Socket> {
    let open = || {
        let protocol = Protocol::from(i32::from(ETH_P_IPV6.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(TICK))?;
        io::Result::Ok(socket)
    };
    Ok(namespace.run(open)??)
}

fn overhear(mut tap: &Socket, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.over.load(Ordering::Relaxed) {
        let length = match io::Read::read(&mut tap, &mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            // An interface went down.
            Err(_) => {
                thread::sleep(TICK);
                continue;
            }
        };
        let packet = &buffer[..length];
        if shared.is_deaf.load(Ordering::Relaxed) || control_of(packet).is_none() {
            continue;
        }
        let mut overheard = unpoisoned(&shared.overheard);
        // It comes in on one interface and goes out on another, with a hop less.
        let is_known = overheard.iter().any(|known| known[8..] == packet[8..]);
        if !is_known {
            remember(&mut overheard, packet);
        }
    }
}

fn receive(device: &PolledTun, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.over.load(Ordering::Relaxed) {
        match device.try_recv(&mut buffer) {
            Ok(length) if is_ours(&buffer[..length]) => {
                remember(&mut unpoisoned(&shared.received), &buffer[..length]);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
                let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
                // An interruption is as good as a timeout.
                let _ = poll(&mut wait, timeout);
            }
            // The lab is being taken down.
            Err(_) => thread::sleep(TICK),
        }
    }
}

/// Whether a packet is to what is routed here. The kernel also sends Router Solicitations into the device.
fn is_ours(packet: &[u8]) -> bool {
    addresses(packet).is_some_and(|(_, to)| to.to_bits() >> (128 - HOME.1) == HOME.0.to_bits() >> (128 - HOME.1))
}

fn remember(memory: &mut VecDeque<Vec<u8>>, packet: &[u8]) {
    if memory.len() >= MEMORY {
        memory.pop_front();
    }
    memory.push_back(packet.to_vec());
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address in what is routed to the attacker, under a prefix of 48 bits that has this number, at most 15.
pub(super) fn under_own_prefix(number: u16, host: u64) -> Ipv6Addr {
    let [a, b, c, ..] = HOME.0.segments();
    let network = Ipv6Addr::new(a, b, c | (number & 0xf), 0, 0, 0, 0, 0);
    Ipv6Addr::from_bits(network.to_bits() | u128::from(host))
}

/// What two hosts have told each other when they set up their context, as far as it was overheard.
#[derive(Clone, Debug)]
pub(super) struct Overheard {
    /// The last I2 with an answer, as a packet.
    pub(super) i2: Vec<u8>,
    /// The addresses that it was sent between, as its sender sees them.
    pub(super) on: LocatorPair,
    /// The tag that messages to the initiator of it bear.
    pub(super) initiator_tag: ContextTag,
    /// The tag that messages to the responder bear.
    pub(super) responder_tag: ContextTag,
    /// What the initiator told of itself.
    pub(super) initiator: Announcement,
    /// What the responder told of itself.
    pub(super) responder: Announcement,
}

impl Overheard {
    /// Finds the last I2 that has its R2.
    pub(super) fn among(packets: &[Vec<u8>]) -> anyhow::Result<Self> {
        let r2s = packets.iter().filter_map(|packet| match parsed(packet)? {
            (_, Message::R2(r2)) => Some(r2),
            _ => None,
        });
        let r2s: Vec<_> = r2s.collect();
        let found = packets.iter().rev().find_map(|packet| {
            let (on, Message::I2(i2)) = parsed(packet)? else {
                return None;
            };
            let r2 = r2s.iter().find(|r2| r2.initiator_nonce == i2.initiator_nonce)?;
            Some(Self {
                i2: packet.clone(),
                on,
                initiator_tag: i2.initiator_context_tag,
                responder_tag: r2.responder_context_tag,
                initiator: i2.announcement,
                responder: r2.announcement.clone(),
            })
        });
        ensure!(!packets.is_empty(), "nothing was overheard");
        found.context("no I2 with its R2 was overheard")
    }

    /// The tag and the announcement that messages *to* `victim` bear if its peer has sent them.
    pub(super) fn towards(&self, victim: Ipv6Addr) -> (ContextTag, &Announcement) {
        if victim == self.on.peer {
            (self.responder_tag, &self.initiator)
        } else {
            (self.initiator_tag, &self.responder)
        }
    }

    /// The tag that `victim` sends with.
    pub(super) fn tag_from(&self, victim: Ipv6Addr) -> ContextTag {
        if victim == self.on.peer {
            self.initiator_tag
        } else {
            self.responder_tag
        }
    }
}
