//! What every receiver looks at first, and the Errors that it sends (RFC 5533 sections 5.14, 5.15 and 12.3).

use shim6_core::wire::{Error, ErrorCode, Message, MessageType};

use super::{Check, Done, Level, check};
use crate::conform::packet::{IPV6_HEADER, add_option, ipv6, message_of, octets_of, reseal};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{acknowledged, error_of, hold, is_answer, r1_of, r2_of};
use shim6_core::wire::{Announcement, PROTOCOL};

/// From the range for experiments (RFC 5533 section 17): nobody knows it.
const UNKNOWN_OPTION: u16 = 0x7ff1;
/// A type of the range whose messages lead to no R1bis, and one of the other.
const UNKNOWN_TYPES: [u8; 2] = [33, 99];

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-12.3-01",
        "A message with a wrong checksum is silently dropped.",
        wrong_checksum
    ),
    check!(
        Must,
        "5533-12.3-02",
        "A message that claims to end past its packet is silently dropped.",
        past_the_end
    ),
    check!(
        Must,
        "5533-12.3-03",
        "A message of an unknown type below 64 is answered with Error 0.",
        unknown_type_below
    ),
    check!(
        Must,
        "5533-12.3-04",
        "A message of an unknown type above 63 is answered with Error 0.",
        unknown_type_above
    ),
    check!(
        Must,
        "5533-12.3-05",
        "Error 0 points at the type of the message.",
        error_0_points
    ),
    check!(
        Must,
        "5533-12.3-06",
        "An unknown type with a wrong checksum is silently dropped.",
        unknown_type_wrong_checksum
    ),
    check!(
        Must,
        "5533-12.3-07",
        "A Shim6 header cut short is silently dropped.",
        cut_short
    ),
    check!(
        Must,
        "5533-12.3-08",
        "An I1 with an unknown option whose C is 1 is answered with Error 1.",
        critical_in_i1
    ),
    check!(
        Must,
        "5533-12.3-09",
        "An I2 with an unknown option whose C is 1 is answered with Error 1.",
        critical_in_i2
    ),
    check!(
        Must,
        "5533-12.3-10",
        "An Update Request with an unknown option whose C is 1 is answered with Error 1.",
        critical_in_update
    ),
    check!(
        Must,
        "5533-12.3-11",
        "Error 1 points at the first octet of the option's type.",
        error_1_points
    ),
    check!(
        Must,
        "5533-12.3-12",
        "A Keepalive with an unknown option whose C is 1 is answered with Error 1.",
        critical_in_keepalive
    ),
    check!(
        Must,
        "5533-5.14-01",
        "An Error has Hdr Ext Len of at least 1 and reserved bits of zero, and goes to who sent the packet in error.",
        error_is_formed
    ),
    check!(
        Must,
        "5533-5.14-02",
        "An Error quotes as much of the packet in error as fits 1280 octets.",
        error_quotes
    ),
    check!(Must, "5533-5.14-03", "An Error is not answered.", error_gets_no_answer),
    check!(
        Must,
        "5533-5.14-04",
        "An Error about a message that was not sent changes nothing.",
        error_changes_nothing
    ),
    check!(
        Must,
        "5533-5.15-03",
        "An unknown option in an I1 is ignored if its C is 0.",
        ignored_in_i1
    ),
    check!(
        Must,
        "5533-5.15-04",
        "An unknown option in an I2 is ignored if its C is 0.",
        ignored_in_i2
    ),
    check!(
        Must,
        "5533-5.15-05",
        "An unknown option in an Update Request is ignored if its C is 0.",
        ignored_in_update
    ),
    check!(
        Must,
        "5533-5.15-06",
        "An option that is defined for other messages is ignored if its C is 0.",
        misplaced_is_ignored
    ),
    check!(
        Must,
        "5533-5.15-07",
        "Nothing of a message with an unknown option whose C is 1 is processed.",
        critical_is_not_processed
    ),
    check!(
        Must,
        "5533-5.15-08",
        "An option that reaches past its message leads to no context.",
        option_past_the_end
    ),
];

fn i1_octets(session: &mut Session) -> (u32, Vec<u8>) {
    let i1 = session.i1();
    (i1.initiator_nonce, octets_of(&Message::I1(i1)))
}

/// These octets lead to nothing.
async fn dropped(session: &mut Session, what: &str, octets: &[u8]) -> Done {
    let on = session.ulids();
    session.send_shim6(on, octets);
    session.nothing(what, is_answer).await
}

