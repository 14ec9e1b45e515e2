//! The target as the responder of an exchange (RFC 5533 sections 7.9, 7.10, 7.13 to 7.15).

use shim6_core::wire::{Announcement, I2, Message, MessageType, UlidPair};

use super::{Check, Done, Level, Stop, check};
use crate::conform::packet::{control, message_of, octets_of, options, pair, seal};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{Context, acknowledged, hold, is_answer, r1_of, r1bis_of, r2_of};

pub(super) const CHECKS: &[Check] = &[
    check!(Must, "5533-7.9-01", "An I1 without a context gets an R1.", i1_gets_r1),
    check!(
        Must,
        "5533-7.9-02",
        "An I1 with Hdr Ext Len 0 is silently discarded.",
        short_i1_is_discarded
    ),
    check!(
        Must,
        "5533-7.9-03",
        "With a context, an I1 that has its tag gets an R2.",
        i1_with_the_tag_gets_r2
    ),
    check!(
        Must,
        "5533-7.9-04",
        "With a context, an I1 that has another tag gets an R1.",
        i1_with_another_tag_gets_r1
    ),
    check!(
        Must,
        "5533-7.9-05",
        "An I1 with another tag leaves the context as it is.",
        i1_changes_nothing
    ),
    check!(
        Must,
        "5533-7.9-06",
        "An I1 from another locator with the ULID Pair option gets its R1 there.",
        i1_from_another_locator_gets_r1
    ),
    check!(
        Must,
        "5533-7.9-07",
        "With a context, an I1 from an address that is not in Ls(peer) gets an R1 even if it has the tag.",
        i1_from_a_stranger_gets_r1
    ),
    check!(
        Must,
        "5533-7.9-08",
        "An I1 with a Forked Instance Identifier is for another context: it gets an R1.",
        i1_of_a_fork_gets_r1
    ),
    check!(
        Must,
        "5533-7.10-01",
        "Each I1 gets one answer, from the address that it was sent to.",
        one_answer_each
    ),
    check!(
        Must,
        "5533-7.10-02",
        "An R1 leaves no state that another exchange would replace: its I2 is taken after that one.",
        r1_leaves_no_state
    ),
    check!(
        Must,
        "5533-7.10-03",
        "An R2 in answer to an I1 has its nonce and the tag of the context.",
        r2_to_an_i1
    ),
    check!(
        Must,
        "5533-7.13-01",
        "An I2 with the nonce and the validator of an R1 gets an R2, and there is a context.",
        i2_gets_r2
    ),
    check!(
        Must,
        "5533-7.13-02",
        "An I2 with Hdr Ext Len 1 is silently discarded.",
        short_i2_is_discarded
    ),
    check!(
        Must,
        "5533-7.13-03",
        "An I2 whose validator has another bit is silently discarded.",
        other_validator
    ),
    check!(
        Must,
        "5533-7.13-04",
        "An I2 whose Responder Nonce is another is silently discarded.",
        other_nonce
    ),
    check!(
        Must,
        "5533-7.13-05",
        "An I2 with another tag than the I1 is silently discarded: its validator was not made for it.",
        other_tag
    ),
    check!(
        Must,
        "5533-7.13-06",
        "An I2 of another instance than the I1 is silently discarded.",
        other_instance
    ),
    check!(
        Must,
        "5533-7.13-07",
        "An I2 with a validator that another host got is silently discarded.",
        other_host
    ),
    check!(
        Must,
        "5533-7.13-08",
        "An I2 without a validator is silently discarded.",
        no_validator
    ),
    check!(
        Must,
        "5533-7.13-09",
        "An I2 that comes from another locator than its I1 is silently discarded.",
        other_locator
    ),
    check!(
        Must,
        "5533-7.13-10",
        "An I2 whose CGA Parameters are not those of the ULID is silently discarded.",
        other_parameters
    ),
    check!(
        Must,
        "5533-7.13-11",
        "An I2 that is sent again gets its R2 again, with the same tag.",
        i2_again
    ),
    check!(
        Must,
        "5533-7.13-12",
        "An I2 without a Locator List gets an R2.",
        i2_without_list
    ),
    check!(
        Must,
        "5533-7.13-13",
        "With a context, an I2 from an address that is in neither list is silently discarded.",
        i2_from_a_stranger
    ),
    check!(
        Must,
        "5533-7.13-14",
        "An I2 of a peer that has lost its context replaces CT(peer).",
        i2_replaces_the_tag
    ),
    check!(
        Must,
        "5533-7.13-15",
        "An I2 of a peer that has lost its context replaces Ls(peer).",
        i2_replaces_the_list
    ),
    check!(
        Must,
        "5533-7.13-16",
        "An I2 on other locators with the ULID Pair option sets up the context of those ULIDs.",
        i2_on_other_locators
    ),
    check!(
        Must,
        "5533-7.13-17",
        "An I2 with a Forked Instance Identifier sets up a context beside the first.",
        fork_is_another_context
    ),
    check!(
        Should,
        "5533-7.13-18",
        "A validator is taken 25 s after it was given.",
        validator_lives,
        slow
    ),
    check!(
        Must,
        "5533-7.14-01",
        "An R2 goes to the address that the I2 came from, and is sent once.",
        one_r2
    ),
    check!(
        Must,
        "5533-7.15-01",
        "A context whose tag the peer gives to another one is not used any more.",
        confusion_ends_the_old
    ),
];

