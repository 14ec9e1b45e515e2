//! Locators that are not in the HBA set but signed with its key (RFC 5533 section 5.15.5, RFC 5535 section 8.1).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};

use super::stranger::Stranger;
use super::world::{A, B, World, fast, ms, secs};
use crate::identity::Extent;
use crate::wire::{Discard, ErrorCode, I2, LocatorList, Message, MessageType, R2, UpdateRequest, VerificationMethod};
use crate::{ContextState, EndpointConfig, EstablishError, Identity, IdentityError, LimitsConfig, LocatorPair};

/// The smallest that is accepted, since making one takes its time.
const KEY_BITS: usize = 1024;

/// Locators under prefixes that the set of [`owner`] does not have.
const LATER: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 1, 0, 0, 0, 0xc1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 2, 0, 0, 0, 0xc2),
];

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(7)
}

fn key(seed: u64) -> PrivateKey {
    PrivateKey::generate(KEY_BITS, KeySizes::default(), &mut ChaCha12Rng::seed_from_u64(seed)).expect("a key")
}

/// A CGA/HBA set under one prefix.
fn set(key: &PrivateKey) -> HbaSet {
    let prefix = SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 0, 0, 0, 0, 0));
    HbaSet::generate_with_public_key(&[prefix], key.public_key().spki(), Sec::ZERO, &mut rng()).expect("a set")
}

fn identity(key: &PrivateKey, later: &[Ipv6Addr]) -> Identity {
    Identity::from_hba_set(&set(key), &mut rng())
        .with_signed_locators(key, later, &mut rng())
        .expect("the key of the set")
}

fn owner(key: &PrivateKey) -> Stranger {
    let identity = identity(key, &LATER);
    Stranger {
        ulid: identity.locators()[0],
        set: set(key),
        identity,
        ..Stranger::new()
    }
}

/// What an I2 or R2 says, to be changed.
struct Proof<'a> {
    list: &'a mut LocatorList,
    signature: &'a mut Option<Vec<u8>>,
}

