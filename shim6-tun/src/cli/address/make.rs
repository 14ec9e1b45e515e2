//! Makes a set and writes it: what `generate` and `rotate` have in common.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use shim6_cga::{GenerateError, HbaSearch, HbaSet, KeySizes, Modifier, PrivateKey, Sec, SubnetPrefix};

use super::super::output::count;
use super::args::Seed;
use super::description::key_bits;
use super::interrupt::Interrupt;
use super::progress::View;
use super::say;
use crate::identity::{Saved, StoredIdentity, StoredSearch, Writer};
use crate::search::{self, Outcome, Progress};

/// Time between two looks at the search: how often a terminal is redrawn.
const TICK: Duration = Duration::from_millis(200);
/// Time between two writes of how far the search is.
const SAVE: Duration = Duration::from_secs(30);

/// The set that is wanted.
pub(super) struct Plan {
    pub(super) prefixes: Vec<SubnetPrefix>,
    pub(super) sec: Sec,
    pub(super) key: KeyChoice,
    pub(super) seed: Option<Seed>,
    pub(super) threads: NonZeroUsize,
}

/// What is in the public key field.
pub(super) enum KeyChoice {
    /// A nonce: HBA-only.
    Nonce,
    /// The public key of an RSA key made for it, of that many bits.
    New(usize),
    /// The public key of this one.
    Given(Box<PrivateKey>),
}

/// A set that was made and written.
pub(super) struct Made {
    pub(super) set: HbaSet,
    pub(super) created: SystemTime,
    pub(super) saved: Saved,
    /// Hashes computed for it, those of earlier runs included.
    pub(super) hashes: u64,
}

/// Makes the set and writes it in place of `former`; `None` if a signal came before, with a word about it on standard
/// error.
pub(super) fn make(writer: &Writer<'_>, plan: Plan, former: Option<&HbaSet>) -> anyhow::Result<Option<Made>> {
    let mut run = Run::begin(writer, plan, former)?;
    // From here on, so that a key takes as long as it takes and can be interrupted.
    let interrupt = Interrupt::catch()?;
    let (outcome, progress) = run.search(&interrupt)?;
    match outcome {
        Outcome::Found(modifier) => run.finish(modifier, progress.tried).map(Some),
        Outcome::Stopped => run.keep(&progress).map(|()| None),
    }
}

/// A search that is under way.
struct Run<'a> {
    writer: &'a Writer<'a>,
    search: HbaSearch,
    sec: Sec,
    threads: NonZeroUsize,
    seeded: bool,
    key: Option<PrivateKey>,
    /// Whether the key was made for this search.
    new_key: bool,
    /// Whether the key file is written.
    key_kept: bool,
    /// Modifiers tried in earlier runs.
    before: u64,
    /// Whether `search.toml` is there.
    kept: bool,
}

impl<'a> Run<'a> {
    /// Goes on with the search that was interrupted, if it is this one; else starts anew.
    fn begin(writer: &'a Writer<'a>, plan: Plan, former: Option<&HbaSet>) -> anyhow::Result<Self> {
        let store = writer.store();
        let stored = store.load_search()?;
        // What a crash between the two last steps of a write has left.
        let (over, stored): (Vec<_>, Vec<_>) = stored.into_iter().partition(|search| leads_to(search, former));
        if !over.is_empty() {
            writer.remove_search()?;
        }
        let Some(stored) = stored.into_iter().next() else {
            return Self::anew(writer, plan);
        };
        let path = store.search_path();
        if !plan.is_that_of(&stored)? {
            return Err(other_search(&path, &stored));
        }
        say(format_args!(
            "Going on with the search in {}: {} hashes are done.",
            path.display(),
            count(stored.tried)
        ));
        Ok(Self {
            writer,
            search: HbaSearch::resume(&stored.parameters, stored.sec)?,
            sec: stored.sec,
            threads: plan.threads,
            seeded: stored.seeded,
            key: store.load_search_key(&stored)?,
            new_key: stored.new_key,
            key_kept: true,
            before: stored.tried,
            kept: true,
        })
    }