async fn i1_gets_r1(session: &mut Session) -> Done {
    let i1 = session.i1();
    session.r1(session.ulids(), &i1).await.map(drop)
}

async fn short_i1_is_discarded(session: &mut Session) -> Done {
    let on = session.ulids();
    session.send_shim6(on, &message_of(MessageType::I1.0, &[0, 1]));
    session.nothing("an I1 of 8 octets", is_answer).await
}

async fn i1_with_the_tag_gets_r2(session: &mut Session) -> Done {
    let context = session.context().await?;
    r2_to(session, &context).await.map(drop)
}

/// The R2 to an I1 that has the context's tag.
async fn r2_to(session: &mut Session, context: &Context) -> Done<shim6_core::wire::R2> {
    let mut i1 = session.i1();
    i1.initiator_context_tag = context.ours;
    let octets = octets_of(&Message::I1(i1.clone()));
    session
        .ask("R2", context.on, &octets, |arrival| r2_of(arrival, i1.initiator_nonce))
        .await
}

async fn r2_to_an_i1(session: &mut Session) -> Done {
    let context = session.context().await?;
    let r2 = r2_to(session, &context).await?;
    hold(r2.responder_context_tag == context.theirs, || {
        format!(
            "the context has the tag {}, the R2 has {}",
            context.theirs, r2.responder_context_tag
        )
    })
}

async fn i1_with_another_tag_gets_r1(session: &mut Session) -> Done {
    session.context().await?;
    let i1 = session.i1();
    session.r1(session.ulids(), &i1).await.map(drop)
}

async fn i1_changes_nothing(session: &mut Session) -> Done {
    let context = session.context().await?;
    let i1 = session.i1();
    session.r1(session.ulids(), &i1).await?;
    session.is_known_with_tag(&context).await
}

fn ulid_pair(session: &Session) -> Option<UlidPair> {
    let ulids = session.ulids();
    Some(UlidPair {
        sender: ulids.local,
        receiver: ulids.peer,
    })
}

async fn i1_from_another_locator_gets_r1(session: &mut Session) -> Done {
    let on = session.second()?;
    let mut i1 = session.i1();
    i1.ulid_pair = ulid_pair(session);
    session.r1(on, &i1).await.map(drop)
}

async fn i1_from_a_stranger_gets_r1(session: &mut Session) -> Done {
    let context = session.context().await?;
    let on = session.strange();
    let mut i1 = session.i1();
    i1.initiator_context_tag = context.ours;
    i1.ulid_pair = ulid_pair(session);
    session.r1(on, &i1).await?;
    session
        .nothing("an I1 from an address that is no locator", |arrival| {
            r2_of(arrival, i1.initiator_nonce).is_some()
        })
        .await
}

async fn i1_of_a_fork_gets_r1(session: &mut Session) -> Done {
    let context = session.context().await?;
    let mut i1 = session.i1();
    i1.initiator_context_tag = context.ours;
    i1.forked_instance = Some(7);
    session.r1(session.ulids(), &i1).await.map(drop)
}

async fn one_answer_each(session: &mut Session) -> Done {
    let on = session.ulids();
    let first = session.i1();
    let nonces: Vec<u32> = (0..4)
        .map(|number| first.initiator_nonce.wrapping_add(number))
        .collect();
    for &nonce in &nonces {
        let mut i1 = first.clone();
        i1.initiator_nonce = nonce;
        session.send_message(on, &Message::I1(i1));
    }
    for &nonce in &nonces {
        let from = session
            .expect("R1 to each I1", super::super::ms(2000), |arrival| {
                r1_of(arrival, nonce).and_then(|_| arrival.pair())
            })
            .await?;
        hold(from == on, || format!("an I1 on {on} was answered on {from}"))?;
    }
    session
        .nothing("an I1 that has been answered", |arrival| {
            nonces.iter().any(|&nonce| r1_of(arrival, nonce).is_some())
        })
        .await
}

