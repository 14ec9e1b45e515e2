use std::net::Ipv6Addr;

use shim6_core::wire::ContextTag;
use shim6_core::{Activity, Endpoint, EndpointConfig, Flow, Identity};

use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::*;
use crate::status::SessionFlow;

/// Contexts that an endpoint has named, each with another peer.
struct World {
    endpoint: Endpoint,
    local: Ipv6Addr,
}

impl World {
    fn new() -> Self {
        let prefix = SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0));
        let set = HbaSet::generate(&[prefix], Sec::ZERO, &mut rand::rng()).expect("a set");
        let local = set.addresses()[0];
        let identity = Identity::from_hba_set(&set, &mut rand::rng());
        let endpoint = Endpoint::new(EndpointConfig::default(), identity, [7; 32]);
        Self { endpoint, local }
    }

    fn ulids(&self, peer: u16) -> LocatorPair {
        LocatorPair::new(self.local, Ipv6Addr::new(0x2001, 0xdb8, 0xb1, peer, 0, 0, 0, 1))
    }

    fn fork(&mut self, peer: u16, instance: u32) -> Arc<Flow> {
        let ulids = self.ulids(peer);
        let instance = NonZeroU32::new(instance).expect("an instance");
        let context = self.endpoint.fork(at(0), ulids, instance).expect("a context");
        let tag = ContextTag::from_random_bits(context.value());
        Arc::new(Flow {
            context,
            ulids,
            forked_instance: instance.get(),
            locators: ulids,
            local_tag: tag,
            peer_tag: tag,
            activity: Arc::new(Activity::default()),
            holding: false,
        })
    }

    fn key(&self, peer: u16, port: u16) -> FlowKey {
        FlowKey {
            ulids: self.ulids(peer),
            flow: SessionFlow {
                protocol: 6,
                local_port: port,
                peer_port: 443,
            },
        }
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn begun(forks: &mut Forks, flow: &Flow) {
    let instance = NonZeroU32::new(flow.forked_instance).expect("an instance");
    forks.begin(flow.context, flow.ulids, instance);
}

fn insert(flow: &Arc<Flow>) -> [DataplaneUpdate; 1] {
    [DataplaneUpdate::Insert(flow.clone())]
}

/// A TCP packet between two ports.
fn packet(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.resize(60, 0);
    packet
}

#[test]
fn a_flow_is_in_the_table_from_its_context_s_establishment_until_it_joins_the_others() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let (flow, key) = (world.fork(1, 9), world.key(1, 5_000));
    begun(&mut forks, &flow);
    forks.assign(flow.context, key, at(0));
    assert!(
        forks.take_table().expect("a change").iter().next().is_none(),
        "not established"
    );
    assert!(forks.note(&insert(&flow)).is_empty());
    let table = forks.take_table().expect("a change");
    let LocatorPair { local, peer } = key.ulids;
    let forked = table.of_outgoing(&packet(local, peer, (5_000, 443))).expect("a fork");
    assert_eq!((forked.instance, forked.context), (9, flow.context));
    assert!(table.of_outgoing(&packet(local, peer, (5_001, 443))).is_none());
    assert!(table.of_outgoing(&packet(peer, local, (5_000, 443))).is_none());
    assert_eq!(FlowKey::of_incoming(&packet(peer, local, (443, 5_000))), Some(key));
    assert!(forks.take_table().is_none(), "nothing has changed");
    // Another path is no reason for another table.
    assert!(forks.note(&insert(&flow)).is_empty() && forks.take_table().is_none());

    assert_eq!(forks.idle(flow.ulids), None);
    assert_eq!(forks.leave(&key), Some(flow.context));
    assert_eq!(forks.leave(&key), None);
    assert!(forks.take_table().expect("a change").iter().next().is_none());
    assert_eq!(forks.idle(flow.ulids), Some(flow.context), "for the next flow");
}

