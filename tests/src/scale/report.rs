//! The figures, for people and programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::compare::Samples;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Contexts that the daemon has in the end, each with a peer of its own.
    pub contexts: usize,
    /// How many of those whose paths failed at once are steered in the end.
    pub steered: usize,
    /// How many others are: they were taken for failed, because this machine was too busy to answer in time.
    pub steered_without_failure: usize,
    /// Datagrams to the peers per second, all together; each is answered.
    pub datagrams_per_second: u64,
    /// From the first datagram to the second peer until all had a context, in seconds.
    pub establishment_s: f64,
    /// How long it took until the only context's peer answered again.
    pub steering_alone: Steering,
    /// The same for those whose paths failed at once.
    pub steering: Steering,
    /// What a packet costs that passes the daemon by, with one context.
    pub observed_alone: Cost,
    /// The same with all contexts, traffic on all.
    pub observed: Cost,
    /// What a packet costs that goes through the daemon, with one context.
    pub steered_alone: Cost,
    /// The same with all contexts, traffic on those that are steered.
    pub steered_only: Cost,
    /// With all contexts, half of the traffic on those that are steered, half on those that are not.
    pub steered_among_all: Cost,
    /// How often contexts moved to other locators in all this time; once for each failure would be enough.
    pub moves: u64,
    /// The daemon's memory.
    pub memory: Memory,
}

/// How long it took until peers answered again, from the failure of their paths on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    /// The median, in milliseconds.
    pub median_ms: f64,
    /// The last, in milliseconds.
    pub last_ms: f64,
    /// Peers that did not answer any more.
    pub lost: usize,
}

impl Steering {
    /// Of these times; nothing without any.
    #[must_use]
    pub fn of(answered: &[Option<Duration>]) -> Option<Self> {
        let times = answered.iter().flatten().map(|time| time.as_secs_f64() * 1e3);
        let times: Samples = times.collect();
        Some(Self {
            median_ms: rounded(times.median()?),
            last_ms: rounded(times.range()?.1),
            lost: answered.iter().filter(|time| time.is_none()).count(),
        })
    }
}

/// What packets cost the daemon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Processor time of the daemon's process for each datagram sent or received, in microseconds.
    pub cpu_us_per_packet: Option<f64>,
    /// Datagrams sent and received in a second.
    pub packets_per_second: f64,
    /// Control messages that the daemon sent and received for each of them. A context that is used once in a while takes some
    /// for each packet: the receiver of one has to say that it is there until it has something to send.
    pub messages_per_packet: f64,
    /// The share of datagrams that was not answered.
    pub loss: f64,
}

impl Cost {
    /// Of so many datagrams sent and received in a window, and so many control messages beside so many of them.
    #[must_use]
    pub fn of([sent, received]: [u64; 2], cpu: Duration, window: Duration, (messages, beside): (u64, u64)) -> Self {
        let packets = (sent + received) as f64;
        Self {
            cpu_us_per_packet: (packets > 0.0).then(|| rounded(cpu.as_secs_f64() * 1e6 / packets)),
            packets_per_second: (packets / window.as_secs_f64()).round(),
            messages_per_packet: rounded(messages as f64 / beside.max(1) as f64),
            // Answers from before the window may make it less than nothing.
            loss: rounded((1.0 - received as f64 / sent.max(1) as f64).max(0.0)),
        }
    }
}

/// Resident memory of the daemon's process, in octets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Before the first context.
    pub at_start: u64,
    /// With all contexts, before the failure.
    pub established: u64,
    /// After the failure.
    pub steered: u64,
    /// What each context added, before the failure.
    pub per_context: u64,
}

impl Memory {
    /// Of so many contexts.
    #[must_use]
    pub fn new(contexts: usize, [at_start, established, steered]: [u64; 3]) -> Self {
        Self {
            at_start,
            established,
            steered,
            per_context: established.saturating_sub(at_start) / (contexts as u64).max(1),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The figures for people.
#[must_use]
pub fn table(record: &Record) -> String {
    let mut text = String::new();
    let Record {
        contexts,
        steered,
        steered_without_failure,
        ..
    } = record;
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:67} {value}");
    };
    line("contexts", contexts.to_string());
    line("steered after their paths failed at once", steered.to_string());
    line("steered without a failure", steered_without_failure.to_string());
    line("moves to other locators", record.moves.to_string());
    line("all contexts set up within", format!("{:.1} s", record.establishment_s));
    for (what, steering) in [("one path", &record.steering_alone), ("these paths", &record.steering)] {
        let Steering {
            median_ms,
            last_ms,
            lost,
        } = steering;
        line(
            &format!("failure of {what} until its peer answers: median, last"),
            format!("{median_ms:.0} ms, {last_ms:.0} ms"),
        );
        if *lost > 0 {
            line("  peers that never answered", lost.to_string());
        }
    }
    let costs = [
        ("not steered, one context", &record.observed_alone),
        ("not steered, all contexts", &record.observed),
        ("steered, one context", &record.steered_alone),
        ("steered, all contexts", &record.steered_only),
        ("half steered, half not, all contexts", &record.steered_among_all),
    ];
    for (what, cost) in costs {
        let us = cost
            .cpu_us_per_packet
            .map_or_else(|| "-".to_owned(), |us| format!("{us:.2} us"));
        line(
            &format!("the daemon's CPU per packet, {what}"),
            format!(
                "{us} ({:.0}/s, {:.1} % lost)",
                cost.packets_per_second,
                cost.loss * 100.0
            ),
        );
    }
    let megabytes = |octets: u64| format!("{:.1} MB", octets as f64 / 1e6);
    let memory = &record.memory;
    line(
        "the daemon's memory before the first context",
        megabytes(memory.at_start),
    );
    line("with all contexts", megabytes(memory.established));
    line("after the failure", megabytes(memory.steered));
    line("for each context", format!("{} octets", memory.per_context));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_takes_as_long_as_the_last() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let steering = Steering::of(&[ms(30), None, ms(10), ms(20)]);
        let expected = Steering {
            median_ms: 20.0,
            last_ms: 30.0,
            lost: 1,
        };
        assert_eq!(steering, Some(expected));
        assert_eq!(Steering::of(&[None]), None);
    }

    #[test]
    fn cost_is_per_packet_in_either_direction() {
        let cost = Cost::of([600, 400], Duration::from_millis(2), Duration::from_secs(2), (30, 20));
        assert_eq!(cost.cpu_us_per_packet, Some(2.0));
        assert_eq!((cost.packets_per_second, cost.loss), (500.0, 0.333));
        assert_eq!(cost.messages_per_packet, 1.5);
        assert_eq!(
            Cost::of([0, 0], Duration::ZERO, Duration::from_secs(1), (0, 0)).cpu_us_per_packet,
            None
        );
        assert_eq!(
            Cost::of([1, 2], Duration::ZERO, Duration::from_secs(1), (0, 0)).loss,
            0.0
        );
    }

    #[test]
    fn memory_is_shared_out_among_the_contexts() {
        assert_eq!(Memory::new(100, [1000, 201_000, 300_000]).per_context, 2000);
        assert_eq!(Memory::new(100, [1000, 900, 900]).per_context, 0);
    }
}
