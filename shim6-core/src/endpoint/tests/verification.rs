//! Locators that a peer claims: verified as a whole before anything is set up (RFC 5533 section 7.2).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_cga::{CgaParameters, Sec};

use super::stranger::Stranger;
use super::world::{A, World, emit, identity};
use crate::wire::{Discard, Error, ErrorCode, LocatorList, Message, MessageType, VerificationMethod, View};
use crate::{ContextState, EndpointConfig, Event};

/// What an I2 or R2 says of its sender's locators.
#[derive(Debug, Clone)]
struct Claim {
    list: Option<LocatorList>,
    parameters: Option<Vec<u8>>,
}

impl Claim {
    fn honest(stranger: &Stranger) -> Self {
        Self {
            list: Some(stranger.list()),
            parameters: Some(stranger.parameters()),
        }
    }

    fn with_locator(stranger: &Stranger, method: VerificationMethod, locator: Ipv6Addr) -> Self {
        let mut claim = Self::honest(stranger);
        if let Some(list) = &mut claim.list {
            list.locators.push((method, locator));
        }
        claim
    }
}

/// Makes the claim in an I2 and gives the world after it, and the message.
fn claim_in_i2(stranger: &Stranger, claim: &Claim) -> (World, Vec<u8>) {
    let mut world = World::new(&EndpointConfig::default());
    let mut i2 = stranger.i2(&mut world, A);
    (i2.announcement.locators, i2.announcement.cga_parameters) = (claim.list.clone(), claim.parameters.clone());
    world.log.clear();
    let octets = emit(&Message::I2(i2));
    stranger.send_octets(&mut world, A, &octets);
    (world, octets)
}

/// The same in an R2.
fn claim_in_r2(stranger: &Stranger, claim: &Claim) -> (World, Vec<u8>) {
    let mut world = World::new(&EndpointConfig::default());
    let mut r2 = stranger.r2(&mut world, A);
    (r2.announcement.locators, r2.announcement.cga_parameters) = (claim.list.clone(), claim.parameters.clone());
    world.log.clear();
    let octets = emit(&Message::R2(r2));
    stranger.send_octets(&mut world, A, &octets);
    (world, octets)
}

fn assert_nothing_set_up(world: &World, reason: Discard) {
    let host = &world.hosts[A];
    assert_eq!(host.discards(), [(reason, 1)]);
    assert!(host.dataplane.is_empty());
    assert!(
        host.endpoint
            .contexts()
            .all(|context| context.state != ContextState::Established)
    );
    assert!(
        host.endpoint
            .contexts
            .iter()
            .all(|context| context.association.is_none())
    );
    assert!(
        !host
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::Established { .. }))
    );
    assert!(world.sent(MessageType::R2).is_empty());
}

