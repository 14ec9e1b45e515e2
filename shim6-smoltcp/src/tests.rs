//! The wrapper over devices that do what a test says.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_core::cga::{HbaSet, Sec};
use shim6_core::shim::HEADROOM;
use shim6_core::{ContextState, Event, Identity, LocatorPair, Shim, ShimConfig};
use smoltcp::phy::{
    self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken as _, TxToken as _,
};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{Ipv6Address, Ipv6Cidr, Ipv6Packet};

use crate::{PATIENCE, QUEUE, Shim6Device, UplinkError, to_shim6, to_smoltcp};

const PEER: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

/// A device whose packets a test gives and takes.
#[derive(Debug)]
struct Fake {
    capabilities: DeviceCapabilities,
    arrived: VecDeque<Vec<u8>>,
    sent: Vec<(PacketMeta, Vec<u8>)>,
    /// How many packets it takes before it is busy.
    room: usize,
}

impl Default for Fake {
    fn default() -> Self {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        Self {
            capabilities,
            arrived: VecDeque::new(),
            sent: Vec::new(),
            room: usize::MAX,
        }
    }
}

impl Device for Fake {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Slot<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Slot(self, PacketMeta::default())))
    }

    fn transmit(&mut self, _: Instant) -> Option<Slot<'_>> {
        self.room = self.room.checked_sub(1)?;
        Some(Slot(self, PacketMeta::default()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }

    fn meta(&self) -> PacketMeta {
        meta(self.0.len() as u32)
    }
}

struct Slot<'a>(&'a mut Fake, PacketMeta);

impl phy::TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.sent.push((self.1, packet));
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.1 = meta;
    }
}

fn meta(id: u32) -> PacketMeta {
    let mut meta = PacketMeta::default();
    meta.id = id;
    meta
}

fn prefix(uplink: usize) -> Ipv6Cidr {
    Ipv6Cidr::new(Ipv6Address::new(0x2001, 0xdb8, 0xa0 + uplink as u16, 0, 0, 0, 0, 0), 64)
}

fn shim(uplinks: usize) -> Shim {
    let mut rng = ChaCha12Rng::from_seed([1; 32]);
    let prefixes: Vec<_> = (0..uplinks).map(|uplink| prefix(uplink).address().into()).collect();
    let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
    Shim::new(ShimConfig::default(), Identity::from_hba_set(&set, &mut rng), [1; 32])
}

fn wrap<const N: usize>(devices: [Fake; N]) -> Result<Shim6Device<Fake>, UplinkError> {
    Shim6Device::new(
        shim(2),
        devices.into_iter().enumerate().map(|(n, device)| (device, prefix(n))),
    )
}

fn wrapper() -> Shim6Device<Fake> {
    wrap([Fake::default(), Fake::default()]).expect("two uplinks")
}

fn own(device: &Shim6Device<Fake>, uplink: usize) -> Ipv6Address {
    device.shim().endpoint().identity().locators()[uplink]
}

/// A UDP datagram with `octets` of payload.
fn datagram(source: Ipv6Address, destination: Ipv6Address, octets: usize) -> Vec<u8> {
    let mut packet = vec![0; 48 + octets];
    let mut header = Ipv6Packet::new_unchecked(&mut packet);
    header.set_version(6);
    header.set_payload_len(8 + octets as u16);
    header.set_next_header(smoltcp::wire::IpProtocol::Udp);
    header.set_hop_limit(64);
    header.set_src_addr(source);
    header.set_dst_addr(destination);
    packet
}

/// What the stack does with a packet. False: it has to wait.
fn send(device: &mut Shim6Device<Fake>, at: Instant, packet: &[u8]) -> bool {
    let Some(mut token) = device.transmit(at) else {
        return false;
    };
    token.set_meta(meta(7));
    token.consume(packet.len(), |buffer| buffer.copy_from_slice(packet));
    true
}

fn receive(device: &mut Shim6Device<Fake>, at: Instant) -> Option<(u32, Vec<u8>)> {
    let (token, _) = device.receive(at)?;
    let id = token.meta().id;
    Some((id, token.consume(<[u8]>::to_vec)))
}

