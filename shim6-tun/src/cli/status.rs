//! `shim6 status`: the daemon at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::contexts::{is_direct, table};
use super::output::{Cell, Style, Table, WIDTH, age, plain, print};
use super::{SocketArgs, block_on};
use crate::control::Client;
use crate::status::{Counters, Event, FailureStatus, Status, UplinkStatus};

/// Events shown.
const RECENT: usize = 5;

/// Contexts shown without `--all`.
const SHOWN: usize = 20;

/// Arguments of `shim6 status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the whole status as a JSON object
    #[arg(long)]
    json: bool,
    /// Show all contexts, not only the first 20
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints the status of the running daemon.
///
/// # Errors
///
/// When no daemon answers.
pub fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let status = block_on(async { Ok(Client::connect(&path).await?.status().await?) })?;
    let text = if args.json {
        serde_json::to_string_pretty(&status)? + "\n"
    } else {
        screen(&status, Style::of_stdout(), if args.all { usize::MAX } else { SHOWN })
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn screen(status: &Status, style: Style, most: usize) -> String {
    let mut text = facts(status);
    text += &wrapped_words("health:", &health(status));
    for problem in &status.problems {
        text += &wrapped_words("problem:", &plain(problem));
    }
    text.push('\n');
    text += &uplinks(status, style);
    text.push('\n');
    text += &table(&status.contexts, style, most, "shim6 status --all");
    text += &recent(status, style);
    text += &failures(&status.failures, style, most);
    text.push('\n');
    text += &counters(&status.counters, style);
    text
}

fn facts(status: &Status) -> String {
    let down = status.uplinks.iter().filter(|uplink| !uplink.up).count();
    let moved = status.contexts.iter().filter(|context| !is_direct(context)).count();
    let mut text = format!(
        "shim6 {}, pid {}, up {}, tun {}, seen by {}; uplinks: {}",
        plain(&status.version),
        status.pid,
        age(status.uptime_ms),
        plain(&status.tun),
        plain(&status.observation),
        status.uplinks.len(),
    );
    if down > 0 {
        let _ = write!(text, " ({down} down)");
    }
    let _ = write!(text, "; contexts: {}", status.contexts.len());
    if moved > 0 {
        let _ = write!(text, " ({moved} moved)");
    }
    text.push('\n');
    text
}

/// What is not as it should be, in words.
fn health(status: &Status) -> String {
    let many = |count: usize, one: &str, several: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {several}")),
    };
    let down = status.uplinks.iter().filter(|uplink| !uplink.up).count();
    let looking = status
        .contexts
        .iter()
        .filter(|context| context.reap != "operational")
        .count();
    let moved = status.contexts.iter().filter(|context| !is_direct(context)).count();
    let what = [
        many(status.problems.len(), "problem, see below", "problems, see below"),
        many(down, "uplink is down", "uplinks are down"),
        many(
            looking,
            "context looks for a path that works",
            "contexts look for a path that works",
        ),
        many(
            moved,
            "context is on another path than its own",
            "contexts are on other paths than their own",
        ),
    ];
    let what: Vec<_> = what.into_iter().flatten().collect();
    match what.is_empty() {
        true => "all is well".to_owned(),
        false => what.join("; "),
    }
}

/// What moved and what made it move, the latest first; nothing where nothing did.
fn recent(status: &Status, style: Style) -> String {
    if status.recent.is_empty() {
        return String::new();
    }
    let mut text = "\n".to_owned() + &style.heading("LATELY") + "\n";
    for event in status.recent.iter().rev().take(RECENT) {
        let ago = age(status.uptime_ms.saturating_sub(event.at_ms));
        text += &wrapped_words(&format!("{ago:>7} ago "), &happened(event));
    }
    text
}

fn happened(event: &Event) -> String {
    let context = event.context.map_or(String::new(), |id| format!("context {id}: "));
    format!("{context}{}", plain(&event.message))
}

