//! `shim6 address verify`: does an address come from these parameters?

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use shim6_cga::{CgaParametersRef, VerifyError};

use super::super::FAILURE;
use super::super::output::print;
use crate::identity::hex;

pub(super) const EXAMPLES: &str = "\
Example:
  shim6 address show --json | jq -r .parameters | shim6 address verify 2001:db8:a:0:3c1f:5a2b:81d0:4e17 --params -

Succeeds if the address is verified as a CGA or as a member of an HBA set.";

const HINT: &str = "give the whole data structure of RFC 3972 section 3, as its octets or as hexadecimal digits";

/// Most octets of parameters read, written in whatever way: those of an option of Shim6 fit many times.
const MAX_FILE: u64 = 1 << 18;

/// Arguments of `shim6 address verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The address
    #[arg(value_name = "ADDR")]
    address: Ipv6Addr,
    /// File with the CGA Parameters data structure (RFC 3972 section 3); - for standard input
    ///
    /// Its octets, or their hexadecimal digits in either case, with blanks, line ends or colons between the octets and 0x
    /// before the first if you like.
    #[arg(long, value_name = "FILE")]
    params: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is found, and printed with `--json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    address: Ipv6Addr,
    cga: bool,
    hba: bool,
    /// The three bits of the address, whatever they mean.
    sec: u8,
    /// Null if it is one of both.
    reason: Option<String>,
}

/// Checks the address.
///
/// # Errors
///
/// When the parameters cannot be read.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let octets = read(&args.params)?;
    let checked = Checked::new(args.address, &args.params, &octets);
    let verdict = checked.verdict();
    let text = if args.json {
        serde_json::to_string(&verdict)? + "\n"
    } else {
        checked.in_words()
    };
    print(&text)?;
    Ok(match verdict.cga || verdict.hba {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILURE),
    })
}

/// Both verifications, or why there was none.
struct Checked {
    address: Ipv6Addr,
    results: Result<[Result<(), VerifyError>; 2], String>,
}

impl Checked {
    fn new(address: Ipv6Addr, path: &Path, file: &[u8]) -> Self {
        let results = octets(file).and_then(|octets| {
            let parameters = CgaParametersRef::parse(&octets).map_err(|error| error.to_string())?;
            let cga = parameters.verify_cga(&address).map(drop);
            let hba = parameters.verify_hba(&address).map(drop);
            Ok([cga, hba])
        });
        let results = results.map_err(|malformed| {
            let file = match path == Path::new("-") {
                true => "standard input".to_owned(),
                false => path.display().to_string(),
            };
            format!("{file} has no CGA parameters: {malformed}; {HINT}")
        });
        Self { address, results }
    }

    fn verdict(&self) -> Verdict {
        let [cga, hba] = match &self.results {
            Ok(results) => results.map(|result| result.is_ok()),
            Err(_) => [false; 2],
        };
        let reason = match &self.results {
            Err(malformed) => Some(malformed.clone()),
            Ok([Err(cga), Err(hba)]) if cga == hba => Some(step(cga)),
            Ok([Err(cga), Err(hba)]) => Some(format!("not a CGA, {}; not an HBA, {}", step(cga), step(hba))),
            Ok(_) => None,
        };
        Verdict {
            address: self.address,
            cga,
            hba,
            sec: sec_bits(self.address),
            reason,
        }
    }

    fn in_words(&self) -> String {
        let head = format!("{}  Sec {}\n", self.address, sec_bits(self.address));
        match &self.results {
            Err(malformed) => format!("{head}  not verified: {malformed}\n"),
            Ok(results) => ["CGA", "HBA"]
                .iter()
                .zip(results)
                .fold(head, |text, (kind, result)| match result {
                    Ok(()) => text + &format!("  {kind}  verified\n"),
                    Err(reason) => text + &format!("  {kind}  not verified: {}\n", step(reason)),
                }),
        }
    }
}

/// Which step failed, and why.
fn step(error: &VerifyError) -> String {
    format!("{}: {error}", error.step())
}

/// RFC 3972 section 2: the three leftmost bits of the interface identifier.
fn sec_bits(address: Ipv6Addr) -> u8 {
    address.octets()[8] >> 5
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = format!(
        "cannot read the parameters from {}; check its name and its permissions",
        path.display()
    );
    let mut octets = Vec::new();
    let mut source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| what.clone())?)
    };
    let limited = &mut source.by_ref().take(MAX_FILE + 1);
    limited.read_to_end(&mut octets).context(what)?;
    if limited.limit() == 0 {
        anyhow::bail!(
            "{} is larger than {MAX_FILE} octets; check that it is the right file",
            path.display()
        );
    }
    Ok(octets)
}

/// What a file stands for. Parameters are no text: the collision count of those that verify is a control character.
fn octets(file: &[u8]) -> Result<Vec<u8>, String> {
    let is_text = file
        .iter()
        .all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace());
    match std::str::from_utf8(file) {
        Ok(text) if is_text && !text.trim().is_empty() => digits(text),
        _ => Ok(file.to_vec()),
    }
}

/// The octets of hexadecimal digits with what people put between them.
fn digits(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    let mut digits = String::with_capacity(text.len());
    for found in text.chars() {
        match found {
            ':' if digits.len().is_multiple_of(2) => {}
            ':' => return Err("hexadecimal digits: a colon is within an octet; expected it between octets".to_owned()),
            blank if blank.is_ascii_whitespace() => {}
            digit => digits.push(digit),
        }
    }
    hex::decode(&digits).map_err(|error| format!("hexadecimal digits: {error}; expected two for each octet"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shim6_cga::{CgaParameters, HbaSet, Sec, SubnetPrefix};

    use super::*;

    const PREFIXES: [SubnetPrefix; 2] = [
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0]),
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0]),
    ];

    fn set() -> HbaSet {
        HbaSet::generate(&PREFIXES, Sec::ONE, &mut rand::rng()).expect("a set")
    }

    fn checked(address: Ipv6Addr, file: &[u8]) -> Checked {
        Checked::new(address, Path::new("some.hex"), file)
    }

    fn json(checked: &Checked) -> serde_json::Value {
        serde_json::to_value(checked.verdict()).expect("JSON")
    }

    #[test]
    fn address_of_the_parameters_is_both_and_the_others_are_hbas() {
        let set = set();
        let file = set.parameters().to_vec();
        let both = checked(set.addresses()[0], &file);
        assert_eq!(
            both.in_words().lines().skip(1).collect::<Vec<_>>(),
            ["  CGA  verified", "  HBA  verified"]
        );
        let expected = serde_json::json!({
            "address": set.addresses()[0], "cga": true, "hba": true, "sec": 1, "reason": null
        });
        assert_eq!(json(&both), expected);
        let other = checked(set.addresses()[1], &file);
        assert!(
            other
                .in_words()
                .contains("  CGA  not verified: RFC 3972 section 5 step 2: the address has the prefix 2001:db8:b::/64")
        );
        assert!(other.in_words().ends_with("  HBA  verified\n"));
        assert_eq!(json(&other)["cga"], false);
        assert_eq!(json(&other)["hba"], true);
        assert_eq!(json(&other)["reason"], serde_json::Value::Null);
    }

    #[test]
    fn parameters_without_a_set_verify_their_address_as_cga() {
        let parameters = CgaParameters::new([7; 16], PREFIXES[0], 0, &[0x30, 0], &[]).expect("well-formed");
        let checked = checked(parameters.address(Sec::ZERO), &parameters.to_vec());
        assert_eq!(json(&checked)["cga"], true);
        assert_eq!(json(&checked)["hba"], false);
        assert_eq!(json(&checked)["reason"], serde_json::Value::Null);
        assert!(
            checked
                .in_words()
                .contains("  HBA  not verified: RFC 5535 section 7.2 step 1: no Multi-Prefix extension")
        );
    }

    #[test]
    fn wrong_addresses_are_told_the_step_that_failed() {
        let set = set();
        let file = set.parameters().to_vec();
        let flipped = |bit: u32| Ipv6Addr::from_bits(set.addresses()[0].to_bits() ^ 1 << bit);
        for (address, sec, reason) in [
            (
                flipped(0),
                1,
                "RFC 3972 section 5 step 4: the interface identifier is not the Hash1 of the parameters",
            ),
            (
                flipped(64),
                1,
                "not a CGA, RFC 3972 section 5 step 2: the address has the prefix 2001:db8:a:1::/64",
            ),
            // Sec 1 is 001, this makes it 011.
            (flipped(62), 3, "RFC 3972 section 5 step 5: unsupported Sec 3"),
        ] {
            let verdict = checked(address, &file).verdict();
            assert!(!verdict.cga && !verdict.hba);
            assert_eq!(verdict.sec, sec);
            let said = verdict.reason.expect("a reason");
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn malformed_parameters_name_the_field() {
        let address = set().addresses()[0];
        for (file, reason) in [
            (&b""[..], "modifier: expected 16 octets, found 0"),
            (&[0; 24], "collision count: expected 1 octets, found 0"),
            (&[0; 26], "public key: "),
            (
                b"abc",
                "hexadecimal digits: it has 3 hexadecimal digits, an odd number; expected two for each octet",
            ),
            (
                b"parameters",
                "hexadecimal digits: 'p' after 0 digits is no hexadecimal digit",
            ),
            (b"a:bc", "hexadecimal digits: a colon is within an octet"),
        ] {
            let checked = checked(address, file);
            let said = json(&checked)["reason"].as_str().expect("a reason").to_owned();
            let expected = format!("some.hex has no CGA parameters: {reason}");
            assert!(said.starts_with(&expected) && said.ends_with(HINT), "{said}");
            assert_eq!(
                (&json(&checked)["cga"], &json(&checked)["hba"]),
                (&false.into(), &false.into())
            );
            assert_eq!(checked.in_words().lines().count(), 2);
        }
    }

    #[test]
    fn verdict_has_five_keys() {
        let object = json(&checked(Ipv6Addr::LOCALHOST, b""));
        let keys: Vec<_> = object
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys.len(), 5);
        assert!(
            ["address", "cga", "hba", "sec", "reason"]
                .iter()
                .all(|key| keys.contains(key))
        );
    }

    #[test]
    fn hexadecimal_digits_are_read_in_every_way_people_write_them() {
        for text in [
            "0aff10",
            "0AFF10",
            "0x0aff10\n",
            "0XAFF1",
            " 0a ff\n10 \r\n",
            "0a:ff:10",
            "0a:ff:\n10",
            "0a\nff10\n",
        ] {
            let expected = if text == "0XAFF1" {
                vec![0xaf, 0xf1]
            } else {
                vec![0x0a, 0xff, 0x10]
            };
            assert_eq!(digits(text), Ok(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_get_a_verdict(bits: u128, file in proptest::collection::vec(any::<u8>(), 0..200)) {
            let checked = checked(Ipv6Addr::from_bits(bits), &file);
            prop_assert!(checked.verdict().sec < 8);
            prop_assert!(checked.in_words().ends_with('\n'));
        }

        #[test]
        fn any_text_gets_a_verdict(bits: u128, file in "[0-9a-fA-Fx: \\n]{0,80}") {
            let verdict = checked(Ipv6Addr::from_bits(bits), file.as_bytes()).verdict();
            prop_assert_eq!(verdict.cga || verdict.hba, verdict.reason.is_none());
        }

        #[test]
        fn raw_parameters_that_can_verify_are_never_taken_for_text(octets in proptest::collection::vec(any::<u8>(), 25..200), count in 0_u8..3) {
            let mut file = octets;
            file[24] = count;
            prop_assert_eq!(super::octets(&file), Ok(file.clone()));
        }
    }
}