fn fake(device: &mut Shim6Device<Fake>, uplink: usize) -> &mut Fake {
    device.uplink_mut(uplink).expect("an uplink")
}

fn at(millis: i64) -> Instant {
    Instant::from_millis(millis)
}

#[test]
fn packets_leave_on_the_uplink_that_has_their_source_with_what_the_stack_says_of_them() {
    let mut device = wrapper();
    for uplink in [0, 1, 1] {
        let packet = datagram(own(&device, uplink), PEER, 10);
        assert!(send(&mut device, at(0), &packet));
        assert_eq!(fake(&mut device, uplink).sent.last(), Some(&(meta(7), packet)));
    }
    assert_eq!(
        [0, 1].map(|uplink| device.uplink(uplink).map(|fake| fake.sent.len())),
        [Some(1), Some(2)]
    );
    assert_eq!(device.uplink_counters(1).map(|counters| counters.sent), Some(2));
}

#[test]
fn packets_whose_source_is_no_uplinks_and_other_protocols_are_dropped_and_counted() {
    let mut device = wrapper();
    let foreign = datagram(PEER, own(&device, 0), 10);
    assert!(send(&mut device, at(0), &foreign));
    assert_eq!(device.without_uplink(), 1);
    let mut other = datagram(own(&device, 0), PEER, 10);
    other[0] = 0x45;
    assert!(send(&mut device, at(0), &other));
    assert!(send(&mut device, at(0), &[]));
    assert_eq!(
        (device.without_uplink(), device.shim().counters().malformed_out),
        (1, 2)
    );
    assert!([0, 1].iter().all(|&uplink| fake(&mut device, uplink).sent.is_empty()));
}

#[test]
fn capabilities_are_the_least_of_the_devices_without_what_hardware_could_not_do() {
    let mut devices = [Fake::default(), Fake::default()];
    assert_eq!(
        wrap([Fake::default()]).map(|device| device.capabilities().max_burst_size),
        Ok(None)
    );
    devices[0].capabilities.max_burst_size = Some(4);
    devices[1].capabilities.max_transmission_unit = 1400;
    devices[1].capabilities.checksum = ChecksumCapabilities::ignored();
    let capabilities = wrap(devices).expect("two uplinks").capabilities();
    assert_eq!(capabilities.max_transmission_unit, 1400 - HEADROOM);
    assert_eq!(capabilities.max_burst_size, Some(4));
    assert!(matches!(capabilities.checksum.tcp, Checksum::Both));
    assert!(matches!(capabilities.checksum.udp, Checksum::Both));
    assert!(matches!(capabilities.checksum.icmpv6, Checksum::Both));
    assert_eq!(capabilities.medium, Medium::Ip);
}

#[test]
fn devices_that_cannot_be_uplinks_are_refused() {
    let with = |change: fn(&mut Fake)| {
        let mut devices = [Fake::default(), Fake::default()];
        change(&mut devices[1]);
        wrap(devices).err()
    };
    let ethernet = with(|device| device.capabilities.medium = Medium::Ethernet);
    assert_eq!(ethernet, Some(UplinkError::Medium { uplink: 1 }));
    let narrow = with(|device| device.capabilities.max_transmission_unit = 1279);
    assert_eq!(narrow, Some(UplinkError::Mtu { uplink: 1, mtu: 1279 }));
    assert_eq!(with(|device| device.capabilities.max_transmission_unit = 1280), None);
    assert_eq!(wrap([]).err(), Some(UplinkError::None));
    let inner = Ipv6Cidr::new(prefix(0).address(), 80);
    for (outer, inner) in [(prefix(0), inner), (inner, prefix(0))] {
        let uplinks = [outer, inner].map(|prefix| (Fake::default(), prefix));
        let error = Shim6Device::new(shim(1), uplinks).err();
        assert_eq!(
            error,
            Some(UplinkError::Prefix {
                uplink: 1,
                prefix: inner
            })
        );
    }
}

