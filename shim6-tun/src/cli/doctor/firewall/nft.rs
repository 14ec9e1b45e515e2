//! Reads what `nft --json list ruleset` prints (libnftables-json(5)).

use std::net::Ipv6Addr;

use serde_json::Value;

use super::model::{Action, Chain, Condition, Hook, Rule, Ruleset, Test};

/// Families that see IPv6 packets.
const FAMILIES: [&str; 3] = ["inet", "ip6", "netdev"];

/// The rules; `None` if this is not what nft prints.
pub(super) fn parse(text: &str) -> Option<Ruleset> {
    let document: Value = serde_json::from_str(text).ok()?;
    let objects = document.get("nftables")?.as_array()?;
    let mut ruleset = Ruleset::default();
    for chain in objects.iter().filter_map(|object| object.get("chain")) {
        if let Some((name, chain)) = self::chain(chain) {
            ruleset.chains.insert(name, chain);
        }
    }
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let Some(name) = chain_name(rule, "chain") else {
            continue;
        };
        let prefix = name.rsplit_once(' ').map_or("", |(prefix, _)| prefix);
        if let Some(chain) = ruleset.chains.get_mut(&name) {
            chain.rules.extend(rules(rule, prefix));
        }
    }
    Some(ruleset)
}

fn chain(chain: &Value) -> Option<(String, Chain)> {
    let name = chain_name(chain, "name")?;
    let text = |key: &str| chain.get(key).and_then(Value::as_str);
    let base = match text("hook") {
        // Translation of addresses drops nothing.
        _ if text("type") == Some("nat") => None,
        Some("input" | "ingress" | "prerouting") => Some(Hook::Input),
        Some("output" | "egress" | "postrouting") => Some(Hook::Output),
        _ => None,
    };
    let chain = Chain {
        base,
        device: text("dev").map(str::to_owned),
        drops_by_policy: text("policy") == Some("drop"),
        rules: Vec::new(),
    };
    Some((name, chain))
}

/// The chain's whole name.
fn chain_name(object: &Value, key: &str) -> Option<String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let family = text("family").filter(|family| FAMILIES.contains(family))?;
    Some(format!("{family} {} {}", text("table")?, text(key)?))
}

/// A rule, or one for each element of a verdict map.
fn rules(rule: &Value, prefix: &str) -> Vec<Rule> {
    let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or_default();
    let text = format!("the rule with handle {handle}");
    let mut conditions = Vec::new();
    let mut rules = Vec::new();
    let empty = Vec::new();
    for expression in rule.get("expr").and_then(Value::as_array).unwrap_or(&empty) {
        let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => conditions.push(condition(body)),
            "counter" | "log" | "mangle" | "notrack" | "flow" | "ct count" | "meter" => {}
            "limit" | "quota" | "xt" | "fib" => conditions.push(unknown()),
            "vmap" => {
                let key = body.get("key").unwrap_or(&Value::Null);
                let elements = body.pointer("/data/set").and_then(Value::as_array);
                for element in elements.unwrap_or(&empty) {
                    let (Some(value), Some(verdict)) = (element.get(0), element.get(1)) else {
                        continue;
                    };
                    let mut conditions = conditions.clone();
                    conditions.push(Condition {
                        test: test(key, value),
                        negated: false,
                    });
                    rules.push(Rule {
                        conditions,
                        action: verdict.as_object().map_or(Action::Unknown, |v| verdict_of(v, prefix)),
                        text: text.clone(),
                    });
                }
                if elements.is_none() {
                    // A named map, whose elements are elsewhere.
                    let (conditions, action) = (conditions.clone(), Action::Unknown);
                    let text = text.clone();
                    rules.push(Rule {
                        conditions,
                        action,
                        text,
                    });
                }
            }
            _ => {
                let action = expression
                    .as_object()
                    .map_or(Action::Unknown, |v| verdict_of(v, prefix));
                let (conditions, text) = (conditions.clone(), text.clone());
                rules.push(Rule {
                    conditions,
                    action,
                    text,
                });
            }
        }
    }
    rules
}

fn verdict_of(verdict: &serde_json::Map<String, Value>, prefix: &str) -> Action {
    let Some((kind, body)) = verdict.iter().next() else {
        return Action::Unknown;
    };
    let target = || {
        let target = body.get("target").and_then(Value::as_str).unwrap_or_default();
        format!("{prefix} {target}")
    };
    match kind.as_str() {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "return" => Action::Return,
        "continue" | "snat" | "dnat" | "masquerade" | "redirect" | "dup" | "set" | "map" | "ct helper" => {
            Action::Nothing
        }
        _ => Action::Unknown,
    }
}

fn condition(body: &Value) -> Condition {
    let (left, right) = (body.get("left"), body.get("right"));
    let (left, right) = (left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
    let operator = body.get("op").and_then(Value::as_str).unwrap_or("==");
    if !matches!(operator, "==" | "!=" | "in") {
        return unknown();
    }
    Condition {
        test: test(left, right),
        negated: operator == "!=",
    }
}

fn unknown() -> Condition {
    Condition {
        test: Test::Unknown,
        negated: false,
    }
}

fn test(left: &Value, right: &Value) -> Test {
    let key = |kind: &str| left.get(kind).and_then(|it| it.get("key")).and_then(Value::as_str);
    let of = |make: fn(Vec<String>) -> Test| texts(right).map_or(Test::Unknown, make);
    if let Some(key) = key("meta") {
        let is = |name: &str| texts(right).is_some_and(|texts| texts.iter().any(|text| text == name));
        return match key {
            "l4proto" => of(Test::Protocol),
            "iif" | "iifname" => of(Test::In),
            "oif" | "oifname" => of(Test::Out),
            "nfproto" if texts(right).is_some() => always_if(is("ipv6")),
            "protocol" if texts(right).is_some() => always_if(is("ip6")),
            _ => Test::Unknown,
        };
    }
    if key("ct") == Some("state") {
        return of(Test::State);
    }
    let payload = |part: &str| left.pointer(&format!("/payload/{part}")).and_then(Value::as_str);
    match (payload("protocol"), payload("field")) {
        (Some("ip6"), Some("nexthdr")) => of(Test::Protocol),
        (Some("ip6"), Some("saddr")) => prefixes(right).map_or(Test::Unknown, Test::Source),
        (Some("ip6"), Some("daddr")) => prefixes(right).map_or(Test::Unknown, Test::Destination),
        (Some("ip" | "arp"), _) => Test::Never,
        // To look at a port is to ask for the protocol first.
        (Some(name @ ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6" | "esp" | "ah" | "comp")), _) => {
            Test::Protocol(vec![name.to_owned()])
        }
        _ => Test::Unknown,
    }
}

fn always_if(is: bool) -> Test {
    if is { Test::Always } else { Test::Never }
}

/// The values of what stands right in a comparison; `None` where one is not a plain one.
fn values(right: &Value) -> Vec<&Value> {
    match right.get("set").unwrap_or(right) {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

fn texts(right: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        // A name with an @ is that of a set.
        Value::String(text) if !text.starts_with('@') => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    values(right).into_iter().map(text).collect()
}

fn prefixes(right: &Value) -> Option<Vec<(Ipv6Addr, u8)>> {
    let prefix = |value: &Value| {
        if let Some(prefix) = value.get("prefix") {
            let length = prefix.get("len")?.as_u64()?;
            return Some((prefix.get("addr")?.as_str()?.parse().ok()?, u8::try_from(length).ok()?));
        }
        Some((value.as_str()?.parse().ok()?, 128))
    };
    values(right).into_iter().map(prefix).collect()
}
