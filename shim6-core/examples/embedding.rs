//! Two hosts with two uplinks each, in one program: `docs/embedding.md` explains it line by line.

use std::collections::VecDeque;
use std::error::Error;
use std::net::Ipv6Addr;
use std::time::Duration;

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use shim6_core::cga::{CgaParameters, HbaSet, Sec, SubnetPrefix};
use shim6_core::shim::{HEADROOM, Shim, ShimConfig};
use shim6_core::{Event, Identity, Instant};

/// This device's addresses under the prefixes of its uplinks: made once, and the same after each start.
fn addresses(stored: &mut Option<Vec<u8>>, prefixes: &[Ipv6Addr], seed: u8) -> Result<HbaSet, Box<dyn Error>> {
    if let Some(octets) = stored {
        return Ok(HbaSet::from_parameters(&CgaParameters::parse(octets)?, Sec::ZERO)?);
    }
    // On a device: from its source of entropy.
    let mut rng = ChaCha12Rng::from_seed([seed; 32]);
    let prefixes: Vec<SubnetPrefix> = prefixes.iter().copied().map(SubnetPrefix::from).collect();
    let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng)?;
    *stored = Some(set.parameters().to_vec());
    Ok(set)
}

/// A host: its shim, and what stands for its IP stack.
struct Host {
    shim: Shim,
    addresses: Vec<Ipv6Addr>,
    /// When the stack last got a packet.
    last: Option<Instant>,
}

impl Host {
    fn new(prefixes: [&str; 2], seed: u8) -> Result<Self, Box<dyn Error>> {
        let prefixes = [prefixes[0].parse()?, prefixes[1].parse()?];
        let set = addresses(&mut None, &prefixes, seed)?;
        // A secret that is never used twice: entropy again.
        let mut rng = ChaCha12Rng::from_seed([seed + 100; 32]);
        let identity = Identity::from_hba_set(&set, &mut rng);
        Ok(Self {
            shim: Shim::new(ShimConfig::default(), identity, [seed + 200; 32]),
            addresses: set.addresses().to_vec(),
            last: None,
        })
    }
}

/// An IPv6 packet with 32 octets of UDP, with room in front of it.
fn datagram(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend([0x60, 0, 0, 0, 0, 32, 17, 64]);
    buffer.extend(source.octets());
    buffer.extend(destination.octets());
    buffer.extend([0, 7, 0, 7, 0, 32, 0, 0]);
    buffer.resize(HEADROOM + 40 + 32, 0);
    buffer
}

/// Packets on their way to one of the two hosts, each with its arrival time.
#[derive(Default)]
struct Network {
    packets: VecDeque<(Instant, Vec<u8>)>,
    /// Packets between these two vanish.
    cut: Option<[Ipv6Addr; 2]>,
}

impl Network {
    fn transmit(&mut self, now: Instant, packet: &[u8]) {
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16 octets"));
        let (source, destination) = (address(8), address(24));
        // A real host gives the packet to the interface that has its source address.
        let is_cut = self
            .cut
            .is_some_and(|ends| ends.contains(&source) && ends.contains(&destination));
        if !is_cut {
            self.packets
                .push_back((now + Duration::from_millis(10), packet.to_vec()));
        }
    }
}

/// Takes out what the shim has to say itself. To be called after whatever was done with it.
fn drain(now: Instant, name: &str, host: &mut Host, network: &mut Network) {
    let mut packet = [0; 1500];
    while let Some(length) = host.shim.poll_transmit(&mut packet) {
        network.transmit(now, &packet[..length]);
    }
    while let Some(_length) = host.shim.poll_deliver(&mut packet) {
        // An ICMPv6 error for the stack.
    }
    while let Some(event) = host.shim.poll_event() {
        let at = now.as_micros() / 1_000;
        match event {
            Event::Established { ulids, .. } => println!("{at:5} ms  {name}: {ulids} is protected"),
            Event::PathChanged { to, took, .. } => println!("{at:5} ms  {name}: moved to {to}, after {took:?}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let names = ["a", "b"];
    let mut hosts = [
        Host::new(["2001:db8:a1::", "2001:db8:a2::"], 1)?,
        Host::new(["2001:db8:b1::", "2001:db8:b2::"], 2)?,
    ];
    let ulids = [hosts[0].addresses[0], hosts[1].addresses[0]];
    let mut network = Network::default();
    let (mut now, mut longest) = (Instant::from_micros(0), Duration::ZERO);

    // Three seconds, a millisecond at a time; a real program sleeps until `poll_timeout` or a packet.
    for millisecond in 0..3_000_u64 {
        now = Instant::from_micros(millisecond * 1_000);
        if millisecond == 1_000 {
            println!(
                "{millisecond:5} ms  the path between {} and {} dies",
                ulids[0], ulids[1]
            );
            network.cut = Some(ulids);
        }
        // The stacks talk to each other all the time, and know these two addresses only.
        if millisecond % 20 == 0 {
            for side in 0..2 {
                let mut buffer = datagram(ulids[side], ulids[1 - side]);
                if let Some(start) = hosts[side].shim.send(now, &mut buffer, HEADROOM) {
                    network.transmit(now, &buffer[start..]);
                }
                drain(now, names[side], &mut hosts[side], &mut network);
            }
        }
        while network.packets.front().is_some_and(|(at, _)| *at <= now) {
            let (_, mut packet) = network.packets.pop_front().expect("it is there");
            let side = usize::from(!hosts[0].addresses.contains(&Ipv6Addr::from(
                <[u8; 16]>::try_from(&packet[24..40]).expect("16 octets"),
            )));
            let host = &mut hosts[side];
            if let Some(start) = host.shim.receive(now, &mut packet, 0) {
                // `packet[start..]` is for the stack, and has the addresses that it knows.
                assert_eq!(packet[start + 24..start + 40], ulids[side].octets());
                longest = longest.max(host.last.map_or(Duration::ZERO, |last| now - last));
                host.last = Some(now);
            }
            drain(now, names[side], host, &mut network);
        }
        for (name, host) in names.iter().zip(&mut hosts) {
            if host.shim.poll_timeout().is_some_and(|at| at <= now) {
                host.shim.handle_timeout(now);
                drain(now, name, host, &mut network);
            }
        }
    }
    for host in &hosts {
        let last = host.last.ok_or("nothing arrived")?;
        if now - last > Duration::from_millis(100) {
            return Err(format!("nothing has arrived for {:?}", now - last).into());
        }
    }
    println!("the longest time without a packet was {longest:?}");
    Ok(())
}
