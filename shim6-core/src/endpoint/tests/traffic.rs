//! What established contexts do while the path works: as little as possible.

use alloc::vec::Vec;

use super::world::{A, B, DELAY, World, fast, ms, rfc, secs};
use crate::wire::MessageType;
use crate::{EndpointConfig, ReapState};

fn configs() -> [EndpointConfig; 3] {
    [rfc(), fast(), EndpointConfig::default()]
}

#[test]
fn idle_context_sends_nothing_and_asks_for_no_call() {
    for config in configs() {
        let mut world = World::established(&config);
        for host in [A, B] {
            // But in two hours, to be torn down.
            let deadline = world.hosts[host].endpoint.poll_timeout();
            assert!(deadline.is_some_and(|at| at > world.now + secs(7_000)), "{deadline:?}");
        }
        world.run(secs(3_600));
        assert_eq!(world.log, []);
    }
}

#[test]
fn context_becomes_idle_again_after_traffic() {
    for config in configs() {
        let mut world = World::established(&config);
        world.stream(A, world.pair(A, B), ms(20), true);
        world.run(secs(30));
        world.stop_streams();
        world.run(secs(120));
        world.log.clear();
        for host in [A, B] {
            // But in two hours, to be torn down.
            let deadline = world.hosts[host].endpoint.poll_timeout();
            assert!(deadline.is_some_and(|at| at > world.now + secs(7_000)), "{deadline:?}");
        }
        world.run(secs(3_600));
        assert_eq!(world.log, []);
    }
}

#[test]
fn traffic_in_both_directions_adds_no_control_message() {
    for config in configs() {
        let mut world = World::established(&config);
        world.stream(A, world.pair(A, B), ms(20), true);
        world.run(secs(90));
        world.stop_streams();
        world.run(ms(30));
        assert_eq!(world.control(), Vec::<&super::world::Sent>::new());
        assert_eq!(
            world.received_since(B, world.now - secs(80)),
            world.received_since(A, world.now - secs(80))
        );
    }
}

#[test]
fn sparse_requests_with_quick_replies_need_no_control_message() {
    let mut world = World::established(&fast());
    world.stream(A, world.pair(A, B), secs(3), true);
    // Up to shortly after a reply, which itself wants to be acknowledged.
    world.run(ms(30_050));
    assert!(world.sent(MessageType::PROBE).is_empty());
    for host in [A, B] {
        assert!(world.hosts[host].events.is_empty());
    }
}

#[test]
fn one_directional_flow_gets_keepalives_and_no_exploration() {
    let [rfc, fast, default] = configs();
    for (config, interval, seconds) in [(rfc, ms(100), 300), (fast, ms(20), 30), (default, ms(5), 10)] {
        let keepalive_interval = config.reap.keepalive_timeout / 3;
        let mut world = World::established(&config);
        world.stream(A, world.pair(A, B), interval, false);
        world.run(secs(seconds));
        assert!(world.sent(MessageType::PROBE).is_empty());
        let keepalives = world.sent(MessageType::KEEPALIVE);
        assert!(keepalives.iter().all(|sent| sent.source == world.locator(B, 0)));
        // At each interval, and once more when the Keepalive Timer expires.
        let expected = secs(seconds).as_micros() / keepalive_interval.as_micros();
        let count = keepalives.len() as u128;
        assert!(
            count <= expected * 3 / 2 && count >= expected * 9 / 10,
            "{count} keepalives, {expected} intervals"
        );
        let gap = keepalives
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .max()
            .expect("there are several");
        assert!(
            gap <= keepalive_interval + interval + DELAY,
            "{gap:?} without a keepalive"
        );
        for host in [A, B] {
            assert_eq!(world.hosts[host].context().reap, ReapState::Operational);
            assert!(world.hosts[host].events.is_empty());
            assert_eq!(world.hosts[host].discards(), []);
        }
        let [a, b] = [A, B].map(|host| {
            world.hosts[host]
                .context()
                .activity
                .expect("the context is established")
        });
        assert_eq!((a.received(), b.sent()), ((0, 0), (0, 0)));
    }
}

#[test]
fn one_directional_flow_with_pauses_gets_keepalives_too() {
    let config = fast();
    let mut world = World::established(&config);
    for _ in 0..20 {
        world.stream(A, world.pair(A, B), ms(70), false);
        world.run(ms(900));
        world.stop_streams();
        world.run(secs(2));
    }
    assert!(world.sent(MessageType::PROBE).is_empty());
    assert!(!world.sent(MessageType::KEEPALIVE).is_empty());
}

#[test]
fn bulk_transfer_with_rare_answers_is_no_failure() {
    let mut world = World::established(&fast());
    world.stream(A, world.pair(A, B), ms(5), false);
    world.stream(B, world.pair(B, A), ms(480), false);
    world.run(secs(30));
    assert!(world.sent(MessageType::PROBE).is_empty());
}

#[test]
fn single_packet_without_answer_gets_a_keepalive() {
    let mut world = World::established(&fast());
    world.send_payload(A, world.pair(A, B));
    world.run(secs(10));
    assert!(world.sent(MessageType::PROBE).is_empty());
    assert!(!world.sent(MessageType::KEEPALIVE).is_empty());
    let count = world.sent(MessageType::KEEPALIVE).len();
    world.run(secs(600));
    assert_eq!(world.sent(MessageType::KEEPALIVE).len(), count);
}

/// The time stamps alone do not say which came first.
#[test]
fn reply_in_the_same_microsecond_is_a_reply() {
    let mut world = World::established(&fast());
    let pair = world.pair(A, B);
    world.set_delay(pair.local, pair.peer, ms(0));
    world.set_delay(pair.peer, pair.local, ms(0));
    world.stream(A, pair, ms(50), true);
    world.run(secs(3));
    world.stop_streams();
    world.run(secs(30));
    assert!(world.sent(MessageType::PROBE).is_empty());
}

#[test]
fn both_ends_count_what_passes() {
    let mut world = World::established(&fast());
    world.stream(A, world.pair(A, B), ms(10), true);
    world.run(secs(5));
    world.stop_streams();
    world.run(secs(1));
    let activity = |host: usize| {
        world.hosts[host]
            .context()
            .activity
            .expect("the context is established")
    };
    assert_eq!(activity(A).sent(), activity(B).received());
    assert_eq!(activity(B).sent(), activity(A).received());
    assert_eq!(activity(A).sent().0, 500 + 1);
}