/// The world after the owner's I2, and after its R2, each with this change.
fn claimed(owner: &Stranger, config: &EndpointConfig, change: impl Fn(Proof<'_>)) -> [World; 2] {
    let mut as_responder = World::new(config);
    let mut i2: I2 = owner.i2(&mut as_responder, A);
    i2.announcement.cga_signature = owner.identity.signature().map(<[u8]>::to_vec);
    change(Proof {
        list: i2.announcement.locators.as_mut().expect("a list"),
        signature: &mut i2.announcement.cga_signature,
    });
    as_responder.log.clear();
    owner.send(&mut as_responder, A, &Message::I2(i2));

    let mut as_initiator = World::new(config);
    let mut r2: R2 = owner.r2(&mut as_initiator, A);
    r2.announcement.cga_signature = owner.identity.signature().map(<[u8]>::to_vec);
    change(Proof {
        list: r2.announcement.locators.as_mut().expect("a list"),
        signature: &mut r2.announcement.cga_signature,
    });
    as_initiator.log.clear();
    owner.send(&mut as_initiator, A, &Message::R2(r2));
    [as_responder, as_initiator]
}

fn assert_refused(owner: &Stranger, reason: Discard, change: impl Fn(Proof<'_>)) {
    for world in claimed(owner, &EndpointConfig::default(), change) {
        assert_eq!(world.hosts[A].discards(), [(reason, 1)]);
        let contexts = world.hosts[A].endpoint.contexts();
        assert_eq!(contexts.filter(|c| c.state == ContextState::Established).count(), 0);
        assert!(world.hosts[A].dataplane.is_empty());
        assert!(
            world.log.iter().all(|sent| sent.kind == Some(MessageType::ERROR)),
            "{:?}",
            world.log
        );
    }
}

#[test]
fn locators_signed_with_the_key_of_the_set_are_accepted() {
    let owner = owner(&key(1));
    for world in claimed(&owner, &EndpointConfig::default(), |_| ()) {
        assert_eq!(world.hosts[A].discards(), []);
        assert_eq!(world.hosts[A].context().peer_locators, owner.identity.locators());
        assert_eq!(owner.identity.locators()[1..], LATER);
    }
}

#[test]
fn every_other_list_or_signature_is_refused() {
    let owner = owner(&key(1));
    let stranger = identity(&key(2), &LATER);
    let failed = Discard::SignatureVerificationFailed;
    assert_refused(&owner, failed, |proof| *proof.signature = None);
    assert_refused(&owner, failed, |proof| *proof.signature = Some(Vec::new()));
    assert_refused(&owner, failed, |proof| {
        *proof.signature = stranger.signature().map(<[u8]>::to_vec)
    });
    assert_refused(&owner, failed, |proof| {
        proof.signature.as_mut().expect("a signature").push(0);
    });
    for octet in [0, 64, 127] {
        assert_refused(&owner, failed, |proof| {
            proof.signature.as_mut().expect("a signature")[octet] ^= 1;
        });
    }
    assert_refused(&owner, failed, |proof| proof.list.generation ^= 1);
    assert_refused(&owner, failed, |proof| proof.list.locators.swap(1, 2));
    assert_refused(&owner, failed, |proof| proof.list.locators.truncate(2));
    assert_refused(&owner, failed, |proof| {
        proof.list.locators[2].1 = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1);
    });
    // Signed as CGA, claimed as HBA, and the other way round.
    assert_refused(&owner, Discard::HbaVerificationFailed, |proof| {
        proof.list.locators[1].0 = VerificationMethod::HBA;
    });
    assert_refused(&owner, failed, |proof| {
        proof.list.locators[0].0 = VerificationMethod::CGA
    });
}

#[test]
fn signature_makes_no_locator_of_an_address_that_cannot_be_one() {
    let key = key(1);
    let own = World::new(&EndpointConfig::default()).locator(A, 1);
    for address in ["ff0e::1", "fe80::1", "::1"]
        .map(|text| text.parse().expect("an address"))
        .into_iter()
        .chain([own])
    {
        let identity = identity(&key, &[address]);
        let owner = Stranger {
            identity,
            ..owner(&key)
        };
        assert_refused(&owner, Discard::HbaVerificationFailed, |_| ());
    }
}

#[test]
fn hba_only_set_has_no_key_and_its_peer_is_told() {
    let stranger = Stranger::new();
    for world in claimed(&stranger, &EndpointConfig::default(), |proof| {
        proof.list.locators.push((VerificationMethod::CGA, LATER[0]));
        *proof.signature = Some([1; 128].to_vec());
    }) {
        assert_eq!(world.hosts[A].discards(), [(Discard::UnsupportedVerificationMethod, 1)]);
        let Message::Error(error) = world.last(MessageType::ERROR).message() else {
            panic!("not an Error")
        };
        assert_eq!(error.code, ErrorCode::VERIFICATION_METHOD);
    }
}

#[test]
fn key_outside_the_sizes_of_the_configuration_is_refused() {
    let mut config = EndpointConfig::default();
    config.limits.peer_key_sizes = KeySizes::new(2048, 3072).expect("sizes");
    for world in claimed(&owner(&key(1)), &config, |_| ()) {
        assert_eq!(world.hosts[A].discards(), [(Discard::SignatureVerificationFailed, 1)]);
    }
}

#[test]
fn signatures_are_verified_only_so_often() {
    let limits = LimitsConfig {
        signatures: crate::Rate {
            total: 4,
            per_prefix: 4,
        },
        ..LimitsConfig::default()
    };
    let config = EndpointConfig {
        limits,
        ..EndpointConfig::default()
    };
    let mut world = World::new(&config);
    let owner = owner(&key(1));
    let mut i2 = owner.i2(&mut world, A);
    i2.announcement.cga_signature = Some([1; KEY_BITS / 8].to_vec());
    for _ in 0..10 {
        owner.send(&mut world, A, &Message::I2(i2.clone()));
    }
    assert_eq!(world.hosts[A].discarded(Discard::SignatureVerificationFailed), 4);
    assert_eq!(world.hosts[A].discarded(Discard::RateLimited), 6);
    i2.announcement.cga_signature = owner.identity.signature().map(<[u8]>::to_vec);
    world.run(secs(1));
    owner.send(&mut world, A, &Message::I2(i2));
    assert_eq!(world.hosts[A].context().state, ContextState::Established);
}

#[test]
fn only_the_key_of_the_set_signs_for_it_and_an_hba_only_set_has_none() {
    let (own, other) = (key(1), key(2));
    let add = |identity: Identity, key| identity.with_signed_locators(key, &LATER, &mut rng()).err();
    let of_own = Identity::from_hba_set(&set(&own), &mut rng());
    assert_eq!(add(of_own.clone(), &own), None);
    assert_eq!(add(of_own, &other), Some(IdentityError::ForeignKey));
    let hba_only = super::world::identity(3);
    assert_eq!(add(hba_only, &own), Some(IdentityError::ForeignKey));
}

#[test]
fn as_many_locators_are_signed_as_fit_a_message() {
    let key = key(1);
    let address = |number| Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 9, 0, 0, 0, number);
    let signed = |count| {
        let locators: Vec<_> = (1..=count).map(address).collect();
        Identity::from_hba_set(&set(&key), &mut rng()).with_signed_locators(&key, &locators, &mut rng())
    };
    let most = (1..100)
        .take_while(|&count| signed(count).is_ok())
        .last()
        .expect("one fits");
    assert!(matches!(signed(most + 1), Err(IdentityError::NoRoom { .. })), "{most}");
    // All of them are sent and taken, by a peer that takes so many.
    let mut config = EndpointConfig::default();
    config.limits.peer_locators = 255;
    let identity = signed(most).expect("it fits");
    let locators = identity.locators().to_vec();
    let mut world = World::with_identities(&config, [super::world::identity(0), identity]);
    world.establish(B, A);
    world.run(secs(1));
    assert_eq!(world.hosts[A].context().peer_locators, locators);
}

