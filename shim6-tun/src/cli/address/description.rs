//! A set of addresses, for people and as JSON.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::Serialize;
use shim6_cga::{HbaSet, KeySizes, PublicKey, SubnetPrefix};

use super::super::output::{Style, Table};
use crate::identity::{PublicIdentity, hex, timestamp};

/// What is told of a set.
#[derive(Debug, Serialize)]
pub(super) struct Description {
    /// `hba` or `cga-hba`.
    #[serde(rename = "type")]
    kind: &'static str,
    sec: u8,
    collision_count: u8,
    created: String,
    /// Whether the daemon made it by itself.
    automatic: bool,
    addresses: Vec<Entry>,
    /// Hexadecimal digits of the CGA Parameters data structure of the first address.
    parameters: String,
    key: Option<KeyFile>,
}

/// One address.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    prefix: String,
    address: Ipv6Addr,
}

/// Where the private key is, and how long it is if the public key is one of RSA.
#[derive(Debug, Serialize)]
struct KeyFile {
    file: PathBuf,
    bits: Option<usize>,
}

impl Description {
    pub(super) fn new(identity: &PublicIdentity) -> Self {
        let set = &identity.set;
        Self {
            kind: if set.has_public_key() { "cga-hba" } else { "hba" },
            sec: set.sec().value(),
            collision_count: set.collision_count(),
            created: timestamp(identity.created),
            automatic: identity.automatic,
            addresses: Entry::all(set),
            parameters: hex::encode(&set.parameters().to_vec()),
            key: identity.key.as_ref().map(|file| KeyFile {
                file: file.clone(),
                bits: key_bits(set.parameters().public_key()),
            }),
        }
    }

    /// Some lines and a table.
    pub(super) fn text(&self) -> String {
        let key = self.key.as_ref().and_then(|key| key.bits);
        let kind = match (self.kind, key) {
            ("hba", _) => "HBA-only".to_owned(),
            (_, Some(bits)) => format!("CGA/HBA, RSA key of {bits} bits"),
            (_, None) => "CGA/HBA".to_owned(),
        };
        let mut text = format!(
            "type             {kind}\nSec              {}\ncollision count  {}\ncreated          {}{}\n\n",
            self.sec,
            self.collision_count,
            self.created,
            if self.automatic { " by the daemon" } else { "" }
        );
        let mut table = Table::new(&["PREFIX", "ADDRESS"], style());
        for entry in &self.addresses {
            table.row([entry.prefix.as_str().into(), entry.address.into()]);
        }
        let _ = write!(text, "{}", table.render());
        text
    }
}

impl Entry {
    /// The addresses of a set.
    pub(super) fn all(set: &HbaSet) -> Vec<Self> {
        let addresses = set.prefixes().iter().zip(set.addresses());
        let entry = |(prefix, address): (&SubnetPrefix, &Ipv6Addr)| Self {
            prefix: prefix.to_string(),
            address: *address,
        };
        addresses.map(entry).collect()
    }
}

/// Colours for standard output, if it wants them.
pub(super) fn style() -> Style {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style {
        colored: io::stdout().is_terminal() && !no_color,
    }
}

/// The size of an RSA key; `None` for a key of another kind, or of a size that nothing accepts.
pub(super) fn key_bits(public_key: &[u8]) -> Option<usize> {
    let sizes = KeySizes::new(KeySizes::FLOOR, KeySizes::CEILING).ok()?;
    let key = PublicKey::from_spki(public_key, sizes).ok()?;
    Some(key.bits())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use shim6_cga::{HbaSearch, PrivateKey, Sec};

    use super::*;

    const PREFIXES: [SubnetPrefix; 2] = [
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0]),
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0]),
    ];

    fn identity(set: HbaSet, key: Option<&str>) -> PublicIdentity {
        PublicIdentity {
            set,
            created: UNIX_EPOCH,
            automatic: key.is_none(),
            key: key.map(PathBuf::from),
        }
    }

    #[test]
    fn set_without_a_key_is_described_with_its_addresses() {
        let set = HbaSet::generate(&PREFIXES, Sec::ZERO, &mut rand::rng()).expect("a set");
        let description = Description::new(&identity(set.clone(), None));
        let text = description.text();
        assert!(
            text.starts_with("type             HBA-only\nSec              0\n"),
            "{text}"
        );
        assert!(
            text.contains("created          1970-01-01T00:00:00Z by the daemon\n\nPREFIX           ADDRESS\n"),
            "{text}"
        );
        assert!(
            text.contains(&format!("2001:db8:a::/64  {}\n", set.addresses()[0])),
            "{text}"
        );
        let json = serde_json::to_value(&description).expect("JSON");
        assert_eq!((&json["type"], &json["automatic"]), (&"hba".into(), &true.into()));
        assert_eq!(json["key"], serde_json::Value::Null);
        assert_eq!(json["addresses"][1]["prefix"], "2001:db8:b::/64");
        assert_eq!(json["addresses"][1]["address"], set.addresses()[1].to_string());
    }

    #[test]
    fn set_with_a_key_is_described_with_its_size() {
        let rng = &mut rand::rng();
        let key = PrivateKey::generate(1024, KeySizes::default(), rng).expect("a key");
        let mut search =
            HbaSearch::with_public_key(&PREFIXES, key.public_key().spki(), Sec::ZERO, rng).expect("prefixes");
        let set = search.step(1).expect("Sec 0 takes the first");
        let description = Description::new(&identity(set, Some("/x/key.pem")));
        assert!(
            description
                .text()
                .starts_with("type             CGA/HBA, RSA key of 1024 bits\n")
        );
        let json = serde_json::to_value(&description).expect("JSON");
        assert_eq!(json["type"], "cga-hba");
        assert_eq!(json["key"], serde_json::json!({"file": "/x/key.pem", "bits": 1024}));
    }
}
