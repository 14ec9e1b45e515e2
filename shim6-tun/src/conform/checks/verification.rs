//! That locators belong to whoever names them (RFC 5533 sections 7.1 and 7.2).

use std::collections::BTreeSet;

use shim6_core::wire::{ErrorCode, I2, Message, VerificationMethod, View};

use super::{Check, Done, Level, check};
use crate::conform::packet::octets_of;
use crate::conform::session::Session;
use crate::conform::steps::{hold, list, r2_of};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-7.1-01",
        "Contexts have different Context Tags.",
        tags_differ
    ),
    check!(
        Must,
        "5533-7.1-02",
        "Context Tags do not follow one another.",
        tags_have_no_order
    ),
    check!(
        Should,
        "5533-7.2-01",
        "An I2 whose list has an address of somebody else under HBA leads to no context.",
        foreign_locator_is_refused
    ),
    check!(
        Must,
        "5533-7.2-02",
        "An I2 with a verification method that is not defined leads to no context.",
        unknown_method_is_refused
    ),
    check!(
        Should,
        "5533-7.2-03",
        "A verification method that is not defined leads to Error 2, which points at it.",
        unknown_method_is_told
    ),
    check!(
        Must,
        "5533-7.2-04",
        "An I2 that wants a signature to be checked with parameters that have no key leads to no context.",
        cga_without_key_is_refused
    ),
    check!(
        Must,
        "5533-7.2-05",
        "An I2 with a Locator List and no CGA Parameters leads to no context.",
        list_without_parameters_is_refused
    ),
    check!(
        Must,
        "5533-7.2-06",
        "An I2 of a ULID that is in the list but not in the set leads to no context.",
        list_of_others_is_refused
    ),
];

/// Contexts whose tags are looked at.
const CONTEXTS: u32 = 6;

async fn tags(session: &mut Session) -> Done<Vec<u64>> {
    let mut tags = Vec::new();
    for fork in 0..CONTEXTS {
        let mut i1 = session.i1();
        i1.forked_instance = (fork > 0).then_some(fork);
        let r1 = session.r1(session.ulids(), &i1).await?;
        let i2 = session.i2(&i1, &r1);
        let r2 = session.r2(session.ulids(), &i2).await?;
        tags.push(r2.responder_context_tag.value());
    }
    Ok(tags)
}

async fn tags_differ(session: &mut Session) -> Done {
    let tags = tags(session).await?;
    let different: BTreeSet<_> = tags.iter().collect();
    hold(different.len() == tags.len(), || {
        format!("contexts have the tags {tags:#x?}")
    })
}

async fn tags_have_no_order(session: &mut Session) -> Done {
    let tags = tags(session).await?;
    let distances: BTreeSet<_> = tags.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    hold(distances.len() == tags.len() - 1, || {
        format!("the tags {tags:#x?} have a distance in common")
    })?;
    // At least 30 bits have no structure: that six tags in a row share 20 bits of their 47 hardly happens by chance.
    let same = tags.iter().fold(u64::MAX, |same, tag| same & !(tag ^ tags[0])) & ((1 << 47) - 1);
    hold(same.count_ones() < 20, || {
        format!("the tags {tags:#x?} have {} bits in common", same.count_ones())
    })
}

/// No R2 comes for this I2; an Error may.
async fn is_refused(session: &mut Session, i2: &I2) -> Done {
    let on = session.ulids();
    session.send_message(on, &Message::I2(i2.clone()));
    session
        .nothing("an I2 that proves nothing", |arrival| {
            r2_of(arrival, i2.initiator_nonce).is_some()
        })
        .await
}

async fn foreign_locator_is_refused(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    let stranger = session.host.stranger();
    list(&mut i2.announcement)
        .locators
        .push((VerificationMethod::HBA, stranger));
    is_refused(session, &i2).await
}

async fn unknown_method_is_refused(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    list(&mut i2.announcement).locators[0].0 = VerificationMethod(200);
    is_refused(session, &i2).await
}

async fn unknown_method_is_told(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    list(&mut i2.announcement).locators[0].0 = VerificationMethod(200);
    let octets = octets_of(&Message::I2(i2));
    let view = View::parse(&octets).ok();
    let at = view
        .and_then(|view| view.options()?.locators?.method_offset(0))
        .unwrap_or_default();
    let on = session.ulids();
    session
        .error_at(on, &octets, ErrorCode::VERIFICATION_METHOD, at)
        .await?;
    Ok(())
}

async fn cga_without_key_is_refused(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    for locator in &mut list(&mut i2.announcement).locators {
        locator.0 = VerificationMethod::CGA;
    }
    i2.announcement.cga_signature = Some(vec![1; 128]);
    is_refused(session, &i2).await
}

async fn list_without_parameters_is_refused(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    i2.announcement.cga_parameters = None;
    is_refused(session, &i2).await
}

async fn list_of_others_is_refused(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    let (stranger, parameters) = (session.host.stranger(), session.host.other_parameters());
    list(&mut i2.announcement)
        .locators
        .push((VerificationMethod::HBA, stranger));
    i2.announcement.cga_parameters = Some(parameters);
    is_refused(session, &i2).await
}
