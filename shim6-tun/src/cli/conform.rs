//! `shim6 conform`: plays the peer of another implementation, and holds what it does against the RFCs.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use caps::{CapSet, Capability};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::net::lookup_host;
use tokio::signal::unix::{SignalKind, signal};

use super::decode::text_of;
use super::output::print;
use super::{EXIT_CODES, INTERRUPTED, UsageError, block_on};
use crate::conform::{
    Check, Finding, Interface, LoggedPacket, Outcome, Plan, RawWire, Run, Trigger, all, interfaces, is_occupied, junit,
    markdown, table,
};

/// Exit code if a check has failed.
const FAILED: u8 = 3;
/// Echo requests at most that are to make the target set up a context: its default is to do so after fifty packets.
const DEFAULT_TRIGGER: u32 = 200;
/// With more of them each check would have more locators than most targets take.
const MOST_PREFIXES: usize = 4;

const EXAMPLES: &str = "\
Examples:
  sudo shim6 conform 2001:db8:b1::1
  sudo shim6 conform 2001:db8:b1::1 --check 7.13 --check 5534-6 --packets
  sudo shim6 conform www.example.com --slow --junit conformance.xml
  shim6 conform --list";

/// The end of the help.
pub(super) fn after_help() -> String {
    format!("{EXIT_CODES}\n  3  the target does not do what it should: a check has failed\n\n{EXAMPLES}")
}

/// Arguments of `shim6 conform`.
#[derive(Debug, Args)]
pub struct ConformArgs {
    /// The implementation to test: a ULID of its host, or a name that has one
    #[arg(value_name = "TARGET", required_unless_present = "list")]
    target: Option<String>,
    /// Play only these: an id such as 5533-7.9-01, a section such as 7.9 or 5534-6, or 5533; may be repeated
    #[arg(long = "check", value_name = "ID|SECTION")]
    checks: Vec<String>,
    /// List the checks and do nothing else
    #[arg(long, conflicts_with_all = ["target", "junit", "packets", "markdown"])]
    list: bool,
    /// Play also what takes longer than ten seconds; all in all a minute
    #[arg(long)]
    slow: bool,
    /// Show the packets of the checks that fail, or of all, decoded
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "failed")]
    packets: Option<Packets>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print tables for a document
    #[arg(long, conflicts_with_all = ["json", "packets"])]
    markdown: bool,
    /// Write the outcome to this file as well, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Take addresses on this interface only; may be repeated [default: those that have a /64 and a way out]
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// Echo requests after which the target should have set up a context by itself; 0: do not ask for that
    #[arg(long, value_name = "PACKETS", default_value_t = DEFAULT_TRIGGER)]
    trigger: u32,
    /// Draw the same addresses, tags and nonces as a run that had this number
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Whose packets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Packets {
    /// Those of checks that fail.
    Failed,
    /// All of them.
    All,
}

/// Runs the checks.
///
/// # Errors
///
/// They could not be run: the target does not answer, or this host is not fit.
pub fn run(args: ConformArgs) -> anyhow::Result<ExitCode> {
    let checks = selected(&args.checks, args.slow || args.list)?;
    if args.list {
        print(&list(&checks, args.json)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = args.target.clone().unwrap_or_default();
    block_on(play(&args, &name, checks))
}

/// The checks that are meant, and none twice.
fn selected(said: &[String], slow: bool) -> anyhow::Result<Vec<&'static Check>> {
    for said in said {
        if !all().iter().any(|check| check.is_meant_by(said)) {
            let why = format!(
                "no check is {said:?}: expected an id or a section of RFC 5533 or 5534, see shim6 conform --list"
            );
            return Err(UsageError(why).into());
        }
    }
    let is_meant = |check: &&'static Check| {
        let named = said.iter().any(|said| *said == check.id);
        let meant = said.is_empty() || said.iter().any(|said| check.is_meant_by(said));
        named || (meant && (slow || !check.slow))
    };
    let checks: Vec<_> = all().iter().copied().filter(is_meant).collect();
    if checks.is_empty() {
        let why = format!("all checks of {} are slow: add --slow", said.join(", "));
        return Err(UsageError(why).into());
    }
    Ok(checks)
}

fn list(checks: &[&Check], json: bool) -> anyhow::Result<String> {
    if json {
        let listed: Vec<_> = checks.iter().map(|check| Listed::new(check)).collect();
        return Ok(serde_json::to_string_pretty(&listed)? + "\n");
    }
    let mut text = String::new();
    for check in checks {
        let slow = if check.slow { " (slow)" } else { "" };
        let _ = writeln!(
            text,
            "{:<16} {:<6}  {}{slow}",
            check.id,
            check.level.as_str(),
            check.title
        );
    }
    Ok(text)
}

