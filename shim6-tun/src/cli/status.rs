//! `shim6 status`: the daemon at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::output::{Cell, Style, Table, WIDTH, age, count, octets, plain, print};
use super::{SocketArgs, block_on};
use crate::control::Client;
use crate::status::{ContextStatus, Counters, FailureStatus, PairStatus, Status, UplinkStatus, Volume};

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
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            colored: io::stdout().is_terminal() && !no_color,
        };
        screen(&status, style, if args.all { usize::MAX } else { SHOWN })
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn screen(status: &Status, style: Style, most: usize) -> String {
    let mut text = facts(status);
    for problem in &status.problems {
        text += &wrapped_words("problem:", &plain(problem));
    }
    text.push('\n');
    text += &uplinks(&status.uplinks, style);
    text.push('\n');
    text += &contexts(&status.contexts, style, most);
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

fn uplinks(uplinks: &[UplinkStatus], style: Style) -> String {
    if uplinks.is_empty() {
        return "No uplinks: no interface has a global IPv6 prefix and a router.\n".to_owned();
    }
    let mut table = Table::new(&["UPLINK", "STATE", "PREFIX", "ADDRESS", "GATEWAY"], style);
    for uplink in uplinks {
        table.row([
            plain(&uplink.interface).into(),
            if uplink.up {
                Cell::styled("up", |text| style.good(text))
            } else {
                Cell::styled("down", |text| style.bad(text))
            },
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

fn contexts(contexts: &[ContextStatus], style: Style, most: usize) -> String {
    if contexts.is_empty() {
        return "No contexts: no peer that speaks Shim6 has had enough traffic yet.\n".to_owned();
    }
    // What does not run as usual comes first.
    let mut sorted: Vec<&ContextStatus> = contexts.iter().collect();
    sorted.sort_by_key(|context| (context.reap == "operational", is_direct(context), context.id));
    let mut table = Table::new(
        &[
            "CONTEXT",
            "STATE",
            "PATH",
            "HEALTH",
            "RTT",
            "SENT",
            "RECEIVED",
            "FAILOVERS",
        ],
        style,
    );
    for context in sorted.iter().take(most) {
        table.row([
            context.id.into(),
            plain(&context.state).into(),
            if is_direct(context) {
                "direct".into()
            } else {
                Cell::styled("moved", |text| style.changing(text))
            },
            match context.reap.as_str() {
                "operational" => Cell::styled("operational", |text| style.good(text)),
                other => Cell::styled(&plain(other), |text| style.bad(text)),
            },
            context.rtt_us.map_or("-".to_owned(), round_trip).into(),
            volume(context.sent).into(),
            volume(context.received).into(),
            context.failovers.into(),
        ]);
        table.note(format!("  ulids  {}", pair(context.ulids)));
        if !is_direct(context) {
            table.note(format!("  path   {}", pair(context.locators)));
        }
        if context.preferred != context.locators {
            table.note(format!("  back   to {} when that works", pair(context.preferred)));
        }
        if let Some(last) = &context.last_failover {
            table.note(format!("  last   {} ago: {}", age(last.ago_ms), plain(&last.cause)));
        }
    }
    let mut text = table.render();
    if sorted.len() > most {
        let _ = writeln!(text, "{} more: shim6 status --all", sorted.len() - most);
    }
    text
}

fn round_trip(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 9.95 {
        format!("{millis:.1}ms")
    } else {
        format!("{millis:.0}ms")
    }
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

fn is_direct(context: &ContextStatus) -> bool {
    context.locators == context.ulids
}

fn pair(pair: PairStatus) -> String {
    format!("{} -> {}", pair.local, pair.peer)
}

fn volume(volume: Volume) -> String {
    format!("{} ({} pkt)", octets(volume.octets), count(volume.packets))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::FailoverStatus;

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
        }
    }

    const NO_COLOR: Style = Style { colored: false };

    #[test]
    fn address_on_which_no_session_should_begin_is_marked() {
        let mut status = sample();
        assert!(!uplinks(&status.uplinks, NO_COLOR).contains("not in the set"));
        status.uplinks[0].ulid = false;
        let shown = uplinks(&status.uplinks, NO_COLOR);
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

UPLINK  STATE  PREFIX            ADDRESS                            GATEWAY
eth0    down   2001:db8:a1::/64  2001:db8:a1:0:1c0d:22e3:3f44:5a55  -
wwan0   up     2001:db8:a2::/64  2001:db8:a2:0:1c0d:22e3:3f44:5a55  fe80::1

CONTEXT  STATE        PATH    HEALTH       RTT   SENT                 RECEIVED            FAILOVERS
2        established  moved   operational  20ms  98.7 kB (1.23k pkt)  118 MB (81.2k pkt)  1
  ulids  2001:db8:a1:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b1:0:3c0d:42e3:5f44:6a55
  path   2001:db8:a2:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b2:0:3c0d:42e3:5f44:6a55
  back   to 2001:db8:a1:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b1:0:3c0d:42e3:5f44:6a55 when that works
  last   12.3s ago: link down on eth0
1        established  direct  operational  20ms  98.7 kB (1.23k pkt)  118 MB (81.2k pkt)  0
  ulids  2001:db8:a2:0:1c0d:22e3:3f44:5a55 -> 2001:db8:b2:0:3c0d:42e3:5f44:6a55

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
        assert!(lines[1].starts_with("problem: packets are not"), "{screen}");
        assert!(lines[2].starts_with("  "), "{screen}");
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