async fn r1_leaves_no_state(session: &mut Session) -> Done {
    let on = session.ulids();
    let one = session.i1();
    let r1 = session.r1(on, &one).await?;
    // Another instance comes in between.
    let mut other = session.i1();
    other.forked_instance = Some(3);
    let other_r1 = session.r1(on, &other).await?;
    let i2 = session.i2(&other, &other_r1);
    session.r2(on, &i2).await?;
    let i2 = session.i2(&one, &r1);
    session.r2(on, &i2).await.map(drop)
}

async fn i2_gets_r2(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.is_known(&context).await
}

async fn short_i2_is_discarded(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let mut octets = octets_of(&Message::I2(i2));
    octets.truncate(16);
    seal(&mut octets);
    let on = session.ulids();
    session.send_shim6(on, &octets);
    session.nothing("an I2 of 16 octets", is_answer).await
}

/// An I2 to which nothing comes, although nothing but this is wrong with it.
async fn discarded(session: &mut Session, what: &str, change: impl FnOnce(&mut I2)) -> Done {
    let right = session.half_way().await?;
    let mut wrong = right.clone();
    change(&mut wrong);
    let on = session.ulids();
    session.send_message(on, &Message::I2(wrong));
    session.nothing(what, is_answer).await?;
    session.r2(on, &right).await.map(drop)
}

async fn other_validator(session: &mut Session) -> Done {
    discarded(session, "an I2 with a wrong validator", |i2| {
        if let Some(last) = i2.validator.last_mut() {
            *last ^= 1;
        }
    })
    .await
}

async fn other_nonce(session: &mut Session) -> Done {
    discarded(session, "an I2 with a wrong Responder Nonce", |i2| {
        i2.responder_nonce ^= 1
    })
    .await
}

async fn other_tag(session: &mut Session) -> Done {
    let tag = session.tag();
    discarded(session, "an I2 with another tag", |i2| i2.initiator_context_tag = tag).await
}

async fn other_instance(session: &mut Session) -> Done {
    discarded(session, "an I2 of another instance", |i2| i2.forked_instance = Some(9)).await
}

async fn other_host(session: &mut Session) -> Done {
    // The stranger asks with the same tag, so that nothing but the addresses differs.
    let i1 = session.i1();
    let strange = session.strange();
    let theirs = session.r1(strange, &i1).await?;
    let i2 = session.i2(&i1, &theirs);
    let on = session.ulids();
    session.send_message(on, &Message::I2(i2));
    session
        .nothing("an I2 with the validator of another host", is_answer)
        .await
}

async fn no_validator(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let octets = octets_of(&Message::I2(i2));
    let validator = options(&octets, 24)
        .unwrap_or_default()
        .iter()
        .find(|option| option.kind == 1)
        .map(|option| (option.at, option.at + 4 + option.contents.len() + option.padding.len()));
    let Some((from, to)) = validator else {
        return Err(Stop::Fail("the R1 has no validator".to_owned()));
    };
    let mut without = [&octets[..from], &octets[to..]].concat();
    seal(&mut without);
    let on = session.ulids();
    session.send_shim6(on, &without);
    session.nothing("an I2 without a validator", is_answer).await
}

async fn other_locator(session: &mut Session) -> Done {
    let elsewhere = session.second()?;
    let mut i2 = session.half_way().await?;
    i2.ulid_pair = ulid_pair(session);
    session.send_message(elsewhere, &Message::I2(i2));
    session
        .nothing("an I2 from another locator than its I1", is_answer)
        .await
}

async fn other_parameters(session: &mut Session) -> Done {
    let parameters = session.host.other_parameters();
    discarded(session, "an I2 with the parameters of another host", |i2| {
        i2.announcement = Announcement {
            cga_parameters: Some(parameters),
            ..Announcement::default()
        };
    })
    .await
}

async fn i2_again(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let on = session.ulids();
    let one = session.r2(on, &i2).await?;
    let two = session.r2(on, &i2).await?;
    hold(one.responder_context_tag == two.responder_context_tag, || {
        format!(
            "first the tag is {}, then {}",
            one.responder_context_tag, two.responder_context_tag
        )
    })
}

async fn i2_without_list(session: &mut Session) -> Done {
    let context = session
        .context_with(|i2| i2.announcement = Announcement::default())
        .await?;
    session.is_known(&context).await
}

