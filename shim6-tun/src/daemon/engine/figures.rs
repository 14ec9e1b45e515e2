//! The figures for Prometheus.

use std::cmp::Reverse;

use super::Engine;
use crate::daemon::report;
use crate::metrics::{Amounts, Figures};
use crate::status::Volume;

impl Engine<'_> {
    pub(super) fn figures(&self) -> Figures {
        let census = self.endpoint.census();
        let established = census.states.iter().map(|&(_, count)| count).sum::<u64>();
        let looking = census.exploring + census.inbound_ok;
        let named = |name: &str, count| (name.to_owned(), count);
        let volume = |(packets, octets)| Volume { packets, octets };
        let (paths, paths_omitted) = self.main_paths();
        let mut left_alone: Amounts = [named("e-failed", 0), named("no-support", 0)].into();
        for (_, state, _) in self.endpoint.failures() {
            *left_alone.entry(state.as_str().to_owned()).or_default() += 1;
        }
        Figures {
            uptime_ms: self.shared.clock.millis(),
            observation: self.observers.method().to_string(),
            problems: self.problems().count(),
            uplinks: self.uplinks(),
            contexts: census
                .states
                .iter()
                .map(|&(state, count)| named(state.as_str(), count))
                .collect(),
            reachability: [
                named("operational", established.saturating_sub(looking)),
                named("exploring", census.exploring),
                named("inbound-ok", census.inbound_ok),
            ]
            .into(),
            moved: census.moved,
            left_alone,
            sent: volume(census.sent),
            received: volume(census.received),
            counters: report::counters(&self.endpoint, self.paths.report()),
            paths,
            paths_omitted,
            failovers: self.failovers.clone(),
        }
    }

    /// The pairs with figures of their own: those that most contexts use, and then those that were probed most. How many there
    /// are besides comes second.
    fn main_paths(&self) -> (Vec<crate::status::PathStatus>, usize) {
        let most = self.reload.config().metrics.paths;
        let mut paths = self.endpoint.paths();
        let omitted = paths.len().saturating_sub(most);
        if most > 0 {
            paths.sort_by_key(|path| Reverse((path.users, path.probes_sent)));
        }
        paths.truncate(most);
        (self.tell_paths(&paths), omitted)
    }
}
