//! Without the feature `rsa` nothing here can verify a signature: what is signed is refused, what is hashed is not.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::stranger::Stranger;
use super::world::{A, World};
use crate::wire::{Discard, ErrorCode, LocatorList, Message, MessageType, VerificationMethod};
use crate::{ContextState, EndpointConfig, Identity};

/// A CGA/HBA set under two prefixes. What its key is made of nobody looks at.
fn owner() -> Stranger {
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let prefixes = [1, 2].map(|last| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xcc, 0, last]));
    let set = HbaSet::generate_with_public_key(&prefixes, &[0x30, 0], Sec::ZERO, &mut rng).expect("a set");
    let identity = Identity::from_hba_set(&set, &mut rng);
    Stranger {
        ulid: identity.locators()[0],
        identity,
        set,
        ..Stranger::new()
    }
}

/// The world after an I2 of the owner with this list, and with something in the place of a signature.
fn claimed(list: LocatorList) -> World {
    let owner = owner();
    let mut world = World::new(&EndpointConfig::default());
    let mut i2 = owner.i2(&mut world, A);
    i2.announcement.locators = Some(list);
    i2.announcement.cga_signature = Some(Vec::from([1; 128]));
    world.log.clear();
    owner.send(&mut world, A, &Message::I2(i2));
    world
}

#[test]
fn set_with_a_key_is_verified_by_its_hashes() {
    let world = claimed(owner().list());
    assert_eq!(world.hosts[A].discards(), []);
    assert_eq!(world.hosts[A].context().peer_locators, owner().identity.locators());
}

#[test]
fn list_with_a_signed_locator_is_refused_and_counted_as_one_that_cannot_be_verified() {
    let mut list = owner().list();
    let later = Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 1, 0, 0, 0, 0xc1);
    list.locators.push((VerificationMethod::CGA, later));
    let world = claimed(list);
    assert_eq!(world.hosts[A].discards(), [(Discard::UnsupportedVerificationMethod, 1)]);
    let contexts = world.hosts[A].endpoint.contexts();
    assert_eq!(contexts.filter(|c| c.state == ContextState::Established).count(), 0);
    let Message::Error(error) = world.last(MessageType::ERROR).message() else {
        panic!("not an Error")
    };
    assert_eq!(error.code, ErrorCode::VERIFICATION_METHOD);
}
