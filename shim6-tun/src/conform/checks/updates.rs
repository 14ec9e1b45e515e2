//! New locators and preferences (RFC 5533 section 10).

use shim6_core::wire::{
    Announcement, ErrorCode, LocatorPreferences, Message, MessageType, Preference, PreferenceFlags,
    UpdateAcknowledgement, VerificationMethod, View,
};

use super::{Check, Done, Level, Stop, check};
use crate::conform::packet::{message_of, octets_of};
use crate::conform::session::Session;
use crate::conform::steps::{Context, acknowledged, hold, is_answer, list};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-10.4-01",
        "An Update Request is acknowledged with its nonce and CT(peer).",
        is_acknowledged
    ),
    check!(
        Must,
        "5533-10.4-02",
        "An Update Request that is sent again is acknowledged again.",
        is_acknowledged_again
    ),
    check!(
        Must,
        "5533-10.4-03",
        "An Update Request with Hdr Ext Len 0 is silently discarded.",
        short_is_discarded
    ),
    check!(
        Must,
        "5533-10.4-04",
        "An Update Request from an address that is not in Ls(peer) gets an R1bis.",
        stranger_gets_r1bis
    ),
    check!(
        Must,
        "5533-10.4-05",
        "An Update Request from an address that is not in Ls(peer) is not acknowledged.",
        stranger_is_not_acknowledged
    ),
    check!(
        Must,
        "5533-10.4-06",
        "An Update Request whose CGA Parameters are not those of the ULID is silently discarded.",
        other_parameters
    ),
    check!(
        Should,
        "5533-10.4-07",
        "A list that cannot be verified leads to Error 2.",
        unproven_is_told
    ),
    check!(
        Must,
        "5533-10.4-08",
        "A list that cannot be verified is not acknowledged.",
        unproven_is_not_acknowledged
    ),
    check!(
        Must,
        "5533-10.4-09",
        "A list that cannot be verified leaves Ls(peer) as it is.",
        unproven_changes_nothing
    ),
    check!(
        Must,
        "5533-10.4-10",
        "Preferences of another generation lead to Error 3, which points at their generation.",
        generation_is_told
    ),
    check!(
        Must,
        "5533-10.4-11",
        "Preferences of another generation are not acknowledged.",
        generation_is_not_acknowledged
    ),
    check!(
        Must,
        "5533-10.4-12",
        "Preferences for another number of locators lead to Error 4, which points at their Length.",
        count_is_told
    ),
    check!(
        Must,
        "5533-10.4-13",
        "Preferences for another number of locators are not acknowledged.",
        count_is_not_acknowledged
    ),
    check!(
        Must,
        "5533-10.4-14",
        "Preferences of the right generation are acknowledged.",
        preferences_are_taken
    ),
    check!(
        Must,
        "5533-10.4-15",
        "A list of another generation is the one that preferences are about from then on.",
        generation_is_recorded
    ),
    check!(
        Must,
        "5533-10.4-16",
        "A locator that is no longer in the list is no source any more: it gets an R1bis.",
        list_replaces
    ),
    check!(
        Must,
        "5533-10.4-17",
        "An Update Request from the second locator is acknowledged.",
        second_locator_is_a_source
    ),
    check!(
        Must,
        "5533-10.4-18",
        "An Update Request with a verification method that is not defined leads to Error 2, which points at it.",
        method_is_told
    ),
    check!(
        Must,
        "5533-10.4-19",
        "Updates of one context leave others as they are.",
        other_context_stays
    ),
    check!(
        Must,
        "5533-10.5-01",
        "An Update Acknowledgement with another nonce is silently ignored.",
        ack_is_ignored
    ),
    check!(
        Must,
        "5533-10.5-02",
        "An Update Acknowledgement from an address that is not in Ls(peer) gets an R1bis.",
        ack_from_a_stranger
    ),
    check!(
        Must,
        "5533-10.5-03",
        "An Update Acknowledgement with Hdr Ext Len 0 is silently discarded.",
        short_ack_is_discarded
    ),
    check!(
        Must,
        "5533-5.15.3-01",
        "Elements of 1, 2, 3 and 5 octets are taken.",
        element_lengths
    ),
    check!(
        Must,
        "5533-5.15.3-02",
        "Preferences with Element Len 0 are not acknowledged.",
        no_element_length
    ),
];

async fn is_acknowledged(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.is_known_with_tag(&context).await
}

async fn is_acknowledged_again(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, session.host.announcement());
    let octets = octets_of(&Message::UpdateRequest(request.clone()));
    for _ in 0..2 {
        session
            .ask("Update Acknowledgement", context.on, &octets, |arrival| {
                acknowledged(arrival, request.request_nonce)
            })
            .await?;
    }
    Ok(())
}

