//! The exchanges of RFC 5533, figures 3 to 7.

use shim6_core::wire::MessageType as M;
use shim6_tests::sim::{Action, Agreement, Kind, Verdict, World, packet::control_type};

use super::{A, B, cut_both_ways, establish, established, locator, ms, pair, run_until_well, secs, sent_by};

/// Figure 3.
#[test]
fn normal_exchange_takes_four_messages() {
    let mut world = World::new(pair("figures::normal_exchange_takes_four_messages", Kind::BothWays));
    establish(&mut world, false);
    world.run_for(ms(100)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_eq!(sent_by(&world, A), [M::I1, M::I2]);
    assert_eq!(sent_by(&world, B), [M::R1, M::R2]);
}

/// Figure 4.
#[test]
fn crossing_i1_messages_are_answered_with_r2() {
    let mut world = World::new(pair(
        "figures::crossing_i1_messages_are_answered_with_r2",
        Kind::BothWays,
    ));
    establish(&mut world, false);
    establish(&mut world, true);
    world.run_for(ms(100)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_eq!(sent_by(&world, A), [M::I1, M::R2]);
    assert_eq!(sent_by(&world, B), [M::I1, M::R2]);
}

/// Figure 5.
#[test]
fn i2_that_crosses_an_i1_leads_to_one_agreement() {
    let mut world = World::new(pair(
        "figures::i2_that_crosses_an_i1_leads_to_one_agreement",
        Kind::BothWays,
    ));
    establish(&mut world, false);
    // The R1 arrives after 20 ms; now A is about to send its I2, and B starts on its own.
    world.run_for(ms(15)).unwrap();
    establish(&mut world, true);
    world.run_for(ms(200)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_eq!(sent_by(&world, A)[..2], [M::I1, M::I2]);
    assert_eq!(sent_by(&world, B)[..2], [M::R1, M::I1]);
}

/// Figure 6: the receiver of payload has lost its context, and learns of it by a tag.
#[test]
fn context_lost_at_the_receiver_is_recovered_by_r1bis() {
    let mut world = established(pair(
        "figures::context_lost_at_the_receiver_is_recovered_by_r1bis",
        Kind::OneWay,
    ));
    cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(5));
    let close = Action::Close {
        session: 0,
        reverse: true,
    };
    world.perform(close).unwrap();
    world.clear_trace();
    world.run_for(ms(300)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_eq!(sent_by(&world, B).iter().filter(|&&kind| kind == M::R1BIS).count(), 1);
    assert!(sent_by(&world, A).contains(&M::I2BIS) && sent_by(&world, B).contains(&M::R2));
    run_until_well(&mut world, secs(2));
}

/// Figure 7: the sender of payload has lost its context and sets up another.
#[test]
fn context_lost_at_the_sender_is_set_up_anew() {
    let mut world = established(pair("figures::context_lost_at_the_sender_is_set_up_anew", Kind::OneWay));
    let crash = Action::Crash {
        host: A,
        down_for: ms(50),
        same_seed: false,
    };
    world.perform(crash).unwrap();
    world.run_for(ms(100)).unwrap();
    assert!(matches!(world.agreement(0), Agreement::One { reverse: true, .. }));
    establish(&mut world, false);
    world.run_for(ms(200)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_eq!(sent_by(&world, B), [M::R1, M::R2]);
    assert_eq!(world.host(B).contexts().len(), 1, "the old context is replaced");
}

#[test]
fn every_single_loss_in_the_exchange_is_made_up_for() {
    for lost in [M::I1, M::R1, M::I2, M::R2] {
        for both in [false, true] {
            let mut world = World::new(pair(
                "figures::every_single_loss_in_the_exchange_is_made_up_for",
                Kind::BothWays,
            ));
            let mut left = 1;
            world.set_filter(move |_, packet| {
                if control_type(packet) == Some(lost) && left > 0 {
                    left -= 1;
                    return Verdict::Lose;
                }
                Verdict::Pass
            });
            establish(&mut world, false);
            if both {
                establish(&mut world, true);
            }
            world.run_for(secs(20)).unwrap();
            assert_eq!(
                world.agreement(0),
                Agreement::Both,
                "{lost} is lost, both start: {both}"
            );
        }
    }
}

#[test]
fn simultaneous_start_with_any_delay_of_any_message_ends_in_agreement() {
    for kind in [M::I1, M::R1, M::I2, M::R2] {
        for delay in (0..200).step_by(5) {
            let name = "figures::simultaneous_start_with_any_delay_of_any_message_ends_in_agreement";
            let mut world = World::new(pair(name, Kind::BothWays));
            world.set_filter(
                move |host, packet| match control_type(packet) == Some(kind) && host == A {
                    true => Verdict::Delay(ms(delay)),
                    false => Verdict::Pass,
                },
            );
            establish(&mut world, false);
            world.run_for(ms(delay / 2)).unwrap();
            establish(&mut world, true);
            world.run_for(secs(20)).unwrap();
            assert_eq!(world.agreement(0), Agreement::Both, "{kind} takes {delay} ms");
        }
    }
}