    fn anew(writer: &'a Writer<'a>, plan: Plan) -> anyhow::Result<Self> {
        let new_key = matches!(plan.key, KeyChoice::New(_));
        let key = match plan.key {
            KeyChoice::Nonce => None,
            KeyChoice::New(bits) => {
                say(format_args!("Making an RSA key of {bits} bits."));
                let key = PrivateKey::generate(bits, KeySizes::default(), &mut rand::rng())?;
                writer.save_key(&key)?;
                Some(key)
            }
            KeyChoice::Given(key) => Some(*key),
        };
        let public_key = key.as_ref().map(|key| key.public_key().spki());
        Ok(Self {
            writer,
            search: start(&plan.prefixes, public_key, plan.sec, plan.seed.as_ref())?,
            sec: plan.sec,
            threads: plan.threads,
            seeded: plan.seed.is_some(),
            key,
            new_key,
            key_kept: new_key,
            before: 0,
            kept: false,
        })
    }

    fn search(&mut self, interrupt: &Interrupt) -> anyhow::Result<(Outcome, Progress)> {
        let mut view = View::stderr(self.sec, self.threads, self.before);
        view.begin();
        let mut saved = Instant::now();
        let ended = search::run(self.search.modifier_search().clone(), self.threads, TICK, |progress| {
            if interrupt.arrived() {
                return ControlFlow::Break(());
            }
            view.show(progress);
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                if let Err(error) = self.save(progress.candidate, progress.settled) {
                    view.end();
                    say(format_args!(
                        "shim6: the search goes on, but how far it is cannot be kept: {error:#}"
                    ));
                }
            }
            ControlFlow::Continue(())
        });
        view.end();
        ended.context("cannot search: the system gives no thread; check the limit of processes")
    }

    /// Writes how far the search is: the modifier that is next, and how many this run has done with before it.
    fn save(&mut self, candidate: Modifier, settled: u64) -> anyhow::Result<()> {
        if let Some(key) = &self.key
            && !self.key_kept
        {
            self.writer.save_key(key)?;
            self.key_kept = true;
        }
        let key = self.key.as_ref();
        self.writer.save_search(&StoredSearch {
            parameters: self.search.parameters().with_modifier(candidate),
            sec: self.sec,
            tried: self.before.saturating_add(settled),
            seeded: self.seeded,
            key: key.map(|key| self.writer.store().key_path(key.public_key())),
            new_key: self.new_key,
        })?;
        self.kept = true;
        Ok(())
    }

    /// After a signal.
    fn keep(&mut self, progress: &Progress) -> anyhow::Result<()> {
        self.save(progress.candidate, progress.settled)
            .context("interrupted, and how far the search was is lost")?;
        say(format_args!(
            "shim6: interrupted after {} hashes; the same command goes on from there ({})",
            count(self.before.saturating_add(progress.settled)),
            self.writer.store().search_path().display()
        ));
        Ok(())
    }

    fn finish(mut self, modifier: Modifier, tried: u64) -> anyhow::Result<Made> {
        if self.kept {
            // If the end comes before the file is removed, it is known by this as one that is over.
            let settled = distance(self.search.parameters().modifier(), modifier);
            self.save(modifier, settled)?;
        }
        let identity = StoredIdentity {
            set: self.search.finish(modifier)?,
            key: self.key,
            created: SystemTime::now(),
            automatic: false,
        };
        let saved = self.writer.save(&identity)?;
        self.writer.remove_search()?;
        Ok(Made {
            saved,
            set: identity.set,
            created: identity.created,
            hashes: self.before.saturating_add(tried),
        })
    }
}

impl Plan {
    /// Whether the search is for the set that is wanted here.
    fn is_that_of(&self, stored: &StoredSearch) -> anyhow::Result<bool> {
        let public_key = stored.parameters.public_key();
        let same_key = match &self.key {
            KeyChoice::Nonce => stored.key.is_none(),
            KeyChoice::New(bits) => stored.new_key && key_bits(public_key) == Some(*bits),
            KeyChoice::Given(key) => stored.key.is_some() && key.public_key().spki() == public_key,
        };
        if !same_key || stored.sec != self.sec || stored.prefixes() != self.prefixes {
            return Ok(false);
        }
        let Some(seed) = &self.seed else {
            return Ok(!stored.seeded);
        };
        let key = stored.key.is_some().then_some(public_key);
        let first = start(&self.prefixes, key, self.sec, Some(seed))?.parameters();
        let tried = distance(first.modifier(), stored.parameters.modifier());
        Ok(stored.seeded && first.public_key() == public_key && tried == stored.tried)
    }
}

