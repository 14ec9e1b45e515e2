//! Extension headers, and the place of the Shim6 header among them (RFC 5533 section 11.1).

use proptest::prelude::Strategy;
use proptest::{prop_assert_eq, proptest};

use super::*;

/// Type, units of 8 octets beyond the first, and filling of an extension header.
pub(super) type Extension = (u8, u8, u8);

fn extension(kind: u8) -> impl Strategy<Value = Extension> {
    (0..3_u8, any::<u8>()).prop_map(move |(units, filling)| (kind, units, filling))
}

fn optional(kind: u8) -> impl Strategy<Value = Option<Extension>> {
    proptest::option::of(extension(kind))
}

/// Extension headers in front of which no Shim6 header may come, those behind it, the upper-layer protocol and its octets.
pub(super) fn chain() -> impl Strategy<Value = (Vec<Extension>, Vec<Extension>, u8, Vec<u8>)> {
    let before_routing = (optional(DESTINATION_OPTIONS), extension(ROUTING));
    let skipped = (optional(HOP_BY_HOP), proptest::option::of(before_routing)).prop_map(|(hop_by_hop, routing)| {
        let (options, routing) = routing.map_or((None, None), |(options, routing)| (options, Some(routing)));
        [hop_by_hop, options, routing].into_iter().flatten().collect::<Vec<_>>()
    });
    let fragment = proptest::option::of(any::<u8>().prop_map(|filling| (FRAGMENT, 0, filling)));
    let kept = (fragment, optional(DESTINATION_OPTIONS))
        .prop_map(|(fragment, options)| [fragment, options].into_iter().flatten().collect::<Vec<_>>());
    let upper = proptest::sample::select(vec![6, UDP, ICMPV6, 59, 50, 51, 132, 200]);
    (skipped, kept, upper, vec_of(any::<u8>(), 0..200)).prop_map(|(skipped, kept, upper, mut payload)| {
        // Neighbor Discovery is not rewritten, and has a test of its own.
        if let (ICMPV6, Some(kind @ 133..=137)) = (upper, payload.first_mut()) {
            *kind = ECHO_REQUEST;
        }
        (skipped, kept, upper, payload)
    })
}

/// The octets of the headers, the first of which is announced by what comes before; `last` follows them.
fn headers(extensions: &[Extension], last: u8) -> Vec<u8> {
    let followers = extensions.iter().skip(1).map(|&(kind, ..)| kind).chain([last]);
    let octets = extensions.iter().zip(followers).map(|(&(_, units, filling), next)| {
        let mut header = vec![filling; 8 + 8 * usize::from(units)];
        (header[0], header[1]) = (next, units);
        header
    });
    octets.flatten().collect()
}

fn first_of(extensions: &[Extension], otherwise: u8) -> u8 {
    extensions.first().map_or(otherwise, |&(kind, ..)| kind)
}

#[test]
fn shim6_header_comes_behind_the_routing_sublayer_and_before_all_else() {
    const FRAGMENT_HEADER: Extension = (FRAGMENT, 0, 0);
    let (hop_by_hop, routing, options) = ((HOP_BY_HOP, 0, 1), (ROUTING, 2, 0), (DESTINATION_OPTIONS, 1, 1));
    let cases: [(&[Extension], &[Extension]); 9] = [
        (&[], &[]),
        (&[hop_by_hop], &[]),
        (&[routing], &[]),
        (&[options, routing], &[]),
        (&[hop_by_hop, options, routing], &[]),
        (&[], &[options]),
        (&[routing], &[options]),
        (&[hop_by_hop], &[FRAGMENT_HEADER, options]),
        (&[hop_by_hop, options, routing], &[FRAGMENT_HEADER, options]),
    ];
    for (skipped, kept) in cases {
        let original = original(skipped, kept, UDP, &[7; 20]);
        let mut sent = rewritten(&original);
        assert_eq!(sent, expected(skipped, kept, UDP, &[7; 20]), "{skipped:?} {kept:?}");
        let receiver = table(receiver_flow());
        assert!(matches!(
            receiver.inbound(&mut sent, 0, NOW),
            Inbound::Restored { start: 8, .. }
        ));
        assert_eq!(sent[8..], original);
    }
}

/// The upper layers' packet with these headers in front of `upper`.
pub(super) fn original(skipped: &[Extension], kept: &[Extension], upper: u8, payload: &[u8]) -> Vec<u8> {
    let follower = first_of(kept, upper);
    let octets = [headers(skipped, follower), headers(kept, upper), payload.to_vec()].concat();
    packet(ulids(), first_of(skipped, follower), &octets)
}

/// What the sender has to make of it by RFC 5533 section 11.1, built without the code under test.
pub(super) fn expected(skipped: &[Extension], kept: &[Extension], upper: u8, payload: &[u8]) -> Vec<u8> {
    let shim6 = [first_of(kept, upper), 0, 0xff, 0xff, 0x22, 0x22, 0x33, 0x33];
    let octets = [
        headers(skipped, PROTOCOL),
        shim6.to_vec(),
        headers(kept, upper),
        payload.to_vec(),
    ];
    packet(locators(), first_of(skipped, PROTOCOL), &octets.concat())
}

proptest! {
    #[test]
    fn what_goes_out_comes_in_octet_for_octet((skipped, kept, upper, payload) in chain(), headroom in 8..40_usize) {
        let original = original(&skipped, &kept, upper, &payload);

        let (sender, receiver) = (table(sender_flow()), table(receiver_flow()));
        let mut buffer = behind(headroom, &original);
        let Outbound::Rewritten { start, .. } = sender.outbound(&mut buffer, headroom, NOW) else {
            panic!("not rewritten")
        };
        prop_assert_eq!(start, headroom - 8);
        prop_assert_eq!(&buffer[start..], expected(&skipped, &kept, upper, &payload));

        let Inbound::Restored { start, flow, .. } = receiver.inbound(&mut buffer, start, NOW) else {
            panic!("not restored")
        };
        prop_assert_eq!((start, flow.context), (headroom, ContextId(2)));
        prop_assert_eq!(&buffer[start..], &original[..]);
        prop_assert_eq!(flow.activity.received(), (1, original.len() as u64));
        prop_assert_eq!(sender.flow(ulids()).map(|flow| flow.activity.sent()), Some((1, original.len() as u64)));
    }
}
