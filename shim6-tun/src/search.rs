//! The search for a modifier (RFC 3972 section 4, step 2) with several threads.
//!
//! The threads take parts off the front of a [`ModifierSearch`], in order. The lowest modifier found wins, so the result
//! is that of one thread, whatever their number.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shim6_cga::{Modifier, ModifierSearch};

/// Hashes per part: milliseconds, so that a search stops soon, and several threads share one of Sec 1.
const PART: u64 = 1 << 14;

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Hashes computed since this run began, by all threads.
    pub tried: u64,
    /// The lowest modifier that is not done with: a search that starts from it finds what this one would have found.
    pub candidate: Modifier,
    /// How many modifiers from the start of this run up to `candidate` are done with, in unbroken order.
    pub settled: u64,
    /// Time since this run began.
    pub elapsed: Duration,
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The modifier is found.
    Found(Modifier),
    /// It was told to stop, or the search given was a part and is exhausted.
    Stopped,
}

impl Progress {
    /// Hashes per second, 0 before the first.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            // Saturates.
            (self.tried as f64 / seconds) as u64
        } else {
            0
        }
    }
}

/// Searches with `threads` threads until the modifier is found or `observe` breaks; gives how far it came too.
///
/// `observe` is called on this thread, once per `interval`. After a break each thread finishes its part of some thousand
/// hashes, and if the modifier is in one of them, it is found nevertheless.
///
/// # Errors
///
/// When the system gives not even one thread.
pub fn run(
    search: ModifierSearch,
    threads: NonZeroUsize,
    interval: Duration,
    observe: impl FnMut(&Progress) -> ControlFlow<()>,
) -> io::Result<(Outcome, Progress)> {
    run_in_parts(search, PART, threads, interval, observe)
}

fn run_in_parts(
    search: ModifierSearch,
    part: u64,
    threads: NonZeroUsize,
    interval: Duration,
    mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
) -> io::Result<(Outcome, Progress)> {
    let work = Work::new(search, part);
    thread::scope(|scope| {
        // Nothing is sent: the threads' ends of the channel tell when the last of them is done.
        let (working, done) = mpsc::channel::<()>();
        for number in 0..threads.get() {
            let (work, working) = (&work, working.clone());
            let spawned = thread::Builder::new()
                .name(format!("search-{number}"))
                .spawn_scoped(scope, move || {
                    let _working = working;
                    work.work();
                });
            match spawned {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error),
                // Fewer take longer and find the same.
                Err(_) => break,
            }
        }
        drop(working);
        while done.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            if observe(&work.progress()).is_break() {
                work.front().stopped = true;
            }
        }
        Ok(())
    })?;
    let progress = work.progress();
    let found = work.front().found;
    Ok((
        found.map_or(Outcome::Stopped, |(_, modifier)| Outcome::Found(modifier)),
        progress,
    ))
}

/// What the threads share.
struct Work {
    front: Mutex<Front>,
    part: u64,
    start: u128,
    began: Instant,
}

struct Front {
    /// What nobody has taken yet.
    rest: ModifierSearch,
    /// The number of the next part.
    next: u64,
    /// The parts being searched: first candidate by number.
    taken: BTreeMap<u64, Modifier>,
    /// The part with the lowest modifier found, and the modifier.
    found: Option<(u64, Modifier)>,
    stopped: bool,
    tried: u64,
}

impl Work {
    fn new(search: ModifierSearch, part: u64) -> Self {
        Self {
            part,
            start: u128::from_be_bytes(search.candidate()),
            began: Instant::now(),
            front: Mutex::new(Front {
                rest: search,
                next: 0,
                taken: BTreeMap::new(),
                found: None,
                stopped: false,
                tried: 0,
            }),
        }
    }

    fn front(&self) -> MutexGuard<'_, Front> {
        // No code that holds it can panic.
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn work(&self) {
        while let Some((number, mut part)) = self.take() {
            let found = part.step(self.part);
            self.give_back(number, part.tried(), found);
        }
    }

    fn take(&self) -> Option<(u64, ModifierSearch)> {
        let mut front = self.front();
        // Whatever is found already is lower than all that is left.
        if front.stopped || front.found.is_some() || front.rest.is_exhausted() {
            return None;
        }
        let part = front.rest.split_off(self.part);
        let number = front.next;
        front.next += 1;
        front.taken.insert(number, part.candidate());
        Some((number, part))
    }

    fn give_back(&self, number: u64, tried: u64, found: Option<Modifier>) {
        let mut front = self.front();
        front.taken.remove(&number);
        front.tried = front.tried.saturating_add(tried);
        if let Some(modifier) = found
            && front.found.is_none_or(|(lowest, _)| number < lowest)
        {
            front.found = Some((number, modifier));
        }
    }

