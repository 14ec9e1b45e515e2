//! Requirements of RFC 5533 that no scenario beside these shows on its way: docs/conformance.md lists all of them.

mod messages;
mod states;

use core::net::Ipv6Addr;
use core::time::Duration;

use super::stranger::Stranger;
use super::world::{A, World, emit};
use crate::EndpointConfig;
use crate::wire::{
    Announcement, ContextTag, I2, I2bis, Keepalive, LocatorList, Message, MessageType, R1bis, UlidPair,
    VerificationMethod,
};

/// Section 14, and the 5 minutes of section 9.
#[test]
fn defaults_are_the_constants_of_the_rfc() {
    let config = EndpointConfig::default();
    let (exchange, update, s) = (config.establishment, config.update, Duration::from_secs);
    assert_eq!((exchange.i1_retries_max, exchange.i1_timeout), (4, s(4)));
    assert_eq!((exchange.i2_retries_max, exchange.i2_timeout), (2, s(4)));
    assert_eq!((exchange.i2bis_retries_max, exchange.i2bis_timeout), (2, s(4)));
    assert_eq!((exchange.no_r1_holddown, exchange.icmp_holddown), (s(60), s(600)));
    assert_eq!(exchange.validator_lifetime, s(30));
    assert_eq!((update.timeout, update.max_timeout), (s(4), s(120)));
    assert!(config.quiescence >= s(300));
    assert!(!config.deliver_all_icmp);
}

/// The two messages that prove their sender by a validator.
#[derive(Debug, Clone, Copy)]
enum Kind {
    I2,
    I2bis,
}

/// What a peer sends to A that has a validator for these addresses. A has given it in another world of the same seed, since
/// in the state in which A is here it would answer otherwise.
fn proof(kind: Kind, stranger: &Stranger, from: Ipv6Addr) -> Message {
    let mut twin = World::new(&EndpointConfig::default());
    let a = twin.locator(A, 0);
    let ulid_pair = Some(UlidPair {
        sender: stranger.ulid(),
        receiver: a,
    });
    let announcement = Announcement {
        locators: Some(stranger.list()),
        cga_parameters: Some(stranger.parameters()),
        ..Announcement::default()
    };
    match kind {
        Kind::I2 => {
            let mut i1 = stranger.i1();
            i1.ulid_pair = ulid_pair;
            twin.inject(from, a, &emit(&Message::I1(i1)));
            let Message::R1(r1) = twin.last(MessageType::R1).message() else {
                panic!("not an R1")
            };
            Message::I2(I2 {
                initiator_context_tag: stranger.tag,
                initiator_nonce: stranger.nonce,
                responder_nonce: r1.responder_nonce,
                validator: r1.validator,
                ulid_pair,
                forked_instance: None,
                announcement,
            })
        }
        Kind::I2bis => {
            let lost = ContextTag::from_random_bits(42);
            twin.inject(from, a, &emit(&keepalive(lost)));
            let Message::R1bis(r1bis) = twin.last(MessageType::R1BIS).message() else {
                panic!("not an R1bis")
            };
            Message::I2bis(I2bis {
                initiator_context_tag: stranger.tag,
                initiator_nonce: stranger.nonce,
                responder_nonce: r1bis.responder_nonce,
                packet_context_tag: lost,
                validator: r1bis.validator,
                ulid_pair,
                forked_instance: None,
                announcement,
            })
        }
    }
}

fn keepalive(tag: ContextTag) -> Message {
    Message::Keepalive(Keepalive {
        receiver_context_tag: tag,
    })
}

/// Says to the receiver that its peer has lost the context to which it gave this tag.
fn r1bis(tag: ContextTag) -> R1bis {
    R1bis {
        packet_context_tag: tag,
        responder_nonce: 7,
        validator: alloc::vec![9; 13],
    }
}

fn list_of(stranger: &Stranger, indices: &[usize]) -> LocatorList {
    let locators = indices.iter().map(|&index| stranger.identity.locators()[index]);
    LocatorList {
        generation: 1,
        locators: locators.map(|locator| (VerificationMethod::HBA, locator)).collect(),
    }
}
