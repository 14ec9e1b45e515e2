//! Hosts have policy rules of their own, and those that come before ours must not keep packets from being steered.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_tests::isolated;
use shim6_tun::config::SteeringConfig;
use shim6_tun::lab::{Host, Topology};
use shim6_tun::netlink::{Netlink, RouteKind, RouteSpec, RuleSpec};
use socket2::SockRef;
use tokio::time::{Instant, interval};

use super::flows::Flow;
use crate::packets::lab::{LIMIT, Lab, Pair, address_of, octets};

/// The user's own table: what comes from the first uplink's prefix leaves by the first uplink.
const TABLE: u32 = 100;
const MARK: u32 = 7;

struct User {
    netlink: Netlink,
}

impl User {
    /// Somebody who has set up source routing on a host.
    async fn on(host: &Host) -> Self {
        let netlink = host.namespace.netlink().expect("a connection");
        let uplink = &host.uplinks[0];
        let link = netlink.link(&uplink.interface).await.expect("an interface");
        let route = RouteSpec {
            destination: (Ipv6Addr::UNSPECIFIED, 0),
            source: Some((uplink.prefix, 64)),
            gateway: Some(uplink.gateway),
            output: Some(link.index),
            table: TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        netlink.add_route(&route).await.expect("a route");
        Self { netlink }
    }

    async fn add(&self, rule: RuleSpec) {
        self.netlink.add_rule(&rule).await.expect("a rule");
    }

    async fn delete(&self, rule: RuleSpec) {
        self.netlink.delete_rule(&rule).await.expect("no rule");
    }

    /// Where the daemon's rule stands.
    async fn steering_rule(&self) -> Vec<u32> {
        let rules = self.netlink.rules().await.expect("rules");
        let table = SteeringConfig::default().table;
        let ours = rules.iter().filter(|rule| rule.table == table);
        ours.map(|rule| rule.priority).collect()
    }

    async fn wait_for_rule_at(&self, lab: &Lab, priority: u32) {
        wait(lab, &format!("the rule is at {priority}"), async || {
            self.steering_rule().await == [priority]
        })
        .await;
    }
}

fn rule(priority: u32, fwmark: Option<u32>) -> RuleSpec {
    RuleSpec {
        priority,
        table: TABLE,
        fwmark,
        invert: false,
        flow: None,
    }
}

async fn wait(lab: &Lab, what: &str, is_so: impl AsyncFn() -> bool) {
    let (mut tick, deadline) = (interval(Duration::from_millis(10)), Instant::now() + LIMIT);
    while !is_so().await {
        tick.tick().await;
        assert!(Instant::now() < deadline, "not so: {what}\n{}", lab.stage.logs());
    }
}

/// Every kind of flow goes, and the daemon has nothing to complain about.
async fn assert_steered(lab: &Lab) {
    let pair = lab.pair();
    lab.blocking(move || Flow::of_each_kind(&pair).iter().for_each(|flow| flow.talk(1)))
        .await;
    assert_eq!(lab.status().await[0].problems, [""; 0]);
}

/// Whether a datagram with the mark arrives.
fn arrives_marked(pair: &Pair, mark: u32) -> bool {
    let (sender, receiver) = (pair.from.udp(), pair.to.udp());
    SockRef::from(&sender).set_mark(mark).expect("a mark");
    receiver
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    sender
        .send_to(&octets(1, 100), &address_of(&receiver).into())
        .expect("it is taken");
    shim6_tun::sys::ancillary::receive(&receiver, 0).is_ok()
}

#[test]
fn rules_of_the_user_do_not_keep_packets_from_being_steered() {
    let name = "steering::rules::rules_of_the_user_do_not_keep_packets_from_being_steered";
    isolated(name, || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let user = User::on(&topology.a).await;
        // Behind ours, in front of ours, and only for some packets.
        user.add(rule(1_000, None)).await;
        let lab = Lab::steered(topology).await;
        let configured = SteeringConfig::default().rule_priority;
        assert_steered(&lab).await;
        assert_eq!(user.steering_rule().await, [configured]);

        // Where the kernel puts a rule without a priority.
        user.add(rule(configured - 1, None)).await;
        user.wait_for_rule_at(&lab, configured - 2).await;
        assert_steered(&lab).await;
        user.add(rule(50, Some(MARK))).await;
        user.wait_for_rule_at(&lab, 49).await;
        assert_steered(&lab).await;
        let pair = lab.pair();
        assert!(lab.blocking(move || arrives_marked(&pair, MARK)).await);

        // Somebody who deletes what is not theirs.
        let ours = user.netlink.rules().await.expect("rules");
        let ours = ours.into_iter().find(|rule| rule.priority == 49).expect("our rule");
        user.delete(ours).await;
        user.wait_for_rule_at(&lab, 49).await;
        assert_steered(&lab).await;

        for (priority, mark) in [(50, Some(MARK)), (configured - 1, None)] {
            user.delete(rule(priority, mark)).await;
        }
        lab.end().await;
    });
}

/// All that leaves goes by the first uplink, unless a rule before this one knows better.
#[test]
fn packets_of_the_daemon_leave_by_their_uplink_whatever_the_user_says_of_all_packets() {
    let name = "steering::rules::packets_of_the_daemon_leave_by_their_uplink_whatever_the_user_says_of_all_packets";
    isolated(name, || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let user = User::on(&topology.a).await;
        let [route] = user.netlink.routes(TABLE).await.expect("routes")[..] else {
            panic!("one route");
        };
        let everything = RouteSpec { source: None, ..route };
        user.netlink.add_route(&everything).await.expect("a route");
        user.add(rule(1_000, None)).await;
        let lab = Lab::steered(topology).await;
        assert_steered(&lab).await;
        lab.end().await;
    });
}

#[test]
fn rule_that_cannot_be_passed_is_told_of_until_it_is_gone() {
    let name = "steering::rules::rule_that_cannot_be_passed_is_told_of_until_it_is_gone";
    isolated(name, || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let user = User::on(&topology.a).await;
        user.add(rule(1, Some(MARK))).await;
        let lab = Lab::steered(topology).await;
        let pair = lab.pair();
        let [marked, plain] = lab
            .blocking(move || [arrives_marked(&pair, MARK), arrives_marked(&pair, 0)])
            .await;
        assert!(!marked && plain);
        let problems = lab.status().await[0].problems.clone();
        assert!(
            problems.len() == 1 && problems[0].contains("mark 0x7") && problems[0].contains("priority 1"),
            "{problems:?}"
        );
        assert!(lab.stage.logs().contains(&problems[0]), "{}", lab.stage.logs());

        user.delete(rule(1, Some(MARK))).await;
        wait(&lab, "nothing is in the way", async || {
            lab.status().await[0].problems.is_empty()
        })
        .await;
        let pair = lab.pair();
        assert!(lab.blocking(move || arrives_marked(&pair, MARK)).await);
        // As it was when the daemons came.
        user.add(rule(1, Some(MARK))).await;
        lab.end().await;
    });
}