/// A sentence in lines that fit the screen.
fn wrapped_words(name: &str, sentence: &str) -> String {
    let mut lines = vec![name.to_owned()];
    for word in sentence.split_whitespace() {
        let line = lines.last_mut().expect("it starts with one");
        if line.len() + 1 + word.len() <= WIDTH {
            *line = format!("{line} {word}");
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines.join("\n") + "\n"
}

fn uplinks(status: &Status, style: Style) -> String {
    if status.uplinks.is_empty() {
        return "No uplinks: no interface has a global IPv6 prefix and a router.\n".to_owned();
    }
    let sending = |uplink: &UplinkStatus| {
        let contexts = status.contexts.iter();
        contexts
            .filter(|context| context.locators.local == uplink.address)
            .count()
    };
    let mut table = Table::new(&["UPLINK", "STATE", "CONTEXTS", "PREFIX", "ADDRESS", "GATEWAY"], style);
    for uplink in &status.uplinks {
        table.row([
            plain(&uplink.interface).into(),
            if uplink.up {
                Cell::styled("up", |text| style.good(text))
            } else {
                Cell::styled("down", |text| style.bad(text))
            },
            sending(uplink).into(),
            plain(&uplink.prefix).into(),
            uplink.address.into(),
            uplink.gateway.map_or("-".into(), Cell::from),
        ]);
        if !uplink.ulid {
            table.note(
                "  not in the set, but signed: sessions move to it, those that begin on it are not protected"
                    .to_owned(),
            );
        }
    }
    table.render()
}

/// Nothing where there are none.
fn failures(failures: &[FailureStatus], style: Style, most: usize) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["LEFT ALONE", "FOR", "WHY"], style);
    for failure in failures.iter().take(most) {
        let why = match failure.state.as_str() {
            "e-failed" => "does not answer".to_owned(),
            "no-support" => "says that it does not speak Shim6".to_owned(),
            other => plain(other),
        };
        table.row([failure.peer.into(), age(failure.ends_in_ms).into(), why.into()]);
    }
    let mut text = "\n".to_owned() + &table.render();
    if failures.len() > most {
        let _ = writeln!(text, "{} more: shim6 status --all", failures.len() - most);
    }
    text
}

fn counters(counters: &Counters, style: Style) -> String {
    let groups = [
        ("received", &counters.received),
        ("sent", &counters.sent),
        ("discarded", &counters.discards),
        ("data path", &counters.dataplane),
    ];
    let mut text = style.heading("COUNTERS") + "\n";
    for (name, group) in groups {
        text += &wrapped(name, group);
    }
    text
}

