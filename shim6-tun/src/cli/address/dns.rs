//! `shim6 address dns`: the host's addresses as records for a DNS zone.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::super::UsageError;
use super::super::output::print;
use super::args::IdentityArgs;
use super::identity;

pub(super) const EXAMPLES: &str = "\
Example:
  shim6 address dns www.example.com --ttl 3600

A NAME with a dot in it is taken as complete and gets its final dot; one without, such as www or @, is relative to the
zone that it is put into. The PTR records belong into the zones of the prefixes under ip6.arpa. Other addresses under the
same name are not protected: a peer cannot tell which of them belong to the set (RFC 5535 section 9).";

/// Where Linux has the host's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Arguments of `shim6 address dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// Name of this host in DNS [default: its host name]
    #[arg(value_name = "NAME", value_parser = name)]
    name: Option<Name>,
    /// Seconds for which the records may be kept, 0 to 2147483647 [default: that of the zone]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=0x7fff_ffff))]
    ttl: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// A name as it stands in a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    /// With a final dot if it is complete.
    text: String,
    is_complete: bool,
}

/// What is printed with `--json`. Without the PTR records of a relative name: they need a complete one.
#[derive(Debug, Serialize)]
struct Printed {
    name: String,
    complete: bool,
    records: Vec<Record>,
    notes: Vec<String>,
}

/// One record.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Record {
    name: String,
    ttl: Option<u32>,
    #[serde(rename = "type")]
    kind: &'static str,
    data: String,
}

