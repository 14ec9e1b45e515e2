use std::time::Duration;

use shim6_cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::wire::ContextTag;
use shim6_core::{Activity, Endpoint, EndpointConfig, Identity};

use super::*;
use crate::config::HoldConfig;
use crate::daemon::clock::Clock;
use crate::daemon::testing::tun;
use crate::daemon::wire::Wire;
use crate::lab::isolated;
use crate::netlink::Netlink;

const TABLE: u32 = 21_302;
const NOW: Instant = Instant::from_micros(1_000_000);

/// Flows of one host's contexts with many peers, and the n-th of them has had a packet n ms ago.
fn flows(count: u16) -> Vec<Arc<Flow>> {
    let prefix = SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0));
    let set = HbaSet::generate(&[prefix], Sec::ZERO, &mut rand::rng()).unwrap();
    let local = set.addresses()[0];
    let identity = Identity::from_hba_set(&set, &mut rand::rng());
    let mut endpoint = Endpoint::new(EndpointConfig::default(), identity, [7; 32]);
    let flow = |number: u16| {
        let ulids = LocatorPair::new(local, Ipv6Addr::new(0x2001, 0xdb8, 0xb1, number, 0, 0, 0, 1));
        let activity = Activity::default();
        let _ = activity.record_sent(NOW - Duration::from_millis(number.into()), 100);
        let tag = ContextTag::from_random_bits(number.into());
        Arc::new(Flow {
            context: endpoint.establish(NOW, ulids).unwrap(),
            ulids,
            forked_instance: 0,
            locators: ulids,
            local_tag: tag,
            peer_tag: tag,
            activity: Arc::new(activity),
            holding: false,
        })
    };
    (0..count).map(flow).collect()
}

fn inserted(flows: &[Arc<Flow>], holding: bool) -> Vec<DataplaneUpdate> {
    let insert = |flow: &Arc<Flow>| {
        let activity = flow.activity.clone();
        DataplaneUpdate::Insert(Arc::new(Flow {
            holding,
            activity,
            ..**flow
        }))
    };
    flows.iter().map(insert).collect()
}

#[test]
fn many_pairs_are_steered_in_rounds_and_the_busiest_first() {
    let name = "daemon::paths::tests::many_pairs_are_steered_in_rounds_and_the_busiest_first";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let (_device, tun) = tun(&netlink).await;
        let mut steering = Steering::install(&netlink, tun, TABLE, 140, 0x5336).await.unwrap();
        let (shared, _inputs) = Shared::new(
            Clock::start(),
            Wire::new(HashMap::new(), None).0,
            &HoldConfig::default(),
        );
        let mut paths = Paths::new(&mut steering, None, PathMtus::default(), Arc::new(shared));
        let flows = flows(600);
        let steered = |routes: Vec<crate::netlink::RouteSpec>| {
            let mut peers: Vec<_> = routes.iter().map(|route| route.destination.0.segments()[3]).collect();
            peers.sort_unstable();
            peers
        };
        paths.publish(inserted(&flows, false), NOW);
        paths.follow(NOW).await;
        assert_eq!(steered(netlink.routes(TABLE).await.unwrap()), [0; 0]);
        assert_eq!(paths.poll_timeout(), None);

        paths.publish(inserted(&flows, true), NOW);
        paths.follow(NOW).await;
        for count in [256, 512, 600] {
            let wanted: Vec<u16> = (0..count).collect();
            assert_eq!(steered(netlink.routes(TABLE).await.unwrap()), wanted);
            assert_eq!(
                paths.poll_timeout().is_some(),
                count < 600,
                "it goes on until all is done"
            );
            paths.handle_timeout(NOW).await;
        }
        assert!(paths.shared.hold.enter().is_some());

        // What is gone goes at once, whatever else is to be done.
        let (found, gone) = flows.split_at(300);
        let mut updates = inserted(found, false);
        updates.extend(gone.iter().cloned().map(DataplaneUpdate::Remove));
        paths.publish(updates, NOW);
        assert_eq!(
            paths.shared.dataplane.load().len(),
            600,
            "packets on their way find their flow"
        );
        paths.follow(NOW).await;
        assert_eq!(paths.shared.dataplane.load().len(), 300);
        assert!(paths.shared.hold.enter().is_none(), "nobody looks for a path");
        let left: Vec<u16> = (256..300).collect();
        assert_eq!(steered(netlink.routes(TABLE).await.unwrap()), left);
        paths.handle_timeout(NOW).await;
        assert_eq!(steered(netlink.routes(TABLE).await.unwrap()), [0; 0]);
        assert_eq!(paths.poll_timeout(), None);
        assert!(steering.undo().await.is_empty());
    });
}