/// The start of a search. Without a seed modifier and nonce are as random as they can be.
pub(super) fn start(
    prefixes: &[SubnetPrefix],
    public_key: Option<&[u8]>,
    sec: Sec,
    seed: Option<&Seed>,
) -> Result<HbaSearch, GenerateError> {
    let (mut seeded, mut random) = (seed.map(Seed::rng), rand::rng());
    let rng: &mut dyn rand::Rng = match &mut seeded {
        Some(seeded) => seeded,
        None => &mut random,
    };
    match public_key {
        Some(public_key) => HbaSearch::with_public_key(prefixes, public_key, sec, rng),
        None => HbaSearch::new(prefixes, sec, rng),
    }
}

/// How many modifiers a search from one to the other has tried; more than there is time for if they have nothing to do
/// with each other.
pub(super) fn distance(from: Modifier, to: Modifier) -> u64 {
    let distance = u128::from_be_bytes(to).wrapping_sub(u128::from_be_bytes(from));
    u64::try_from(distance).unwrap_or(u64::MAX)
}

/// Whether the search is over and `former` is what it found.
fn leads_to(search: &StoredSearch, former: Option<&HbaSet>) -> bool {
    former.is_some_and(|former| {
        let found = former.parameters();
        found.modifier() == search.parameters.modifier()
            && found.public_key() == search.parameters.public_key()
            && found.extension_octets() == search.parameters.extension_octets()
    })
}

