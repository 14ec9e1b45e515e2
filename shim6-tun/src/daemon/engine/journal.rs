//! What happened, for those who listen, for the log, and the last of it for those who ask later.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shim6_core::{Instant, LocatorPair};
use tokio::sync::broadcast;

use crate::status::Event;

/// Events kept for the status.
const RECENT: usize = 16;
/// The kinds of them.
const KEPT: [&str; 4] = ["failover", "failback", "move", "locator"];
/// Lines of one kind that are logged in one interval: whoever is on the network can make things happen.
const LINES: u64 = 20;
/// That interval, in milliseconds.
const INTERVAL_MS: u64 = 1_000;
/// The least time between two warnings of the limit on contexts, which peers can reach.
const WARNING: Duration = Duration::from_secs(30);

/// Takes all events of the daemon.
pub(super) struct Journal {
    listeners: broadcast::Sender<Event>,
    recent: VecDeque<Event>,
    log: Log,
    /// The last warning of the limit on contexts, and how often it was met since.
    limit: (Option<Instant>, u64),
}

/// Which events are logged.
#[derive(Default)]
struct Log {
    /// Of each kind, of which there are not many: the interval it was last in, and how many events there were.
    kinds: HashMap<String, (u64, u64)>,
}

impl Journal {
    pub(super) fn new(listeners: broadcast::Sender<Event>) -> Self {
        Self {
            listeners,
            recent: VecDeque::new(),
            log: Log::default(),
            limit: (None, 0),
        }
    }

    /// A pair deserved a context that it cannot have.
    pub(super) fn warn_of_limit(&mut self, ulids: LocatorPair, now: Instant) {
        let (last, times) = &mut self.limit;
        *times += 1;
        if last.is_none_or(|last| now - last >= WARNING) {
            tracing::warn!(%ulids, times, "no context: the limit is reached, see [limits]");
            (*last, *times) = (Some(now), 0);
        }
    }

    pub(super) fn note(&mut self, event: Event) {
        let (is_logged, skipped) = self.log.admits(&event.kind, event.at_ms);
        if skipped > 0 {
            let kind = &event.kind;
            tracing::info!(kind, skipped, "more events of this kind happened than are logged");
        }
        if is_logged {
            tracing::info!(kind = event.kind, context = event.context, "{}", event.message);
        }
        if KEPT.contains(&event.kind.as_str()) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(event.clone());
        }
        // Nobody may be listening.
        let _ = self.listeners.send(event);
    }

    /// The last moves and changes of locators.
    pub(super) fn recent(&self) -> Vec<Event> {
        self.recent.iter().cloned().collect()
    }
}

impl Log {
    /// Whether an event is logged, and how many were not in the last interval that had some.
    fn admits(&mut self, kind: &str, at_ms: u64) -> (bool, u64) {
        let interval = at_ms / INTERVAL_MS;
        let (last, count) = self.kinds.entry(kind.to_owned()).or_default();
        let mut skipped = 0;
        if *last != interval {
            skipped = count.saturating_sub(LINES);
            (*last, *count) = (interval, 0);
        }
        *count += 1;
        (*count <= LINES, skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, at_ms: u64) -> Event {
        Event {
            at_ms,
            kind: kind.to_owned(),
            context: None,
            message: String::new(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_storm_of_one_kind_is_cut_short_and_counted_and_hides_no_other() {
        let mut log = Log::default();
        let logged = (0..1_000).filter(|_| log.admits("no-answer", 5_500).0).count();
        assert_eq!(logged, LINES as usize);
        assert_eq!(log.admits("failover", 5_600), (true, 0));
        assert_eq!(log.admits("no-answer", 6_000), (true, 980));
        assert_eq!(log.admits("no-answer", 7_000), (true, 0));
    }

    #[test]
    fn listeners_get_all_and_the_status_the_last_moves() {
        let (listeners, mut heard) = broadcast::channel(64);
        let mut journal = Journal::new(listeners);
        for at_ms in 0..20 {
            journal.note(event("failover", at_ms));
            journal.note(event("established", at_ms));
        }
        let recent: Vec<_> = journal.recent().iter().map(|event| event.at_ms).collect();
        assert_eq!(recent, (4..20).collect::<Vec<_>>());
        assert!(journal.recent().iter().all(|event| event.kind == "failover"));
        let mut count = 0;
        while heard.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, 40);
    }
}
