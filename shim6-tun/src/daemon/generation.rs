//! The search for the addresses of a host that has none yet: on all processors, and kept if a signal ends it.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shim6_cga::{HbaSearch, HbaSet, Sec, SubnetPrefix};

use crate::identity::{IdentityError, Store, StoredSearch};
use crate::search::{self, Outcome, Progress};

/// Time between two looks at whether the search is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two lines in the log about it.
const REPORT: Duration = Duration::from_secs(10);

/// A new HBA-only set. If the future is dropped before there is one, how far the search is goes to `store`, and the next
/// call for the same prefixes and Sec goes on from there.
///
/// # Errors
///
/// There is no set for these prefixes, or the system gives no thread.
pub(super) async fn generate(sec: Sec, prefixes: &[SubnetPrefix], store: Option<&Store>) -> anyhow::Result<HbaSet> {
    let run = Run::begin(sec, prefixes, store)?;
    // Dropped with this future.
    let wanted = Arc::new(());
    let still_wanted = Arc::downgrade(&wanted);
    let set = tokio::task::spawn_blocking(move || run.search(|| still_wanted.strong_count() > 0)).await?;
    drop(wanted);
    set
}

struct Run {
    search: HbaSearch,
    sec: Sec,
    /// Hashes of earlier runs.
    before: u64,
    /// Whether it goes on from what is in the store.
    resumed: bool,
    store: Option<Store>,
}

impl Run {
    fn begin(sec: Sec, prefixes: &[SubnetPrefix], store: Option<&Store>) -> anyhow::Result<Self> {
        let is_this =
            |kept: &StoredSearch| kept.sec == sec && kept.key.is_none() && !kept.seeded && kept.prefixes() == prefixes;
        let kept = store
            .and_then(|store| store.load_search().ok().flatten())
            .filter(is_this);
        if let Some(kept) = &kept {
            tracing::info!(
                hashes = kept.tried,
                "going on with the search for addresses that was interrupted"
            );
        }
        Ok(Self {
            search: match &kept {
                Some(kept) => HbaSearch::resume(&kept.parameters, sec)?,
                None => HbaSearch::new(prefixes, sec, &mut rand::rng())?,
            },
            sec,
            resumed: kept.is_some(),
            before: kept.map_or(0, |kept| kept.tried),
            store: store.cloned(),
        })
    }

    fn search(self, is_wanted: impl Fn() -> bool) -> anyhow::Result<HbaSet> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut reported = Duration::ZERO;
        let ended = search::run(self.search.modifier_search().clone(), threads, LOOK, |progress| {
            if progress.elapsed >= reported + REPORT {
                reported = progress.elapsed;
                self.report(progress);
            }
            if is_wanted() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let (outcome, progress) = ended.context("cannot search for addresses: the system gives no thread")?;
        match outcome {
            Outcome::Found(modifier) => {
                if self.resumed {
                    self.logged(|store| store.lock()?.remove_search());
                }
                Ok(self.search.finish(modifier)?)
            }
            Outcome::Stopped => {
                self.keep(&progress);
                anyhow::bail!("the search for addresses was stopped")
            }
        }
    }

    fn keep(&self, progress: &Progress) {
        let kept = StoredSearch {
            parameters: self.search.parameters().with_modifier(progress.candidate),
            sec: self.sec,
            tried: self.before.saturating_add(progress.settled),
            seeded: false,
            key: None,
            new_key: false,
        };
        self.logged(|store| {
            let writer = store.lock()?;
            // One for other addresses is that of a person, and stays.
            if !self.resumed && store.load_search()?.is_some() {
                return Ok(());
            }
            writer.save_search(&kept)
        });
    }

    /// Does something with the store, if there is one; that it cannot be done is no reason to stop.
    fn logged(&self, action: impl FnOnce(&Store) -> Result<(), IdentityError>) {
        if let Some(Err(error)) = self.store.as_ref().map(action) {
            tracing::warn!(%error, "how far the search for addresses is cannot be kept");
        }
    }

    fn report(&self, progress: &Progress) {
        let seconds = self.sec.expected_hashes().checked_div(progress.rate());
        tracing::info!(
            sec = %self.sec,
            hashes = self.before.saturating_add(progress.tried),
            hashes_per_second = progress.rate(),
            typical_seconds = seconds,
            "searching for addresses; there are none until then"
        );
    }
}
