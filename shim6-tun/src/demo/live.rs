//! What happens while it happens: written by the scenario, read by the view and the report.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::traffic::Series;

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When, since the run's origin.
    pub at: Duration,
    /// Who says it: `a` or `b` for a daemon's event, nothing for the demo itself.
    pub host: Option<String>,
    /// What kind of event it is, in the daemon's terms; nothing for the demo itself.
    pub kind: Option<String>,
    /// One line for people.
    pub text: String,
}

/// The shared record of a run. All times count from the origin that [`Live::begin`] sets.
#[derive(Debug)]
pub struct Live {
    created: Instant,
    origin: OnceLock<Instant>,
    cut: OnceLock<Duration>,
    with: Mutex<Series>,
    without: Mutex<Series>,
    notes: Mutex<Vec<Note>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            origin: OnceLock::new(),
            cut: OnceLock::new(),
            with: Mutex::default(),
            without: Mutex::default(),
            notes: Mutex::default(),
        }
    }
}

impl Live {
    /// Makes now the origin of all times: the transfers begin.
    pub fn begin(&self) {
        let _ = self.origin.set(Instant::now());
    }

    /// Whether the transfers have begun.
    pub fn has_begun(&self) -> bool {
        self.origin.get().is_some()
    }

    /// Time since the origin; zero before it.
    pub fn now(&self) -> Duration {
        self.origin.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Time since the record was made, which includes the preparations.
    pub fn age(&self) -> Duration {
        self.created.elapsed()
    }

    /// Marks now as the moment of the cut.
    pub fn mark_cut(&self) {
        let _ = self.cut.set(self.now());
    }

    /// The moment of the cut.
    pub fn cut(&self) -> Option<Duration> {
        self.cut.get().copied()
    }

    /// The arrivals of the flow that Shim6 protects.
    pub fn with(&self) -> MutexGuard<'_, Series> {
        self.with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The arrivals of the flow that nothing protects.
    pub fn without(&self) -> MutexGuard<'_, Series> {
        self.without.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a note of the demo itself.
    pub fn note(&self, text: impl Into<String>) {
        self.add(None, None, text.into());
    }

    /// Adds an event of the daemon on `host`.
    pub fn event(&self, host: &str, kind: &str, text: impl Into<String>) {
        self.add(Some(host.to_owned()), Some(kind.to_owned()), text.into());
    }

    /// The notes from number `from` on, oldest first.
    pub fn notes(&self, from: usize) -> Vec<Note> {
        self.locked_notes().get(from..).unwrap_or_default().to_vec()
    }

    fn add(&self, host: Option<String>, kind: Option<String>, text: String) {
        let mut notes = self.locked_notes();
        let at = self.now();
        notes.push(Note { at, host, kind, text });
    }

    fn locked_notes(&self) -> MutexGuard<'_, Vec<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_until_the_transfers_begin() {
        let live = Live::default();
        live.note("preparing");
        assert!(!live.has_begun());
        assert_eq!(live.now(), Duration::ZERO);
        live.begin();
        assert!(live.has_begun());
        live.event("a", "established", "context established");
        live.mark_cut();
        let notes = live.notes(0);
        assert_eq!(notes[0].at, Duration::ZERO);
        assert!(live.cut() >= Some(notes[1].at));
        assert_eq!(live.notes(1), notes[1..]);
        assert!(live.notes(7).is_empty());
    }
}
