//! What is legal but most likely not meant.

use std::path::PathBuf;
use std::time::Duration;

use shim6_core::Profile;

use super::error::Problem;
use super::load::Loaded;
use super::{PolicyConfig, ReapConfig, UplinkConfig, read};

/// The Send Timeout of RFC 5534, below which none is used towards peers that know no other.
const RFC_SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// A Send Timeout that does not follow the round-trip time should be longer than most paths need.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(300);

/// Everything doubtful, in the order of the files. `ignored` is what lies in the drop-in directory and is not read.
pub(super) fn warnings(loaded: &Loaded, ignored: &[PathBuf]) -> Vec<Problem> {
    let mut warnings = Warnings {
        loaded,
        found: Vec::new(),
    };
    warnings.uplinks();
    warnings.policies();
    warnings.timers("reap", &loaded.config.reap);
    for (number, peer) in loaded.config.peers.iter().enumerate() {
        warnings.timers(&format!("peer[{number}]"), &peer.reap);
    }
    warnings.limits();
    for path in ignored {
        warnings.found.push(Problem {
            file: path.clone(),
            line: 1,
            key: String::new(),
            wrong: "this file is not read".to_owned(),
            expected: "drop-in files end in .toml".to_owned(),
        });
    }
    let place = |problem: &Problem| {
        let file = loaded.files.iter().position(|file| *file == problem.file);
        (file.unwrap_or(usize::MAX), problem.line)
    };
    warnings.found.sort_by_key(place);
    warnings.found
}

struct Warnings<'a> {
    loaded: &'a Loaded,
    found: Vec<Problem>,
}

impl Warnings<'_> {
    /// Warns of `key`, which is set somewhere; else of any key of its table.
    fn warn(&mut self, key: &str, wrong: &str, expected: &str) {
        let table = key.rsplit_once('.').map_or(key, |(table, _)| table);
        let is_near = |other: &&String| other.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let origin = self.loaded.origin(key).or_else(|| {
            let near = self.loaded.origins.keys().find(is_near)?;
            self.loaded.origin(near)
        });
        let Some(origin) = origin else { return };
        self.found.push(Problem {
            file: origin.file.clone(),
            line: origin.line,
            // As errors name it.
            key: key.split_once('[').map_or(key.to_owned(), |(table, rest)| {
                format!("{table}{}", rest.split_once(']').map_or("", |(_, rest)| rest))
            }),
            wrong: wrong.to_owned(),
            expected: expected.to_owned(),
        });
    }

    fn uplinks(&mut self) {
        let uplinks = &self.loaded.config.uplinks;
        if let [only] = &uplinks[..] {
            let wrong = format!("\"{}\" is the only uplink, so that no session can move", only.interface);
            self.warn(
                "uplink[0].interface",
                &wrong,
                "name another one, or none to have them found",
            );
        }
        let is_last = |uplink: &UplinkConfig| uplink.metered;
        if uplinks.len() > 1 && uplinks.iter().all(is_last) {
            let wrong = "all uplinks are metered, so that none is preferred";
            self.warn("uplink[0].metered", wrong, "leave one without it");
        }
        if !self.loaded.config.failback.enabled
            && let Some(number) = uplinks.iter().position(is_last)
        {
            let wrong = "without failback, what has moved to the metered uplink stays there";
            self.warn(&format!("uplink[{number}].metered"), wrong, "leave failback.enabled on");
        }
        if self.loaded.config.addresses.identity.is_none() {
            let wrong = "new addresses at each start end all sessions of the run before";
            self.warn("addresses.identity", wrong, "give a directory to keep them");
        }
    }

    fn policies(&mut self) {
        let config = &self.loaded.config;
        let named: Vec<_> = config.uplinks.iter().map(|uplink| &uplink.interface).collect();
        for (number, policy) in config.policies.iter().enumerate() {
            let key = |key: &str| format!("policy[{number}].{key}");
            if let Some(before) = config.policies[..number]
                .iter()
                .position(|before| covers(before, policy))
            {
                let wrong = format!("never decides: rule {} before it matches all that it does", before + 1);
                self.warn(&key("protect"), &wrong, "put the narrower rule first");
            }
            if let Some(unknown) = policy.uplinks.iter().find(|uplink| !named.contains(uplink))
                && !named.is_empty()
            {
                let wrong = format!("\"{unknown}\" is the interface of no [[uplink]]");
                self.warn(&key("uplink"), &wrong, "expected one of those");
            }
            let has_ports = |protocol: &super::Protocol| matches!(protocol.0, 6 | 17 | 132);
            if !policy.ports.is_empty() && !policy.protocols.is_empty() && !policy.protocols.iter().any(has_ports) {
                self.warn(
                    &key("ports"),
                    "none of the rule's protocols has ports",
                    "take \"tcp\", \"udp\" or \"sctp\"",
                );
            }
            if !policy.protect && (policy.packets.is_some() || policy.octets.is_some()) {
                let count = if policy.packets.is_some() { "packets" } else { "octets" };
                self.warn(
                    &key(count),
                    "has no effect without protect",
                    "leave it out, or set protect = true",
                );
            }
        }
        if !config.trigger.initiate
            && self
                .loaded
                .origin("trigger.packets")
                .or(self.loaded.origin("trigger.octets"))
                .is_some()
            && config.policies.iter().all(|policy| !policy.protect)
        {
            let wrong = "is false, so that trigger.packets and trigger.octets have no effect";
            self.warn("trigger.initiate", wrong, "leave them out");
        }
    }

    fn timers(&mut self, table: &str, reap: &ReapConfig) {
        let key = format!("{table}.send_timeout");
        if self.loaded.origin(&key).is_none() && self.loaded.origin(&format!("{table}.profile")).is_none() {
            return;
        }
        let shown = read::show(reap.send_timeout);
        if reap.profile == Profile::Rfc && reap.send_timeout < RFC_SEND_TIMEOUT {
            let wrong = format!("{shown} is below the 15s that the profile \"rfc\" uses at least");
            self.warn(&key, &wrong, "take the profile \"fast\", or a longer time");
        } else if !reap.follow_rtt && reap.send_timeout < LONG_ROUND_TRIP {
            let wrong = format!("{shown} without follow_rtt takes paths of long round trips for dead");
            self.warn(&key, &wrong, "leave follow_rtt on, or take 300ms or more");
        }
    }

    fn limits(&mut self) {
        let config = &self.loaded.config;
        if config.limits.contexts_per_prefix > config.limits.contexts {
            let wrong = "is above limits.contexts, and so without effect";
            self.warn("limits.contexts_per_prefix", wrong, "take less, or leave it out");
        }
        let processors = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        if config.tun.queues > processors {
            let wrong = format!("{} is more than this host's {processors} processors", config.tun.queues);
            self.warn("tun.queues", &wrong, "more threads only wait for each other");
        }
    }
}

/// Whether `before` matches all that `policy` does.
fn covers(before: &PolicyConfig, policy: &PolicyConfig) -> bool {
    fn all<T>(before: &[T], of: &[T], is_in: impl Fn(&T, &T) -> bool) -> bool {
        before.is_empty() || (!of.is_empty() && of.iter().all(|item| before.iter().any(|wider| is_in(wider, item))))
    }
    all(&before.peers, &policy.peers, |wider, item| wider.covers(*item))
        && all(&before.uplinks, &policy.uplinks, |one, other| one == other)
        && all(&before.protocols, &policy.protocols, |one, other| one == other)
        && all(&before.ports, &policy.ports, |wider, item| {
            wider.start() <= item.start() && item.end() <= wider.end()
        })
}
