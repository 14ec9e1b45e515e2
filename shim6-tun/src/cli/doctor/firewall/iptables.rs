//! Reads what `ip6tables-save` prints, for hosts whose rules nft does not show.

use std::net::Ipv6Addr;

use super::model::{Action, Chain, Condition, Hook, Rule, Ruleset, Test};

/// The rules of all tables that can drop.
pub(super) fn parse(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next().unwrap_or_default(), words.next());
            let base = match name {
                _ if table == "nat" => None,
                "INPUT" | "PREROUTING" => Some(Hook::Input),
                "OUTPUT" | "POSTROUTING" => Some(Hook::Output),
                _ => None,
            };
            let chain = Chain {
                base,
                device: None,
                drops_by_policy: policy == Some("DROP"),
                rules: Vec::new(),
            };
            ruleset.chains.insert(full(table, name), chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(chain) = ruleset.chains.get_mut(&full(table, name)) {
                chain.rules.push(self::rule(rule, table));
            }
        }
    }
    ruleset
}

/// How a chain is named to ip6tables.
fn full(table: &str, name: &str) -> String {
    format!("-t {table} {name}")
}

fn rule(text: &str, table: &str) -> Rule {
    let mut conditions = Vec::new();
    let mut action = Action::Nothing;
    let mut negated = false;
    let words = words(text);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let mut value = || words.next().unwrap_or_default().to_owned();
        let list = |text: String| text.split(',').map(str::to_owned).collect();
        let test = match word {
            "-p" | "--protocol" => Some(Test::Protocol(vec![value()])),
            "-i" => Some(Test::In(vec![value()])),
            "-o" => Some(Test::Out(vec![value()])),
            "-s" => Some(prefix(&value()).map_or(Test::Unknown, |it| Test::Source(vec![it]))),
            "-d" => Some(prefix(&value()).map_or(Test::Unknown, |it| Test::Destination(vec![it]))),
            "--ctstate" | "--state" => Some(Test::State(list(value()))),
            "-m" => {
                // What it asks for comes with its own options.
                value();
                None
            }
            "-j" | "-g" => {
                action = target(&value(), word == "-g", table);
                None
            }
            "--comment" | "--reject-with" | "--log-prefix" | "--log-level" => {
                value();
                None
            }
            _ if word.starts_with("--") => Some(Test::Unknown),
            _ => None,
        };
        conditions.extend(test.map(|test| Condition { test, negated }));
        negated = false;
    }
    Rule {
        conditions,
        action,
        text: format!("the rule `{text}`"),
    }
}

fn target(name: &str, goes: bool, table: &str) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "QUEUE" | "NFQUEUE" => Action::Unknown,
        _ if goes => Action::Goto(full(table, name)),
        // What is no chain only changes or notes something: a jump to nowhere.
        _ => Action::Jump(full(table, name)),
    }
}

/// Words, of which those in quotes may have blanks in them.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match (c, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (c, _) if c.is_whitespace() && !quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn prefix(text: &str) -> Option<(Ipv6Addr, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    Some((address.parse().ok()?, length.parse().ok()?))
}
