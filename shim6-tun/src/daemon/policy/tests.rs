use std::path::Path;

use super::*;

const TCP: u8 = 6;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("shim6.toml")).expect("a configuration")
}

/// On a host whose `eth0` has 2001:db8:a::1 and whose `eth1` has 2001:db8:b::1.
fn policy(text: &str) -> Policy {
    Policy::new(&config(text), |interface| match interface {
        "eth0" => vec![address("2001:db8:a::1")],
        "eth1" => vec![address("2001:db8:b::1")],
        _ => Vec::new(),
    })
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn pair(local: &str, peer: &str) -> LocatorPair {
    LocatorPair::new(address(local), address(peer))
}

fn tcp(port: u16) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[6] = TCP;
    packet.extend([0x80, 0]);
    packet.extend(port.to_be_bytes());
    packet
}

/// The rule that decides, and its packets.
fn decides(policy: &Policy, ulids: LocatorPair, packet: &[u8]) -> Option<(u16, u64)> {
    policy
        .rule(ulids, packet)
        .map(|(number, threshold)| (number, threshold.packets))
}

#[test]
fn the_first_rule_of_which_all_conditions_hold_decides_and_else_the_trigger() {
    let policy = policy(
        "[[policy]]\npeer = \"2001:db8:c::/48\"\nports = 22\npackets = 2\n[[policy]]\npeer = \"2001:db8:c::/48\"\nprotect = false\n\
         [[policy]]\nuplink = \"eth1\"\npackets = 9\n",
    );
    let (here, there) = ("2001:db8:a::1", "2001:db8:c::1");
    assert_eq!(decides(&policy, pair(here, there), &tcp(22)), Some((0, 2)));
    assert_eq!(decides(&policy, pair(here, there), &tcp(80)), None);
    assert_eq!(decides(&policy, pair(here, "2001:db8:d::1"), &tcp(22)), Some((3, 50)));
    assert_eq!(
        decides(&policy, pair("2001:db8:b::1", "2001:db8:d::1"), &tcp(22)),
        Some((2, 9))
    );
}

#[test]
fn protocols_and_ports_have_to_fit_the_same_packet() {
    let policy =
        policy("[[policy]]\nprotocols = \"udp\"\nports = 53\npackets = 1\n[[policy]]\nprotocols = [6]\npackets = 2\n");
    let ulids = pair("2001:db8:a::1", "2001:db8:c::1");
    let mut udp = tcp(53);
    udp[6] = 17;
    assert_eq!(decides(&policy, ulids, &udp), Some((0, 1)));
    assert_eq!(decides(&policy, ulids, &tcp(53)), Some((1, 2)));
    udp[43] = 54;
    assert_eq!(decides(&policy, ulids, &udp), Some((2, 50)));
    assert_eq!(decides(&policy, ulids, &[]), Some((2, 50)), "nothing is known of it");
}

#[test]
fn rules_that_contradict_each_other_are_for_the_packets_to_decide() {
    let policy = policy("[[policy]]\nports = 22\nprotect = false\n");
    assert_eq!(
        policy.judge(pair("2001:db8:a::1", "2001:db8:c::1")),
        Verdict::LookCloser
    );
}

#[test]
fn a_host_that_initiates_nothing_does_so_where_a_rule_says_so() {
    let policy = policy("[trigger]\ninitiate = false\n[[policy]]\npeer = \"2001:db8:c::1\"\n");
    assert_eq!(
        decides(&policy, pair("2001:db8:a::1", "2001:db8:c::1"), &[]),
        Some((0, 50))
    );
    assert_eq!(decides(&policy, pair("2001:db8:a::1", "2001:db8:c::2"), &[]), None);
}

#[test]
fn a_pair_at_the_lowest_threshold_is_judged_by_its_addresses_if_they_are_all_that_matters() {
    let to = |peer| pair("2001:db8:a::1", peer);
    let plain = policy("");
    assert_eq!(plain.judge(to("2001:db8:c::1")), Verdict::Enough);
    let policy = policy(
        "[[policy]]\npeer = \"2001:db8:1::/48\"\nprotect = false\n[[policy]]\npeer = \"2001:db8:2::/48\"\npackets = 10\n\
         [[policy]]\npeer = \"2001:db8:3::/48\"\nports = 22\n[[policy]]\npeer = \"2001:db8:4::/48\"\nports = 22\nprotect = false\n\
         [[policy]]\npeer = \"2001:db8:4::/48\"\nprotect = false\n",
    );
    assert_eq!(policy.lowest(), Threshold { packets: 10, octets: 0 });
    assert_eq!(policy.judge(to("2001:db8:1::1")), Verdict::Never);
    assert_eq!(policy.judge(to("2001:db8:2::1")), Verdict::Enough);
    assert_eq!(policy.judge(to("2001:db8:3::1")), Verdict::LookCloser);
    assert_eq!(
        policy.judge(to("2001:db8:4::1")),
        Verdict::Never,
        "whatever its ports are"
    );
    assert_eq!(
        policy.judge(to("2001:db8:9::1")),
        Verdict::LookCloser,
        "its own threshold is higher"
    );
}

#[test]
fn the_lowest_threshold_is_that_of_each_count() {
    let policy = policy("[[policy]]\nports = 22\noctets = 5000\n[[policy]]\nports = 23\npackets = 70\n");
    let lowest = Threshold {
        packets: 50,
        octets: 5000,
    };
    assert_eq!(policy.lowest(), lowest);
    assert_eq!(
        policy.judge(pair("2001:db8:a::1", "2001:db8:c::1")),
        Verdict::LookCloser
    );
}

#[test]
fn peers_are_answered_by_the_rules_about_addresses() {
    let policy = policy(
        "[[policy]]\nports = 22\nprotect = false\n[[policy]]\npeer = \"2001:db8:1::/48\"\nprotect = false\n\
         [[policy]]\nuplink = \"eth1\"\nprotect = false\nanswer = true\n",
    );
    let [first, second] = &policy.answers()[..] else {
        panic!("two rules")
    };
    assert!(!first.answer && first.locals.is_none());
    assert_eq!(
        (first.peers[0].address, first.peers[0].length),
        (address("2001:db8:1::"), 48)
    );
    assert!(second.answer && second.peers.is_empty());
    assert_eq!(second.locals, Some(vec![address("2001:db8:b::1")]));
}

#[test]
fn an_uplink_that_is_not_there_has_no_addresses_and_not_all() {
    let policy = policy("[[policy]]\nuplink = \"wwan0\"\nprotect = false\n");
    assert_eq!(
        decides(&policy, pair("2001:db8:a::1", "2001:db8:c::1"), &[]),
        Some((1, 50))
    );
    assert_eq!(policy.answers()[0].locals, Some(Vec::new()));
}