    fn progress(&self) -> Progress {
        let front = self.front();
        let taken = front.taken.first_key_value().map(|(number, first)| (*number, *first));
        let lowest = taken.into_iter().chain(front.found).min_by_key(|(number, _)| *number);
        let candidate = lowest.map_or(front.rest.candidate(), |(_, modifier)| modifier);
        Progress {
            tried: front.tried,
            candidate,
            // Nobody gets through 2^64.
            settled: u128::from_be_bytes(candidate).wrapping_sub(self.start) as u64,
            elapsed: self.began.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shim6_cga::{HbaSearch, Sec, SubnetPrefix};

    use super::*;

    fn threads(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).expect("not 0")
    }

    fn search(start: u128, sec: Sec) -> ModifierSearch {
        ModifierSearch::new(start.to_be_bytes(), sec, b"key", b"extensions")
    }

    /// Never told to stop.
    fn found(search: ModifierSearch, part: u64, number: usize) -> Modifier {
        let ended = run_in_parts(search, part, threads(number), Duration::from_secs(1), |_| {
            ControlFlow::Continue(())
        });
        match ended.expect("threads").0 {
            Outcome::Found(modifier) => modifier,
            Outcome::Stopped => panic!("nobody said stop"),
        }
    }

    /// Between two looks at a search that is to be stopped somewhere.
    const SOON: Duration = Duration::from_micros(200);

    /// What one search finds, and after how many hashes.
    fn reference(mut search: ModifierSearch) -> (Modifier, u64) {
        (search.step(u64::MAX).expect("it searches on"), search.tried())
    }

    #[test]
    fn any_number_of_threads_finds_what_the_steps_of_a_set_find() {
        let prefixes = ["2001:db8:a::", "2001:db8:b::"].map(|text| {
            let address: std::net::Ipv6Addr = text.parse().expect("an address");
            SubnetPrefix::from(address)
        });
        let mut rng = rand::rng();
        let mut stepped = HbaSearch::new(&prefixes, Sec::ONE, &mut rng).expect("good prefixes");
        let threaded = stepped.clone();
        let set = stepped.step(u64::MAX).expect("it searches on");
        for number in [1, 2, 3, 8] {
            let modifier = found(threaded.modifier_search().clone(), PART, number);
            assert_eq!(threaded.finish(modifier), Ok(set.clone()), "{number} threads");
        }
    }

    #[test]
    fn sec_0_takes_the_start() {
        let end = run(search(42, Sec::ZERO), threads(3), Duration::from_secs(1), |_| {
            ControlFlow::Continue(())
        });
        let (outcome, progress) = end.expect("threads");
        assert_eq!(outcome, Outcome::Found(42_u128.to_be_bytes()));
        assert_eq!((progress.tried, progress.settled), (0, 0));
    }

    #[test]
    fn an_exhausted_part_ends_without_a_modifier() {
        let start = u128::MAX - 2;
        let part = search(start, Sec::TWO).split_off(10);
        let end = run_in_parts(part, 4, threads(2), Duration::from_secs(1), |_| {
            ControlFlow::Continue(())
        });
        let (outcome, progress) = end.expect("threads");
        assert_eq!(outcome, Outcome::Stopped);
        assert_eq!((progress.tried, progress.settled), (10, 10));
        assert_eq!(progress.candidate, 7_u128.to_be_bytes());
    }

    #[test]
    fn a_search_of_sec_2_stops_when_told_and_its_progress_grows() {
        let mut last = 0;
        let (outcome, progress) = run(search(0, Sec::TWO), threads(2), SOON, |progress| {
            assert!(progress.settled >= last);
            last = progress.settled;
            if progress.settled >= 3 * PART {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .expect("threads");
        assert_eq!(outcome, Outcome::Stopped);
        assert!(progress.settled >= 3 * PART);
        assert_eq!(progress.tried, progress.settled, "all parts taken are done");
        assert_eq!(progress.candidate, u128::from(progress.settled).to_be_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn search_stopped_and_resumed_anywhere_finds_the_same(
            start: u128,
            part in 1_u64..5000,
            number in 1_usize..9,
            stop_after in 0_u64..100_000,
        ) {
            let (expected, hashes) = reference(search(start, Sec::ONE));
            let (outcome, progress) = run_in_parts(
                search(start, Sec::ONE), part, threads(number), SOON,
                |progress| if progress.tried >= stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
            ).expect("threads");
            match outcome {
                Outcome::Found(modifier) => {
                    prop_assert_eq!(modifier, expected);
                    prop_assert_eq!(progress.candidate, expected);
                    prop_assert_eq!(progress.settled + 1, hashes);
                }
                Outcome::Stopped => {
                    prop_assert!(progress.settled < hashes, "nothing was passed over");
                    prop_assert_eq!(progress.settled % part, 0);
                    let rest = search(u128::from_be_bytes(progress.candidate), Sec::ONE);
                    prop_assert_eq!(found(rest, part, number), expected);
                }
            }
        }

        /// A candidate that was seen while the search ran is as good to go on from as the one at its end.
        #[test]
        fn search_resumes_from_any_progress_seen(start: u128, number in 1_usize..5, seen in 0_u64..50_000) {
            let mut kept = None;
            let ended = run_in_parts(search(start, Sec::ONE), 512, threads(number), SOON, |progress| {
                if progress.tried >= seen && kept.is_none() {
                    kept = Some(progress.candidate);
                }
                ControlFlow::Continue(())
            });
            let (outcome, _) = ended.expect("threads");
            let from = kept.unwrap_or(start.to_be_bytes());
            let rest = search(u128::from_be_bytes(from), Sec::ONE);
            prop_assert_eq!(Outcome::Found(found(rest, 512, number)), outcome);
        }
    }
}
