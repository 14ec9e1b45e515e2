//! The protocol runs of RFC 5534 Appendix A.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::world::{Body, Packet, World};
use super::{at, locator, pair, secs};
use crate::{Cause, Config, Event, LocatorPair, State};

/// The values of a profile, and what a second of the examples is to it: a fifteenth of the Send Timeout.
struct Profile {
    config: Config,
    second: f64,
}

const PROFILES: [Profile; 2] = [
    Profile {
        config: Config::rfc(),
        second: 1.0,
    },
    Profile {
        config: Config::fast(),
        second: 0.008,
    },
];

impl Profile {
    fn world(&self, locators: [usize; 2]) -> World {
        let mut world = World::new(self.config, locators, 1);
        world.delay = secs(0.01 * self.second);
        world.know_rtt(world.delay * 2);
        world
    }

    fn flow(&self, world: &mut World, host: usize, period: f64, offset: f64) {
        world.flow(host, period * self.second, offset * self.second);
    }
}

/// `host: source -> destination state[received]`, with `lost` where it was, for what REAP sent.
fn runs(world: &World) -> Vec<String> {
    world.reap_packets().map(describe).collect()
}

fn describe(packet: &Packet) -> String {
    let name = |address| {
        (0..2)
            .flat_map(|host| (0..3).map(move |index| (host, index)))
            .find(|&(host, index)| locator(host, index) == address)
            .map_or_else(
                || format!("{address}"),
                |(host, index)| format!("{}{}", ["A", "B"][host], index + 1),
            )
    };
    let what = match &packet.body {
        Body::Payload => "payload".into(),
        Body::Keepalive => "keepalive".into(),
        Body::Probe(probe) => format!("{} reports {}", probe.state, probe.received.len()),
    };
    let lost = if packet.lost { ", lost" } else { "" };
    format!("{}->{} {what}{lost}", name(packet.source), name(packet.destination))
}

#[test]
fn example_1_an_idle_context_sends_nothing() {
    for profile in PROFILES {
        let mut world = profile.world([2, 2]);
        world.run_for(3600.0 * profile.second);
        assert!(world.log.is_empty());
    }
}

#[test]
fn example_2_payload_both_ways_needs_no_other_packet() {
    for profile in PROFILES {
        let mut world = profile.world([2, 2]);
        profile.flow(&mut world, 0, 1.0, 0.0);
        profile.flow(&mut world, 1, 1.0, 0.5);
        world.run_for(600.0 * profile.second);
        assert_eq!(runs(&world), Vec::<String>::new());
        assert_eq!(world.log.len(), 1201);
    }
}

#[test]
fn example_3_payload_one_way_is_answered_by_a_keepalive_per_interval() {
    for profile in PROFILES {
        let mut world = profile.world([1, 1]);
        profile.flow(&mut world, 0, 0.5, 0.0);
        world.run_for(151.0 * profile.second);
        // Every third one is the last of a timer's run, and the next packet starts the timer again.
        let keepalives: Vec<String> = runs(&world);
        assert!((28..=30).contains(&keepalives.len()), "{}", keepalives.len());
        assert!(
            keepalives.iter().all(|line| line == "B1->A1 keepalive"),
            "{keepalives:?}"
        );
        assert_eq!(world.reap(0).state(), State::Operational);
    }
}

#[test]
fn example_4_both_directions_move_to_the_peers_other_address() {
    for profile in PROFILES {
        let mut world = profile.world([1, 2]);
        profile.flow(&mut world, 0, 1.0, 0.0);
        profile.flow(&mut world, 1, 1.0, 0.5);
        world.run_for(10.7 * profile.second);
        world.cut(0, 0, 0);
        world.cut(1, 0, 0);
        // B's packet of 10.5 s still got through but stays unanswered, and A's of 11 s comes after it: B notices first.
        assert!(world.run_until(at(40.0 * profile.second), World::is_well));
        assert_eq!(
            runs(&world),
            [
                // The RFC's run begins on (B1,A1); ours saves the spacing and begins with the other pair.
                "B2->A1 exploring reports 0",
                "A1->B2 inbound-ok reports 1",
                "B2->A1 operational reports 1",
            ]
        );
        assert_eq!(world.reap(0).current_pair(), pair(0, 1));
        assert_eq!(world.reap(1).current_pair(), pair(0, 1).seen_by_peer());
        let changes: Vec<Event> = world
            .events
            .iter()
            .filter(|event| event.1 == 0)
            .map(|event| event.2)
            .collect();
        let (operational, inbound_ok) = (State::Operational, State::InboundOk);
        let cause = Cause::PeerReport;
        assert_eq!(
            changes,
            [
                Event::StateChanged {
                    from: operational,
                    to: inbound_ok,
                    cause
                },
                Event::PairConfirmed { pair: pair(0, 1) },
                Event::PairChanged {
                    from: pair(0, 0),
                    to: pair(0, 1),
                    cause
                },
                Event::StateChanged {
                    from: inbound_ok,
                    to: operational,
                    cause
                },
            ]
        );
        assert!(world.events.iter().any(|event| matches!(
            event,
            (
                _,
                1,
                Event::PairChanged {
                    cause: Cause::SendTimeout,
                    ..
                }
            )
        )));

        world.run_for(60.0 * profile.second);
        assert_eq!(runs(&world).len(), 3, "quiet after that");
    }
}

