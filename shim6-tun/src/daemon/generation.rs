//! The search for the addresses of a host that has none yet, or none that serve: on all processors, and kept if a signal ends it.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shim6_cga::{HbaSearch, HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};

use crate::identity::{IdentityError, Store, StoredSearch};
use crate::search::{self, Outcome, Progress};

/// Time between two looks at whether the search is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two lines in the log about it.
const REPORT: Duration = Duration::from_secs(10);

/// Size of the keys that are made for addresses, in bits of the modulus: what has been asked of new keys since 2013 (NIST SP
/// 800-131A), and a message has room for signature and key.
const KEY_BITS: usize = 2048;

/// A new set, and the key that it has. If the future is dropped before there is one, how far the search is goes to `store`, and
/// the next call for the same prefixes and Sec goes on from there.
///
/// It has a key, so that an address under a prefix that comes later can be signed with it (RFC 5535 section 8.1): else what is
/// under way then could never use it.
///
/// # Errors
///
/// There is no set for these prefixes, or the system gives no thread.
pub(super) async fn generate(
    sec: Sec,
    prefixes: &[SubnetPrefix],
    store: Option<&Store>,
) -> anyhow::Result<(HbaSet, Option<PrivateKey>)> {
    let (prefixes, store) = (prefixes.to_vec(), store.cloned());
    run(move |is_wanted| Run::begin(sec, &prefixes, store)?.search(is_wanted)).await
}

/// A new set with the key whose encoded public key is `spki`.
///
/// # Errors
///
/// As [`generate`].
pub(super) async fn generate_with(sec: Sec, prefixes: &[SubnetPrefix], spki: &[u8]) -> anyhow::Result<HbaSet> {
    let search = HbaSearch::with_public_key(prefixes, spki, sec, &mut rand::rng())?;
    let begun = Run {
        search,
        sec,
        before: 0,
        resumed: false,
        // It would have to be told from searches for other keys; it begins again instead.
        store: None,
        key: None,
    };
    run(|is_wanted| begun.search(is_wanted)).await.map(|(set, _)| set)
}

/// Does something on a thread of its own, which is told when nobody waits for it any more.
async fn run<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    // Dropped with this future.
    let wanted = Arc::new(());
    let still_wanted = Arc::downgrade(&wanted);
    let done = tokio::task::spawn_blocking(move || work(&|| still_wanted.strong_count() > 0)).await?;
    drop(wanted);
    done
}

struct Run {
    search: HbaSearch,
    sec: Sec,
    /// Hashes of earlier runs.
    before: u64,
    /// Whether it goes on from what is in the store.
    resumed: bool,
    store: Option<Store>,
    /// The one that was made for it.
    key: Option<PrivateKey>,
}

impl Run {
    fn begin(sec: Sec, prefixes: &[SubnetPrefix], store: Option<Store>) -> anyhow::Result<Self> {
        let is_this = |kept: &StoredSearch| {
            let is_own = kept.key.is_none() || kept.new_key;
            kept.sec == sec && is_own && !kept.seeded && kept.prefixes() == prefixes
        };
        let kept = store.as_ref().and_then(|store| {
            let kept = store.load_search().ok().flatten().filter(is_this)?;
            // Without its key it is worth nothing.
            let key = store.load_search_key(&kept).ok()?;
            Some((kept, key))
        });
        if let Some((kept, key)) = kept {
            tracing::info!(
                hashes = kept.tried,
                "going on with the search for addresses that was interrupted"
            );
            return Ok(Self {
                search: HbaSearch::resume(&kept.parameters, sec)?,
                sec,
                resumed: true,
                before: kept.tried,
                store,
                key,
            });
        }
        let key = PrivateKey::generate(KEY_BITS, KeySizes::default(), &mut rand::rng())?;
        Ok(Self {
            search: HbaSearch::with_public_key(prefixes, key.public_key().spki(), sec, &mut rand::rng())?,
            sec,
            resumed: false,
            before: 0,
            store,
            key: Some(key),
        })
    }

    fn search(self, is_wanted: &dyn Fn() -> bool) -> anyhow::Result<(HbaSet, Option<PrivateKey>)> {
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
                Ok((self.search.finish(modifier)?, self.key))
            }
            Outcome::Stopped => {
                self.keep(&progress);
                anyhow::bail!("the search for addresses was stopped")
            }
        }
    }

    fn keep(&self, progress: &Progress) {
        self.logged(|store| {
            let writer = store.lock()?;
            // One for other addresses is that of a person, and stays.
            if !self.resumed && store.load_search()?.is_some() {
                return Ok(());
            }
            let key = self.key.as_ref().map(|key| writer.save_key(key)).transpose()?;
            writer.save_search(&StoredSearch {
                parameters: self.search.parameters().with_modifier(progress.candidate),
                sec: self.sec,
                tried: self.before.saturating_add(progress.settled),
                seeded: false,
                new_key: key.is_some(),
                key,
            })
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
