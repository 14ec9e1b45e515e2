//! By counts that programs in the kernel keep.
//!
//! A pair with traffic is looked at every few milliseconds, and what was counted since goes into its context's activity. One
//! without costs nothing: it is armed, and its next packet makes an event.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shim6_core::dataplane::{Counted, HoldBuffer, Observed};
use shim6_core::{Dataplane, Instant, LocatorPair};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::super::policy::{Policy, Threshold};
use super::super::shared::Shared;
use super::super::trigger::SharedTrigger;
use super::super::uplink::Uplink;
use super::closer;
use crate::config::Config;
use crate::sys::Readiness;
use crate::sys::bpf::{self, Attachment, Count, CounterOptions, Counters, Counts, Event, Slot};

/// How often a pair with traffic is looked at. No time that REAP gets is wrong by more.
const LOOK: Duration = Duration::from_millis(10);
/// Where there are more of them they are looked at less often, so that looking takes some percent of a processor at most.
const PAIRS_PER_LOOK: usize = 1_024;
/// The longest time between two looks: REAP itself looks at the activity as often.
const LONGEST_LOOK: Duration = Duration::from_millis(40);
/// After so many looks at which nothing had passed a pair is armed.
const QUIET_LOOKS: u32 = 5;
/// Contexts that have ended make room only after a while.
const SPARE_FLOWS: usize = 1_024;

/// The counters on the uplinks, and the task that reads them.
#[derive(Debug)]
pub(super) struct Counting {
    counters: Arc<Mutex<Counters>>,
    /// By interface name.
    attached: HashMap<String, Watched>,
    /// The interface of the shortcut, and its index.
    inside: Option<(u32, Attachment)>,
    trigger: Arc<SharedTrigger>,
    shared: Arc<Shared>,
    threshold: Threshold,
    task: JoinHandle<()>,
}

/// An interface that is watched.
#[derive(Debug)]
struct Watched {
    index: u32,
    /// Kept for its drop.
    _attachment: Attachment,
    /// Looks at packets more closely where that is wanted.
    closer: JoinHandle<()>,
}

impl Counting {
    pub(super) fn new(
        config: &Config,
        policy: &Policy,
        trigger: Arc<SharedTrigger>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let locals = shared.wire.addresses();
        let threshold = policy.lowest();
        let counters = Counters::new(CounterOptions {
            flows: config.limits.contexts + SPARE_FLOWS,
            locals: &locals,
            candidates: config.limits.candidates,
            packets: threshold.packets,
            octets: threshold.octets,
            small: shared.hold.remembers(),
        })?;
        let readiness = Readiness::of(&counters)?;
        let counters = Arc::new(Mutex::new(counters));
        let task = tokio::spawn(run(counters.clone(), readiness, trigger.clone(), shared.clone()));
        Ok(Self {
            counters,
            attached: HashMap::new(),
            inside: None,
            trigger,
            shared,
            threshold,
            task,
        })
    }

    /// Whether the programs count up to what this policy needs.
    pub(super) fn counts_up_to(&self, policy: &Policy) -> bool {
        policy.lowest() == self.threshold
    }

    pub(super) fn watch(&mut self, uplink: &Uplink) -> io::Result<()> {
        let is_watched = |watched: &Watched| watched.index == uplink.index;
        if self.attached.get(&uplink.interface).is_some_and(is_watched) {
            return Ok(());
        }
        let attachment = lock(&self.counters).attach(uplink.index)?;
        let interface = uplink.interface.clone();
        let closer = closer::run(uplink.index, interface, self.trigger.clone(), self.shared.clone());
        let watched = Watched {
            index: uplink.index,
            _attachment: attachment,
            closer: tokio::spawn(closer),
        };
        self.attached.insert(uplink.interface.clone(), watched);
        Ok(())
    }

    /// Watches the interface of the shortcut.
    pub(super) fn watch_inside(&mut self, index: u32) -> io::Result<()> {
        // What leads packets on from there may be there already.
        let attachment = lock(&self.counters).attach_in_front(index)?;
        self.inside = Some((index, attachment));
        Ok(())
    }

    /// The index of that interface.
    pub(super) fn inside(&self) -> Option<u32> {
        self.inside.as_ref().map(|(index, _)| *index)
    }

    pub(super) fn forget(&mut self, index: u32) {
        self.attached.retain(|_, watched| watched.index != index);
    }

    pub(super) fn forget_all(&mut self) {
        self.attached.clear();
    }

    pub(super) fn set_locals(&mut self, locals: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        lock(&self.counters).set_locals(locals)
    }