/// The counters of `group` that are not 0, as many lines as they need.
fn wrapped(name: &str, group: &BTreeMap<String, u64>) -> String {
    let mut line = format!("  {name:<9}  ");
    let indent = line.len();
    let mut text = String::new();
    let mut counted = group.iter().filter(|(_, value)| **value > 0).peekable();
    if counted.peek().is_none() {
        return line + "-\n";
    }
    while let Some((key, value)) = counted.next() {
        let item = format!("{} {value}", plain(key));
        if line.len() > indent && line.chars().count() + item.chars().count() + 1 > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(indent);
        }
        line += &item;
        if counted.peek().is_some() {
            line += ", ";
        }
    }
    text += line.trim_end();
    text.push('\n');
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::{ContextStatus, FailoverStatus, PairStatus, Volume};

    fn address(text: &str) -> std::net::Ipv6Addr {
        text.parse().expect("an address in a test")
    }

    fn between(local: &str, peer: &str) -> PairStatus {
        PairStatus {
            local: address(local),
            peer: address(peer),
        }
    }

    /// A document for tests of whatever shows one: two contexts, of which one has moved.
    pub(in crate::cli) fn sample() -> Status {
        let ulids = between("2001:db8:a1:0:1c0d:22e3:3f44:5a55", "2001:db8:b1:0:3c0d:42e3:5f44:6a55");
        let moved = between("2001:db8:a2:0:1c0d:22e3:3f44:5a55", "2001:db8:b2:0:3c0d:42e3:5f44:6a55");
        let direct = ContextStatus {
            id: 1,
            ulids: moved,
            forked_instance: 0,
            state: "established".to_owned(),
            reap: "operational".to_owned(),
            locators: moved,
            preferred: moved,
            steered: false,
            rtt_us: Some(20_400),
            send_timeout_ms: 120,
            peer_locators: vec![moved.peer, ulids.peer],
            age_ms: 60_000,
            sent: Volume {
                packets: 1234,
                octets: 98_765,
            },
            received: Volume {
                packets: 81_200,
                octets: 118_000_000,
            },
            failovers: 0,
            last_failover: None,
            pinned: false,
        };
        let uplink = |interface: &str, prefix: &str, address: std::net::Ipv6Addr, up: bool| UplinkStatus {
            interface: interface.to_owned(),
            prefix: prefix.to_owned(),
            gateway: up.then(|| "fe80::1".parse().expect("an address")),
            address,
            ulid: true,
            up,
        };
        Status {
            version: "0.1.0".to_owned(),
            pid: 4242,
            uptime_ms: 7_384_000,
            tun: "shim0".to_owned(),
            observation: "ebpf".to_owned(),
            problems: Vec::new(),
            uplinks: vec![
                uplink("eth0", "2001:db8:a1::/64", ulids.local, false),
                uplink("wwan0", "2001:db8:a2::/64", moved.local, true),
            ],
            contexts: vec![
                direct.clone(),
                ContextStatus {
                    id: 2,
                    ulids,
                    locators: moved,
                    preferred: ulids,
                    steered: true,
                    failovers: 1,
                    last_failover: Some(FailoverStatus {
                        cause: "link down on eth0".to_owned(),
                        from: ulids,
                        to: moved,
                        ago_ms: 12_345,
                        took_ms: Some(171),
                    }),
                    ..direct
                },
            ],
            failures: Vec::new(),
            counters: Counters {
                received: BTreeMap::from([("i1".to_owned(), 0), ("r1".to_owned(), 2), ("r2".to_owned(), 2)]),
                sent: BTreeMap::from([("i1".to_owned(), 2), ("i2".to_owned(), 2)]),
                discards: BTreeMap::from([("bad-checksum".to_owned(), 0)]),
                dataplane: BTreeMap::new(),
            },
            recent: vec![Event {
                at_ms: 7_371_655,
                kind: "failover".to_owned(),
                context: Some(2),
                message: "path moved: link down on eth0".to_owned(),
                detail: serde_json::Value::Null,
            }],
        }
    }

    const NO_COLOR: Style = Style { colored: false };

    #[test]
    fn address_on_which_no_session_should_begin_is_marked() {
        let mut status = sample();
        assert!(!uplinks(&status, NO_COLOR).contains("not in the set"));
        status.uplinks[0].ulid = false;
        let shown = uplinks(&status, NO_COLOR);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with("eth0"), "{shown}");
        assert_eq!(
            lines[2],
            "  not in the set, but signed: sessions move to it, those that begin on it are not protected"
        );
    }

    #[test]
    fn the_screen_shows_what_is_up_what_moved_and_why() {
        let expected = "\
shim6 0.1.0, pid 4242, up 2h 3m, tun shim0, seen by ebpf; uplinks: 2 (1 down); contexts: 2 (1 moved)
health: 1 uplink is down; 1 context is on another path than its own

UPLINK  STATE  CONTEXTS  PREFIX            ADDRESS                            GATEWAY
eth0    down   0         2001:db8:a1::/64  2001:db8:a1:0:1c0d:22e3:3f44:5a55  -
wwan0   up     2         2001:db8:a2::/64  2001:db8:a2:0:1c0d:22e3:3f44:5a55  fe80::1

CONTEXT  STATE        PATH    HEALTH       RTT   SENT                 RECEIVED            FAILOVERS
2        established  moved   operational  20ms  98.7 kB (1.23k pkt)  118 MB (81.2k pkt)  1
  ulids  2001:db8:a1:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b1:0:3c0d:42e3:5f44:6a55
  path   2001:db8:a2:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b2:0:3c0d:42e3:5f44:6a55
  back   to 2001:db8:a1:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b1:0:3c0d:42e3:5f44:6a55 when that works
  last   12.3s ago: link down on eth0, after 171ms without a path
1        established  direct  operational  20ms  98.7 kB (1.23k pkt)  118 MB (81.2k pkt)  0
  ulids  2001:db8:a2:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b2:0:3c0d:42e3:5f44:6a55

LATELY
  12.3s ago  context 2: path moved: link down on eth0

COUNTERS
  received   r1 2, r2 2
  sent       i1 2, i2 2
  discarded  -
  data path  -
";
        assert_eq!(screen(&sample(), NO_COLOR, SHOWN), expected);
    }

    #[test]
    fn problems_come_first_and_in_lines_that_fit() {
        let mut status = sample();
        status.problems = vec!["packets are not steered ".repeat(9)];
        let screen = screen(&status, NO_COLOR, SHOWN);
        let lines: Vec<_> = screen.lines().collect();
        assert!(lines[1].starts_with("health: 1 problem, see below; "), "{screen}");
        assert!(lines[2].starts_with("problem: packets are not"), "{screen}");
        assert!(lines[3].starts_with("  "), "{screen}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{screen}");
    }

    #[test]
    fn peers_that_are_left_alone_come_with_the_reason() {
        let mut status = sample();
        let failure = |peer: &str, state: &str, ends_in_ms| FailureStatus {
            peer: address(peer),
            state: state.to_owned(),
            ends_in_ms,
        };
        status.failures = vec![
            failure("2001:db8:c1::1", "e-failed", 12_345),
            failure("2001:db8:c2:0:3c0d:42e3:5f44:6a55", "no-support", 300_000),
        ];
        let expected = "

LEFT ALONE                         FOR    WHY
2001:db8:c1::1                     12.3s  does not answer
2001:db8:c2:0:3c0d:42e3:5f44:6a55  5m 0s  says that it does not speak Shim6

COUNTERS
";
        let text = screen(&status, NO_COLOR, SHOWN);
        assert!(text.contains(&expected[1..]), "{text}");
        let text = screen(&status, NO_COLOR, 1);
        assert!(text.contains("answer\n1 more: shim6 status --all\n"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let mut status = sample();
        let long = between(
            "2001:db8:aaaa:bbbb:1c0d:22e3:3f44:5a55",
            "2001:db8:cccc:dddd:3c0d:42e3:5f44:6a55",
        );
        status.uplinks[0].interface = "enp0s31f6np1234".to_owned();
        status.uplinks[0].prefix = "2001:db8:aaaa:bbbb::/64".to_owned();
        status.uplinks[0].address = long.local;
        status.uplinks[0].gateway = Some(address("fe80::1234:56ff:fe78:9abc"));
        status.contexts[0].ulids = long;
        status.contexts[0].id = 9_999_999;
        status.contexts[0].state = "i2bis-sent".to_owned();
        for discard in 0..40 {
            status
                .counters
                .discards
                .insert(format!("reason-number-{discard}"), 1 << 40);
        }
        let text = screen(&status, NO_COLOR, SHOWN);
        for line in text.lines() {
            assert!(
                line.chars().count() <= WIDTH,
                "{} columns: {line}",
                line.chars().count()
            );
        }
        assert!(text.contains("\n  gateway fe80::1234:56ff:fe78:9abc\n"), "{text}");
    }

    #[test]
    fn troubled_contexts_come_first_and_many_are_cut() {
        let mut status = sample();
        let direct = status.contexts[0].clone();
        status
            .contexts
            .extend((3..50).map(|id| ContextStatus { id, ..direct.clone() }));
        status.contexts[30].reap = "exploring".to_owned();
        let text = screen(&status, NO_COLOR, SHOWN);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("established")).collect();
        assert_eq!(rows.len(), SHOWN);
        assert!(
            rows[0].starts_with("31 ") && rows[0].contains("exploring"),
            "{}",
            rows[0]
        );
        assert!(rows[1].starts_with("2 ") && rows[1].contains("moved"), "{}", rows[1]);
        assert!(text.contains("\n29 more: shim6 status --all\n"), "{text}");
    }

    #[test]
    fn an_idle_daemon_says_what_it_waits_for() {
        let mut status = sample();
        status.uplinks.clear();
        status.contexts.clear();
        let text = screen(&status, NO_COLOR, SHOWN);
        assert!(text.contains("uplinks: 0; contexts: 0\n"), "{text}");
        assert!(text.contains("No uplinks:") && text.contains("No contexts:"), "{text}");
    }

    #[test]
    fn colour_only_adds_escapes() {
        let colored = screen(&sample(), Style { colored: true }, SHOWN);
        assert!(colored.contains("\x1b[1;31mdown\x1b[0m"), "{colored}");
        let mut bare = colored;
        for code in ["0", "1", "32", "33", "1;31"] {
            bare = bare.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(bare, screen(&sample(), NO_COLOR, SHOWN));
    }
}