fn other_search(path: &Path, stored: &StoredSearch) -> anyhow::Error {
    let prefixes: Vec<String> = stored.prefixes().iter().map(ToString::to_string).collect();
    let key = match (&stored.key, stored.new_key) {
        (None, _) => "without a key".to_owned(),
        (Some(key), true) => format!("with the new key {}", key.display()),
        (Some(key), false) => format!("with the key {}", key.display()),
    };
    let seed = if stored.seeded { ", with a seed" } else { "" };
    anyhow::anyhow!(
        "{} holds another search: Sec {}, {key}{seed}, prefixes {}; {} hashes are done. Finish it with the command that \
         began it, or remove the file to give it up",
        path.display(),
        stored.sec,
        prefixes.join(" "),
        count(stored.tried)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::Rng as _;
    use shim6_cga::CgaParameters;
    use tempfile::TempDir;

    use super::*;
    use crate::identity::Store;

    const PREFIXES: [SubnetPrefix; 2] = [
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0]),
        SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0]),
    ];

    fn store() -> (TempDir, Store) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::new(directory.path());
        (directory, store)
    }

    fn plan(key: KeyChoice, seed: Option<&Seed>) -> Plan {
        Plan {
            prefixes: PREFIXES.into(),
            sec: Sec::ONE,
            key,
            seed: seed.cloned(),
            threads: NonZeroUsize::MIN,
        }
    }

    fn made(store: &Store, plan: Plan, former: Option<&HbaSet>) -> Made {
        let writer = store.lock().expect("nobody else writes");
        make(&writer, plan, former).expect("good").expect("no signal")
    }

    /// A search that begins as `first` says and has tried half of what leads to `found`.
    fn half(first: &CgaParameters, found: &HbaSet) -> StoredSearch {
        let start = u128::from_be_bytes(first.modifier());
        let tried = distance(first.modifier(), found.parameters().modifier()) / 2;
        let candidate = start.wrapping_add(u128::from(tried)).to_be_bytes();
        StoredSearch {
            parameters: first.clone().with_modifier(candidate),
            sec: Sec::ONE,
            tried,
            seeded: true,
            key: None,
            new_key: false,
        }
    }

    fn keep(store: &Store, search: &StoredSearch) {
        let writer = store.lock().expect("nobody else writes");
        writer.save_search(search).expect("writable");
    }

    #[test]
    fn resumed_search_gives_the_set_of_one_that_was_not_interrupted() {
        let seed = "07".repeat(32).parse().expect("32 octets");
        let (_kept, uninterrupted) = store();
        let whole = made(&uninterrupted, plan(KeyChoice::Nonce, Some(&seed)), None);

        let first = start(&PREFIXES, None, Sec::ONE, Some(&seed))
            .expect("good prefixes")
            .parameters();
        let (_kept, store) = store();
        let search = half(&first, &whole.set);
        keep(&store, &search);
        let resumed = made(&store, plan(KeyChoice::Nonce, Some(&seed)), None);
        assert_eq!(resumed.set, whole.set);
        assert!(!store.search_path().exists());
        assert_eq!(store.load().expect("readable").expect("saved").set, whole.set);
    }

    #[test]
    fn resumed_search_uses_the_key_that_was_made_for_it() {
        let seed = "08".repeat(32).parse().expect("32 octets");
        let (_kept, store) = store();
        let first = made(&store, plan(KeyChoice::New(1024), Some(&seed)), None);
        let public_key = first.set.parameters().public_key();
        let begun = start(&PREFIXES, Some(public_key), Sec::ONE, Some(&seed))
            .expect("good prefixes")
            .parameters();
        fs::remove_file(store.identity_path()).expect("it is ours");
        keep(
            &store,
            &StoredSearch {
                key: first.saved.key.clone(),
                new_key: true,
                ..half(&begun, &first.set)
            },
        );
        let again = made(&store, plan(KeyChoice::New(1024), Some(&seed)), None);
        assert_eq!(again.set, first.set);
        assert_eq!(again.saved.key, first.saved.key);
    }

    #[test]
    fn search_for_something_else_is_left_alone() {
        let (seed, other) = (
            "09".repeat(32).parse().expect("32"),
            "0a".repeat(32).parse().expect("32"),
        );
        let (_kept, store) = store();
        let found = made(&store, plan(KeyChoice::Nonce, Some(&seed)), None);
        let first = start(&PREFIXES, None, Sec::ONE, Some(&seed))
            .expect("good prefixes")
            .parameters();
        let search = half(&first, &found.set);
        keep(&store, &search);
        let mut reversed = plan(KeyChoice::Nonce, Some(&seed));
        reversed.prefixes.reverse();
        let mut higher = plan(KeyChoice::Nonce, Some(&seed));
        higher.sec = Sec::TWO;
        let plans = [
            reversed,
            higher,
            plan(KeyChoice::Nonce, Some(&other)),
            plan(KeyChoice::Nonce, None),
            plan(KeyChoice::New(1024), Some(&seed)),
        ];
        for plan in plans {
            let writer = store.lock().expect("nobody else writes");
            let said = make(&writer, plan, None).err().expect("another search").to_string();
            assert!(
                said.contains("holds another search: Sec 1, without a key, with a seed, prefixes 2001:db8:a::/64"),
                "{said}"
            );
            assert!(said.ends_with("or remove the file to give it up"), "{said}");
            assert_eq!(store.load_search().expect("readable").as_ref(), Some(&search));
        }
    }

    #[test]
    fn search_that_led_to_the_identity_is_over() {
        let (_kept, store) = store();
        let old = made(&store, plan(KeyChoice::Nonce, None), None).set;
        // As after a crash between the last two steps.
        let parameters = old.parameters().clone();
        let left = StoredSearch {
            parameters,
            sec: Sec::ONE,
            tried: 9,
            seeded: false,
            key: None,
            new_key: false,
        };
        keep(&store, &left);
        let new = made(&store, plan(KeyChoice::Nonce, None), Some(&old)).set;
        assert_ne!(new.parameters().modifier(), old.parameters().modifier());
        assert!(!store.search_path().exists());
    }

    /// As docs/identity.md says, so that others can make the same addresses.
    #[test]
    fn seed_is_spent_on_the_modifier_first_and_then_on_the_nonce() {
        let seed: Seed = "0b".repeat(32).parse().expect("32 octets");
        let mut stream = [0; 64];
        seed.rng().fill_bytes(&mut stream);
        let (modifier, nonce) = stream.split_at(16);
        let without_key = start(&PREFIXES, None, Sec::ONE, Some(&seed))
            .expect("good prefixes")
            .parameters();
        assert_eq!(without_key.modifier(), modifier);
        // The modulus, before the exponent 65537.
        let key = without_key.public_key();
        assert_eq!(&key[key.len() - 5 - 48..key.len() - 5], nonce);
        let with_key = start(&PREFIXES, Some(key), Sec::ONE, Some(&seed))
            .expect("good prefixes")
            .parameters();
        assert_eq!(with_key.modifier(), modifier);
    }

    #[test]
    fn distance_is_counted_past_the_highest_modifier() {
        let modifier = |value: u128| value.to_be_bytes();
        assert_eq!(distance(modifier(u128::MAX), modifier(2)), 3);
        assert_eq!(distance(modifier(5), modifier(5)), 0);
        assert_eq!(distance(modifier(5), modifier(4)), u64::MAX);
    }
}
