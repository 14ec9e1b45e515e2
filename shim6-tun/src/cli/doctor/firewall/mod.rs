//! Whether the host's own packet filter lets protocol 140 through.

mod iptables;
mod model;
mod nft;
#[cfg(test)]
mod tests;

use std::io;
use std::process::{Command, Output};

use self::model::{Hook, Packet, Place, Ruleset, Verdict};
use super::Local;
use super::finding::Finding;

const CHECK: &str = "firewall";
const MEANS: &str = "Shim6 is IP protocol 140. Where it is dropped, no session of this host is protected; connections work as \
                     ever, as nothing else uses it.";

/// Looks at the rules of this network namespace.
pub(super) fn check(locals: &[Local]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut looked_at = Vec::new();
    let tables = read("ip6tables-save", &[]).or_else(|_| read("ip6tables-legacy-save", &[]));
    let has_iptables = tables.is_ok();
    match read("nft", &["--json", "list", "ruleset"]) {
        Ok(text) => match nft::parse(&text) {
            Some(mut ruleset) => {
                if has_iptables {
                    // Rules of ip6tables, which nft cannot show in its own words.
                    ruleset.chains.retain(|name, _| !is_of_iptables(name));
                }
                looked_at.push("nftables");
                findings.extend(judge(&ruleset, locals, |chain| {
                    format!("nft insert rule {chain} meta l4proto 140 accept")
                }));
            }
            None => findings.push(not_looked_at("nft prints no JSON that is understood")),
        },
        Err(Unread::NoTool) => {}
        Err(Unread::Failed(why)) => findings.push(not_looked_at(&format!("nft list ruleset: {why}"))),
    }
    match tables {
        Ok(text) => {
            looked_at.push("ip6tables");
            findings.extend(judge(&iptables::parse(&text), locals, |chain| {
                let chain = chain
                    .rsplit_once(' ')
                    .map_or((String::new(), chain), |(table, name)| (format!("{table} "), name));
                format!("ip6tables {}-I {} -p 140 -j ACCEPT", chain.0, chain.1)
            }));
        }
        Err(Unread::NoTool) => {}
        Err(Unread::Failed(why)) => findings.push(not_looked_at(&format!("ip6tables-save: {why}"))),
    }
    if looked_at.is_empty() && findings.is_empty() {
        findings.push(not_looked_at("there is neither nft nor ip6tables-save here"));
    }
    if findings.is_empty() {
        let what = format!("protocol 140 passes ({})", looked_at.join(" and "));
        findings.push(Finding::good(CHECK, what));
    }
    findings
}

/// Whether a chain of nftables is one that ip6tables made.
fn is_of_iptables(chain: &str) -> bool {
    let tables = ["filter", "mangle", "raw", "security", "nat"];
    let mut words = chain.split(' ');
    words.next() == Some("ip6") && words.next().is_some_and(|table| tables.contains(&table))
}

fn judge(ruleset: &Ruleset, locals: &[Local], command: impl Fn(&str) -> String) -> Vec<Finding> {
    let mut seen: Vec<Place> = Vec::new();
    let mut findings = Vec::new();
    for hook in [Hook::Input, Hook::Output] {
        for local in locals {
            let verdict = ruleset.verdict(Packet {
                hook,
                interface: &local.interface,
                local: local.address,
            });
            let (place, is_sure) = match verdict {
                Verdict::Passes => continue,
                Verdict::Dropped(place) => (place, true),
                Verdict::Unsure(place) => (place, false),
            };
            if seen.contains(&place) {
                continue;
            }
            let way = match hook {
                Hook::Input => "come in",
                Hook::Output => "go out",
            };
            let (chain, what, interface) = (&place.chain, &place.what, &local.interface);
            let command = command(chain);
            findings.push(if is_sure {
                let what = format!("chain {chain} drops Shim6 packets that {way} on {interface}: {what}");
                let mend = format!("{command}   # and where your rules are kept, such as /etc/nftables.conf");
                Finding::wrong(CHECK, what, MEANS).mend(mend)
            } else {
                let what = format!("chain {chain} may drop Shim6 packets that {way} on {interface}: {what}");
                Finding::doubtful(CHECK, what, MEANS).mend(command)
            });
            seen.push(place);
        }
    }
    findings
}

fn not_looked_at(why: &str) -> Finding {
    Finding::unchecked(CHECK, format!("the rules were not looked at: {why}"))
}

enum Unread {
    NoTool,
    Failed(String),
}

fn read(program: &str, arguments: &[&str]) -> Result<String, Unread> {
    let run = |program: &str| Command::new(program).args(arguments).output();
    let output: Output = match run(program) {
        Ok(output) => output,
        // Which is not in the path of those who are not root, and their path may have directories that are closed to them.
        Err(_) => match run(&format!("/usr/sbin/{program}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::NoTool),
            output => output.map_err(|error| Unread::Failed(error.to_string()))?,
        },
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Unread::Failed(said.lines().next().unwrap_or("it failed").to_owned()))
}
