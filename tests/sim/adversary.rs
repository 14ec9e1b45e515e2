//! Somebody who sees all packets and sends what it likes.

use shim6_core::{LimitsConfig, Rate};
use shim6_tests::sim::{AdversaryPlan, Agreement, Forgery, Kind, Protect, Scenario, World};

use super::{A, B, fast, ms, pair, secs};

fn plan(burst: usize, replays: u32, forgeries: &[Forgery]) -> AdversaryPlan {
    AdversaryPlan {
        interval: ms(20),
        burst,
        replays,
        redirects: 300,
        forgeries: forgeries.to_vec(),
    }
}

fn rate(total: u32) -> Rate {
    Rate {
        total,
        per_prefix: total,
    }
}

fn attacked(name: &str, plan: AdversaryPlan) -> World {
    let mut scenario = Scenario {
        adversary: Some(plan),
        ..pair(name, Kind::BothWays)
    };
    scenario.sessions[0].protect = Protect::Both;
    for host in &mut scenario.hosts {
        host.config.limits = LimitsConfig {
            r1: rate(20),
            r2: rate(20),
            r1bis: rate(20),
            errors: rate(5),
            ..fast().limits
        };
    }
    World::new(scenario)
}

#[test]
fn flood_of_forged_i1_leaves_no_context_and_gets_no_more_replies_than_allowed() {
    let name = "adversary::flood_of_forged_i1_leaves_no_context_and_gets_no_more_replies_than_allowed";
    let mut world = attacked(name, plan(20, 0, &[Forgery::I1]));
    world.run_for(secs(20)).unwrap();
    for host in [A, B] {
        assert!(world.host(host).contexts().len() <= 1, "only the session's own");
        let (sent, received) = world.replies(host).third_parties();
        assert!(received > 0 && sent < received / 5, "{sent} octets for {received}");
    }
}

#[test]
fn forgeries_of_every_kind_neither_keep_hosts_from_agreeing_nor_end_a_session() {
    for &forgery in Forgery::ALL {
        let name = "adversary::forgeries_of_every_kind_neither_keep_hosts_from_agreeing_nor_end_a_session";
        let mut world = attacked(name, plan(2, 0, &[forgery]));
        world.run_for(secs(30)).unwrap();
        assert_eq!(world.agreement(0), Agreement::Both, "{forgery:?}");
        assert!(world.flows(0, world.now() - secs(1)), "{forgery:?}");
    }
}

#[test]
fn replays_do_not_end_a_session() {
    let mut world = attacked("adversary::replays_do_not_end_a_session", plan(3, 1000, &[]));
    world.run_for(secs(30)).unwrap();
    assert!(world.flows(0, world.now() - secs(1)));
    assert_eq!(world.agreement(0), Agreement::Both);
}
