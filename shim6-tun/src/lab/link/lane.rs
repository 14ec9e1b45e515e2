//! One direction of a link: which packets are lost, and when the others leave.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::impairment::{DEFAULT_QUEUE, Impairment, Share};
use super::queue::Queue;

/// How much longer a packet is held, at least, that others are to overtake.
const LEAST_OVERTAKING: Duration = Duration::from_millis(2);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives.
    Passes,
    /// It arrives twice.
    Doubles,
    /// It is lost, as the impairment has it.
    Lost,
    /// It is longer than the MTU.
    TooBig,
    /// It would have to wait too long, or there is no room for it.
    Overflows,
    /// The link is broken.
    Broken,
    /// An element of this name took it.
    Filtered(&'static str),
}

impl Fate {
    /// What is said of it in a capture, if it is not the usual.
    pub(super) fn remark(self) -> Option<String> {
        match self {
            Self::Passes => None,
            Self::Doubles => Some("duplicated by the link".to_owned()),
            Self::Lost => Some("lost by the link".to_owned()),
            Self::TooBig => Some("dropped by the link: longer than its MTU".to_owned()),
            Self::Overflows => Some("dropped by the link: its queue is full".to_owned()),
            Self::Broken => Some("dropped by the link, which is broken".to_owned()),
            Self::Filtered(element) => Some(format!("dropped by the link's {element}")),
        }
    }
}

/// One direction: its generator, and the packets inside.
#[derive(Debug)]
pub(super) struct Lane {
    rng: ChaCha8Rng,
    queue: Queue,
    /// When the last packet has been sent, at the rate of the link.
    free_at: Option<Instant>,
    /// When the last packet leaves that keeps its place.
    last_due: Option<Instant>,
}

