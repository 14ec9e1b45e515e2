//! A peer that the test plays itself: it says whatever the test wants, well-behaved by default.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_cga::HbaSet;

use super::world::{World, emit, hba_set, identity};
use crate::wire::{Announcement, ContextTag, I1, I2, LocatorList, Message, MessageType, R1, R2};
use crate::{ContextId, Identity, LocatorPair};

pub(super) struct Stranger {
    pub(super) ulid: Ipv6Addr,
    pub(super) identity: Identity,
    pub(super) set: HbaSet,
    pub(super) tag: ContextTag,
    pub(super) nonce: u32,
}

impl Stranger {
    pub(super) fn new() -> Self {
        Self::number(50)
    }

    pub(super) fn number(number: u16) -> Self {
        let (identity, set) = (identity(number), hba_set(number));
        Self {
            ulid: identity.locators()[0],
            identity,
            set,
            tag: ContextTag::from_random_bits(0x1234_5678_9abc),
            nonce: 0xdead_beef,
        }
    }

    pub(super) fn ulid(&self) -> Ipv6Addr {
        self.ulid
    }

    pub(super) fn parameters(&self) -> Vec<u8> {
        self.set.parameters().to_vec()
    }

    pub(super) fn list(&self) -> LocatorList {
        self.identity.locator_list()
    }

    pub(super) fn i1(&self) -> I1 {
        I1 {
            initiator_context_tag: self.tag,
            initiator_nonce: self.nonce,
            ulid_pair: None,
            forked_instance: None,
        }
    }

    pub(super) fn send(&self, world: &mut World, to: usize, message: &Message) {
        self.send_octets(world, to, &emit(message));
    }

    pub(super) fn send_octets(&self, world: &mut World, to: usize, octets: &[u8]) {
        world.inject(self.ulid(), world.locator(to, 0), octets);
    }

    /// Asks the host for an R1 and gives the I2 that should follow.
    pub(super) fn i2(&self, world: &mut World, to: usize) -> I2 {
        self.i2_for(world, to, self.i1())
    }

    pub(super) fn i2_for(&self, world: &mut World, to: usize, i1: I1) -> I2 {
        self.send(world, to, &Message::I1(i1.clone()));
        let Message::R1(r1) = world.last(MessageType::R1).message() else {
            panic!("not an R1")
        };
        I2 {
            initiator_context_tag: i1.initiator_context_tag,
            initiator_nonce: i1.initiator_nonce,
            responder_nonce: r1.responder_nonce,
            validator: r1.validator,
            ulid_pair: i1.ulid_pair,
            forked_instance: i1.forked_instance,
            announcement: Announcement {
                locators: Some(self.list()),
                cga_parameters: Some(self.parameters()),
                ..Announcement::default()
            },
        }
    }

    /// Sets up a context with a host as the initiator.
    pub(super) fn establish(&self, world: &mut World, to: usize) -> R2 {
        self.establish_with(world, to, self.list())
    }

    /// The same, telling the host this list.
    pub(super) fn establish_with(&self, world: &mut World, to: usize, list: LocatorList) -> R2 {
        let mut i2 = self.i2(world, to);
        i2.announcement.locators = Some(list);
        self.send(world, to, &Message::I2(i2));
        let Message::R2(r2) = world.last(MessageType::R2).message() else {
            panic!("not an R2")
        };
        r2
    }

    /// Has a host start an exchange, answers its I1, and gives the R2 that should follow its I2.
    pub(super) fn r2(&self, world: &mut World, from: usize) -> R2 {
        let i1 = self.i1_of(world, from);
        let r1 = R1 {
            initiator_nonce: i1.initiator_nonce,
            responder_nonce: 7,
            validator: Vec::from([1; 20]),
        };
        self.send(world, from, &Message::R1(r1));
        let Message::I2(i2) = world.last(MessageType::I2).message() else {
            panic!("not an I2")
        };
        R2 {
            responder_context_tag: self.tag,
            initiator_nonce: i2.initiator_nonce,
            announcement: Announcement {
                locators: Some(self.list()),
                cga_parameters: Some(self.parameters()),
                ..Announcement::default()
            },
        }
    }

    /// Has a host start an exchange and gives its I1.
    pub(super) fn i1_of(&self, world: &mut World, from: usize) -> I1 {
        self.start(world, from);
        let Message::I1(i1) = world.last(MessageType::I1).message() else {
            panic!("not an I1")
        };
        i1
    }

    fn start(&self, world: &mut World, from: usize) -> ContextId {
        let ulids = LocatorPair {
            local: world.locator(from, 0),
            peer: self.ulid(),
        };
        let id = world.hosts[from]
            .endpoint
            .establish(world.now, ulids)
            .expect("an exchange can start");
        world.drain(from);
        id
    }
}
