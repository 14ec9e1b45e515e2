use std::net::Ipv6Addr;

use super::model::{Hook, Packet, Place, Ruleset, Verdict};
use super::{iptables, is_of_iptables, judge, nft};
use crate::cli::doctor::Local;
use crate::cli::doctor::finding::Level;

const LOCAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);

fn verdict(rules: &Ruleset, hook: Hook) -> Verdict {
    rules.verdict(Packet {
        hook,
        interface: "eth0",
        local: LOCAL,
    })
}

/// A chain of nftables for what comes in, as nft prints it. Each rule is the list of its expressions.
fn chain(policy: &str, rules: &[&str]) -> Ruleset {
    let chain = format!(
        r#"{{"chain":{{"family":"inet","table":"filter","name":"in","handle":1,"type":"filter","hook":"input","prio":0,"policy":"{policy}"}}}}"#
    );
    let rules = rules.iter().enumerate().map(|(number, rule)| {
        format!(
            r#"{{"rule":{{"family":"inet","table":"filter","chain":"in","handle":{},"expr":[{rule}]}}}}"#,
            number + 2
        )
    });
    let objects: Vec<_> = [chain].into_iter().chain(rules).collect();
    nft::parse(&format!(r#"{{"nftables":[{}]}}"#, objects.join(","))).expect("JSON")
}

fn comparison(left: &str, right: &str, verdict: &str) -> String {
    format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}},{{"{verdict}":null}}"#)
}

fn dropped_by(what: &str) -> Verdict {
    Verdict::Dropped(Place {
        chain: "inet filter in".to_owned(),
        what: what.to_owned(),
    })
}

const POLICY: &str = "its policy, as no rule accepts them";
const PROTOCOL: &str = r#"{"meta":{"key":"l4proto"}}"#;
const INTERFACE: &str = r#"{"meta":{"key":"iifname"}}"#;
const STATE: &str = r#"{"ct":{"key":"state"}}"#;
const SOURCE: &str = r#"{"payload":{"protocol":"ip6","field":"saddr"}}"#;
const PORT: &str = r#"{"payload":{"protocol":"tcp","field":"dport"}}"#;

