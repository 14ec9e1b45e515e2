//! `[[policy]]` and `[[peer]]`.

use super::super::*;
use super::{parse, refused};

#[test]
fn rules_are_read_with_one_value_or_several() {
    let config = parse(
        "[[policy]]\npeer = [\"2001:db8::/32\", \"2001:db9::1\"]\nprotocols = [\"tcp\", 99]\nports = \"5000-5999\"\n\
         uplink = \"eth0\"\npackets = 3\n[[policy]]\npeer = \"::/0\"\nprotect = false\nanswer = true\n",
    )
    .expect("rules");
    let [first, second] = &config.policies[..] else {
        panic!("two rules")
    };
    assert_eq!(first.protocols, [Protocol(6), Protocol(99)]);
    assert_eq!(
        (first.ports.as_slice(), first.uplinks.as_slice()),
        ([5000..=5999].as_slice(), ["eth0".to_owned()].as_slice())
    );
    assert!(first.is_for("2001:db9::1".parse().expect("an address")));
    assert!(!first.is_for("2001:db9::2".parse().expect("an address")));
    // One count takes the place of both of [trigger].
    assert_eq!(first.threshold(&config.trigger), (3, 0));
    assert_eq!(second.threshold(&config.trigger), (50, 0));
    assert_eq!((second.protect, second.answer), (false, Some(true)));
}

#[test]
fn bad_rules_say_what_is_wrong() {
    for (line, wrong) in [
        (
            "peer = \"2001:db8::1/32\"",
            "policy.peer: \"2001:db8::1/32\" has bits set after the first 32",
        ),
        ("peer = []", "policy.peer: is empty; "),
        (
            "ports = 0",
            "policy.ports: \"0\" is no port; expected ports from 1 to 65535",
        ),
        ("ports = \"90-80\"", "policy.ports: \"90-80\" ends before it starts; "),
        ("ports = [22, true]", "policy.ports: has a boolean in it; "),
        ("protocols = \"tcpp\"", "policy.protocols: \"tcpp\" is no protocol; "),
        (
            "packets = 0",
            "policy.packets: is 0, so that no context would ever be set up by this rule; ",
        ),
        ("port = 22", "policy.port: unknown key; did you mean ports?"),
    ] {
        let message = refused(&format!("[[policy]]\n{line}\n"));
        assert!(message.starts_with(&format!("shim6.toml:2: {wrong}")), "{message}");
    }
    let message = refused("[[policy]]\nports = 22\nanswer = false\n");
    assert!(
        message.starts_with("shim6.toml:3: policy.answer: is set beside ports or protocols"),
        "{message}"
    );
    assert!(refused("[[peer]]\n").starts_with("shim6.toml:1: peer.prefix: is missing; "));
    let message = refused("[[uplink]]\ninterface = \"a\"\nmetered = true\npriority = 3\n");
    assert!(
        message.starts_with("shim6.toml:4: uplink.priority: is set on a metered uplink"),
        "{message}"
    );
    let many = "[[policy]]\n".repeat(257);
    assert_eq!(
        refused(&many),
        "shim6.toml:257: policy: there are 257 rules; expected at most 256"
    );
}

#[test]
fn a_peer_has_the_values_of_reap_but_for_its_own_and_a_profile_brings_all() {
    let config = parse(
        "[reap]\nsend_timeout = \"200ms\"\n[[peer]]\nprefix = \"2001:db8:1::/48\"\ninitial_probes = 2\n\
         [[peer]]\nprefix = \"2001:db8:2::/48\"\nprofile = \"rfc\"\n",
    )
    .expect("peers");
    let [own, profile] = &config.peers[..] else {
        panic!("two peers")
    };
    assert_eq!(
        (own.reap.send_timeout, own.reap.initial_probes),
        (Duration::from_millis(200), 2)
    );
    assert_eq!(profile.reap, ReapConfig::of(Profile::Rfc));
    let message = refused("[[peer]]\nprefix = \"::/0\"\nkeepalive_interval = \"1s\"\n");
    assert_eq!(
        message,
        "shim6.toml:3: peer.keepalive_interval: 1s is not below the send timeout; expected less than peer.send_timeout, 120ms"
    );
}