async fn wrong_checksum(session: &mut Session) -> Done {
    let (_, mut octets) = i1_octets(session);
    octets[5] ^= 0x10;
    dropped(session, "an I1 with a wrong checksum", &octets).await
}

async fn past_the_end(session: &mut Session) -> Done {
    let (_, mut octets) = i1_octets(session);
    octets[1] = 9;
    reseal(&mut octets);
    dropped(session, "an I1 that claims 80 octets of 16", &octets).await
}

async fn unknown_type_wrong_checksum(session: &mut Session) -> Done {
    let mut octets = message_of(UNKNOWN_TYPES[0], &[0; 10]);
    octets[4] ^= 0x20;
    dropped(session, "an unknown type with a wrong checksum", &octets).await
}

async fn cut_short(session: &mut Session) -> Done {
    let (_, octets) = i1_octets(session);
    for length in [0, 1, 7] {
        dropped(session, "a part of a header", &octets[..length]).await?;
    }
    Ok(())
}

async fn unknown_type(session: &mut Session, kind: u8) -> Done {
    let octets = message_of(kind, &[7; 10]);
    let on = session.ulids();
    session
        .error(on, &octets, ErrorCode::UNKNOWN_MESSAGE_TYPE)
        .await
        .map(drop)
}

async fn unknown_type_below(session: &mut Session) -> Done {
    unknown_type(session, UNKNOWN_TYPES[0]).await
}

async fn unknown_type_above(session: &mut Session) -> Done {
    unknown_type(session, UNKNOWN_TYPES[1]).await
}

async fn error_0_points(session: &mut Session) -> Done {
    let octets = message_of(UNKNOWN_TYPES[0], &[7; 10]);
    let on = session.ulids();
    session
        .error_at(on, &octets, ErrorCode::UNKNOWN_MESSAGE_TYPE, 2)
        .await
        .map(drop)
}

async fn critical_in_i1(session: &mut Session) -> Done {
    let (_, mut octets) = i1_octets(session);
    add_option(&mut octets, UNKNOWN_OPTION, true, &[1; 4], 0);
    let on = session.ulids();
    session.error(on, &octets, ErrorCode::CRITICAL_OPTION).await.map(drop)
}

async fn error_1_points(session: &mut Session) -> Done {
    let (_, mut octets) = i1_octets(session);
    add_option(&mut octets, UNKNOWN_OPTION, false, &[1; 12], 0);
    let at = octets.len();
    add_option(&mut octets, UNKNOWN_OPTION, true, &[1; 4], 0);
    let on = session.ulids();
    session
        .error_at(on, &octets, ErrorCode::CRITICAL_OPTION, at)
        .await
        .map(drop)
}

async fn critical_in_i2(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2));
    add_option(&mut octets, UNKNOWN_OPTION, true, &[], 0);
    let on = session.ulids();
    session.error(on, &octets, ErrorCode::CRITICAL_OPTION).await.map(drop)
}

async fn critical_in_update(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let mut octets = octets_of(&Message::UpdateRequest(request));
    add_option(&mut octets, UNKNOWN_OPTION, true, &[9; 20], 0);
    session
        .error(context.on, &octets, ErrorCode::CRITICAL_OPTION)
        .await
        .map(drop)
}

async fn critical_in_keepalive(session: &mut Session) -> Done {
    let context = session.context().await?;
    let mut octets = octets_of(&Message::Keepalive(shim6_core::wire::Keepalive {
        receiver_context_tag: context.theirs,
    }));
    add_option(&mut octets, UNKNOWN_OPTION, true, &[9; 4], 0);
    session
        .error(context.on, &octets, ErrorCode::CRITICAL_OPTION)
        .await
        .map(drop)
}

async fn error_is_formed(session: &mut Session) -> Done {
    let octets = message_of(UNKNOWN_TYPES[0], &[7; 10]);
    let on = session.ulids();
    let error = |arrival: &Arrival| {
        error_of(arrival)?;
        crate::conform::packet::control(&arrival.packet).map(|message| (message.to_vec(), arrival.pair()))
    };
    let (message, from) = session.ask_slowly("Error message", on, &octets, error).await?;
    hold(from == Some(on), || {
        format!("the packet in error came on {on}, the Error on {from:?}")
    })?;
    hold(message[1] >= 1, || "its Hdr Ext Len is 0".to_owned())?;
    hold(message[3] & 1 == 0, || "its bit S is set".to_owned())
}