/// Section 10.1: an Update Request with such a list has the signature as well.
#[test]
fn signed_list_in_an_update_is_taken_with_its_signature_and_refused_without() {
    let owner = owner(&key(1));
    for is_signed in [false, true] {
        let mut world = World::new(&EndpointConfig::default());
        let r2 = owner.establish_with(
            &mut world,
            A,
            LocatorList {
                generation: 1,
                locators: Vec::from([(VerificationMethod::HBA, owner.ulid)]),
            },
        );
        assert_eq!(world.hosts[A].context().peer_locators, [owner.ulid]);
        let mut announcement = owner.identity.announcement(owner.ulid, Extent::Whole);
        if !is_signed {
            announcement.cga_signature = None;
        }
        let request = UpdateRequest {
            receiver_context_tag: r2.responder_context_tag,
            request_nonce: 5,
            announcement,
        };
        world.log.clear();
        owner.send(&mut world, A, &Message::UpdateRequest(request));
        let answers: Vec<_> = world.log.iter().filter_map(|sent| sent.kind).collect();
        if is_signed {
            assert_eq!(answers, [MessageType::UPDATE_ACKNOWLEDGEMENT]);
            assert_eq!(world.hosts[A].context().peer_locators, owner.identity.locators());
        } else {
            assert_eq!(answers, [MessageType::ERROR]);
            assert_eq!(world.hosts[A].discards(), [(Discard::SignatureVerificationFailed, 1)]);
            assert_eq!(world.hosts[A].context().peer_locators, [owner.ulid]);
        }
    }
}

#[test]
fn session_moves_to_a_locator_that_is_only_signed_and_it_is_no_ulid() {
    let mut world = World::with_identities(&fast(), [super::world::identity(0), identity(&key(1), &LATER)]);
    let stranger_to_be = LocatorPair {
        local: LATER[0],
        peer: world.locator(A, 0),
    };
    let now = world.now;
    assert_eq!(
        world.hosts[B].endpoint.establish(now, stranger_to_be),
        Err(EstablishError::NotOurs(stranger_to_be))
    );
    world.establish(B, A);
    world.run(secs(1));
    let ulids = world.pair(B, A);
    world.stream(B, ulids, ms(20), true);
    world.run(secs(1));
    for index in 0..2 {
        let failed = world.pair_of(B, 0, A, index);
        world.cut_both_ways(failed);
    }
    let on_signed = |world: &World| LATER.contains(&world.hosts[B].context().locators.local);
    assert!(world.run_until(secs(10), on_signed).is_some());
    let before = world.hosts[A].received.len();
    world.run(secs(1));
    assert!(world.hosts[A].received.len() > before + 40);
}
