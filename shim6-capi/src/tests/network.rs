//! Two hosts with two uplinks each, whose packets all go through the C functions, on a network in virtual time.

use std::collections::BTreeMap;
use std::ptr;

use super::call;
use crate::*;

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;
const DELAY: u64 = 5 * MS;
const HEADER: usize = 40;
const CONTROL: u8 = 140;

pub(super) struct Host {
    pub(super) shim: *mut Shim,
    pub(super) locators: [Address; 2],
    /// What its upper layers got.
    pub(super) got: Vec<(u64, Vec<u8>)>,
    pub(super) events: Vec<Event>,
}

impl Drop for Host {
    fn drop(&mut self) {
        call!(shim6_free(self.shim));
    }
}

pub(super) struct Net {
    pub(super) now: u64,
    pub(super) hosts: [Host; 2],
    /// By arrival time and order.
    pub(super) packets: BTreeMap<(u64, u64), Vec<u8>>,
    count: u64,
    pub(super) cut: Vec<[Address; 2]>,
}

pub(super) fn default_config() -> Config {
    let mut config = Config::default();
    assert_eq!(
        call!(shim6_config_init(&raw mut config, size_of::<Config>())),
        Status::Ok
    );
    config
}

pub(super) fn prefix(host: u8, uplink: u8) -> Address {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&[0x20, 1, 0xd, 0xb8, host, uplink]);
    Address { octets }
}

pub(super) fn identity(host: u8) -> *mut Identity {
    let prefixes = [prefix(host, 1), prefix(host, 2)];
    let mut identity = ptr::null_mut();
    let seed = [host; SHIM6_SEED_LEN];
    let status = call!(shim6_identity_generate(
        prefixes.as_ptr(),
        prefixes.len(),
        0,
        seed.as_ptr(),
        &raw mut identity
    ));
    assert_eq!(status, Status::Ok);
    identity
}

pub(super) fn addresses(identity: *const Identity) -> Vec<Address> {
    let mut address = Address::default();
    (0..call!(shim6_identity_count(identity)))
        .map(|index| {
            let status = call!(shim6_identity_address(identity, index, &raw mut address));
            assert_eq!(status, Status::Ok);
            address
        })
        .collect()
}

impl Host {
    pub(super) fn new(number: u8, config: &Config) -> Self {
        let identity = identity(number);
        let locators = addresses(identity).try_into().expect("two uplinks");
        let mut shim = ptr::null_mut();
        let seed = [number | 0x80; SHIM6_SEED_LEN];
        let status = call!(shim6_new(
            config,
            size_of::<Config>(),
            identity,
            seed.as_ptr(),
            &raw mut shim
        ));
        assert_eq!(status, Status::Ok);
        // It is only read.
        call!(shim6_identity_free(identity));
        Self {
            shim,
            locators,
            got: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Sends; what leaves, if anything does.
    pub(super) fn send(&self, now: u64, packet: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; SHIM6_HEADROOM];
        buffer.extend(packet);
        let (mut offset, mut length) = (SHIM6_HEADROOM, packet.len());
        let out = buffer.as_mut_ptr();
        let status = call!(shim6_send(self.shim, now, out, &raw mut offset, &raw mut length));
        taken(status, &buffer, offset, length)
    }

    /// Receives; what is for the upper layers, if anything is.
    pub(super) fn receive(&self, now: u64, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let (mut offset, mut length) = (0, packet.len());
        let buffer = packet.as_mut_ptr();
        let status = call!(shim6_receive(self.shim, now, buffer, &raw mut offset, &raw mut length));
        taken(status, &packet, offset, length)
    }

    pub(super) fn session(&self, flow: &Flow) -> Option<ContextInfo> {
        let mut info = std::mem::MaybeUninit::<ContextInfo>::uninit();
        let size = size_of::<ContextInfo>();
        match call!(shim6_session(self.shim, flow, info.as_mut_ptr(), size)) {
            // SAFETY: it was written.
            Status::Ok => Some(unsafe { info.assume_init() }),
            status => {
                assert_eq!(status, Status::None);
                None
            }
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        let size = size_of::<Counters>();
        assert_eq!(
            call!(shim6_get_counters(self.shim, &raw mut counters, size)),
            Status::Ok
        );
        counters
    }

    pub(super) fn timeout(&self) -> u64 {
        call!(shim6_poll_timeout(self.shim))
    }
}

fn taken(status: Status, buffer: &[u8], offset: usize, length: usize) -> Option<Vec<u8>> {
    match status {
        Status::Ok => Some(buffer[offset..][..length].to_vec()),
        status => {
            assert_eq!(status, Status::None);
            None
        }
    }
}

impl Net {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            now: SECOND,
            hosts: [Host::new(1, config), Host::new(2, config)],
            packets: BTreeMap::new(),
            count: 0,
            cut: Vec::new(),
        }
    }