impl Lane {
    /// With the same seed and packets, the same ones are lost.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: Queue::default(),
            free_at: None,
            last_due: None,
        }
    }

    /// Decides on a frame that came at `now`, `packet` octets of which are its packet, and keeps it if it is to arrive.
    pub(super) fn take(&mut self, frame: &[u8], packet: usize, impairment: &Impairment, now: Instant) -> Fate {
        // All lots are drawn for each packet: what one of them decides does not change the others.
        let is_lost = self.draws(impairment.loss);
        let is_doubled = self.draws(impairment.duplicate);
        let is_overtaken = self.draws(impairment.reorder);
        let jitter = self.jitter(impairment.jitter);
        if impairment.mtu.is_some_and(|mtu| packet > mtu as usize) {
            return Fate::TooBig;
        }
        if is_lost {
            return Fate::Lost;
        }
        let Some(sent) = self.send(frame.len(), impairment, now) else {
            return Fate::Overflows;
        };
        let mut due = sent + (impairment.delay + jitter).saturating_sub(impairment.jitter);
        if is_overtaken {
            due += (impairment.delay / 4).max(LEAST_OVERTAKING);
        } else if !impairment.jitter.is_zero() {
            due = due.max(self.last_due.unwrap_or(due));
            self.last_due = Some(due);
        }
        if !self.queue.push(due, frame) {
            return Fate::Overflows;
        }
        if is_doubled && self.queue.push(due, frame) {
            return Fate::Doubles;
        }
        Fate::Passes
    }

    /// When the next frame leaves.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// Gives out a frame whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.queue.pop(now)
    }

    /// When the last octet of a frame is sent; nothing if it would have to wait for too long.
    fn send(&mut self, octets: usize, impairment: &Impairment, now: Instant) -> Option<Instant> {
        let Some(rate) = impairment.rate else {
            self.free_at = None;
            return Some(now);
        };
        let free_at = self.free_at.unwrap_or(now).max(now);
        if free_at - now > impairment.queue.unwrap_or(DEFAULT_QUEUE) {
            return None;
        }
        let sent = free_at + rate.time_of(octets);
        self.free_at = Some(sent);
        Some(sent)
    }

    fn draws(&mut self, share: Share) -> bool {
        self.rng.random_range(0..Share::ALL.millionths()) < share.millionths()
    }

    /// From nothing to twice the jitter.
    fn jitter(&mut self, jitter: Duration) -> Duration {
        let most = u64::try_from(jitter.as_nanos() * 2).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.random_range(0..=most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::link::impairment::Rate;

    const MS: Duration = Duration::from_millis(1);

    /// What becomes of `count` frames of 1000 octets, one each millisecond, and when each of those that arrive does, in the order
    /// of arrival.
    fn run(seed: u64, count: u32, impairment: Impairment) -> (Vec<Fate>, Vec<(u32, Duration)>) {
        let start = Instant::now();
        let mut lane = Lane::new(seed);
        let mut fates = Vec::new();
        for number in 0..count {
            let mut frame = [0; 1000];
            frame[..4].copy_from_slice(&number.to_be_bytes());
            fates.push(lane.take(&frame, 986, &impairment, start + number * MS));
        }
        let mut arrived = Vec::new();
        while let Some(due) = lane.next_due() {
            let frame = lane.pop(due).unwrap();
            arrived.push((u32::from_be_bytes(*frame.first_chunk().unwrap()), due - start));
        }
        (fates, arrived)
    }

    fn with(words: &str) -> Impairment {
        words
            .split_whitespace()
            .fold(Impairment::default(), |made, word| made.with(word.parse().unwrap()))
    }

    #[test]
    fn a_link_that_does_nothing_passes_everything_at_once() {
        let (fates, arrived) = run(1, 10, Impairment::default());
        assert_eq!(fates, [Fate::Passes; 10]);
        assert_eq!(arrived, (0..10).map(|number| (number, number * MS)).collect::<Vec<_>>());
    }

    #[test]
    fn shares_are_kept_and_repeated_with_the_seed() {
        let impairment = with("loss=10% duplicate=5%");
        let (fates, arrived) = run(7, 20_000, impairment);
        let count = |wanted| fates.iter().filter(|&&fate| fate == wanted).count();
        let (lost, doubled) = (count(Fate::Lost), count(Fate::Doubles));
        assert!((1_850..2_150).contains(&lost), "{lost}");
        assert!((800..1_000).contains(&doubled), "{doubled}");
        assert_eq!(arrived.len(), 20_000 - lost + doubled);
        assert_eq!(run(7, 20_000, impairment).0, fates);
        assert_ne!(run(8, 20_000, impairment).0, fates);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_keeps_the_order() {
        let (_, arrived) = run(1, 2_000, with("delay=20ms jitter=5ms"));
        let numbers: Vec<_> = arrived.iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted());
        let held: Vec<_> = arrived.iter().map(|&(number, at)| at - number * MS).collect();
        assert!(held.iter().all(|&held| (15 * MS..=25 * MS).contains(&held)));
        assert!(held.iter().max().unwrap().saturating_sub(*held.iter().min().unwrap()) > 5 * MS);
    }

    #[test]
    fn reordered_packets_are_overtaken() {
        let (_, arrived) = run(1, 2_000, with("delay=20ms reorder=5%"));
        let late = arrived.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        assert!((60..140).contains(&late), "{late}");
        assert_eq!(arrived.len(), 2_000);
    }

    #[test]
    fn a_rate_spaces_packets_and_a_full_queue_drops_them() {
        // 1000 octets take 2 ms and come each millisecond: half of them fit.
        let (fates, arrived) = run(1, 1_000, with("rate=4Mbit/s queue=20ms"));
        assert!(arrived.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 2 * MS));
        let dropped = fates.iter().filter(|&&fate| fate == Fate::Overflows).count();
        assert!((480..500).contains(&dropped), "{dropped}");
        assert!(arrived.iter().all(|&(number, at)| at - number * MS <= 24 * MS));
        assert_eq!(Rate::mbit(4).time_of(1000), 2 * MS);
    }

    #[test]
    fn packets_longer_than_the_mtu_vanish() {
        let start = Instant::now();
        let mut lane = Lane::new(1);
        let impairment = with("mtu=1280");
        assert_eq!(lane.take(&[0; 1294], 1280, &impairment, start), Fate::Passes);
        assert_eq!(lane.take(&[0; 1295], 1281, &impairment, start), Fate::TooBig);
    }
}