    pub(super) fn follow(&mut self, pairs: &[LocatorPair]) {
        if pairs.is_empty() {
            return;
        }
        let table = self.shared.dataplane.load();
        let mut counters = lock(&self.counters);
        for &ulids in pairs {
            let pair = (ulids.local, ulids.peer);
            if table.flow(ulids).is_none() {
                counters.unfollow(pair);
            } else if let Err(error) = counters.follow(pair) {
                // Its context then looks idle, and is not moved by a failure.
                tracing::warn!(local = %ulids.local, peer = %ulids.peer, %error, "this pair is not protected");
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.closer.abort();
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(counters: &Mutex<Counters>) -> MutexGuard<'_, Counters> {
    // It is whole after each of its methods.
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(counters: Arc<Mutex<Counters>>, readiness: Readiness, trigger: Arc<SharedTrigger>, shared: Arc<Shared>) {
    let mut watch = Watch::default();
    let mut next_look = tokio::time::Instant::now();
    loop {
        let mut events = Vec::new();
        let read = readiness.read(|| lock(&counters).read(&mut |event| events.push(event)));
        tokio::select! {
            result = read => if let Err(error) = result {
                return tracing::error!(%error, "reading the events of the packet counters");
            },
            () = sleep_until(next_look), if !watch.active.is_empty() => {}
        }
        let counters = lock(&counters);
        let all_were_quiet = watch.active.is_empty();
        events
            .into_iter()
            .for_each(|event| watch.handle(event, &trigger, &shared));
        let now = tokio::time::Instant::now();
        // Whoever wakes the first one may be waited for. Others have to wait for the next look anyhow.
        if now >= next_look || all_were_quiet {
            watch.look(&counters, &shared);
            next_look = now + watch.until_next_look();
        }
    }
}

/// What is known of the pairs that are followed.
#[derive(Debug, Default)]
struct Watch {
    active: Vec<Slot>,
    seen: HashMap<Slot, Seen>,
    packet: Vec<u8>,
}

/// What was seen of a pair so far.
#[derive(Debug)]
struct Seen {
    pair: bpf::Pair,
    counts: Counts,
    looked_at: Duration,
    quiet: u32,
    /// The last small packet.
    small: u64,
}

impl Watch {
    fn handle(&mut self, event: Event, trigger: &SharedTrigger, shared: &Shared) {
        match event {
            Event::Active(slot) => self.active.push(slot),
            Event::Candidate((local, peer)) => {
                let ulids = LocatorPair::new(local, peer);
                if shared.wire.has(local) && !shared.wire.has(peer) && trigger.propose(ulids, shared.clock.now()) {
                    shared.propose(ulids);
                }
            }
        }
    }

    fn until_next_look(&self) -> Duration {
        let times = 1 + self.active.len() / PAIRS_PER_LOOK;
        (LOOK * u32::try_from(times).unwrap_or(u32::MAX)).min(LONGEST_LOOK)
    }

    /// Looks at all pairs with traffic.
    fn look(&mut self, counters: &Counters, shared: &Shared) {
        let clocks = Clocks {
            ours: shared.clock.now(),
            counters: bpf::now(),
        };
        let dataplane = shared.dataplane.load();
        let mut active = std::mem::take(&mut self.active);
        active.retain(|&slot| self.look_at(slot, counters, clocks, &dataplane, shared));
        self.active = active;
    }

    /// Tells a pair's context what has passed. False: nothing, and an event says when something does.
    fn look_at(
        &mut self,
        slot: Slot,
        counters: &Counters,
        clocks: Clocks,
        dataplane: &Dataplane,
        shared: &Shared,
    ) -> bool {
        let Some(pair) = counters.pair(slot) else {
            self.seen.remove(&slot);
            return false;
        };
        let counts = counters.counts(slot);
        let new = || Seen {
            pair,
            counts: Counts::default(),
            looked_at: Duration::ZERO,
            quiet: 0,
            small: 0,
        };
        let seen = self.seen.entry(slot).or_insert_with(new);
        if seen.pair != pair || counts.is_less_than(&seen.counts) {
            // The slot has changed hands.
            *seen = new();
        }
        let ulids = LocatorPair::new(pair.0, pair.1);
        // Also if nothing has passed: the last one may have been overwritten while it was read.
        if let Some((small, sent_at)) = counters.last_small(slot, seen.small, &mut self.packet) {
            seen.small = small;
            if let Some(flow) = dataplane.flow(ulids).filter(|_| HoldBuffer::is_memorable(&self.packet)) {
                let sent_at = clocks.ours_at(sent_at);
                shared.hold.lock().remember(flow, &self.packet, sent_at);
            }
        }
        let passed = seen.take(counts, clocks);
        if passed.packets == 0 {
            seen.quiet += 1;
            return seen.quiet <= QUIET_LOOKS || counters.arm(slot, &counts);
        }
        seen.quiet = 0;
        shared
            .counters
            .observed
            .add(usize::try_from(passed.packets).unwrap_or(usize::MAX));
        let observed = dataplane.observe_counted(ulids, passed.sent, passed.received, counts.first_was_sent);
        if let Observed::Wake(context) = observed {
            shared.wake(context);
        }
        true
    }
}

/// What has passed between two looks.
struct Passed {
    packets: u64,
    sent: Option<Counted>,
    received: Option<Counted>,
}

impl Seen {
    /// What has passed since the last look.
    fn take(&mut self, counts: Counts, clocks: Clocks) -> Passed {
        // A run of packets of one direction that began before the last look goes on: of its new packets it is only known that
        // they are not older than that.
        let first = counts.first.max(self.looked_at);
        let counted = |before: Count, now: Count, is_last: bool| {
            let packets = now.packets - before.packets;
            let first = if is_last { first.min(now.last) } else { now.last };
            (packets > 0).then(|| Counted {
                packets,
                octets: now.octets.saturating_sub(before.octets),
                first: clocks.ours_at(first),
                last: clocks.ours_at(now.last),
            })
        };
        let sent = counted(self.counts.sent, counts.sent, counts.first_was_sent);
        let received = counted(self.counts.received, counts.received, !counts.first_was_sent);
        let packets = |counted: Option<Counted>| counted.map_or(0, |counted| counted.packets);
        self.counts = counts;
        self.looked_at = clocks.counters;
        Passed {
            packets: packets(sent) + packets(received),
            sent,
            received,
        }
    }
}

/// The same moment on our clock and on that of the counters.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    ours: Instant,
    counters: Duration,
}

impl Clocks {
    fn ours_at(self, counters: Duration) -> Instant {
        self.ours - self.counters.saturating_sub(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Our clock is 100 s behind that of the counters, on which times are in milliseconds.
    fn clocks(now: u64) -> Clocks {
        Clocks {
            ours: at(now),
            counters: ms(now),
        }
    }

    fn at(counters: u64) -> Instant {
        Instant::from_micros((counters - 100_000) * 1_000)
    }

    fn count(packets: u64, last: u64) -> Count {
        Count {
            packets,
            octets: packets * 100,
            last: ms(last),
        }
    }

    fn seen() -> Seen {
        let address = std::net::Ipv6Addr::LOCALHOST;
        Seen {
            pair: (address, address),
            counts: Counts::default(),
            looked_at: Duration::ZERO,
            quiet: 0,
            small: 0,
        }
    }

    fn counts(sent: Count, received: Count, first: u64, first_was_sent: bool) -> Counts {
        Counts {
            sent,
            received,
            first: ms(first),
            first_was_sent,
        }
    }

    #[test]
    fn what_passed_is_told_with_the_time_of_the_first_unanswered_packet() {
        let mut seen = seen();
        let passed = seen.take(
            counts(count(5, 200_008), count(2, 200_004), 200_005, true),
            clocks(200_010),
        );
        assert_eq!(passed.packets, 7);
        let sent = passed.sent.expect("five packets");
        assert_eq!((sent.packets, sent.octets), (5, 500));
        assert_eq!((sent.first, sent.last), (at(200_005), at(200_008)));
        let received = passed.received.expect("two packets");
        assert_eq!((received.packets, received.last), (2, at(200_004)));

        let passed = seen.take(
            counts(count(5, 200_008), count(3, 200_012), 200_012, false),
            clocks(200_020),
        );
        assert_eq!((passed.packets, passed.sent), (1, None));
        assert_eq!(passed.received.map(|received| received.first), Some(at(200_012)));
    }

    #[test]
    fn a_run_that_goes_on_is_no_older_than_the_last_look() {
        let mut seen = seen();
        let _ = seen.take(
            counts(count(5, 200_008), Count::default(), 200_001, true),
            clocks(200_010),
        );
        let passed = seen.take(
            counts(count(9, 200_018), Count::default(), 200_001, true),
            clocks(200_020),
        );
        let sent = passed.sent.expect("four packets");
        assert_eq!((sent.packets, sent.first, sent.last), (4, at(200_010), at(200_018)));
        let passed = seen.take(
            counts(count(9, 200_018), Count::default(), 200_001, true),
            clocks(200_030),
        );
        assert_eq!((passed.packets, passed.sent, passed.received), (0, None, None));
    }

    #[test]
    fn more_pairs_are_looked_at_less_often_but_often_enough() {
        let mut watch = Watch::default();
        assert_eq!(watch.until_next_look(), LOOK);
        watch.active = vec![Slot::default(); PAIRS_PER_LOOK];
        assert_eq!(watch.until_next_look(), 2 * LOOK);
        watch.active = vec![Slot::default(); 100 * PAIRS_PER_LOOK];
        assert_eq!(watch.until_next_look(), LONGEST_LOOK);
    }
}