async fn short_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.send_shim6(context.on, &message_of(MessageType::UPDATE_REQUEST.0, &[0, 1]));
    session.nothing("an Update Request of 8 octets", is_answer).await
}

async fn stranger_gets_r1bis(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let on = session.strange();
    let octets = octets_of(&Message::UpdateRequest(request));
    session.r1bis(on, &octets, context.theirs).await.map(drop)
}

async fn stranger_is_not_acknowledged(session: &mut Session) -> Done {
    let context = session.context().await?;
    let request = session.request(&context, Announcement::default());
    let on = session.strange();
    session.send_message(on, &Message::UpdateRequest(request.clone()));
    session
        .nothing("an Update Request of a stranger", |arrival| {
            acknowledged(arrival, request.request_nonce).is_some()
        })
        .await
}

/// An Update Request that is not acknowledged.
async fn refused(session: &mut Session, context: &Context, what: &str, announcement: Announcement) -> Done {
    let request = session.request(context, announcement);
    session.send_message(context.on, &Message::UpdateRequest(request.clone()));
    session
        .nothing(what, |arrival| acknowledged(arrival, request.request_nonce).is_some())
        .await
}

async fn other_parameters(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = Announcement {
        cga_parameters: Some(session.host.other_parameters()),
        ..Announcement::default()
    };
    let request = session.request(&context, announcement);
    session.send_message(context.on, &Message::UpdateRequest(request));
    session
        .nothing("an update with the parameters of another host", is_answer)
        .await?;
    session.is_known(&context).await
}

fn unproven(session: &Session) -> Announcement {
    let mut announcement = session.host.announcement();
    list(&mut announcement).generation ^= 1;
    let stranger = session.host.stranger();
    list(&mut announcement)
        .locators
        .push((VerificationMethod::HBA, stranger));
    announcement
}

async fn unproven_is_told(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = unproven(session);
    let octets = octets_of(&Message::UpdateRequest(session.request(&context, announcement)));
    session
        .error(context.on, &octets, ErrorCode::VERIFICATION_METHOD)
        .await
        .map(drop)
}

async fn unproven_is_not_acknowledged(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = unproven(session);
    refused(session, &context, "a list that proves nothing", announcement).await
}

async fn unproven_changes_nothing(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = unproven(session);
    refused(session, &context, "a list that proves nothing", announcement).await?;
    let request = session.request(&context, Announcement::default());
    let on = session.strange();
    session.send_message(on, &Message::UpdateRequest(request.clone()));
    session
        .nothing("an update from a locator that was not proved", |arrival| {
            acknowledged(arrival, request.request_nonce).is_some()
        })
        .await?;
    session.is_known(&context).await
}

fn preferences(generation: u32, count: usize) -> Announcement {
    let element = Preference {
        flags: PreferenceFlags(0),
        priority: 3,
        weight: 5,
    };
    Announcement {
        preferences: Some(LocatorPreferences::new(generation, vec![element; count])),
        ..Announcement::default()
    }
}

/// Preferences that do not go with the list, and the fault's place.
async fn wrong_preferences(session: &mut Session, generation: bool) -> Done<(Context, Vec<u8>, usize, u32)> {
    let context = session.context().await?;
    let (known, count) = (session.host.generation(), session.host.locators().len());
    let announcement = match generation {
        true => preferences(known ^ 0x100, count),
        false => preferences(known, count + 1),
    };
    let request = session.request(&context, announcement);
    let octets = octets_of(&Message::UpdateRequest(request.clone()));
    let view = View::parse(&octets).ok();
    let option = view.and_then(|view| view.options()?.preferences);
    let at = option.map_or(0, |option| match generation {
        true => option.generation_offset(),
        false => option.length_offset(),
    });
    Ok((context, octets, at, request.request_nonce))
}

async fn generation_is_told(session: &mut Session) -> Done {
    let (context, octets, at, _) = wrong_preferences(session, true).await?;
    session
        .error_at(context.on, &octets, ErrorCode::GENERATION_OUT_OF_SYNC, at)
        .await
        .map(drop)
}

async fn count_is_told(session: &mut Session) -> Done {
    let (context, octets, at, _) = wrong_preferences(session, false).await?;
    session
        .error_at(context.on, &octets, ErrorCode::PREFERENCE_COUNT, at)
        .await
        .map(drop)
}

async fn not_acknowledged(session: &mut Session, generation: bool, what: &str) -> Done {
    let (context, octets, _, nonce) = wrong_preferences(session, generation).await?;
    session.send_shim6(context.on, &octets);
    session
        .nothing(what, |arrival| acknowledged(arrival, nonce).is_some())
        .await
}

async fn generation_is_not_acknowledged(session: &mut Session) -> Done {
    not_acknowledged(session, true, "preferences of another generation").await
}

async fn count_is_not_acknowledged(session: &mut Session) -> Done {
    not_acknowledged(session, false, "preferences for too many locators").await
}

