//! What passed between the two ends of a context, written by the packet path and read by REAP.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use shim6_reap::Instant;

/// Volume and time stamps of one context's payload, in both directions.
///
/// The packet path writes with relaxed atomics: it takes no lock and wakes nobody, but on the first packet after the
/// [`Endpoint`](crate::Endpoint) asked to be woken. REAP's timers are computed from the time stamps when they may have
/// run out, not at each packet.
///
/// All of it fits one cache line, so that a packet waits for memory once.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Activity {
    sent_packets: AtomicU64,
    sent_octets: AtomicU64,
    received_packets: AtomicU64,
    received_octets: AtomicU64,
    // Time stamps are microseconds plus one; 0 stands for never.
    last_sent: AtomicU64,
    last_received: AtomicU64,
    /// The first packet of a direction since the last one of the other, or since the endpoint took note. There is one at
    /// most, so both directions share this: twice the stamp, and one more if it was received.
    first: AtomicU64,
    wake: AtomicU8,
}

const _: () = assert!(size_of::<Activity>() == 64);

/// In `first`, for a packet that was received.
const RECEIVED: u64 = 1;

/// Wake the endpoint at the next packet sent, see [`Activity::request_wake`].
pub(crate) const WAKE_ON_SENT: u8 = 1;
/// Wake the endpoint at the next packet received.
pub(crate) const WAKE_ON_RECEIVED: u8 = 2;

/// Payload of one direction that somebody else has counted, for [`Dataplane::observe_counted`](super::Dataplane::observe_counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many packets; not 0.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// When the first of them passed that has none of the other direction behind it, if there is such a one; else any time
    /// up to `last`.
    pub first: Instant,
    /// When the last one passed.
    pub last: Instant,
}

impl Counted {
    /// A single packet.
    fn one(now: Instant, octets: usize) -> Self {
        Self {
            packets: 1,
            octets: octets as u64,
            first: now,
            last: now,
        }
    }
}

impl Activity {
    /// Records a payload packet of `octets` that was sent. True: call [`Endpoint::handle_activity`] for this context.
    ///
    /// [`Endpoint::handle_activity`]: crate::Endpoint::handle_activity
    #[must_use]
    pub fn record_sent(&self, now: Instant, octets: usize) -> bool {
        self.record_sent_counted(Counted::one(now, octets))
    }

    /// Records a payload packet of `octets` that was received. True: call [`Endpoint::handle_activity`] for this context.
    ///
    /// [`Endpoint::handle_activity`]: crate::Endpoint::handle_activity
    #[must_use]
    pub fn record_received(&self, now: Instant, octets: usize) -> bool {
        self.record_received_counted(Counted::one(now, octets))
    }

    /// Records what was counted since the last time; the packets that were sent last come last. True: as for the others.
    pub(crate) fn record_counted(&self, sent: Option<Counted>, received: Option<Counted>, sent_last: bool) -> bool {
        if sent_last {
            let wake = received.is_some_and(|received| self.record_received_counted(received));
            sent.is_some_and(|sent| self.record_sent_counted(sent)) || wake
        } else {
            let wake = sent.is_some_and(|sent| self.record_sent_counted(sent));
            received.is_some_and(|received| self.record_received_counted(received)) || wake
        }
    }

    fn record_sent_counted(&self, counted: Counted) -> bool {
        add(&self.sent_octets, counted.octets);
        self.last_sent.store(stamp(counted.last), Relaxed);
        let first = self.first.load(Relaxed);
        if first == 0 || first & RECEIVED != 0 {
            self.first.store(stamp(counted.first) << 1, Relaxed);
        }
        // The packet count comes last: whoever sees the new count sees the stamps too, or will look again.
        add(&self.sent_packets, counted.packets);
        self.take_wake(WAKE_ON_SENT)
    }

