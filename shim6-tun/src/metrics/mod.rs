//! Figures for Prometheus, in the text format of OpenMetrics 1.0.
//!
//! The engine gives a snapshot for a scrape, at most once in a second; nothing is counted for it that is not counted anyway, but
//! how long failovers took.
//!
//! No label has a value that whoever is on the network can choose freely, but for the addresses of locator pairs; of those only
//! as many have series of their own as the configuration says.

mod encode;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use shim6_core::{Cause, Event};

pub use encode::encode;
pub use server::{MetricsError, Server};

use crate::status::{Counters, PathStatus, UplinkStatus, Volume};

/// How many there are of each of several kinds.
pub type Amounts = BTreeMap<String, u64>;

/// The upper bounds of the histogram's buckets, in seconds: from a hint that finds a pair at once to the timers of RFC 5534.
const BUCKETS: [f64; 13] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0];

/// All causes of a change of path.
const CAUSES: [Cause; 7] = [
    Cause::SendTimeout,
    Cause::PeerReport,
    Cause::LocalHint,
    Cause::IcmpError,
    Cause::Requested,
    Cause::TransportHint,
    Cause::Preferred,
];

/// What the daemon's figures are at a moment.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// By what packets are watched.
    pub observation: String,
    /// How many things keep the daemon from doing its work.
    pub problems: usize,
    /// The uplinks.
    pub uplinks: Vec<UplinkStatus>,
    /// Contexts by state.
    pub contexts: Amounts,
    /// Contexts by the state of failure detection.
    pub reachability: Amounts,
    /// Contexts on another pair than their ULIDs.
    pub moved: u64,
    /// Peers that are left alone, by reason.
    pub left_alone: Amounts,
    /// What contexts sent, those included that are gone.
    pub sent: Volume,
    /// What contexts received, those included that are gone.
    pub received: Volume,
    /// The daemon's counters.
    pub counters: Counters,
    /// Locator pairs, those in use first.
    pub paths: Vec<PathStatus>,
    /// How many more there are.
    pub paths_omitted: usize,
    /// Changes of path.
    pub failovers: Failovers,
}

/// Changes of path since the daemon started, and how long nothing had worked before. Copies share what they count.
#[derive(Debug, Clone)]
pub struct Failovers(Arc<Changes>);

type Label = [(&'static str, String); 1];

#[derive(Debug)]
struct Changes {
    count: Family<Label, Counter>,
    duration: Family<Label, Histogram, fn() -> Histogram>,
}

impl Default for Failovers {
    fn default() -> Self {
        let changes = Changes {
            count: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        for cause in CAUSES {
            let _ = changes.count.get_or_create(&label(cause));
        }
        Self(Arc::new(changes))
    }
}

impl Failovers {
    /// Counts a change of path; other events are none.
    pub fn note(&self, event: &Event) {
        let &Event::PathChanged { cause, took, .. } = event else {
            return;
        };
        let label = label(cause);
        self.0.count.get_or_create(&label).inc();
        if let Some(took) = took {
            self.0.duration.get_or_create(&label).observe(took.as_secs_f64());
        }
    }
}

fn label(cause: Cause) -> Label {
    [("cause", cause.to_string())]
}

#[cfg(test)]
mod tests;
