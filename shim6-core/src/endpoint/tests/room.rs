//! Messages in packets of 1280 octets, whatever has to go into them (RFC 5533 section 5.1).

use alloc::vec;
use core::net::Ipv6Addr;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, MAX_PREFIXES, Sec, SubnetPrefix};

use super::stranger::Stranger;
use super::update::{preference, requests};
use super::world::{A, B, World, emit, secs};
use crate::wire::{I2, MAX_MESSAGE, Message, MessageType, PreferenceFlags, R1, UpdateAcknowledgement};
use crate::{ContextState, EndpointConfig, Identity};

/// As many locators as can be proved.
fn large_identity(number: u16) -> Identity {
    let mut rng = ChaCha12Rng::seed_from_u64(u64::from(number));
    let prefix = |uplink: usize| Ipv6Addr::new(0x2001, 0xdb8, number + 1, uplink as u16, 0, 0, 0, 0);
    let prefixes: vec::Vec<_> = (0..MAX_PREFIXES)
        .map(|uplink| SubnetPrefix::from(prefix(uplink)))
        .collect();
    let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
    Identity::from_hba_set(&set, &mut rng)
}

/// The I2 that a host with many locators and preferences sends after an R1 with a validator of so many octets.
fn i2_after(validator: usize) -> (World, Option<I2>) {
    let identities = [large_identity(A as u16), large_identity(B as u16)];
    let mut world = World::with_identities(&EndpointConfig::default(), identities);
    let last = *world.hosts[A]
        .endpoint
        .identity()
        .locators()
        .last()
        .expect("many locators");
    world.set_preferences(A, &[(last, preference(PreferenceFlags::TRANSIENT, 9))]);
    let stranger = Stranger::new();
    let i1 = stranger.i1_of(&mut world, A);
    let r1 = R1 {
        initiator_nonce: i1.initiator_nonce,
        responder_nonce: 7,
        validator: vec![0xaa; validator],
    };
    stranger.send(&mut world, A, &Message::R1(r1));
    let sent = world.sent(MessageType::I2).first().map(|sent| sent.message());
    let i2 = sent.map(|message| match message {
        Message::I2(i2) => i2,
        other => panic!("not an I2: {other:?}"),
    });
    (world, i2)
}

#[test]
fn exchange_of_hosts_with_as_many_locators_as_can_be_proved_fits() {
    let identities = [large_identity(A as u16), large_identity(B as u16)];
    let mut world = World::with_identities(&EndpointConfig::default(), identities);
    world.establish(A, B);
    world.run(secs(1));
    for (host, peer) in [(A, B), (B, A)] {
        let context = world.hosts[host].context();
        let count = EndpointConfig::default().limits.peer_locators;
        let expected = &world.hosts[peer].endpoint.identity().locators()[..count.min(MAX_PREFIXES)];
        assert_eq!(context.peer_locators, expected);
    }
    assert!(requests(&world).is_empty());
    assert!(world.log.iter().all(|sent| sent.packet.len() <= 1_280));
}

#[test]
fn what_a_large_validator_displaces_gets_less_step_by_step_and_follows_in_an_update() {
    let (mut whole, mut without_preferences, mut shortened, mut nothing) = (0, 0, 0, 0);
    for validator in (0..=1_204).step_by(4) {
        let (world, i2) = i2_after(validator);
        let i2 = i2.unwrap_or_else(|| panic!("a validator of {validator} octets leaves room for an I2"));
        assert_eq!(i2.validator.len(), validator);
        assert!(emit(&Message::I2(i2.clone())).len() <= MAX_MESSAGE);
        let identity = world.hosts[A].endpoint.identity();
        let told = i2.announcement.locators.as_ref();
        match (told.map(|list| list.locators.len()), &i2.announcement.preferences) {
            (Some(count), Some(_)) => {
                assert_eq!(count, identity.locators().len());
                whole += 1;
            }
            (Some(count), None) if count == identity.locators().len() => without_preferences += 1,
            (Some(count), None) => {
                let list = told.expect("a list");
                assert_ne!(list.generation, identity.generation(), "a shorter list is another one");
                assert_eq!(list.locators[0].1, world.locator(A, 0), "the ULID is in it");
                assert!(i2.announcement.cga_parameters.is_some() && count < identity.locators().len());
                shortened += 1;
            }
            (None, _) => {
                assert!(i2.announcement.cga_parameters.is_none());
                nothing += 1;
            }
        }
    }
    assert!(
        [whole, without_preferences, shortened, nothing]
            .iter()
            .all(|&count| count > 0)
    );
    // 24 octets of the I2, 8 of the Keepalive Timeout and 1,208 of the validator: one more does not fit.
    assert!(i2_after(1_205).1.is_none());
}

#[test]
fn peer_that_was_told_less_is_told_all_after_the_exchange() {
    for validator in [20, 400, 1_200] {
        let (mut world, i2) = i2_after(validator);
        let i2 = i2.expect("there is an I2");
        let stranger = Stranger::new();
        let r2 = crate::wire::R2 {
            responder_context_tag: stranger.tag,
            initiator_nonce: i2.initiator_nonce,
            announcement: Default::default(),
        };
        stranger.send(&mut world, A, &Message::R2(r2));
        let context = world.hosts[A].context();
        assert_eq!(context.state, ContextState::Established);
        let is_whole = i2.announcement.preferences.is_some();
        assert_eq!(
            (requests(&world).len(), context.updating),
            (usize::from(!is_whole), !is_whole)
        );
        if is_whole {
            continue;
        }
        let request = &requests(&world)[0].1;
        let identity = world.hosts[A].endpoint.identity();
        assert_eq!(request.announcement.locators, Some(identity.locator_list()));
        assert!(request.announcement.preferences.is_some() && request.announcement.cga_parameters.is_some());
        let acknowledgement = UpdateAcknowledgement {
            receiver_context_tag: context.local_tag,
            request_nonce: request.request_nonce,
        };
        stranger.send(&mut world, A, &Message::UpdateAcknowledgement(acknowledgement));
        assert!(!world.hosts[A].context().updating);
    }
}