fn assert_refused(claim: &Claim, stranger: &Stranger, reason: Discard) {
    let (world, _) = claim_in_i2(stranger, claim);
    assert_nothing_set_up(&world, reason);
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
    assert_eq!(world.log, [], "{claim:?} was answered");
    let (world, _) = claim_in_r2(stranger, claim);
    assert_nothing_set_up(&world, reason);
    assert_eq!(world.hosts[A].context().state, ContextState::I2Sent);
    assert_eq!(world.log, [], "{claim:?} was answered");
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

#[test]
fn honest_claim_is_accepted() {
    let stranger = Stranger::new();
    for (world, _) in [
        claim_in_i2(&stranger, &Claim::honest(&stranger)),
        claim_in_r2(&stranger, &Claim::honest(&stranger)),
    ] {
        assert_eq!(world.hosts[A].context().peer_locators, stranger.identity.locators());
        assert_eq!(world.hosts[A].discards(), []);
    }
}

#[test]
fn claim_of_nothing_leaves_the_ulid_alone() {
    let stranger = Stranger::new();
    for parameters in [None, Some(stranger.parameters())] {
        let claim = Claim { list: None, parameters };
        for (world, _) in [claim_in_i2(&stranger, &claim), claim_in_r2(&stranger, &claim)] {
            assert_eq!(world.hosts[A].context().peer_locators, [stranger.ulid()]);
        }
    }
}

#[test]
fn list_with_one_locator_that_is_not_of_the_set_sets_up_nothing() {
    let stranger = Stranger::new();
    let victim = identity(60).locators()[0];
    // The right prefix does not make it one either.
    let mut segments = stranger.identity.locators()[1].segments();
    segments[7] ^= 1;
    for locator in [victim, Ipv6Addr::from(segments)] {
        let claim = Claim::with_locator(&stranger, VerificationMethod::HBA, locator);
        assert_refused(&claim, &stranger, Discard::HbaVerificationFailed);
        let (world, _) = claim_in_i2(&stranger, &claim);
        assert_eq!(
            world.hosts[A].events,
            [(
                world.now,
                Event::LocatorRefused {
                    peer: stranger.ulid(),
                    locator
                }
            )]
        );
    }
}

#[test]
fn list_with_an_address_that_cannot_be_a_locator_sets_up_nothing() {
    let stranger = Stranger::new();
    for text in ["ff0e::1", "fe80::1", "::1", "::", "::ffff:192.0.2.1", "100::1"] {
        let claim = Claim::with_locator(&stranger, VerificationMethod::HBA, address(text));
        assert_refused(&claim, &stranger, Discard::HbaVerificationFailed);
    }
}

#[test]
fn hba_under_a_prefix_that_cannot_be_routed_sets_up_nothing() {
    // The set is genuine: its owner chose the prefixes, and a generator of its own.
    let mut rng = <rand_chacha::ChaCha12Rng as rand_core::SeedableRng>::seed_from_u64(9);
    let first = shim6_cga::SubnetPrefix::from(address("2001:db8:77::"));
    for text in ["ff0e::", "fe80::", "::"] {
        let second = shim6_cga::SubnetPrefix::from(address(text));
        // RFC 5535 section 5: type, length, P flag and reserved bits, prefixes.
        let head = [0, 0x12, 0, 20, 0, 0, 0, 0];
        let extension = [&head[..], first.octets(), second.octets()].concat();
        let nonce = Stranger::new().set.parameters().public_key().to_vec();
        let parameters = CgaParameters::new([7; 16], first, 0, &nonce, &extension).expect("well-formed parameters");
        let set = shim6_cga::HbaSet::from_parameters(&parameters, Sec::ZERO).expect("a set");
        let mut stranger = Stranger::new();
        stranger.identity = crate::Identity::from_hba_set(&set, &mut rng);
        (stranger.ulid, stranger.set) = (set.addresses()[0], set);
        assert_refused(&Claim::honest(&stranger), &stranger, Discard::HbaVerificationFailed);
    }
}

#[test]
fn list_with_our_own_address_sets_up_nothing() {
    let stranger = Stranger::new();
    let own = World::new(&EndpointConfig::default()).locator(A, 1);
    let claim = Claim::with_locator(&stranger, VerificationMethod::HBA, own);
    assert_refused(&claim, &stranger, Discard::HbaVerificationFailed);
}

#[test]
fn parameters_of_another_ulid_set_up_nothing() {
    let (stranger, other) = (Stranger::new(), Stranger::number(60));
    let claims = [
        Claim {
            list: Some(stranger.list()),
            parameters: Some(other.parameters()),
        },
        Claim {
            list: Some(other.list()),
            parameters: Some(other.parameters()),
        },
        Claim {
            list: None,
            parameters: Some(other.parameters()),
        },
    ];
    for claim in claims {
        assert_refused(&claim, &stranger, Discard::ParametersNotOfUlid);
    }
}

#[test]
fn list_without_usable_parameters_sets_up_nothing() {
    let stranger = Stranger::new();
    let whole = stranger.parameters();
    let truncations = [0, 1, 24, 25, whole.len() - 1].map(|length| Some(whole[..length].to_vec()));
    for parameters in [None].into_iter().chain(truncations) {
        let claim = Claim {
            list: Some(stranger.list()),
            parameters,
        };
        assert_refused(&claim, &stranger, Discard::ParametersNotOfUlid);
    }
}

#[test]
fn every_flipped_bit_of_the_parameters_sets_up_nothing() {
    let stranger = Stranger::new();
    let mut world = World::new(&EndpointConfig::default());
    let i2 = stranger.i2(&mut world, A);
    let whole = stranger.parameters();
    for bit in 0..8 * whole.len() {
        let mut parameters = whole.clone();
        parameters[bit / 8] ^= 1 << (bit % 8);
        // The subnet prefix of the parameters is replaced by the address's own, as RFC 5535 section 7.1 says.
        if (16 * 8..24 * 8).contains(&bit) {
            continue;
        }
        let mut i2 = i2.clone();
        i2.announcement.cga_parameters = Some(parameters);
        stranger.send(&mut world, A, &Message::I2(i2));
        assert_eq!(world.hosts[A].endpoint.contexts().count(), 0, "bit {bit}");
    }
}

#[test]
fn verification_method_other_than_hba_is_answered_with_an_error() {
    let stranger = Stranger::new();
    for (method, index) in [
        (VerificationMethod::CGA, 0),
        (VerificationMethod(0), 1),
        (VerificationMethod(77), 2),
    ] {
        let mut claim = Claim::with_locator(&stranger, VerificationMethod::HBA, stranger.ulid());
        if let Some(list) = &mut claim.list {
            list.locators[index].0 = method;
        }
        for (world, octets) in [claim_in_i2(&stranger, &claim), claim_in_r2(&stranger, &claim)] {
            assert_nothing_set_up(&world, Discard::UnsupportedVerificationMethod);
            let errors = world.sent(MessageType::ERROR);
            assert_eq!((errors.len(), world.log.len()), (1, 1));
            let Message::Error(Error {
                code,
                pointer,
                packet_in_error,
            }) = errors[0].message()
            else {
                panic!("not an Error")
            };
            assert_eq!(code, ErrorCode::VERIFICATION_METHOD);
            assert_eq!(packet_in_error[usize::from(pointer)], method.0);
            assert_eq!(usize::from(pointer), 40 + method_at(&octets, index));
            assert_eq!(packet_in_error[40..], octets[..packet_in_error.len() - 40]);
            assert_eq!(errors[0].destination, stranger.ulid());
        }
    }
}

/// A plain CGA has no prefixes to vouch for other locators: HBA does not go with its parameters.
#[test]
fn hba_method_with_parameters_that_have_no_prefixes_is_answered_with_an_error() {
    let mut stranger = Stranger::new();
    let parameters = stranger.set.parameters();
    let prefix = parameters.subnet_prefix();
    let plain = CgaParameters::new([7; 16], prefix, 0, parameters.public_key(), &[]).expect("parameters");
    let ulid = plain.address(Sec::ZERO);
    stranger.ulid = ulid;
    let mut list = stranger.list();
    list.locators = Vec::from([(VerificationMethod::HBA, ulid)]);
    let claim = Claim {
        list: Some(list),
        parameters: Some(plain.to_vec()),
    };
    for (world, octets) in [claim_in_i2(&stranger, &claim), claim_in_r2(&stranger, &claim)] {
        assert_nothing_set_up(&world, Discard::UnsupportedVerificationMethod);
        let Message::Error(Error { code, pointer, .. }) = world.last(MessageType::ERROR).message() else {
            panic!("not an Error")
        };
        assert_eq!(
            (code, usize::from(pointer)),
            (ErrorCode::VERIFICATION_METHOD, 40 + method_at(&octets, 0))
        );
    }
    // Without a list there is nothing to vouch for but itself.
    let claim = Claim {
        list: None,
        parameters: Some(plain.to_vec()),
    };
    let (world, _) = claim_in_i2(&stranger, &claim);
    assert_eq!(world.hosts[A].context().peer_locators, [ulid]);
}

/// Where the method is, counted from the Locator List option's own start.
fn method_at(octets: &[u8], index: usize) -> usize {
    let generation = match View::parse(octets).expect("well-formed") {
        View::I2(i2) => i2.options().locators.expect("a list").generation(),
        View::R2(r2) => r2.options().locators.expect("a list").generation(),
        other => panic!("{other:?} has no list"),
    };
    let found = octets
        .windows(4)
        .position(|window| window == generation.to_be_bytes())
        .expect("it is there");
    found + 4 + 1 + index
}

#[test]
fn ulid_missing_from_its_own_list_is_a_peer_all_the_same() {
    let stranger = Stranger::new();
    let mut claim = Claim::honest(&stranger);
    if let Some(list) = &mut claim.list {
        list.locators.remove(0);
    }
    let (world, _) = claim_in_i2(&stranger, &claim);
    assert_eq!(
        world.hosts[A].context().peer_locators,
        stranger.identity.locators()[1..]
    );
    assert_eq!(world.hosts[A].context().locators.peer, stranger.ulid());
}

#[test]
fn locator_that_is_listed_twice_counts_once() {
    let stranger = Stranger::new();
    let claim = Claim::with_locator(&stranger, VerificationMethod::HBA, stranger.ulid());
    let (world, _) = claim_in_i2(&stranger, &claim);
    assert_eq!(world.hosts[A].context().peer_locators, stranger.identity.locators());
}
