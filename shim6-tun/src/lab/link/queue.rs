//! Packets that wait for their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Octets that one direction of a link holds at most: 1 Gbit/s for a quarter of a second.
const CAPACITY: usize = 32 << 20;

/// A packet and when it is to leave. Those that leave at the same time do so in the order in which
/// they came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    number: u64,
    packet: Vec<u8>,
}

/// The packets inside one direction of a link.
#[derive(Debug, Default)]
pub(super) struct Queue {
    held: BinaryHeap<Reverse<Held>>,
    octets: usize,
    entered: u64,
}

impl Queue {
    /// Takes a packet that leaves at `due`; `false` if there is no room for it.
    pub(super) fn push(&mut self, due: Instant, packet: &[u8]) -> bool {
        if self.octets + packet.len() > CAPACITY {
            return false;
        }
        self.octets += packet.len();
        self.entered += 1;
        self.held.push(Reverse(Held {
            due,
            number: self.entered,
            packet: packet.to_vec(),
        }));
        true
    }

    /// When the next packet leaves.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// Gives out a packet whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.octets -= held.packet.len();
        Some(held.packet)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_leave_when_their_time_has_come_and_not_before() {
        let start = Instant::now();
        let mut queue = Queue::default();
        assert!(queue.push(start + 5 * MS, b"later"));
        assert!(queue.push(start + 2 * MS, b"sooner"));
        assert_eq!(queue.next_due(), Some(start + 2 * MS));
        assert_eq!(queue.pop(start + MS), None);
        assert_eq!(queue.pop(start + 2 * MS).as_deref(), Some(&b"sooner"[..]));
        assert_eq!(queue.pop(start + 2 * MS), None);
        assert_eq!(queue.pop(start + 9 * MS).as_deref(), Some(&b"later"[..]));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn packets_of_one_moment_keep_their_order() {
        let start = Instant::now();
        let mut queue = Queue::default();
        for number in 0..100_u8 {
            assert!(queue.push(start, &[100 - number]));
        }
        for number in 0..100_u8 {
            assert_eq!(queue.pop(start), Some(vec![100 - number]));
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_until_something_has_left() {
        let start = Instant::now();
        let mut queue = Queue::default();
        let packet = vec![0; 1 << 20];
        for _ in 0..CAPACITY >> 20 {
            assert!(queue.push(start, &packet));
        }
        assert!(!queue.push(start, &[0]));
        assert!(queue.pop(start).is_some());
        assert!(queue.push(start, &packet));
    }
}