#[test]
fn devices_are_asked_for_packets_in_turn() {
    let mut device = wrapper();
    for uplink in [0, 1] {
        for octets in 0..3 {
            let packet = datagram(PEER, own(&device, uplink), octets * 2 + uplink);
            fake(&mut device, uplink).arrived.push_back(packet);
        }
    }
    let order: Vec<_> = core::iter::from_fn(|| receive(&mut device, at(0))).collect();
    assert_eq!(
        order.iter().map(|(_, packet)| packet.len() - 48).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert!(
        order.iter().all(|(id, packet)| *id == packet.len() as u32),
        "the device's metadata"
    );
}

#[test]
fn a_flood_of_the_shims_own_packets_does_not_keep_the_stack_from_its_turn() {
    let mut device = wrapper();
    let destination = own(&device, 0);
    let mut control = datagram(PEER, destination, 8);
    control[6] = 140;
    fake(&mut device, 0).arrived.extend(vec![control; 100]);
    let last = datagram(PEER, destination, 8);
    fake(&mut device, 0).arrived.push_back(last.clone());
    assert_eq!(receive(&mut device, at(5)), None);
    assert_eq!(fake(&mut device, 0).arrived.len(), 37);
    assert_eq!(
        (device.poll_at(), device.poll_delay(at(5))),
        (Some(Instant::ZERO), Some(Duration::ZERO))
    );
    assert_eq!(receive(&mut device, at(5)).map(|(_, packet)| packet), Some(last));
    assert_eq!((receive(&mut device, at(5)), device.poll_at()), (None, None));
}

#[test]
fn stack_waits_for_a_busy_device_but_not_for_one_that_is_stuck() {
    let mut device = wrapper();
    let [first, second] = [0, 1].map(|uplink| datagram(own(&device, uplink), PEER, 10));
    fake(&mut device, 0).room = 1;
    assert!(send(&mut device, at(0), &first));
    assert!(send(&mut device, at(0), &first), "waits in the wrapper");
    assert!(!send(&mut device, at(1), &second), "held up by the other");
    fake(&mut device, 0).room = 1;
    assert!(send(&mut device, at(50), &second), "the device had room");
    assert_eq!([0, 1].map(|uplink| fake(&mut device, uplink).sent.len()), [2, 1]);

    device.set_patience(Duration::from_millis(70));
    assert!(send(&mut device, at(60), &first));
    assert_eq!(device.poll_at(), Some(at(130)));
    assert!(!send(&mut device, at(129), &second));
    assert!(send(&mut device, at(130), &second), "the first device is stuck");
    assert!(send(&mut device, at(131), &first) && send(&mut device, at(131), &second));
    assert_eq!([0, 1].map(|uplink| fake(&mut device, uplink).sent.len()), [2, 3]);
    assert_eq!(device.uplink_counters(0).map(|counters| counters.dropped), Some(2));
    assert_eq!(device.poll_at(), None);
    // It takes packets again.
    fake(&mut device, 0).room = 1;
    assert!(send(&mut device, at(200), &first) && send(&mut device, at(201), &first));
    assert_eq!(fake(&mut device, 0).sent.len(), 3);
    assert!(!send(&mut device, at(270), &second), "patience begins anew");
}

#[test]
fn patience_has_a_default() {
    let mut device = wrapper();
    let packet = datagram(own(&device, 0), PEER, 10);
    fake(&mut device, 0).room = 0;
    assert!(send(&mut device, at(1_000), &packet));
    assert_eq!(device.poll_at(), Some(at(1_000) + PATIENCE));
}

/// Each exchange with another peer gives a packet of the shim's own.
fn establish(device: &mut Shim6Device<Fake>, at: Instant, host: u16) {
    let local = own(device, 0);
    let peer = Ipv6Address::new(0x2001, 0xdb8, 0x100 + host, 0, 0, 0, 0, 1);
    device
        .command(at, |shim, now| {
            shim.command(now, |endpoint| endpoint.establish(now, LocatorPair::new(local, peer)))
        })
        .expect("another peer");
}

#[test]
fn what_waits_for_a_device_is_bounded() {
    let mut device = wrapper();
    fake(&mut device, 0).room = 0;
    for host in 0..QUEUE as u16 + 10 {
        establish(&mut device, at(0), host);
    }
    assert_eq!(device.uplink_counters(0).map(|counters| counters.dropped), Some(10));
    fake(&mut device, 0).room = usize::MAX;
    assert!(device.transmit(at(1)).is_some());
    assert_eq!(fake(&mut device, 0).sent.len(), QUEUE);
}

#[test]
fn timers_run_when_the_device_is_asked_for_packets() {
    let mut device = wrapper();
    establish(&mut device, at(0), 1);
    assert_eq!(fake(&mut device, 0).sent.len(), 1);
    let due = device.poll_at().expect("an I1 is sent again");
    assert_eq!(device.poll_delay(at(1)), Some(due - at(1)));
    assert_eq!(receive(&mut device, due), None);
    assert_eq!(fake(&mut device, 0).sent.len(), 2);
    assert!(device.poll_at().is_some_and(|next| next > due));
}

#[test]
fn a_link_that_is_down_takes_nothing_and_its_addresses_are_left() {
    let mut device = wrapper();
    let packet = datagram(own(&device, 0), PEER, 10);
    fake(&mut device, 0).room = 0;
    assert!(send(&mut device, at(0), &packet));
    device.handle_link(at(1), 0, false);
    fake(&mut device, 0).room = 10;
    assert!(send(&mut device, at(2), &packet) && send(&mut device, at(2), &packet));
    assert_eq!(
        device
            .uplink_counters(0)
            .map(|counters| (counters.sent, counters.dropped)),
        Some((0, 3))
    );
    device.handle_link(at(3), 0, true);
    assert!(send(&mut device, at(3), &packet));
    assert_eq!(fake(&mut device, 0).sent.len(), 1);
    device.handle_link(at(3), 2, false);
}

#[test]
fn packets_longer_than_their_device_takes_are_dropped() {
    let mut devices = [Fake::default(), Fake::default()];
    devices[0].capabilities.max_transmission_unit = 1280;
    let mut device = wrap(devices).expect("two uplinks");
    let long = [0, 1].map(|uplink| datagram(own(&device, uplink), PEER, 1300));
    assert!(long.iter().all(|packet| send(&mut device, at(0), packet)));
    assert_eq!([0, 1].map(|uplink| fake(&mut device, uplink).sent.len()), [0, 1]);
    assert_eq!(device.uplink_counters(0).map(|counters| counters.too_long), Some(1));
}

#[test]
fn events_that_nobody_asks_for_do_not_pile_up() {
    let mut device = wrapper();
    for host in 0..300 {
        establish(&mut device, at(0), host);
    }
    // Nobody answers: each exchange ends with an event.
    for second in 1..600 {
        receive(&mut device, at(second * 1_000));
    }
    assert_eq!(
        device
            .shim()
            .endpoint()
            .contexts()
            .filter(|c| c.state == ContextState::Established)
            .count(),
        0
    );
    let told: Vec<_> = core::iter::from_fn(|| device.poll_event()).collect();
    assert!(told.iter().all(|event| matches!(event, Event::NoAnswer { .. })));
    assert_eq!(told.len(), 256);
}

#[test]
fn times_are_converted_and_those_before_the_epoch_are_the_epoch() {
    assert_eq!(to_shim6(Instant::from_micros(-5)).as_micros(), 0);
    assert_eq!(to_shim6(Instant::from_micros(5)).as_micros(), 5);
    assert_eq!(to_smoltcp(to_shim6(at(5))), at(5));
    assert_eq!(
        to_smoltcp(shim6_core::Instant::from_micros(u64::MAX)).total_micros(),
        i64::MAX
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_that_arrives_or_is_sent_does_harm(
        packets in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u8..3, proptest::collection::vec(any::<u8>(), 0..120)), 1..50),
    ) {
        let mut device = wrapper();
        for (n, (outgoing, second, kind, mut octets)) in packets.into_iter().enumerate() {
            let now = at(n as i64 * 40);
            let own = own(&device, usize::from(second));
            // Noise, a datagram, or something of the shim's.
            if kind > 0 {
                let mut packet = if outgoing { datagram(own, PEER, octets.len()) } else { datagram(PEER, own, octets.len()) };
                packet[6] = if kind == 1 { 17 } else { 140 };
                packet.splice(40.., octets);
                octets = packet;
            }
            if outgoing {
                send(&mut device, now, &octets);
            } else {
                fake(&mut device, usize::from(second)).arrived.push_back(octets);
                receive(&mut device, now);
            }
        }
        device.poll_at();
    }
}