/// Prints the records.
///
/// # Errors
///
/// When there is no identity, or when the host has no name that can stand in DNS and none is given.
pub fn run(args: &DnsArgs) -> anyhow::Result<ExitCode> {
    let addresses = identity(&args.identity.store()?)?.set;
    let name = args.name.clone().map_or_else(host_name, Ok)?;
    let addresses = addresses.addresses();
    let text = if args.json {
        serde_json::to_string(&printed(&name, args.ttl, addresses))? + "\n"
    } else {
        zone(&name, args.ttl, addresses)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn printed(name: &Name, ttl: Option<u32>, addresses: &[Ipv6Addr]) -> Printed {
    let mut records = forward(name, ttl, addresses);
    if name.is_complete {
        records.extend(reverse(name, ttl, addresses));
    }
    Printed {
        name: name.text.clone(),
        complete: name.is_complete,
        records,
        notes: notes(name, addresses),
    }
}

fn zone(name: &Name, ttl: Option<u32>, addresses: &[Ipv6Addr]) -> String {
    let mut text = String::new();
    for record in forward(name, ttl, addresses) {
        let _ = writeln!(text, "{}", record.line());
    }
    text += "\n; For the zones under ip6.arpa:\n";
    for record in reverse(name, ttl, addresses) {
        let comment = if name.is_complete { "" } else { "; " };
        let _ = writeln!(text, "{comment}{}", record.line());
    }
    for note in notes(name, addresses) {
        let _ = writeln!(text, "\n; {note}");
    }
    text
}

/// What has to be looked at before the records are used.
fn notes(name: &Name, addresses: &[Ipv6Addr]) -> Vec<String> {
    let mut notes = Vec::new();
    if !name.is_complete {
        let text = &name.text;
        notes.push(format!(
            "{text} is relative: PTR records need the complete name in its place."
        ));
    }
    let local = addresses.iter().filter(|address| address.is_unique_local());
    notes.extend(
        local.map(|address| format!("{address} is unique local: not for the global DNS (RFC 4193 section 4.4).")),
    );
    notes
}

fn forward(name: &Name, ttl: Option<u32>, addresses: &[Ipv6Addr]) -> Vec<Record> {
    let record = |address: &Ipv6Addr| Record {
        name: name.text.clone(),
        ttl,
        kind: "AAAA",
        data: address.to_string(),
    };
    addresses.iter().map(record).collect()
}

fn reverse(name: &Name, ttl: Option<u32>, addresses: &[Ipv6Addr]) -> Vec<Record> {
    let record = |address: &Ipv6Addr| Record {
        name: reverse_name(*address),
        ttl,
        kind: "PTR",
        data: name.text.clone(),
    };
    addresses.iter().map(record).collect()
}

impl Record {
    fn line(&self) -> String {
        let ttl = self.ttl.map_or(String::new(), |ttl| format!("{ttl} "));
        format!("{} {ttl}IN {} {}", self.name, self.kind, self.data)
    }
}

/// The 32 nibbles from the last to the first, under ip6.arpa (RFC 3596 section 2.5).
fn reverse_name(address: Ipv6Addr) -> String {
    let bits = address.to_bits();
    let nibbles = (0..32).map(|place| (bits >> (4 * place)) & 0xf);
    nibbles.fold(String::new(), |text, nibble| text + &format!("{nibble:x}.")) + "ip6.arpa."
}

/// A name that can stand in a zone, as argument: labels of 1 to 63 letters, digits, hyphens and underscores, 253 octets in
/// all.
fn name(text: &str) -> Result<Name, String> {
    if text == "@" {
        return Ok(Name {
            text: text.to_owned(),
            is_complete: false,
        });
    }
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.len() > 253 {
        return Err(format!("it has {} octets; expected at most 253", bare.len()));
    }
    for label in bare.split('.') {
        check_label(label)?;
    }
    let is_complete = text.contains('.');
    Ok(Name {
        text: if is_complete {
            format!("{bare}.")
        } else {
            bare.to_owned()
        },
        is_complete,
    })
}

fn check_label(label: &str) -> Result<(), String> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if let Some(bad) = label.chars().find(|c| !allowed(c)) {
        return Err(format!(
            "{bad:?} is in it; expected letters, digits, hyphens, underscores and dots"
        ));
    }
    if label.is_empty() || label.len() > 63 {
        return Err(format!(
            "a label has {} octets; expected 1 to 63 between two dots",
            label.len()
        ));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(format!(
            "the label {label:?} has a hyphen at an end; expected it within"
        ));
    }
    Ok(())
}

fn host_name() -> Result<Name, UsageError> {
    let refuse = |why: String| UsageError(format!("this host has no name for DNS ({why}); give one as NAME"));
    let text = std::fs::read_to_string(HOST_NAME).map_err(|error| refuse(format!("{HOST_NAME}: {error}")))?;
    let text = text.trim_end();
    name(text).map_err(|error| refuse(format!("it is {text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> Vec<Ipv6Addr> {
        ["2001:db8:a:0:3c1f:5a2b:81d0:4e17", "2001:db8:b::1"]
            .map(|text| text.parse().expect("an address"))
            .into()
    }

    #[test]
    fn names_are_completed_and_checked() {
        let text = |given: &str| name(given).map(|name| (name.text, name.is_complete));
        for (given, shown, is_complete) in [
            ("www.example.com", "www.example.com.", true),
            ("www.example.com.", "www.example.com.", true),
            ("com.", "com.", true),
            ("www", "www", false),
            ("@", "@", false),
            ("_shim6.Host-1.example", "_shim6.Host-1.example.", true),
        ] {
            assert_eq!(text(given), Ok((shown.to_owned(), is_complete)));
        }
        let long_label = "a".repeat(64);
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "-a",
            "a-.b",
            "a b",
            "a;b",
            "a\nb",
            "(none)",
            "m\u{fc}nchen",
            "*",
            &long_label,
            &long,
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(name(&long[..253]).expect("253 octets").text.len(), 254);
        assert_eq!(name(&long_label[..63]).expect("63 octets").text, long_label[..63]);
    }

    #[test]
    fn zone_has_both_directions_of_a_complete_name() {
        let name = name("host.example.com").expect("a name");
        let zone = zone(&name, Some(300), &addresses());
        let lines: Vec<&str> = zone.lines().collect();
        assert_eq!(
            lines,
            [
                "host.example.com. 300 IN AAAA 2001:db8:a:0:3c1f:5a2b:81d0:4e17",
                "host.example.com. 300 IN AAAA 2001:db8:b::1",
                "",
                "; For the zones under ip6.arpa:",
                "7.1.e.4.0.d.1.8.b.2.a.5.f.1.c.3.0.0.0.0.a.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR host.example.com.",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR host.example.com.",
            ]
        );
    }

    #[test]
    fn reverse_records_of_a_relative_name_are_comments() {
        for given in ["www", "@"] {
            let zone = zone(&name(given).expect("a name"), None, &addresses());
            assert!(zone.starts_with(&format!("{given} IN AAAA 2001:db8:a:0:3c1f:5a2b:81d0:4e17\n")));
            let rest: Vec<&str> = zone.lines().skip(2).collect();
            assert!(
                rest.iter().all(|line| line.is_empty() || line.starts_with("; ")),
                "{zone}"
            );
            assert!(zone.ends_with(&format!(
                "\n; {given} is relative: PTR records need the complete name in its place.\n"
            )));
        }
    }

    #[test]
    fn local_addresses_are_marked() {
        let local = [addresses()[0], "fd00:1::7".parse().expect("an address")];
        let name = name("www.example").expect("a name");
        assert!(
            zone(&name, None, &local)
                .ends_with("\n; fd00:1::7 is unique local: not for the global DNS (RFC 4193 section 4.4).\n")
        );
        assert_eq!(printed(&name, None, &local).notes.len(), 1);
    }

    #[test]
    fn json_has_the_records_that_hold() {
        let relative = printed(&name("www").expect("a name"), None, &addresses());
        assert!(!relative.complete);
        assert_eq!(relative.records.len(), 2);
        let complete = printed(&name("www.example").expect("a name"), Some(1), &addresses());
        let json = serde_json::to_value(&complete).expect("JSON");
        assert_eq!(json["name"], "www.example.");
        assert_eq!(json["records"].as_array().map(Vec::len), Some(4));
        let first = serde_json::json!({"name": "www.example.", "ttl": 1, "type": "AAAA", "data": addresses()[0]});
        assert_eq!(json["records"][0], first);
        assert_eq!(json["records"][3]["type"], "PTR");
    }

    proptest! {
        #[test]
        fn reverse_name_leads_back_to_the_address(bits: u128) {
            let name = reverse_name(Ipv6Addr::from_bits(bits));
            let nibbles = name.strip_suffix(".ip6.arpa.").expect("under ip6.arpa");
            let mut nibbles: Vec<&str> = nibbles.split('.').collect();
            prop_assert_eq!(nibbles.len(), 32);
            nibbles.reverse();
            prop_assert_eq!(u128::from_str_radix(&nibbles.concat(), 16), Ok(bits));
        }

        /// Whatever is accepted stands in a zone file as one word and has no meaning of its own there.
        #[test]
        fn no_name_breaks_the_zone(text in ".{0,80}|[-_a-z.@0-9]{0,80}") {
            if let Ok(name) = name(&text) {
                prop_assert!(name.text.len() <= 254);
                prop_assert!(!name.text.contains(|c: char| c.is_whitespace() || c.is_control() || "()\";\\$".contains(c)));
                prop_assert_eq!(super::name(&name.text), Ok(name));
            }
        }
    }
}