    fn record_received_counted(&self, counted: Counted) -> bool {
        add(&self.received_octets, counted.octets);
        self.last_received.store(stamp(counted.last), Relaxed);
        if self.first.load(Relaxed) & RECEIVED == 0 {
            self.first.store(stamp(counted.first) << 1 | RECEIVED, Relaxed);
        }
        add(&self.received_packets, counted.packets);
        self.take_wake(WAKE_ON_RECEIVED)
    }

    /// Packets and octets sent.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent_packets.load(Relaxed), self.sent_octets.load(Relaxed))
    }

    /// Packets and octets received.
    pub fn received(&self) -> (u64, u64) {
        (self.received_packets.load(Relaxed), self.received_octets.load(Relaxed))
    }

    /// When the last packet was sent.
    pub fn last_sent(&self) -> Option<Instant> {
        instant(self.last_sent.load(Relaxed))
    }

    /// When the last packet was received.
    pub fn last_received(&self) -> Option<Instant> {
        instant(self.last_received.load(Relaxed))
    }

    /// Reads something of it, to no other purpose.
    pub(crate) fn touch(&self) -> u64 {
        self.first.load(Relaxed)
    }

    /// What has passed so far.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_with(self.first.load(Relaxed))
    }

    /// What has passed so far; the next packet of either direction counts as a first one again. Without that, a flow with
    /// keepalives as its only answers would show the time of its very first packet for ever.
    pub(crate) fn take_snapshot(&self) -> Snapshot {
        self.snapshot_with(self.first.swap(0, Relaxed))
    }

    fn snapshot_with(&self, first: u64) -> Snapshot {
        let was_received = first & RECEIVED != 0;
        let first = instant(first >> 1);
        Snapshot {
            sent_packets: self.sent_packets.load(Relaxed),
            received_packets: self.received_packets.load(Relaxed),
            last_sent: self.last_sent(),
            last_received: self.last_received(),
            first_unanswered: first.filter(|_| !was_received),
            first_unreplied: first.filter(|_| was_received),
        }
    }

    /// Asks to be woken at the next packet of the directions in `mask`; replaces an earlier request.
    pub(crate) fn request_wake(&self, mask: u8) {
        self.wake.store(mask, Relaxed);
    }

    /// The same counts and time stamps, apart from this one from now on.
    pub(crate) fn duplicate(&self) -> Self {
        let copy = |value: &AtomicU64| AtomicU64::new(value.load(Relaxed));
        Self {
            sent_packets: copy(&self.sent_packets),
            sent_octets: copy(&self.sent_octets),
            received_packets: copy(&self.received_packets),
            received_octets: copy(&self.received_octets),
            last_sent: copy(&self.last_sent),
            last_received: copy(&self.last_received),
            first: copy(&self.first),
            wake: AtomicU8::new(self.wake.load(Relaxed)),
        }
    }

    fn take_wake(&self, direction: u8) -> bool {
        // The plain load keeps the common case free of a locked instruction.
        self.wake.load(Relaxed) & direction != 0 && self.wake.swap(0, Relaxed) & direction != 0
    }
}

/// The state of an [`Activity`] at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) sent_packets: u64,
    pub(crate) received_packets: u64,
    pub(crate) last_sent: Option<Instant>,
    pub(crate) last_received: Option<Instant>,
    /// The first packet sent since the last one received, or since the last [`Activity::take_snapshot`].
    pub(crate) first_unanswered: Option<Instant>,
    /// The first packet received since the last one sent, or since the last [`Activity::take_snapshot`].
    pub(crate) first_unreplied: Option<Instant>,
}

/// Microseconds plus one, in 63 bits.
fn stamp(now: Instant) -> u64 {
    now.as_micros().saturating_add(1).min(u64::MAX >> 1)
}