async fn error_quotes(session: &mut Session) -> Done {
    let body: Vec<u8> = (0..1234_u32).map(|number| number as u8).collect();
    let octets = message_of(UNKNOWN_TYPES[0], &body);
    let on = session.ulids();
    let told = session.error(on, &octets, ErrorCode::UNKNOWN_MESSAGE_TYPE).await?;
    hold(told.on == on, || format!("the Error came on {}", told.on))?;
    hold(told.octets <= 1280, || format!("the Error has {} octets", told.octets))?;
    // All but 40 of the IPv6 header and 8 of the message, less what a multiple of 8 takes away.
    hold(told.octets > 1280 - 8, || {
        format!("the Error has {} octets of 1280", told.octets)
    })
}

async fn error_gets_no_answer(session: &mut Session) -> Done {
    let on = session.ulids();
    let (_, quoted) = i1_octets(session);
    for code in [0, 1, 2, 3, 4, 5, 120] {
        let error = Message::Error(Error {
            code: ErrorCode(code),
            pointer: 42,
            packet_in_error: ipv6(on.seen_by_peer(), PROTOCOL, &quoted),
        });
        session.send_message(on, &error);
    }
    // Not one that is too short, either.
    session.send_shim6(on, &message_of(MessageType::ERROR.0, &[0, 42]));
    session.nothing("Error messages", is_answer).await
}

async fn error_changes_nothing(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let quoted = octets_of(&Message::UpdateRequest(request));
    let error = Message::Error(Error {
        code: ErrorCode::VERIFICATION_METHOD,
        pointer: u16::try_from(IPV6_HEADER).unwrap_or_default(),
        packet_in_error: ipv6(context.on.seen_by_peer(), PROTOCOL, &quoted),
    });
    session.send_message(context.on, &error);
    session
        .nothing("an Error about a message that was not sent", is_answer)
        .await?;
    session.is_known(&context).await
}

async fn ignored_in_i1(session: &mut Session) -> Done {
    let (nonce, mut octets) = i1_octets(session);
    add_option(&mut octets, UNKNOWN_OPTION, false, &[1, 2, 3], 0);
    let on = session.ulids();
    session
        .ask("R1", on, &octets, |arrival| r1_of(arrival, nonce))
        .await
        .map(drop)
}

async fn ignored_in_i2(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    add_option(&mut octets, UNKNOWN_OPTION, false, &[1, 2, 3], 0);
    let on = session.ulids();
    session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
        .await
        .map(drop)
}

async fn ignored_in_update(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let mut octets = octets_of(&Message::UpdateRequest(request.clone()));
    add_option(&mut octets, UNKNOWN_OPTION, false, &[1, 2, 3], 0);
    session
        .ask("Update Acknowledgement", context.on, &octets, |arrival| {
            acknowledged(arrival, request.request_nonce)
        })
        .await
        .map(drop)
}

async fn misplaced_is_ignored(session: &mut Session) -> Done {
    let (nonce, mut octets) = i1_octets(session);
    // A Keepalive Timeout, which an I1 does not have.
    add_option(&mut octets, 10, false, &[0, 0, 0, 20], 0);
    let on = session.ulids();
    session
        .ask("R1", on, &octets, |arrival| r1_of(arrival, nonce))
        .await
        .map(drop)
}

async fn critical_is_not_processed(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    add_option(&mut octets, UNKNOWN_OPTION, true, &[1, 2, 3, 4], 0);
    let on = session.ulids();
    session.send_shim6(on, &octets);
    session
        .nothing("an I2 with a critical option that nobody knows", |arrival| {
            r2_of(arrival, i2.initiator_nonce).is_some()
        })
        .await
}

async fn option_past_the_end(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2.clone()));
    let at = octets.len();
    add_option(&mut octets, UNKNOWN_OPTION, false, &[1, 2, 3, 4], 0);
    octets[at + 2..at + 4].copy_from_slice(&500_u16.to_be_bytes());
    reseal(&mut octets);
    let on = session.ulids();
    session.send_shim6(on, &octets);
    session
        .nothing("an I2 whose last option reaches past it", |arrival| {
            r2_of(arrival, i2.initiator_nonce).is_some()
        })
        .await
}