#[test]
fn flows_end_with_their_context() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let (flow, key) = (world.fork(1, 9), world.key(1, 5_000));
    begun(&mut forks, &flow);
    forks.assign(flow.context, key, at(0));
    let _ = forks.note(&insert(&flow));
    let _ = forks.take_table();
    let lost = forks.note(&[DataplaneUpdate::Remove(flow.clone())]);
    let (context, learned) = (flow.context, false);
    assert_eq!(lost, [Forked { context, key, learned }]);
    assert!(forks.take_table().expect("a change").iter().next().is_none());
    assert_eq!((forks.of(&key), forks.idle(flow.ulids)), (None, None));
}

#[test]
fn a_flow_follows_its_peer_into_a_fork_until_it_is_quiet_for_long() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let (flow, key) = (world.fork(1, 9), world.key(1, 5_000));
    assert!(!forks.learn(flow.context, key, at(0)), "not established");
    let _ = forks.note(&insert(&flow));
    assert!(!forks.learn(flow.context, world.key(2, 5_000), at(0)), "another peer's");
    assert!(forks.learn(flow.context, key, at(0)) && !forks.learn(flow.context, key, at(0)));
    assert_eq!(forks.of(&key).map(|forked| forked.learned), Some(true));
    let table = forks.take_table().expect("a change");
    table.get(&key).expect("a flow").hear(at(10));
    forks.forget_quiet(at(39));
    assert!(forks.take_table().is_none() && forks.poll_timeout() <= Some(at(40)));
    forks.forget_quiet(at(40));
    assert!(forks.take_table().is_some() && forks.of(&key).is_none());
}

#[test]
fn what_a_program_has_forked_is_not_learned_back_after_it_has_joined() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let (flow, key) = (world.fork(1, 9), world.key(1, 5_000));
    begun(&mut forks, &flow);
    let _ = forks.note(&insert(&flow));
    forks.assign(flow.context, key, at(0));
    let _ = forks.leave(&key);
    // The peer still answers in it.
    assert!(!forks.learn(flow.context, key, at(1)));
}

#[test]
fn peers_and_programs_have_so_many_flows_at_most_and_neither_takes_those_of_the_other() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let mut learned = 0;
    for peer in 1..=6 {
        let flow = world.fork(peer, 9);
        let _ = forks.note(&insert(&flow));
        let of_peer = (1..=20).filter(|&port| forks.learn(flow.context, world.key(peer, port), at(0)));
        let of_peer = of_peer.count();
        assert!(of_peer <= MOST_LEARNED_OF_PEER, "{of_peer}");
        learned += of_peer;
    }
    assert_eq!(learned, MOST_LEARNED);
    let flow = world.fork(9, 9);
    begun(&mut forks, &flow);
    let _ = forks.note(&insert(&flow));
    let mut port = 1;
    while forks.has_room() {
        forks.assign(flow.context, world.key(9, port), at(0));
        port += 1;
    }
    assert_eq!(usize::from(port), 1 + MOST_ASKED);
}

#[test]
fn this_host_sends_where_the_peer_of_a_fork_does_unless_somebody_chooses() {
    let (mut world, mut forks) = (World::new(), Forks::default());
    let flow = world.fork(1, 9);
    let other = LocatorPair::new(world.local, world.ulids(2).peer);
    let _ = forks.note(&insert(&flow));
    assert!(forks.due(at(1)).is_empty(), "nothing has arrived");
    forks.arrived(flow.context, other);
    assert_eq!(forks.due(at(1)), [(flow.context, other)]);
    assert!(forks.due(at(1)).is_empty());
    // Pauses grow.
    forks.look_again(flow.context, at(1), None);
    assert_eq!(forks.poll_timeout(), Some(at(2)));
    assert_eq!(forks.due(at(2)), [(flow.context, other)]);
    forks.look_again(flow.context, at(2), None);
    assert_eq!(forks.poll_timeout(), Some(at(4)));
    // A path that changes is looked at again.
    let _ = forks.due(at(4));
    let _ = forks.note(&insert(&flow));
    assert_eq!(forks.due(at(4)), [(flow.context, other)]);
    forks.choose(flow.context, true);
    let _ = forks.note(&insert(&flow));
    assert!(forks.due(at(9)).is_empty());
    forks.choose(flow.context, false);
    assert_eq!(forks.due(at(9)), [(flow.context, other)]);
}