async fn play(args: &ConformArgs, name: &str, checks: Vec<&'static Check>) -> anyhow::Result<ExitCode> {
    let target = resolve(name).await?;
    // Before anything is changed on this host, and not after a minute.
    check_privileges()?;
    if let Some(path) = &args.junit {
        fs::write(path, "").with_context(|| unwritable(path))?;
    }
    if is_occupied() {
        anyhow::bail!(
            "something on this host speaks Shim6 already, and would answer for the tester: stop it first (systemctl stop shim6), \
             or run this on another host"
        );
    }
    let mut ways = interfaces(target, &args.interfaces).await?;
    ways.truncate(MOST_PREFIXES);
    let seed = args.seed.unwrap_or_else(rand::random);
    let plan = Plan {
        target,
        prefixes: ways.iter().map(|way| way.prefix).collect(),
        checks,
        trigger: match args.trigger {
            0 => Trigger::None,
            packets => Trigger::Echo(packets),
        },
        seed,
    };
    // Nothing can be done if it cannot be said.
    drop(writeln!(io::stderr(), "shim6: {}", announcement(args, &plan, &ways)));
    let test = Run::new(&plan).context("cannot make addresses for the tests")?;
    let (raw, wire) = RawWire::open(&ways, test.addresses()).await?;
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let played = tokio::select! {
        played = test.play(wire, |_| {}) => Some(played),
        _ = int.recv() => None,
        _ = term.recv() => None,
    };
    // Whatever came out, the addresses go.
    let closed = raw.close().await;
    let Some(played) = played else {
        closed?;
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let findings = played.with_context(|| unfit(target))?;
    report(args, &plan, &findings)?;
    closed?;
    let failed = findings.iter().any(|finding| finding.outcome == Outcome::Fail);
    Ok(ExitCode::from(if failed { FAILED } else { 0 }))
}

fn unwritable(path: &Path) -> String {
    format!(
        "cannot write the outcome to {}; check the directory and its rights",
        path.display()
    )
}

/// What is said where the target is nothing to be checked.
fn unfit(target: Ipv6Addr) -> String {
    format!("{target} cannot be tested; `shim6 doctor {target}` tells how far packets get")
}

fn announcement(args: &ConformArgs, plan: &Plan, ways: &[Interface]) -> String {
    let names: Vec<_> = ways
        .iter()
        .map(|way| format!("{} ({}/64)", way.name, way.prefix))
        .collect();
    let left_out = match args.slow || !args.checks.is_empty() {
        true => "",
        false => "; the slow ones are left out, see --slow",
    };
    format!(
        "{} checks of {} from {}, seed {}{left_out}",
        plan.checks.len(),
        plan.target,
        names.join(", "),
        plan.seed
    )
}

async fn resolve(name: &str) -> anyhow::Result<Ipv6Addr> {
    let usage = |why: String| anyhow::Error::from(UsageError(format!("cannot test {name:?}: {why}")));
    let address = match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) => address,
        Ok(std::net::IpAddr::V4(_)) => {
            return Err(usage(
                "it is an IPv4 address, and Shim6 is for IPv6; give a ULID of the target".to_owned(),
            ));
        }
        Err(_) => {
            let found = lookup_host((name, 0)).await;
            let found =
                found.map_err(|why| usage(format!("{why}; expected an IPv6 address or a name that has one")))?;
            let ipv6 = found.filter_map(|address| match address.ip() {
                std::net::IpAddr::V6(address) => Some(address),
                std::net::IpAddr::V4(_) => None,
            });
            let none = || usage("the name has no IPv6 address; give a ULID of the target".to_owned());
            ipv6.into_iter().next().ok_or_else(none)?
        }
    };
    let odd = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some();
    if odd {
        return Err(usage(format!("{address} is no global address of another host")));
    }
    let netlink = crate::netlink::Netlink::connect().context("cannot ask the kernel for this host's addresses")?;
    let own = netlink.addresses().await?;
    if own.iter().any(|own| own.address == address) {
        return Err(usage(format!(
            "{address} is an address of this host; the tester has to be another one"
        )));
    }
    Ok(address)
}

fn check_privileges() -> anyhow::Result<()> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let missing: Vec<_> = [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN]
        .into_iter()
        .filter(|capability| !has(*capability))
        .map(|capability| capability.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "shim6 conform lacks {}: it sends raw packets and gives this host addresses for the time of the tests; run it as root, \
         or in a network namespace of your own (unshare -Urn)",
        missing.join(" and ")
    )
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a str,
    rfc: &'a str,
    section: &'a str,
    level: &'a str,
    title: &'a str,
    slow: bool,
}

