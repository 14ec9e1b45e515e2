//! The one description of all keys: their ranges bound what is read, and the documentation, the commented default file and
//! `shim6 config show` are made of it.

mod table;

use std::fmt;
use std::time::Duration;

use super::read::show;
use super::{Config, PeerConfig, PolicyConfig, ReapConfig, UplinkConfig};

pub(crate) use table::KEYS;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// The table that it is in; empty for the top level.
    pub(crate) table: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// What it may be.
    pub(crate) kind: Kind,
    /// Its value.
    pub(crate) value: Value,
    /// What holds where it has no value.
    pub(crate) unset: &'static str,
    /// A value that shows how it is written, for keys without a default.
    pub(crate) example: &'static str,
    /// What becomes of it when the configuration is read again.
    pub(crate) reload: Reload,
    /// What it means.
    pub(crate) text: &'static str,
}

/// What a key may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// An integer from one bound to another, of some unit.
    Integer(u64, u64, &'static str),
    /// `true` or `false`.
    Boolean,
    /// A duration from one bound to another, in milliseconds.
    Duration(u64, u64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// Anything else, in words.
    Other(&'static str),
}

/// How a key's value is got.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// Of the whole configuration.
    Of(fn(&Config) -> Option<Literal>),
    /// Of an `[[uplink]]`.
    Uplink(fn(&UplinkConfig) -> Option<Literal>),
    /// Of a `[[policy]]`.
    Policy(fn(&PolicyConfig) -> Option<Literal>),
    /// Of a `[[peer]]`.
    Peer(fn(&PeerConfig) -> Option<Literal>),
}

/// What becomes of a changed value when the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// It holds from then on.
    Now,
    /// It holds for contexts that are made from then on.
    NewContexts,
    /// It needs a restart: nothing of the new configuration is applied.
    Restart,
}

/// A value as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    Integer(u64),
    Hexadecimal(u64),
    Boolean(bool),
    Text(String),
    List(Vec<Literal>),
}

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name; empty for the top level.
    pub(crate) name: &'static str,
    /// Whether there may be several.
    pub(crate) is_array: bool,
    /// What it is for.
    pub(crate) text: &'static str,
}

/// All tables, in their order in the documentation.
pub(crate) const TABLES: &[Table] = &[
    table("", "The daemon as a whole."),
    table(
        "tun",
        "The device that packets go through once their context has left its original path.",
    ),
    array(
        "uplink",
        "The uplinks to use, at most 16. Without any, they are the interfaces that have a global /64 and a default route. Of several files, tables with the same `interface` are one.",
    ),
    table("addresses", "How this host's addresses are made."),
    table(
        "trigger",
        "After how much traffic a pair of addresses gets a context, where no `[[policy]]` says otherwise. Reaching either count is enough; a count of 0 is not used, and both may be 0 only if `initiate` is false.",
    ),
    array(
        "policy",
        "Which traffic gets contexts, at most 256 rules: the first of which all conditions hold decides. Those of a later file come behind those of the files before.",
    ),
    table(
        "reap",
        "How failures are noticed and other paths are found (RFC 5534). The profile gives the defaults of the other keys.",
    ),
    array(
        "peer",
        "What holds towards some peers only, at most 256. Of several that fit, the one with the longest prefix counts alone. Of several files, tables with the same `prefix` are one.",
    ),
    table("failback", "The way back to a preferred path that works again."),
    table("hold", "Packets that are sent while a path is looked for."),
    table("wire", "How packets are sent that go another way than their own."),
    table("observe", "How packets are watched that the daemon does not touch."),
    table(
        "steering",
        "What the daemon owns in the kernel's routing. It empties the table when it starts and when it stops, so nothing else may use it. Routes of forks are in the table behind it.",
    ),
    table(
        "icmp",
        "Errors of routers about packets that go another way than their own.",
    ),
    table("limits", "Bounds on what peers and traffic can make grow."),
    table("metrics", "Figures for Prometheus."),
];

