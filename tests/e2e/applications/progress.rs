//! How an application gets on, and for how long it did not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{interval, timeout};

use crate::packets::lab::LIMIT;

/// What has come through, in units of the application's. Clones are of the same.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    amount: u64,
    last: Option<Instant>,
    /// The longest time between two arrivals, in each phase so far.
    waits: Vec<Duration>,
    /// The same in the present phase.
    wait: Duration,
}

impl Progress {
    /// So much has come now.
    pub(super) fn add(&self, amount: u64) {
        let now = Instant::now();
        let mut record = self.record();
        record.amount += amount;
        if let Some(last) = record.last.replace(now) {
            record.wait = record.wait.max(now - last);
        }
    }

    /// How much has come.
    pub(super) fn amount(&self) -> u64 {
        self.record().amount
    }

    /// Waits until so much has come.
    pub(super) async fn reach(&self, amount: u64) {
        let mut tick = interval(Duration::from_millis(5));
        let reached = async {
            while self.amount() < amount {
                tick.tick().await;
            }
        };
        let waited = timeout(LIMIT, reached).await;
        assert!(waited.is_ok(), "{} of {amount} came within {LIMIT:?}", self.amount());
    }

    /// Waits until so much more has come.
    pub(super) async fn advance(&self, amount: u64) {
        self.reach(self.amount() + amount).await;
    }

    /// Begins the next phase. What is waited for now belongs to it.
    pub(super) fn next_phase(&self) {
        let mut record = self.record();
        let wait = std::mem::take(&mut record.wait);
        record.waits.push(wait);
    }

    /// The longest wait of each phase, the present one included.
    pub(super) fn waits(&self) -> Vec<Duration> {
        let record = self.record();
        let mut waits = record.waits.clone();
        waits.push(record.wait);
        waits
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[test]
fn a_wait_counts_for_the_phase_in_which_it_ends() {
    let progress = Progress::default();
    progress.add(2);
    std::thread::sleep(Duration::from_millis(30));
    progress.next_phase();
    progress.add(3);
    progress.add(1);
    assert_eq!(progress.amount(), 6);
    let waits = progress.waits();
    assert_eq!(waits.len(), 2);
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1] >= Duration::from_millis(30), "{waits:?}");
}