fn instant(stamp: u64) -> Option<Instant> {
    stamp.checked_sub(1).map(Instant::from_micros)
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn the_first_unanswered_packet_is_remembered_until_something_is_received() {
        let activity = Activity::default();
        let _ = activity.record_sent(at(0), 100);
        let _ = activity.record_sent(at(10), 100);
        assert_eq!(activity.snapshot().first_unanswered, Some(at(0)));
        assert_eq!(activity.snapshot().last_sent, Some(at(10)));
        let _ = activity.record_received(at(20), 50);
        let _ = activity.record_received(at(30), 50);
        let snapshot = activity.snapshot();
        assert_eq!(
            (snapshot.first_unanswered, snapshot.first_unreplied),
            (None, Some(at(20)))
        );
        let _ = activity.record_sent(at(40), 1);
        let snapshot = activity.snapshot();
        assert_eq!(
            (snapshot.first_unanswered, snapshot.first_unreplied),
            (Some(at(40)), None)
        );
        assert_eq!(activity.sent(), (3, 201));
        assert_eq!(activity.received(), (2, 100));
    }

    #[test]
    fn what_was_taken_note_of_is_no_longer_the_first() {
        let activity = Activity::default();
        let _ = activity.record_sent(at(0), 1);
        assert_eq!(activity.take_snapshot().first_unanswered, Some(at(0)));
        let _ = activity.record_sent(at(10), 1);
        let _ = activity.record_sent(at(20), 1);
        assert_eq!(activity.take_snapshot().first_unanswered, Some(at(10)));
        let _ = activity.record_received(at(30), 1);
        assert_eq!(activity.take_snapshot().first_unreplied, Some(at(30)));
        let snapshot = activity.snapshot();
        assert_eq!((snapshot.first_unanswered, snapshot.first_unreplied), (None, None));
        assert_eq!(
            (snapshot.last_sent, snapshot.last_received),
            (Some(at(20)), Some(at(30)))
        );
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let activity = Activity::default();
        let _ = activity.record_sent(at(u64::MAX), 1);
        let _ = activity.record_received(at(u64::MAX), 1);
        assert!(activity.snapshot().last_received.is_some());
    }

    fn counted(packets: u64, first: u64, last: u64) -> Option<Counted> {
        Some(Counted {
            packets,
            octets: packets * 100,
            first: at(first),
            last: at(last),
        })
    }

    #[test]
    fn what_others_have_counted_leaves_the_first_packet_that_nothing_followed() {
        let activity = Activity::default();
        let _ = activity.record_counted(counted(5, 40, 45), counted(3, 30, 30), true);
        let snapshot = activity.snapshot();
        assert_eq!(
            (snapshot.first_unanswered, snapshot.first_unreplied),
            (Some(at(40)), None)
        );
        assert_eq!(
            (snapshot.last_sent, snapshot.last_received),
            (Some(at(45)), Some(at(30)))
        );
        assert_eq!((activity.sent(), activity.received()), ((5, 500), (3, 300)));
        // More of the same direction changes nothing of when it began.
        let _ = activity.record_counted(counted(1, 50, 50), None, true);
        assert_eq!(activity.snapshot().first_unanswered, Some(at(40)));
        let _ = activity.record_counted(counted(1, 55, 55), counted(1, 60, 60), false);
        let snapshot = activity.snapshot();
        assert_eq!(
            (snapshot.first_unanswered, snapshot.first_unreplied),
            (None, Some(at(60)))
        );
        activity.request_wake(WAKE_ON_SENT);
        assert!(!activity.record_counted(None, counted(1, 70, 70), false));
        assert!(activity.record_counted(counted(1, 71, 71), counted(1, 72, 72), false));
    }

    #[test]
    fn a_wake_is_given_once_and_for_the_direction_asked_for() {
        let activity = Activity::default();
        assert!(!activity.record_sent(at(0), 1));
        activity.request_wake(WAKE_ON_RECEIVED);
        assert!(!activity.record_sent(at(1), 1));
        assert!(activity.record_received(at(2), 1));
        assert!(!activity.record_received(at(3), 1));
        activity.request_wake(WAKE_ON_SENT | WAKE_ON_RECEIVED);
        assert!(activity.record_sent(at(4), 1));
        assert!(!activity.record_received(at(5), 1));
    }
}
