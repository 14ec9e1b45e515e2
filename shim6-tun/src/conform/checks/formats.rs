//! What messages look like (RFC 5533 section 5).

use shim6_core::LocatorPair;
use shim6_core::cga::CgaParametersRef;
use shim6_core::wire::{Announcement, Message, MessageType, OptionType, VerificationMethod};

use super::{Check, Done, Level, Stop, check};
use crate::conform::packet::{
    IPV6_HEADER, add_option, control, message_of, octets_of, options, payload, reseal, shim6,
};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{acknowledged, hold, r1_of, r1bis_of, r2_of};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-5.1-01",
        "No answer in an exchange, a recovery or an update is larger than 1280 octets with its IPv6 header.",
        no_answer_is_large
    ),
    check!(
        Must,
        "5533-5.1-02",
        "An I2 that fills 1280 octets is taken.",
        large_i2_is_taken
    ),
    check!(
        Must,
        "5533-5.1-03",
        "Hdr Ext Len of an answer counts its units of 8 octets, less one.",
        hdr_ext_len_counts
    ),
    check!(
        Must,
        "5533-5.3-01",
        "Answers have Next Header 59, and zero in the bits P and S.",
        heads_are_right
    ),
    check!(
        Must,
        "5533-5.3-02",
        "The checksum of an answer is right.",
        checksums_are_right
    ),
    check!(
        Must,
        "5533-5.3-03",
        "A message with the bit S is not taken: it is HIP's.",
        s_bit_is_not_ours
    ),
    check!(
        Must,
        "5533-5.3-04",
        "The checksum covers the message as far as Hdr Ext Len goes, and not what follows.",
        checksum_ends_with_the_message
    ),
    check!(
        Must,
        "5533-5.4-01",
        "Reserved bits of an I1 are ignored.",
        i1_reserved_is_ignored
    ),
    check!(
        Must,
        "5533-5.5-01",
        "Reserved fields of an R1 are zero.",
        r1_reserved_is_zero
    ),
    check!(
        Must,
        "5533-5.5-02",
        "An R1 has the Initiator Nonce of its I1.",
        r1_has_the_nonce
    ),
    check!(
        Must,
        "5533-5.5-03",
        "An R1 has a Responder Validator.",
        r1_has_a_validator
    ),
    check!(
        Must,
        "5533-5.6-01",
        "Reserved fields of an I2 are ignored.",
        i2_reserved_is_ignored
    ),
    check!(
        Must,
        "5533-5.7-01",
        "Reserved fields of an R2 are zero.",
        r2_reserved_is_zero
    ),
    check!(
        Must,
        "5533-5.7-02",
        "An R2 has the Initiator Nonce of its I2.",
        r2_has_the_nonce
    ),
    check!(
        Must,
        "5533-5.7-03",
        "The Locator List of an R2 comes with CGA Parameters that prove the target's ULID and each locator whose method is HBA.",
        r2_list_is_proved
    ),
    check!(
        Must,
        "5533-5.8-01",
        "Reserved fields of an R1bis are zero.",
        r1bis_reserved_is_zero
    ),
    check!(
        Must,
        "5533-5.8-02",
        "An R1bis has a Responder Validator.",
        r1bis_has_a_validator
    ),
    check!(
        Must,
        "5533-5.10-01",
        "Reserved bits of an Update Request are ignored.",
        update_reserved_is_ignored
    ),
    check!(
        Must,
        "5533-5.11-01",
        "Reserved bits of an Update Acknowledgement are zero.",
        ack_reserved_is_zero
    ),
    check!(
        Must,
        "5533-5.15-01",
        "Options of answers are padded with zeros to a multiple of 8 octets.",
        options_are_padded
    ),
    check!(
        Should,
        "5533-5.15-02",
        "Padding behind an option is not looked at.",
        padding_is_not_looked_at
    ),
    check!(
        Must,
        "5533-5.15.2-01",
        "Each locator of an R2 has a verification method that is defined.",
        methods_are_defined
    ),
    check!(
        Must,
        "5533-5.15.2-02",
        "The locators of a list start on a multiple of 8 octets of their option.",
        locators_are_aligned
    ),
    check!(
        Must,
        "5533-5.15.6-01",
        "The reserved field of the ULID Pair option is ignored.",
        ulid_pair_reserved_is_ignored
    ),
];

