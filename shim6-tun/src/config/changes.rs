//! What is different between two configurations.

use super::Config;
use super::keys::{KEYS, Reload};

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name, such as `tun.mtu` or `uplink[0].weight`.
    pub key: String,
    /// The value before, as the file has it; `None` if there was none.
    pub from: Option<String>,
    /// The value after.
    pub to: Option<String>,
    /// Whether a running daemon cannot take it.
    pub needs_restart: bool,
}

/// The keys whose values are others in `new` than in `old`, in the order of the documentation.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in KEYS {
        let (before, after) = (key.values(old), key.values(new));
        for number in 0..before.len().max(after.len()) {
            let value = |values: &[(String, Option<super::keys::Literal>)]| {
                values
                    .get(number)
                    .and_then(|(_, value)| Some(value.as_ref()?.to_string()))
            };
            let (from, to) = (value(&before), value(&after));
            if from == to {
                continue;
            }
            let named = after.get(number).or(before.get(number));
            changes.push(Change {
                key: named.map_or_else(|| key.full(), |(name, _)| name.clone()),
                from,
                to,
                needs_restart: key.reload == Reload::Restart,
            });
        }
    }
    changes
}
