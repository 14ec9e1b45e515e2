//! ICMPv6 errors about what the shim sends (RFC 5533 section 8), and contexts that grow quiet (section 9).

use shim6_tests::sim::{Action, Agreement, Kind, Link, Refusal, World};

use super::{A, B, establish, established, locator, ms, pair, run_until_well, secs};

/// Refused at once, or found out by REAP after a Send Timeout.
#[test]
fn unreachable_makes_the_sender_look_for_another_path_at_once() {
    let time_to_recover = |refusal| {
        let name = "errors::unreachable_makes_the_sender_look_for_another_path_at_once";
        let mut world = established(pair(name, Kind::BothWays));
        // The first path that packets are rewritten for dies silently, the next one does or not.
        super::cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
        world.run_for(secs(1)).unwrap();
        run_until_well(&mut world, secs(5));
        let used = world.context(0, false).expect("a context").locators;
        let index = |host, address| (0..2).find(|&index| world.address(locator(host, index)) == address);
        let from = locator(A, index(A, used.local).expect("A's own"));
        let to = locator(B, index(B, used.peer).expect("B's own"));
        let link = Link {
            refusal,
            ..Link::dead()
        };
        world.perform(Action::SetLink { from, to, link }).unwrap();
        let moved = move |world: &World| world.context(0, false).is_some_and(|context| context.locators != used);
        world
            .run_until(secs(10), moved)
            .unwrap()
            .expect("it finds another path")
    };
    let (told, silent) = (time_to_recover(Some(Refusal::Unreachable)), time_to_recover(None));
    // The error is no more than a hint: the pair in use is probed first, and only then another one.
    assert!(told + ms(200) < silent && silent > ms(400), "{told:?}, {silent:?}");
}

#[test]
fn too_big_is_delivered_about_the_packet_as_it_was_sent() {
    let name = "errors::too_big_is_delivered_about_the_packet_as_it_was_sent";
    let mut scenario = pair(name, Kind::BothWays);
    scenario.sessions[0].octets = 1_200;
    let mut world = established(scenario);
    world
        .perform(Action::SetAllLinks(Link {
            refusal: Some(Refusal::TooBig(1_000)),
            ..Link::clean(ms(10))
        }))
        .unwrap();
    super::cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
    // The ledger holds each quoted packet against what was sent.
    world.run_for(secs(10)).unwrap();
    assert!(world.host(A).icmp_delivered() > 0, "errors are delivered");
}

#[test]
fn context_is_torn_down_when_quiet_and_never_under_traffic() {
    let name = "errors::context_is_torn_down_when_quiet_and_never_under_traffic";
    let mut scenario = pair(name, Kind::OneWay);
    for host in &mut scenario.hosts {
        host.config.quiescence = secs(10);
    }
    let mut world = established(scenario);
    world.run_for(secs(60)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    let pause = |running| Action::SetSession { session: 0, running };
    world.perform(pause(false)).unwrap();
    world.run_for(secs(9)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    world.run_for(secs(3)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Neither);
    world.perform(pause(true)).unwrap();
    establish(&mut world, false);
    run_until_well(&mut world, secs(5));
}