const fn table(name: &'static str, text: &'static str) -> Table {
    Table {
        name,
        is_array: false,
        text,
    }
}

const fn array(name: &'static str, text: &'static str) -> Table {
    Table {
        name,
        is_array: true,
        text,
    }
}

/// The key `name` of `table`. Every key that is read is described, which a test holds.
pub(super) fn find(table: &str, name: &str) -> &'static Key {
    let found = KEYS.iter().find(|key| key.table == table && key.name == name);
    debug_assert!(found.is_some(), "{table}.{name} is not described");
    found.unwrap_or(&KEYS[0])
}

/// The keys of a table.
pub(crate) fn of(table: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.table == table)
}

impl Key {
    /// The bounds of an integer.
    pub(super) fn integer_range(&self) -> (u64, u64) {
        match self.kind {
            Kind::Integer(least, most, _) => (least, most),
            _ => (0, i64::MAX.unsigned_abs()),
        }
    }

    /// The bounds of a duration.
    pub(super) fn duration_range(&self) -> (Duration, Duration) {
        match self.kind {
            Kind::Duration(least, most) => (Duration::from_millis(least), Duration::from_millis(most)),
            _ => (Duration::ZERO, Duration::MAX),
        }
    }

    /// Its name with its table.
    pub(crate) fn full(&self) -> String {
        match self.table {
            "" => self.name.to_owned(),
            table => format!("{table}.{}", self.name),
        }
    }

    /// What it may be, in words.
    pub(crate) fn range(&self) -> String {
        match self.kind {
            Kind::Integer(least, most, unit) => {
                let range = if most == i64::MAX.unsigned_abs() {
                    format!("{least} or more")
                } else {
                    format!("{least} to {most}")
                };
                format!("{range} {unit}").trim().to_owned()
            }
            Kind::Boolean => "`true`, `false`".to_owned(),
            Kind::Duration(least, most) => {
                let bound = |millis| show(Duration::from_millis(millis)).to_string();
                format!("{} to {}", bound(least), bound(most))
            }
            Kind::Word(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
                words.join(", ")
            }
            Kind::Other(range) => range.to_owned(),
        }
    }

    /// Its default: that of the profile `fast`, and that of `rfc` where it is another one.
    pub(crate) fn defaults(&self) -> (Option<Literal>, Option<Literal>) {
        let Value::Of(value) = self.value else {
            return (None, None);
        };
        let fast = Config::default();
        let rfc = Config {
            reap: ReapConfig::of(shim6_core::Profile::Rfc),
            ..Config::default()
        };
        let (fast, rfc) = (value(&fast), value(&rfc));
        let is_another = self.name != "profile" && rfc != fast;
        (fast, rfc.filter(|_| is_another))
    }

    /// Each of its values in `config`, by its full name with the number of its table. One whose table is in an array has
    /// several, or none.
    pub(crate) fn values(&self, config: &Config) -> Vec<(String, Option<Literal>)> {
        fn each<T>(key: &Key, items: &[T], value: fn(&T) -> Option<Literal>) -> Vec<(String, Option<Literal>)> {
            let named = |(number, item)| (format!("{}[{number}].{}", key.table, key.name), value(item));
            items.iter().enumerate().map(named).collect()
        }
        match self.value {
            Value::Of(value) => vec![(self.full(), value(config))],
            Value::Uplink(value) => each(self, &config.uplinks, value),
            Value::Policy(value) => each(self, &config.policies, value),
            Value::Peer(value) => each(self, &config.peers, value),
        }
    }
}

impl Literal {
    /// A duration as one writes it.
    pub(crate) fn duration(duration: Duration) -> Self {
        Self::Text(show(duration).to_string())
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(value) | Self::Hexadecimal(value) => (*value).into(),
            Self::Boolean(value) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Hexadecimal(value) => write!(f, "{value:#x}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

#[cfg(test)]
impl Reload {
    /// In a word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::NewContexts => "new contexts",
            Self::Restart => "restart",
        }
    }
}