/// One of each answer that needs no more than an exchange: R1, R2, Update Acknowledgement, and R1bis if there is one.
async fn answers(session: &mut Session) -> Done<Vec<Vec<u8>>> {
    let on = session.ulids();
    let i1 = session.i1();
    let octets = octets_of(&Message::I1(i1.clone()));
    let (r1, one) = session
        .ask("R1", on, &octets, |arrival| {
            Some((r1_of(arrival, i1.initiator_nonce)?, arrival.packet.clone()))
        })
        .await?;
    let i2 = session.i2(&i1, &r1);
    let octets = octets_of(&Message::I2(i2.clone()));
    let (r2, two) = session
        .ask("R2", on, &octets, |arrival| {
            Some((r2_of(arrival, i2.initiator_nonce)?, arrival.packet.clone()))
        })
        .await?;
    let nonce = session.random();
    let mut request = message_of(MessageType::UPDATE_REQUEST.0, &[0; 10]);
    request[6..12].copy_from_slice(&r2.responder_context_tag.value().to_be_bytes()[2..]);
    request[12..16].copy_from_slice(&nonce.to_be_bytes());
    reseal(&mut request);
    let three = session
        .ask("Update Acknowledgement", on, &request, |arrival| {
            acknowledged(arrival, nonce).map(|_| arrival.packet.clone())
        })
        .await?;
    let tag = session.tag();
    // Whether there is one is for other checks.
    let four = session
        .ask("R1bis", on, &payload(tag, 59, &[]), |arrival| {
            r1bis_of(arrival, tag).map(|_| arrival.packet.clone())
        })
        .await
        .ok();
    Ok([Some(one), Some(two), Some(three), four]
        .into_iter()
        .flatten()
        .collect())
}

async fn no_answer_is_large(session: &mut Session) -> Done {
    for packet in answers(session).await? {
        hold(packet.len() <= 1280, || {
            format!("an answer has {} octets", packet.len())
        })?;
    }
    Ok(())
}

async fn large_i2_is_taken(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    let room = 1280 - IPV6_HEADER - octets.len() - 4;
    // From the range for experiments.
    add_option(&mut octets, 0x7ffe, false, &vec![0x55; room], 0);
    hold(octets.len() + IPV6_HEADER == 1280, || {
        format!("the tester made an I2 of {} octets", octets.len())
    })?;
    let on = session.ulids();
    session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
        .await?;
    Ok(())
}

async fn hdr_ext_len_counts(session: &mut Session) -> Done {
    for packet in answers(session).await? {
        let message = shim6(&packet).unwrap_or_default();
        let claimed = message.get(1).map_or(0, |units| 8 * (usize::from(*units) + 1));
        hold(claimed == message.len(), || {
            format!("Hdr Ext Len says {claimed} octets, and {} are there", message.len())
        })?;
    }
    Ok(())
}

async fn heads_are_right(session: &mut Session) -> Done {
    for packet in answers(session).await? {
        let message = control(&packet).unwrap_or_default();
        let [next, _, kind, specific, ..] = *message else {
            return Err(Stop::Fail("an answer is no control message".to_owned()));
        };
        hold(next == 59, || {
            format!("a message of type {kind} has Next Header {next}")
        })?;
        hold(specific & 1 == 0, || format!("a message of type {kind} has the bit S"))?;
    }
    Ok(())
}

async fn checksums_are_right(session: &mut Session) -> Done {
    // What has a wrong one is no answer: it cannot be told whose it would be. So look at all that comes for an I1.
    let i1 = session.i1();
    let on = session.ulids();
    session.send_message(on, &Message::I1(i1));
    let packet = session
        .expect("answer to an I1", super::super::ms(2000), |arrival| {
            shim6(&arrival.packet).map(<[u8]>::to_vec)
        })
        .await?;
    let sum = shim6_core::wire::checksum(&packet);
    hold(sum == 0, || "the checksum is wrong".to_owned())?;
    answers(session).await.map(drop)
}

async fn s_bit_is_not_ours(session: &mut Session) -> Done {
    let i1 = session.i1();
    let mut octets = octets_of(&Message::I1(i1.clone()));
    octets[3] |= 1;
    reseal(&mut octets);
    let on = session.ulids();
    session.send_shim6(on, &octets);
    session
        .nothing("an I1 with the bit S", |arrival| {
            r1_of(arrival, i1.initiator_nonce).is_some()
        })
        .await
}

async fn checksum_ends_with_the_message(session: &mut Session) -> Done {
    let i1 = session.i1();
    let mut octets = octets_of(&Message::I1(i1.clone()));
    octets.extend([0xab; 16]);
    let on = session.ulids();
    session
        .ask("R1", on, &octets, |arrival| r1_of(arrival, i1.initiator_nonce))
        .await?;
    Ok(())
}

async fn i1_reserved_is_ignored(session: &mut Session) -> Done {
    let i1 = session.i1();
    let mut octets = octets_of(&Message::I1(i1.clone()));
    // Reserved1, without the bit S, and the bit before the tag.
    octets[3] = 0xfe;
    octets[6] |= 0x80;
    reseal(&mut octets);
    let on = session.ulids();
    session
        .ask("R1", on, &octets, |arrival| r1_of(arrival, i1.initiator_nonce))
        .await?;
    Ok(())
}