async fn i2_from_a_stranger(session: &mut Session) -> Done {
    let context = session.context().await?;
    let on = session.strange();
    let mut i1 = session.i1();
    i1.ulid_pair = ulid_pair(session);
    let r1 = session.r1(on, &i1).await?;
    let i2 = session.i2(&i1, &r1);
    session.send_message(on, &Message::I2(i2));
    session
        .nothing("an I2 from an address that is no locator", is_answer)
        .await?;
    session.is_known(&context).await
}

/// The context is set up anew, as by a host that has restarted.
async fn anew(session: &mut Session, change: impl FnOnce(&mut I2)) -> Done<(Context, Context)> {
    let old = session.context().await?;
    // A validator that is not newer than the last one may be a replayed one.
    session.wait(super::super::ms(1100)).await;
    let new = session.context_with(change).await?;
    Ok((old, new))
}

async fn i2_replaces_the_tag(session: &mut Session) -> Done {
    let (old, new) = anew(session, |_| {}).await?;
    hold(old.ours != new.ours, || "the tester drew the same tag twice".to_owned())?;
    // Acknowledgements have CT(peer).
    session.is_known_with_tag(&new).await
}

async fn i2_replaces_the_list(session: &mut Session) -> Done {
    let second = session.second()?;
    let ulid = session.host.ulid();
    let only = session.host.announcement_of(&[ulid], 7);
    let (_, new) = anew(session, |i2| i2.announcement = only).await?;
    session.is_known(&new).await?;
    let request = session.request(&new, Announcement::default());
    let octets = octets_of(&Message::UpdateRequest(request));
    session.r1bis(second, &octets, new.theirs).await.map(drop)
}

async fn i2_on_other_locators(session: &mut Session) -> Done {
    let on = session.second()?;
    let mut i1 = session.i1();
    i1.ulid_pair = ulid_pair(session);
    let r1 = session.r1(on, &i1).await?;
    let i2 = session.i2(&i1, &r1);
    let r2 = session.r2(on, &i2).await?;
    let context = Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on: session.ulids(),
        told: r2.announcement,
    };
    session.is_known_with_tag(&context).await
}

async fn fork_is_another_context(session: &mut Session) -> Done {
    let first = session.context().await?;
    let mut i1 = session.i1();
    i1.forked_instance = Some(0x1234_5678);
    let r1 = session.r1(session.ulids(), &i1).await?;
    let i2 = session.i2(&i1, &r1);
    let r2 = session.r2(session.ulids(), &i2).await?;
    hold(r2.responder_context_tag != first.theirs, || {
        "both have one tag".to_owned()
    })?;
    let fork = Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on: first.on,
        told: r2.announcement,
    };
    session.is_known(&first).await?;
    session.is_known(&fork).await
}

async fn validator_lives(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    session.wait(super::super::ms(25_000)).await;
    session.r2(session.ulids(), &i2).await.map(drop)
}

async fn one_r2(session: &mut Session) -> Done {
    let i2 = session.half_way().await?;
    let on = session.ulids();
    session.send_message(on, &Message::I2(i2.clone()));
    let of_i2 = |arrival: &Arrival| r2_of(arrival, i2.initiator_nonce);
    let from = session
        .expect("R2", super::super::ms(2000), |arrival| {
            of_i2(arrival).and_then(|_| pair(&arrival.packet))
        })
        .await?;
    hold(from == on, || format!("the I2 came on {on}, its answer on {from}"))?;
    session
        .nothing("an I2 that has been answered", |arrival| of_i2(arrival).is_some())
        .await
}

async fn confusion_ends_the_old(session: &mut Session) -> Done {
    let old = session.context().await?;
    let mut i1 = session.i1();
    i1.initiator_context_tag = old.ours;
    i1.forked_instance = Some(5);
    let on = session.ulids();
    let r1 = session.r1(on, &i1).await?;
    let i2 = session.i2(&i1, &r1);
    session.r2(on, &i2).await?;
    session.forget();
    // Whoever still has the old one acknowledges with the tag that is another's by now.
    let request = session.request(&old, Announcement::default());
    session.send_message(on, &Message::UpdateRequest(request.clone()));
    session
        .nothing("an update of a context whose tag has become another's", |arrival| {
            acknowledged(arrival, request.request_nonce) == Some(old.ours)
        })
        .await?;
    let again = session.unread().any(|arrival| {
        r1bis_of(arrival, old.theirs).is_some() || control(&arrival.packet).is_some_and(|message| message[2] == 1)
    });
    hold(again, || {
        "the target neither says that the old context is gone nor sets it up again".to_owned()
    })
}
