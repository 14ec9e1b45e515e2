//! `shim6 decode`: every field of a Shim6 message, and what a receiver does with it.

mod capture;
mod dump;
mod input;
mod layout;
mod options;
mod packet;
#[cfg(test)]
mod tests;
mod value;
mod verdict;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use self::capture::Frame;
use self::dump::{Dump, Kind, dump};
use self::input::Input;
use self::options::DecodedOption;
use self::packet::{Found, IPV6_HEADER};
use self::value::Fields;
use self::verdict::{Addresses, Verdict, judge};
use super::output::print;
use super::{EXIT_CODES, UsageError};

const EXAMPLES: &str = "\
Examples:
  shim6 decode 3b010100 22f81234 56789abc deadbeef --src 2001:db8:a1::aa --dst 2001:db8:b1::bb
  shim6 decode session.pcapng --json | jq -c 'select(.verdict != \"accept\")'
  tcpdump -U -w - ip6 proto 140 | shim6 decode -

The verdict is that of the checks that need no context: addresses, lengths, checksum, options. With --json a message is one
object: type, fields, options, verdict (accept, drop, error), reason, error_code, pointer; one of a capture also has packet,
time, source and destination.";

/// The end of the help.
pub(super) fn after_help() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES}")
}

/// Arguments of `shim6 decode`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// A message in hexadecimal digits, from its Next Header octet on; or a capture; or - for either on standard input
    ///
    /// Between the digits may be blanks, line ends, colons and commas, before them 0x. A capture is a file in the format pcap or
    /// pcapng: each packet in it that has a Shim6 header is decoded, first fragments included.
    #[arg(
        value_name = "MESSAGE|FILE",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    input: Vec<OsString>,
    /// A file whatever its name, with a capture or a message in hexadecimal digits
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Source address of the message's packet; without it and --dst the addresses are not checked
    #[arg(long, value_name = "ADDR")]
    src: Option<Ipv6Addr>,
    /// Destination address of the message's packet
    #[arg(long, value_name = "ADDR")]
    dst: Option<Ipv6Addr>,
    /// Print one JSON object for each message, on a line of its own
    #[arg(long)]
    json: bool,
}

/// Decodes. A message with a fault is no failure: its fault is what is printed.
///
/// # Errors
///
/// When there is nothing to decode, or when it cannot be read to its end.
pub fn run(args: &DecodeArgs) -> anyhow::Result<ExitCode> {
    match input::read(&args.input, args.file.as_ref())? {
        Input::Message(octets) => message(args, &octets)?,
        Input::Capture { name, mut source } => {
            if args.src.is_some() || args.dst.is_some() {
                let said = "--src and --dst go with a single message: a capture has the addresses of its packets; leave them out";
                return Err(UsageError(said.to_owned()).into());
            }
            capture(args.json, &name, &mut *source)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A whole IPv6 packet: its addresses, and its Shim6 header as it is printed.
pub(super) fn text_of(packet: &[u8]) -> String {
    /// Link type of packets without a link layer's header.
    const RAW: u16 = 229;
    match packet::find(RAW, packet, false) {
        Found::Header {
            source,
            destination,
            before,
            octets,
            ..
        } => {
            let addresses = Addresses {
                source: Some(source),
                destination: Some(destination),
            };
            let decoded = Decoded::new(octets, before, addresses, true);
            format!("{source} -> {destination}\n{}", decoded.text())
        }
        Found::Nothing | Found::LaterFragment | Found::UnknownLink => match packet {
            [_, _, _, _, _, _, protocol, ..] => format!("a packet of protocol {protocol}, {} octets\n", packet.len()),
            _ => format!("{} octets that are no packet\n", packet.len()),
        },
    }
}

fn message(args: &DecodeArgs, octets: &[u8]) -> anyhow::Result<()> {
    let addresses = Addresses {
        source: args.src,
        destination: args.dst,
    };
    if is_packet(octets) {
        say(
            "this looks like a whole IPv6 packet; if so, leave out what precedes the Shim6 header, the first 40 octets",
        );
    }
    let decoded = Decoded::new(octets, IPV6_HEADER, addresses, true);
    let unchecked =
        matches!(decoded.dump.kind, Kind::Control(_)) && addresses.source.or(addresses.destination).is_none();
    let note = "the addresses are not checked: give them with --src and --dst";
    if args.json {
        if unchecked {
            say(note);
        }
        return print(&decoded.json(None)?);
    }
    let mut text = decoded.text();
    if unchecked {
        let _ = writeln!(text, "note: {note}");
    }
    print(&text)
}

/// Whether octets are an IPv6 packet of the right length, which a message hardly ever looks like.
fn is_packet(octets: &[u8]) -> bool {
    let length = octets
        .get(4..6)
        .map(|length| u16::from_be_bytes([length[0], length[1]]));
    let is_ipv6 = octets.first().is_some_and(|octet| octet >> 4 == 6);
    is_ipv6 && length.is_some_and(|length| IPV6_HEADER + usize::from(length) == octets.len())
}

fn capture(json: bool, name: &str, source: &mut dyn Read) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let read = capture::for_each(source, &mut |frame| tally.take(frame, json));
    let ended = read.with_context(|| format!("cannot decode all of {name}"));
    if tally.packets > 0 && tally.unreadable == tally.packets {
        ended?;
        anyhow::bail!(
            "{name} has packets of link types that are not known here ({}); capture on an Ethernet, IP or loopback \
             interface, or with -i any",
            list(&tally.unknown_links)
        );
    }
    for link in &tally.unknown_links {
        say(&format!(
            "packets of link type {link} are passed over: it is not known here"
        ));
    }
    if !json {
        print(&tally.in_words())?;
    }
    ended
}

/// What a capture had.
#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    headers: u64,
    /// Packets whose link type is not known, and which ones these are.
    unreadable: u64,
    unknown_links: BTreeSet<u16>,
}

impl Tally {
    fn take(&mut self, frame: &Frame<'_>, json: bool) -> anyhow::Result<()> {
        self.packets += 1;
        match packet::find(frame.link, frame.octets, frame.is_cut) {
            Found::Nothing => Ok(()),
            Found::UnknownLink => {
                self.unreadable += 1;
                self.unknown_links.insert(frame.link);
                Ok(())
            }
            Found::LaterFragment => {
                say(&format!(
                    "packet {} is not decoded: a fragment without the start of its packet",
                    frame.number
                ));
                Ok(())
            }
            Found::Header {
                source,
                destination,
                before,
                octets,
                may_go_on,
            } => {
                self.headers += 1;
                let addresses = Addresses {
                    source: Some(source),
                    destination: Some(destination),
                };
                let is_known = !may_go_on || packet::is_whole(octets);
                let decoded = Decoded::new(octets, before, addresses, is_known);
                let place = Place {
                    packet: frame.number,
                    time: frame.time.and_then(rfc3339),
                    source,
                    destination,
                };
                print(&match json {
                    true => decoded.json(Some(&place))?,
                    false => place.heading() + &decoded.text() + "\n",
                })
            }
        }
    }

    fn in_words(&self) -> String {
        match (self.packets, self.headers) {
            (0, _) => "no packets\n".to_owned(),
            (packets, 0) => format!("packets: {packets}; none with a Shim6 header (protocol 140)\n"),
            (packets, headers) => format!("packets: {packets}; with a Shim6 header: {headers}\n"),
        }
    }
}

fn list(links: &BTreeSet<u16>) -> String {
    let links: Vec<_> = links.iter().map(u16::to_string).collect();
    links.join(", ")
}

/// Where in a capture a message is.
#[derive(Debug, Serialize)]
struct Place {
    packet: u64,
    time: Option<String>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
}

impl Place {
    fn heading(&self) -> String {
        let time = self.time.as_ref().map_or(String::new(), |time| format!("  {time}"));
        format!(
            "packet {}{time}  {} -> {}\n",
            self.packet, self.source, self.destination
        )
    }
}

/// A time as in RFC 3339, which goes to the year 9999.
fn rfc3339(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_nanos(time)).ok()?;
    // Most clocks of captures have microseconds.
    Some(match text.strip_suffix("000Z") {
        Some(micros) => format!("{micros}Z"),
        None => text,
    })
}

