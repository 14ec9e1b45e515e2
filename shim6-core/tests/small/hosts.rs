//! Two hosts with two uplinks each on a network in virtual time, for as long as a session takes to survive a failure.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::shim::{HEADROOM, Shim, ShimConfig};
use shim6_core::{Event, Identity, Instant};

/// A path takes so long.
const DELAY: Duration = Duration::from_millis(5);
/// Milliseconds between two packets of an application.
const INTERVAL: u64 = 20;
/// Milliseconds until the path fails, and until all is over.
const FAILURE: u64 = 1_000;
const END: u64 = 4_000;

/// A set under two prefixes; another `number` gives another host.
pub(crate) fn set(number: u16) -> HbaSet {
    let prefix = |uplink| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, number, uplink, 0, 0, 0, 0));
    HbaSet::generate(&[prefix(1), prefix(2)], Sec::ZERO, &mut rng(number)).expect("a set")
}

pub(crate) fn identity(number: u16) -> Identity {
    Identity::from_hba_set(&set(number), &mut rng(number))
}

/// A set under one prefix, and a locator that is signed.
#[cfg(feature = "rsa")]
pub(crate) fn signed_identity() -> Identity {
    use shim6_core::cga::{KeySizes, PrivateKey};

    let mut rng = rng(3);
    let key = PrivateKey::generate(2048, KeySizes::default(), &mut rng).expect("a key");
    let prefix = |uplink| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 3, 0, uplink]);
    let set = HbaSet::generate_with_public_key(&[prefix(1)], key.public_key().spki(), Sec::ZERO, &mut rng);
    Identity::from_hba_set(&set.expect("a set"), &mut rng)
        .with_signed_locators(&key, &[prefix(2).to_address(1)], &mut rng)
        .expect("the key of the set")
}

pub(crate) fn rng(number: u16) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(number.into())
}

pub(crate) fn at(milliseconds: u64) -> Instant {
    Instant::from_micros(milliseconds * 1_000)
}

/// A buffer with headroom and a UDP datagram of so many octets, its headers included.
pub(crate) fn datagram(source: Ipv6Addr, destination: Ipv6Addr, octets: u16) -> Vec<u8> {
    let payload = octets - 40;
    let mut buffer = vec![0; HEADROOM];
    buffer.extend([6 << 4, 0, 0, 0]);
    buffer.extend(payload.to_be_bytes());
    buffer.extend([17, 64]);
    buffer.extend(source.octets());
    buffer.extend(destination.octets());
    buffer.extend([0, 7, 0, 7]);
    buffer.extend(payload.to_be_bytes());
    buffer.resize(HEADROOM + usize::from(octets), 0);
    buffer
}

/// The addresses of a packet.
pub(crate) fn addresses(packet: &[u8]) -> [Ipv6Addr; 2] {
    [8, 24].map(|at| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16 octets")))
}

/// Has two hosts talk, set up a context by it, lose their path and go on over another. Gives for how long each of them heard
/// nothing at the most.
pub(crate) fn session(config: &ShimConfig, identities: [Identity; 2]) -> [Duration; 2] {
    let mut hosts = identities.map(|identity| Box::new(Shim::new(config.clone(), identity, [7; 32])));
    let ulids = [0, 1].map(|side: usize| hosts[side].endpoint().identity().locators()[0]);
    let mut network: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut heard = [at(0); 2];
    let mut longest = [Duration::ZERO; 2];
    let (mut established, mut moved) = (0, 0);
    let mut room = vec![0; 1500];
    for millisecond in 0..END {
        let now = at(millisecond);
        let mut sent = Vec::new();
        for side in 0..2 {
            if millisecond % INTERVAL == 0 {
                let mut buffer = datagram(ulids[side], ulids[1 - side], 100);
                let start = hosts[side].send(now, &mut buffer, HEADROOM).expect("well-formed");
                sent.push(buffer.split_off(start));
            }
            if hosts[side].poll_timeout().is_some_and(|due| due <= now) {
                hosts[side].handle_timeout(now);
            }
        }
        while network.front().is_some_and(|&(due, _)| due <= now) {
            let (_, mut packet) = network.pop_front().expect("it is there");
            let [_, destination] = addresses(&packet);
            let side = usize::from(hosts[1].endpoint().identity().contains(destination));
            if hosts[side].receive(now, &mut packet, 0).is_some() {
                longest[side] = longest[side].max(now - heard[side]);
                heard[side] = now;
            }
        }
        for host in &mut hosts {
            while let Some(length) = host.poll_transmit(&mut room) {
                sent.push(room[..length].to_vec());
            }
            while let Some(event) = host.poll_event() {
                established += usize::from(matches!(event, Event::Established { .. }));
                moved += usize::from(matches!(event, Event::PathChanged { .. }));
            }
        }
        for packet in sent {
            let is_cut = millisecond >= FAILURE && addresses(&packet).iter().all(|address| ulids.contains(address));
            if !is_cut {
                network.push_back((now + DELAY, packet));
            }
        }
    }
    assert!(
        established == 2 && moved >= 2,
        "{established} established, {moved} moved"
    );
    for side in 0..2 {
        longest[side] = longest[side].max(at(END) - heard[side]);
    }
    longest
}