#[test]
fn no_rules_let_everything_pass() {
    let rules = nft::parse(r#"{"nftables":[{"metainfo":{"json_schema_version":1}}]}"#).unwrap();
    assert_eq!(verdict(&rules, Hook::Input), Verdict::Passes);
    assert!(nft::parse("no JSON").is_none());
    assert!(nft::parse("{}").is_none());
}

#[test]
fn a_policy_drops_what_no_rule_accepts() {
    let usual = [
        comparison(STATE, r#"["established","related"]"#, "accept"),
        comparison(INTERFACE, r#""lo""#, "accept"),
        comparison(PROTOCOL, r#""ipv6-icmp""#, "accept"),
        comparison(PORT, "22", "accept"),
        comparison(SOURCE, r#"{"prefix":{"addr":"fe80::","len":10}}"#, "accept"),
    ];
    let usual: Vec<&str> = usual.iter().map(String::as_str).collect();
    assert_eq!(verdict(&chain("drop", &usual), Hook::Input), dropped_by(POLICY));
    assert_eq!(verdict(&chain("accept", &usual), Hook::Input), Verdict::Passes);
    // A chain for the other direction has no say.
    assert_eq!(verdict(&chain("drop", &usual), Hook::Output), Verdict::Passes);
}

#[test]
fn a_rule_for_protocol_140_is_known_however_it_is_written() {
    let ways = [
        comparison(PROTOCOL, "140", "accept"),
        comparison(PROTOCOL, r#""shim6""#, "accept"),
        comparison(PROTOCOL, r#"{"set":["esp",140]}"#, "accept"),
        comparison(r#"{"payload":{"protocol":"ip6","field":"nexthdr"}}"#, "140", "accept"),
        comparison(STATE, r#"["new","established"]"#, "accept"),
        comparison(INTERFACE, r#"["lo","eth*"]"#, "accept"),
        r#"{"vmap":{"key":{"meta":{"key":"l4proto"}},"data":{"set":[["tcp",{"drop":null}],[140,{"accept":null}]]}}}"#
            .to_owned(),
    ];
    for way in ways {
        assert_eq!(verdict(&chain("drop", &[&way]), Hook::Input), Verdict::Passes, "{way}");
    }
}

#[test]
fn the_rule_that_drops_is_named() {
    let first = comparison(PORT, "22", "accept");
    let dropped = comparison(PROTOCOL, "140", "drop");
    assert_eq!(
        verdict(&chain("accept", &[&first, &dropped]), Hook::Input),
        dropped_by("the rule with handle 3")
    );
    let rejected = r#"{"match":{"op":"!=","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp","ipv6-icmp"]}}},{"reject":{}}"#;
    assert_eq!(
        verdict(&chain("accept", &[rejected]), Hook::Input),
        dropped_by("the rule with handle 2")
    );
    // The one that accepts comes first.
    let accepted = comparison(PROTOCOL, "140", "accept");
    assert_eq!(
        verdict(&chain("accept", &[&accepted, &dropped]), Hook::Input),
        Verdict::Passes
    );
}

#[test]
fn what_depends_on_the_peer_or_on_rates_is_not_sure() {
    let some_peers = comparison(SOURCE, r#"{"prefix":{"addr":"2001:db8:9::","len":48}}"#, "accept");
    let rate = format!(
        r#"{{"match":{{"op":"==","left":{PROTOCOL},"right":140}}}},{{"limit":{{"rate":5,"per":"second"}}}},{{"accept":null}}"#
    );
    let set = comparison(SOURCE, r#""@blocked""#, "drop");
    for (policy, rule) in [("drop", some_peers), ("drop", rate), ("accept", set)] {
        assert!(
            matches!(verdict(&chain(policy, &[&rule]), Hook::Input), Verdict::Unsure(_)),
            "{rule}"
        );
    }
    let all_peers = comparison(SOURCE, r#"{"prefix":{"addr":"2000::","len":3}}"#, "accept");
    assert_eq!(verdict(&chain("drop", &[&all_peers]), Hook::Input), Verdict::Passes);
}

#[test]
fn chains_that_are_jumped_to_are_followed_and_a_circle_ends() {
    let text = r#"{"nftables":[
        {"chain":{"family":"ip6","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"accept"}},
        {"chain":{"family":"ip6","table":"t","name":"more"}},
        {"rule":{"family":"ip6","table":"t","chain":"in","handle":1,"expr":[{"jump":{"target":"more"}}]}},
        {"rule":{"family":"ip6","table":"t","chain":"more","handle":2,"expr":[{"jump":{"target":"more"}}]}},
        {"rule":{"family":"ip6","table":"t","chain":"more","handle":3,"expr":[{"counter":{}},{"drop":null}]}}]}"#;
    let Verdict::Dropped(place) = verdict(&nft::parse(text).unwrap(), Hook::Input) else {
        panic!("not dropped");
    };
    assert_eq!(
        (place.chain.as_str(), place.what.as_str()),
        ("ip6 t more", "the rule with handle 3")
    );
}

#[test]
fn rules_of_ip6tables_are_understood() {
    let text = |more: &str| {
        format!(
            "# Generated\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n\
             -A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A INPUT -p tcp -m tcp --dport 22 -m comment --comment \"for -j ACCEPT\" -j ACCEPT\n-A INPUT -j LOG\n\
             -A INPUT -j mine\n{more}COMMIT\n*nat\n:OUTPUT DROP [0:0]\nCOMMIT\n"
        )
    };
    let dropped = verdict(&iptables::parse(&text("")), Hook::Input);
    assert!(
        matches!(&dropped, Verdict::Dropped(place) if place.chain == "-t filter INPUT"),
        "{dropped:?}"
    );
    assert_eq!(verdict(&iptables::parse(&text("")), Hook::Output), Verdict::Passes);
    for opening in [
        "-A INPUT -p 140 -j ACCEPT\n",
        "-A mine ! -p tcp -j ACCEPT\n",
        "-A INPUT -d 2001:db8:1::/64 -j ACCEPT\n",
    ] {
        assert_eq!(
            verdict(&iptables::parse(&text(opening)), Hook::Input),
            Verdict::Passes,
            "{opening}"
        );
    }
    let returns = text("-A mine -p 140 -j RETURN\n-A mine -j ACCEPT\n");
    assert!(matches!(
        verdict(&iptables::parse(&returns), Hook::Input),
        Verdict::Dropped(_)
    ));
}

#[test]
fn a_finding_has_the_line_that_opens_it_and_is_told_once() {
    let local = |interface: &str| Local {
        interface: interface.to_owned(),
        address: LOCAL,
    };
    let findings = judge(&chain("drop", &[]), &[local("eth0"), local("eth1")], |chain| {
        format!("open {chain}")
    });
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].level, Level::Wrong);
    assert!(findings[0].mend[0].starts_with("open inet filter in"), "{findings:?}");
}

#[test]
fn tables_of_ip6tables_are_told_from_others() {
    assert!(is_of_iptables("ip6 filter INPUT"));
    assert!(!is_of_iptables("inet filter input"));
    assert!(!is_of_iptables("ip6 mine INPUT"));
}