/// Fields of an answer that have to be zero.
fn zero(packet: &[u8], kind: MessageType, fields: &[(usize, u8)]) -> Done {
    let message = control(packet).unwrap_or_default();
    for &(at, mask) in fields {
        let octet = message.get(at).copied().unwrap_or_default();
        hold(octet & mask == 0, || {
            format!("octet {at} of the {kind} is {octet:#04x}, where {mask:#04x} is reserved")
        })?;
    }
    Ok(())
}

/// Reserved1, and the bit before a tag at octet 6.
const BEFORE_TAG: [(usize, u8); 2] = [(3, 0xff), (6, 0x80)];

async fn r1_reserved_is_zero(session: &mut Session) -> Done {
    let answers = answers(session).await?;
    zero(&answers[0], MessageType::R1, &[(3, 0xff), (6, 0xff), (7, 0xff)])
}

async fn r2_reserved_is_zero(session: &mut Session) -> Done {
    let answers = answers(session).await?;
    zero(&answers[1], MessageType::R2, &BEFORE_TAG)
}

async fn ack_reserved_is_zero(session: &mut Session) -> Done {
    let answers = answers(session).await?;
    zero(&answers[2], MessageType::UPDATE_ACKNOWLEDGEMENT, &BEFORE_TAG)
}

async fn r1bis_reserved_is_zero(session: &mut Session) -> Done {
    let tag = session.tag();
    let on = session.ulids();
    let packet = session
        .ask("R1bis", on, &payload(tag, 59, &[]), |arrival| {
            r1bis_of(arrival, tag).map(|_| arrival.packet.clone())
        })
        .await?;
    zero(&packet, MessageType::R1BIS, &BEFORE_TAG)
}

/// The first message of this type that a message leads to.
async fn first(session: &mut Session, octets: &[u8], kind: MessageType) -> Done<Vec<u8>> {
    let on = session.ulids();
    let of_kind = |arrival: &Arrival| {
        let message = control(&arrival.packet)?;
        (message.get(2) == Some(&kind.0)).then(|| message.to_vec())
    };
    session.ask(kind.name().unwrap_or("message"), on, octets, of_kind).await
}

async fn r1_has_the_nonce(session: &mut Session) -> Done {
    let i1 = session.i1();
    let r1 = first(session, &octets_of(&Message::I1(i1.clone())), MessageType::R1).await?;
    let nonce = r1.get(8..12).map(<[u8]>::to_vec);
    hold(nonce.as_deref() == Some(&i1.initiator_nonce.to_be_bytes()), || {
        format!(
            "the I1 has the nonce {:#010x}, the R1 has {nonce:02x?}",
            i1.initiator_nonce
        )
    })
}

async fn r1_has_a_validator(session: &mut Session) -> Done {
    let i1 = session.i1();
    let r1 = first(session, &octets_of(&Message::I1(i1)), MessageType::R1).await?;
    has_validator(&r1)
}

async fn r1bis_has_a_validator(session: &mut Session) -> Done {
    let tag = session.tag();
    let r1bis = first(session, &payload(tag, 59, &[]), MessageType::R1BIS).await?;
    has_validator(&r1bis)
}

fn has_validator(message: &[u8]) -> Done {
    let found = options(message, 16).ok_or_else(|| Stop::Fail("its options cannot be read".to_owned()))?;
    let mut validators = found
        .iter()
        .filter(|option| option.kind == OptionType::RESPONDER_VALIDATOR.0);
    hold(
        validators.next().is_some_and(|option| !option.contents.is_empty()),
        || "it has no Responder Validator".to_owned(),
    )
}

async fn i2_reserved_is_ignored(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    octets[3] = 0xfe;
    octets[6] |= 0x80;
    octets[20..24].fill(0xff);
    reseal(&mut octets);
    let on = session.ulids();
    let r2 = session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
        .await?;
    let context = crate::conform::steps::Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on,
        told: r2.announcement,
    };
    session.is_known(&context).await
}

async fn r2_has_the_nonce(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let r2 = first(session, &octets_of(&Message::I2(i2.clone())), MessageType::R2).await?;
    let nonce = r2.get(12..16).map(<[u8]>::to_vec);
    hold(nonce.as_deref() == Some(&i2.initiator_nonce.to_be_bytes()), || {
        format!(
            "the I2 has the nonce {:#010x}, the R2 has {nonce:02x?}",
            i2.initiator_nonce
        )
    })
}

async fn r2_list_is_proved(session: &mut Session) -> Done {
    let context = session.context().await?;
    proved(session.target, &context.told)
}