async fn preferences_are_taken(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = preferences(session.host.generation(), session.host.locators().len());
    session.update(&context, context.on, announcement).await.map(drop)
}

async fn generation_is_recorded(session: &mut Session) -> Done {
    let context = session.context().await?;
    let generation = session.host.generation() ^ 0xffff;
    let locators = session.host.locators().to_vec();
    let announcement = session.host.announcement_of(&locators, generation);
    session.update(&context, context.on, announcement).await?;
    let old = preferences(session.host.generation(), locators.len());
    refused(session, &context, "preferences of the former generation", old).await?;
    session
        .update(&context, context.on, preferences(generation, locators.len()))
        .await
        .map(drop)
}

async fn list_replaces(session: &mut Session) -> Done {
    let second = session.second()?;
    let context = session.context().await?;
    let announcement = session.host.announcement_of(&[session.host.ulid()], 99);
    session.update(&context, context.on, announcement).await?;
    let request = session.request(&context, Announcement::default());
    let octets = octets_of(&Message::UpdateRequest(request));
    session.r1bis(second, &octets, context.theirs).await.map(drop)
}

async fn second_locator_is_a_source(session: &mut Session) -> Done {
    let second = session.second()?;
    let context = session.context().await?;
    session
        .update(&context, second, Announcement::default())
        .await
        .map(drop)
}

async fn method_is_told(session: &mut Session) -> Done {
    let context = session.context().await?;
    let mut announcement = session.host.announcement();
    list(&mut announcement).locators[0].0 = VerificationMethod(77);
    let octets = octets_of(&Message::UpdateRequest(session.request(&context, announcement)));
    let view = View::parse(&octets).ok();
    let at = view
        .and_then(|view| view.options()?.locators?.method_offset(0))
        .unwrap_or_default();
    session
        .error_at(context.on, &octets, ErrorCode::VERIFICATION_METHOD, at)
        .await
        .map(drop)
}

async fn other_context_stays(session: &mut Session) -> Done {
    let second = session.second()?;
    let first = session.context().await?;
    let mut i1 = session.i1();
    i1.forked_instance = Some(2);
    let r1 = session.r1(session.ulids(), &i1).await?;
    let i2 = session.i2(&i1, &r1);
    let r2 = session.r2(session.ulids(), &i2).await?;
    let fork = Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on: first.on,
        told: r2.announcement,
    };
    let announcement = session.host.announcement_of(&[session.host.ulid()], 3);
    session.update(&fork, fork.on, announcement).await?;
    session.update(&first, second, Announcement::default()).await.map(drop)
}

async fn ack_is_ignored(session: &mut Session) -> Done {
    let context = session.context().await?;
    let ack = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: context.theirs,
        request_nonce: session.random(),
    });
    session.send_message(context.on, &ack);
    session.nothing("an acknowledgement of nothing", is_answer).await?;
    session.is_known(&context).await
}

async fn ack_from_a_stranger(session: &mut Session) -> Done {
    let context = session.context().await?;
    let ack = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: context.theirs,
        request_nonce: session.random(),
    });
    let on = session.strange();
    session.r1bis(on, &octets_of(&ack), context.theirs).await.map(drop)
}

async fn short_ack_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.send_shim6(context.on, &message_of(MessageType::UPDATE_ACKNOWLEDGEMENT.0, &[0, 1]));
    session
        .nothing("an Update Acknowledgement of 8 octets", is_answer)
        .await
}

async fn element_lengths(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (generation, count) = (session.host.generation(), session.host.locators().len());
    for (element_len, element) in [(1, (0, 0)), (2, (4, 0)), (3, (4, 9)), (5, (4, 9))] {
        let announcement = Announcement {
            preferences: Some(LocatorPreferences {
                generation,
                element_len,
                elements: vec![
                    Preference {
                        flags: PreferenceFlags(0),
                        priority: element.0,
                        weight: element.1,
                    };
                    count
                ],
            }),
            ..Announcement::default()
        };
        let updated = session.update(&context, context.on, announcement).await;
        updated.map_err(|stop| match stop {
            Stop::Fail(why) => Stop::Fail(format!("elements of {element_len} octets: {why}")),
            other => other,
        })?;
    }
    Ok(())
}

async fn no_element_length(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = preferences(session.host.generation(), session.host.locators().len());
    let request = session.request(&context, announcement);
    let mut octets = octets_of(&Message::UpdateRequest(request.clone()));
    // Behind the fixed part, the option's head and the generation.
    hold(octets[24] == 3, || "the tester's preferences are elsewhere".to_owned())?;
    octets[24] = 0;
    crate::conform::packet::reseal(&mut octets);
    session.send_shim6(context.on, &octets);
    session
        .nothing("preferences without a length", |arrival| {
            acknowledged(arrival, request.request_nonce).is_some()
        })
        .await
}