    /// The pair of locators with these indices, as `from` sees it.
    pub(super) fn pair(&self, from: usize, local: usize, peer: usize) -> Pair {
        Pair {
            local: self.hosts[from].locators[local],
            peer: self.hosts[1 - from].locators[peer],
        }
    }

    pub(super) fn flow(&self, from: usize, local_port: u16, peer_port: u16) -> Flow {
        Flow {
            ulids: self.pair(from, 0, 0),
            protocol: 17,
            local_port,
            peer_port,
            ..Flow::default()
        }
    }

    pub(super) fn cut(&mut self, pair: Pair) {
        self.cut.extend([[pair.local, pair.peer], [pair.peer, pair.local]]);
    }

    fn send(&mut self, from: usize, flow: &Flow) {
        let packet = self.hosts[from].send(self.now, &datagram(flow)).expect("well-formed");
        self.transmit(packet);
        self.drain(from);
    }

    fn transmit(&mut self, packet: Vec<u8>) {
        if !self.cut.contains(&ends(&packet)) {
            self.count += 1;
            self.packets.insert((self.now + DELAY, self.count), packet);
        }
    }

    pub(super) fn drain(&mut self, host: usize) {
        let mut buffer = [0; 1500];
        let (mut length, shim) = (0, self.hosts[host].shim);
        let out = buffer.as_mut_ptr();
        while call!(shim6_poll_transmit(shim, out, 1500, &raw mut length)) == Status::Ok {
            self.transmit(buffer[..length].to_vec());
        }
        while call!(shim6_poll_deliver(shim, out, 1500, &raw mut length)) == Status::Ok {
            self.hosts[host].got.push((self.now, buffer[..length].to_vec()));
        }
        let mut event = Event::default();
        while call!(shim6_poll_event(shim, &raw mut event, size_of::<Event>())) == Status::Ok {
            self.hosts[host].events.push(event);
        }
    }

    /// Lets time pass; each flow's packet is sent by its host every 20 ms, and answered by the other host.
    pub(super) fn run(&mut self, duration: u64, flows: &[Flow]) {
        let end = self.now + duration;
        let mut next_send = self.now;
        loop {
            let arrival = self.packets.keys().next().map_or(SHIM6_NEVER, |&(at, _)| at);
            let timeouts = [A, B].map(|host| self.hosts[host].timeout());
            let next = arrival.min(timeouts[A]).min(timeouts[B]).min(next_send);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let packet = entry.remove();
                self.arrive(packet);
            }
            for host in [A, B] {
                if self.hosts[host].timeout() <= self.now {
                    assert_eq!(call!(shim6_handle_timeout(self.hosts[host].shim, self.now)), Status::Ok);
                    self.drain(host);
                }
            }
            if next_send <= self.now {
                next_send = self.now + 20 * MS;
                flows.iter().for_each(|flow| self.send(A, flow));
            }
        }
    }

    fn arrive(&mut self, packet: Vec<u8>) {
        let host = usize::from(self.hosts[B].locators.contains(&ends(&packet)[1]));
        if let Some(packet) = self.hosts[host].receive(self.now, packet) {
            let mut flow = Flow::default();
            let found = call!(shim6_flow_of_received(packet.as_ptr(), packet.len(), &raw mut flow));
            assert_eq!(found, Status::Ok);
            self.hosts[host].got.push((self.now, packet));
            if host == B {
                self.send(B, &flow);
            }
        }
        self.drain(host);
    }

    /// The longest time that a host's upper layers got nothing, from `since` to now.
    pub(super) fn longest_gap(&self, host: usize, since: u64) -> u64 {
        let times = self.hosts[host].got.iter().map(|&(at, _)| at).filter(|&at| at > since);
        let times: Vec<_> = [since].into_iter().chain(times).chain([self.now]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two ends")
    }

    pub(super) fn has_event(&self, host: usize, kind: EventKind) -> Option<Event> {
        self.hosts[host]
            .events
            .iter()
            .rev()
            .find(|event| event.kind == kind)
            .copied()
    }
}

/// Source and destination.
pub(super) fn ends(packet: &[u8]) -> [Address; 2] {
    [8, 24].map(|at| Address {
        octets: packet[at..at + 16].try_into().expect("16 octets"),
    })
}

pub(super) fn is_control(packet: &[u8]) -> bool {
    packet[6] == CONTROL && packet[HEADER + 2] & 0x80 == 0
}

pub(super) fn datagram(flow: &Flow) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 16, flow.protocol, 64];
    packet.extend(flow.ulids.local.octets);
    packet.extend(flow.ulids.peer.octets);
    packet.extend(flow.local_port.to_be_bytes());
    packet.extend(flow.peer_port.to_be_bytes());
    packet.extend([0, 16, 0, 0]);
    packet.extend([7; 8]);
    packet
}
