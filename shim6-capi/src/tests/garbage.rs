//! Packets that nobody meant to send.

use std::ptr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::call;
use super::network::{A, Net, SECOND, datagram, default_config};
use crate::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_that_arrives_or_is_sent_does_harm(
        damages in vec((any::<bool>(), any::<Index>(), any::<u8>(), 0usize..90), 1..40),
        octets in vec(any::<u8>(), 0..100),
    ) {
        let mut net = Net::new(&default_config());
        let flow = net.flow(A, 1000, 53);
        net.run(SECOND, &[flow]);
        let (now, forked) = (net.now, net.flow(A, 2000, 53));
        let made = call!(shim6_fork(net.hosts[A].shim, now, &raw const forked, ptr::null_mut()));
        prop_assert_eq!(made, Status::Ok);
        net.drain(A);
        // What is on its way is changed, cut short, and sent by the wrong host.
        let templates: Vec<_> = net.packets.values().cloned().chain([datagram(&flow), datagram(&forked), octets]).collect();
        for (n, (outgoing, place, damage, cut)) in damages.into_iter().enumerate() {
            let mut packet = templates[n % templates.len()].clone();
            if !packet.is_empty() {
                let place = place.index(packet.len());
                packet[place] ^= damage;
            }
            packet.truncate(packet.len().saturating_sub(cut.saturating_sub(40)));
            // An answer is checked to lie within the buffer.
            let _ = match outgoing {
                true => net.hosts[A].send(now, &packet),
                false => net.hosts[A].receive(now, packet),
            };
            net.hosts[A].timeout();
            net.drain(A);
        }
        prop_assert!(net.hosts[A].counters().sent > 0, "the handle lives");
        net.run(SECOND, &[flow]);
        prop_assert!(net.longest_gap(A, now) < SECOND, "and so does the session");
    }

    #[test]
    fn any_octets_as_a_configuration_or_an_identity_are_refused_or_do(
        octets in vec(any::<u8>(), size_of::<Config>()),
        small in any::<bool>(),
    ) {
        let mut octets = octets;
        if small {
            // Numbers that may be in range.
            octets.chunks_mut(4).for_each(|chunk| chunk[1..].fill(0));
        }
        let (mut shim, mut identity) = (ptr::null_mut(), super::network::identity(1));
        let (config, seed) = (octets.as_ptr().cast::<Config>(), [1; SHIM6_SEED_LEN]);
        let status = call!(shim6_new(config, octets.len(), identity, seed.as_ptr(), &raw mut shim));
        prop_assert!(status == Status::Ok || (status == Status::BadArgument && shim.is_null()));
        call!(shim6_free(shim));
        call!(shim6_identity_free(identity));
        identity = ptr::null_mut();
        let loaded = call!(shim6_identity_load(octets.as_ptr(), octets.len(), &raw mut identity));
        prop_assert_eq!((loaded, identity.is_null()), (Status::BadIdentity, true));
    }
}