impl<'a> Listed<'a> {
    fn new(check: &'a Check) -> Self {
        Self {
            id: check.id,
            rfc: check.rfc(),
            section: check.section(),
            level: check.level.as_str(),
            title: check.title,
            slow: check.slow,
        }
    }
}

#[derive(Debug, Serialize)]
struct Printed<'a> {
    target: Ipv6Addr,
    seed: u64,
    pass: usize,
    fail: usize,
    not_applicable: usize,
    checks: Vec<PrintedFinding<'a>>,
}

#[derive(Debug, Serialize)]
struct PrintedFinding<'a> {
    id: &'a str,
    place: String,
    level: &'a str,
    title: &'a str,
    outcome: &'a str,
    reason: Option<&'a str>,
    milliseconds: u128,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packets: Vec<PrintedPacket>,
}

#[derive(Debug, Serialize)]
struct PrintedPacket {
    milliseconds: u128,
    sent: bool,
    octets: String,
}

fn report(args: &ConformArgs, plan: &Plan, findings: &[Finding]) -> anyhow::Result<()> {
    if let Some(path) = &args.junit {
        fs::write(path, junit(&plan.target.to_string(), findings)).with_context(|| unwritable(path))?;
    }
    let shown = |finding: &&Finding| match args.packets {
        Some(Packets::All) => true,
        Some(Packets::Failed) => finding.outcome == Outcome::Fail,
        None => false,
    };
    if args.json {
        return print(&(json(plan, findings, &|finding| shown(&finding))? + "\n"));
    }
    if args.markdown {
        return print(&markdown(findings));
    }
    let mut text = String::new();
    for finding in findings.iter().filter(shown) {
        let _ = writeln!(text, "{} {}", finding.id, finding.title);
        for packet in &finding.packets {
            text += &packet_text(packet);
        }
        text.push('\n');
    }
    print(&(text + &table(findings)))
}

fn json(plan: &Plan, findings: &[Finding], shown: &dyn Fn(&Finding) -> bool) -> anyhow::Result<String> {
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let printed = |finding: &'_ Finding| {
        let packets = finding.packets.iter().filter(|_| shown(finding));
        packets
            .map(|packet| PrintedPacket {
                milliseconds: packet.at.as_millis(),
                sent: packet.sent,
                octets: packet.octets.iter().map(|octet| format!("{octet:02x}")).collect(),
            })
            .collect()
    };
    let printed = Printed {
        target: plan.target,
        seed: plan.seed,
        pass: count(Outcome::Pass),
        fail: count(Outcome::Fail),
        not_applicable: count(Outcome::NotApplicable),
        checks: findings
            .iter()
            .map(|finding| PrintedFinding {
                id: finding.id,
                place: finding.place(),
                level: finding.level.as_str(),
                title: finding.title,
                outcome: finding.outcome.as_str(),
                reason: finding.reason.as_deref(),
                milliseconds: finding.took.as_millis(),
                packets: printed(finding),
            })
            .collect(),
    };
    Ok(serde_json::to_string_pretty(&printed)?)
}

fn packet_text(packet: &LoggedPacket) -> String {
    let arrow = if packet.sent { "sent" } else { "received" };
    let mut text = format!("  {:>7.3} s  {arrow}  ", packet.at.as_secs_f64());
    let decoded = text_of(&packet.octets);
    let mut lines = decoded.lines();
    let _ = writeln!(text, "{}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_checks_are_played_when_asked_for_or_named() {
        let slow = |checks: Vec<&Check>| checks.iter().filter(|check| check.slow).count();
        let none: [String; 0] = [];
        assert_eq!(slow(selected(&none, false).expect("checks")), 0);
        assert!(slow(selected(&none, true).expect("checks")) > 3);
        let named = ["5533-7.8-02".to_owned()];
        assert_eq!(slow(selected(&named, false).expect("a check")), 1);
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for said in ["7.99", "5533-7.9-99", "", "x"] {
            let error = selected(&[said.to_owned()], false).expect_err(said);
            assert!(error.is::<UsageError>(), "{error}");
        }
    }

    #[test]
    fn packet_is_shown_as_decode_shows_it() {
        let mut octets = vec![0x60, 0, 0, 0, 0, 16, 140, 64];
        octets.extend([0x20; 32]);
        octets.extend([59, 1, 66, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0]);
        let packet = LoggedPacket {
            at: std::time::Duration::from_millis(1500),
            sent: true,
            octets,
        };
        let text = packet_text(&packet);
        assert!(text.starts_with("    1.500 s  sent  2020:"), "{text}");
        assert!(
            text.contains("Keepalive, 16 octets") && text.contains("checksum"),
            "{text}"
        );
    }
}