/// The locators of an announcement belong to this ULID, as far as hashes can tell.
pub(super) fn proved(ulid: std::net::Ipv6Addr, told: &Announcement) -> Done {
    let Some(list) = &told.locators else {
        return Err(Stop::NotApplicable("the target tells no locators".to_owned()));
    };
    let fail = |why: String| Err(Stop::Fail(why));
    let Some(octets) = &told.cga_parameters else {
        return fail("the list comes without CGA Parameters".to_owned());
    };
    let Ok(parameters) = CgaParametersRef::parse(octets) else {
        return fail("the CGA Parameters cannot be read".to_owned());
    };
    let mut members = parameters.hba_verifier().ok();
    let of_ulid = match &mut members {
        Some(members) => members.verify(&ulid).is_ok(),
        None => parameters.verify_cga(&ulid).is_ok(),
    };
    if !of_ulid {
        return fail(format!("the CGA Parameters are not those of {ulid}"));
    }
    for &(method, locator) in &list.locators {
        let shown = method != VerificationMethod::HBA
            || members.as_mut().is_some_and(|members| members.verify(&locator).is_ok());
        if !shown {
            return fail(format!("{locator} is no HBA of these parameters"));
        }
    }
    let signed = list
        .locators
        .iter()
        .any(|(method, _)| *method == VerificationMethod::CGA);
    hold(!signed || told.cga_signature.is_some(), || {
        "locators are to be proved by CGA, and there is no CGA Signature".to_owned()
    })
}

async fn update_reserved_is_ignored(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let mut octets = octets_of(&Message::UpdateRequest(request.clone()));
    octets[3] = 0xfe;
    octets[6] |= 0x80;
    reseal(&mut octets);
    let on = session.ulids();
    session
        .ask("Update Acknowledgement", on, &octets, |arrival| {
            acknowledged(arrival, request.request_nonce)
        })
        .await?;
    Ok(())
}

async fn options_are_padded(session: &mut Session) -> Done {
    for packet in answers(session).await? {
        let message = control(&packet).unwrap_or_default();
        let unreadable = || Stop::Fail("the options of an answer cannot be read".to_owned());
        for option in options(message, 16).ok_or_else(unreadable)? {
            hold(option.padding.iter().all(|octet| *octet == 0), || {
                format!(
                    "the option of type {} is padded with {:02x?}",
                    option.kind, option.padding
                )
            })?;
        }
    }
    Ok(())
}

async fn padding_is_not_looked_at(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    let ends: Vec<_> = options(&octets, 24)
        .unwrap_or_default()
        .iter()
        .map(|option| (option.at + 4 + option.contents.len(), option.padding.len()))
        .collect();
    hold(ends.iter().any(|(_, padding)| *padding > 0), || {
        "the tester's options need no padding".to_owned()
    })?;
    for (end, padding) in ends {
        octets[end..end + padding].fill(0xff);
    }
    reseal(&mut octets);
    let on = session.ulids();
    session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
        .await?;
    Ok(())
}

async fn methods_are_defined(session: &mut Session) -> Done {
    let context = session.context().await?;
    let Some(list) = &context.told.locators else {
        return Err(Stop::NotApplicable("the target tells no locators".to_owned()));
    };
    for (method, locator) in &list.locators {
        hold(method.name().is_some(), || format!("{locator} has the method {method}"))?;
    }
    Ok(())
}

async fn locators_are_aligned(session: &mut Session) -> Done {
    let answers = answers(session).await?;
    let message = control(&answers[1]).unwrap_or_default();
    let found = options(message, 16).unwrap_or_default();
    let list = found.iter().find(|option| option.kind == OptionType::LOCATOR_LIST.0);
    let Some(list) = list else {
        return Err(Stop::NotApplicable("the target tells no locators".to_owned()));
    };
    let count = usize::from(list.contents.get(4).copied().unwrap_or_default());
    let start = (4 + 5 + count).next_multiple_of(8);
    hold(4 + list.contents.len() == start + 16 * count, || {
        format!("a list of {count} locators has Length {}", list.contents.len())
    })
}

async fn ulid_pair_reserved_is_ignored(session: &mut Session) -> Done {
    let LocatorPair { local, peer } = session.ulids();
    let mut octets = octets_of(&Message::I1(session.i1()));
    let nonce = u32::from_be_bytes([octets[12], octets[13], octets[14], octets[15]]);
    let contents = [&[0xff; 4][..], &local.octets(), &peer.octets()].concat();
    add_option(&mut octets, OptionType::ULID_PAIR.0, false, &contents, 0);
    let on = session.ulids();
    session.ask("R1", on, &octets, |arrival| r1_of(arrival, nonce)).await?;
    Ok(())
}