/// A header with all that there is to say about it.
#[derive(Debug)]
struct Decoded {
    dump: Dump,
    verdict: Verdict,
    /// What is wrong, in words.
    said: String,
    octets: usize,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    place: Option<&'a Place>,
    /// The RFC's name, or the number of a type without one; null if the octets end before it.
    #[serde(rename = "type")]
    message_type: Option<Type>,
    fields: &'a Fields,
    options: &'a [DecodedOption],
    /// Null if a capture has not all octets of the message.
    verdict: Option<&'static str>,
    reason: Option<&'static str>,
    error_code: Option<u8>,
    pointer: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Type {
    Name(&'static str),
    Number(u8),
}

impl Decoded {
    /// `before` counts the octets of the packet in front of `octets`. `is_known` tells that these are all octets of the
    /// packet, so that a fault is a fault.
    fn new(octets: &[u8], before: usize, addresses: Addresses, is_known: bool) -> Self {
        let (verdict, said) = match is_known {
            true => judge(octets, before, addresses),
            false => (Verdict::Unknown, String::new()),
        };
        Self {
            dump: dump(octets),
            verdict,
            said,
            octets: octets.len(),
        }
    }

    fn json(&self, place: Option<&Place>) -> anyhow::Result<String> {
        let report = self.verdict.report();
        let printed = Printed {
            place,
            message_type: match self.dump.kind {
                Kind::Payload => Some(Type::Name("Payload")),
                Kind::Control(kind) => Some(kind.name().map_or(Type::Number(kind.0), Type::Name)),
                Kind::Unknown => None,
            },
            fields: &self.dump.fields,
            options: &self.dump.options,
            verdict: self.verdict.word(),
            reason: self.verdict.reason(),
            error_code: report.map(|(code, _)| code.0),
            pointer: report.map(|(_, pointer)| pointer),
        };
        Ok(serde_json::to_string(&printed)? + "\n")
    }

    fn text(&self) -> String {
        let mut text = match self.dump.kind {
            Kind::Payload => "Payload header".to_owned(),
            Kind::Control(kind) if kind.name().is_none() => format!("Message of unknown type {kind}"),
            Kind::Control(kind) => kind.to_string(),
            Kind::Unknown => "The start of a Shim6 header".to_owned(),
        };
        let _ = writeln!(text, ", {} octets", self.octets);
        self.dump.fields.write(2, &mut text);
        for option in &self.dump.options {
            option.write(&mut text);
        }
        let _ = writeln!(text, "{}", self.verdict.in_words(self.dump.kind, &self.said));
        text
    }
}

/// Writes a note to standard error, apart from what is decoded.
fn say(note: &str) {
    // That it is closed is no reason to stop.
    drop(writeln!(io::stderr(), "shim6: note: {note}"));
}