#[test]
fn example_4_begins_on_the_pair_in_use_if_there_is_no_other() {
    for profile in PROFILES {
        let mut world = profile.world([1, 1]);
        profile.flow(&mut world, 0, 1.0, 0.0);
        profile.flow(&mut world, 1, 1.0, 0.5);
        world.run_for(10.7 * profile.second);
        world.cut(0, 0, 0);
        world.cut(1, 0, 0);
        world.run_for(20.0 * profile.second);
        assert_eq!(runs(&world)[0], "B1->A1 exploring reports 0, lost");
        world.mend(0, 0, 0);
        world.mend(1, 0, 0);
        assert!(world.run_until(at(60.0 * profile.second), World::is_well));
        assert!(
            world
                .events
                .iter()
                .all(|event| !matches!(event.2, Event::PairChanged { .. }))
        );
    }
}

/// Only A1->B1 fails. B complains; the pairs may then differ per direction.
#[test]
fn example_5_a_one_way_failure_leaves_the_direction_that_works() {
    for profile in PROFILES {
        let mut world = profile.world([2, 2]);
        profile.flow(&mut world, 0, 1.0, 0.0);
        profile.flow(&mut world, 1, 1.0, 0.5);
        world.run_for(10.2 * profile.second);
        world.cut(0, 0, 0);
        assert!(world.run_until(at(40.0 * profile.second), World::is_well));
        assert_eq!(
            runs(&world),
            [
                "B1->A2 exploring reports 0",
                "A2->B1 inbound-ok reports 1",
                "B1->A2 operational reports 1",
            ]
        );
        assert!(world.works(world.reap(0).current_pair()));
        world.run_for(60.0 * profile.second);
        assert_eq!(runs(&world).len(), 3);
    }
}

/// The same with the RFC's own order of probes (p on the current pair first, then r), by means of a preference order
/// that begins with the pairs that the example uses: B ends on (B1,A1), the pair it never had to leave.
#[test]
fn example_5_keeps_the_current_pair_when_the_peer_reports_it() {
    for profile in PROFILES {
        let a = |i| locator(0, i);
        let b = |i| locator(1, i);
        let mut world = profile.world([2, 2]);
        profile.flow(&mut world, 0, 1.0, 0.0);
        profile.flow(&mut world, 1, 1.0, 0.5);
        for (from, to) in [(0, 0), (0, 1), (1, 0)] {
            world.cut(0, from, to);
        }
        let pairs = Vec::from([LocatorPair::new(b(0), a(0)), LocatorPair::new(b(1), a(1))]);
        // A answers, and is slow to probe of its own accord.
        world.with_reap(0, |reap, _, _| {
            reap.set_config(Config {
                initial_probe_timeout: profile.config.initial_probe_timeout * 10,
                ..profile.config
            });
        });
        world.with_reap(1, |reap, now, rng| {
            reap.set_pairs(pairs);
            // A requested exploration does not put the current pair last.
            reap.explore(now, Cause::Requested, rng);
        });
        assert!(world.run_until(at(25.0 * profile.second), World::is_well));
        assert_eq!(
            runs(&world),
            [
                "B1->A1 exploring reports 0",
                "A1->B1 inbound-ok reports 1, lost",
                "B2->A2 exploring reports 0",
                "A2->B2 inbound-ok reports 2",
                "B1->A1 operational reports 1",
            ]
        );
        assert_eq!(world.reap(0).current_pair(), LocatorPair::new(a(1), b(1)));
        assert_eq!(world.reap(1).current_pair(), LocatorPair::new(b(0), a(0)));
    }
}
