//! The figures of many runs, for people and programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{FailureKind, Outcome, PATIENCE, System};
use crate::compare::Samples;

/// The runs of one system under one failure at one round-trip time. Times are in milliseconds; in a
/// run whose session was lost, the time until smooth counts as [`PATIENCE`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// What carried the flow.
    pub system: System,
    /// How its path failed.
    pub failure: FailureKind,
    /// Emulated round-trip time of every path.
    pub rtt_ms: u64,
    /// How often it was tried.
    pub runs: usize,
    /// Median length of the first stall.
    pub first_stall_ms: f64,
    /// The longest first stall.
    pub first_stall_max_ms: f64,
    /// Median time from the cut until the flow was smooth.
    pub until_smooth_ms: f64,
    /// The longest time until smooth.
    pub until_smooth_max_ms: f64,
    /// Runs whose connection broke or was not smooth within [`PATIENCE`].
    pub lost_sessions: usize,
    /// The first stall of each run.
    pub first_stall_samples_ms: Samples,
    /// The time until smooth of each run.
    pub until_smooth_samples_ms: Samples,
}

impl Record {
    /// Sums up some runs; nothing without any.
    #[must_use]
    pub fn of(system: System, failure: FailureKind, rtt: Duration, outcomes: &[Outcome]) -> Option<Self> {
        let stalls: Samples = outcomes.iter().map(|run| milliseconds(run.first_stall)).collect();
        let smooth = outcomes
            .iter()
            .map(|run| milliseconds(*run.until_smooth.as_ref().unwrap_or(&PATIENCE)));
        let smooth: Samples = smooth.collect();
        Some(Self {
            system,
            failure,
            rtt_ms: u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX),
            runs: outcomes.len(),
            first_stall_ms: hundredths(stalls.median()?),
            first_stall_max_ms: stalls.range()?.1,
            until_smooth_ms: hundredths(smooth.median()?),
            until_smooth_max_ms: smooth.range()?.1,
            lost_sessions: outcomes.iter().filter(|run| run.until_smooth.is_err()).count(),
            first_stall_samples_ms: stalls,
            until_smooth_samples_ms: smooth,
        })
    }
}

/// In milliseconds, to a hundredth: finer than what is measured.
fn milliseconds(time: Duration) -> f64 {
    hundredths(time.as_secs_f64() * 1e3)
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The records for people, a block for each failure and round-trip time.
#[must_use]
pub fn table(records: &[Record]) -> String {
    let mut text = String::new();
    let mut block = None;
    for record in records {
        let of_block = (record.failure, record.rtt_ms);
        if block != Some(of_block) {
            block = Some(of_block);
            heading(&mut text, record);
        }
        let peers = records.iter().filter(|other| (other.failure, other.rtt_ms) == of_block);
        row(&mut text, record, peers);
    }
    text
}

fn heading(text: &mut String, record: &Record) {
    let separator = if text.is_empty() { "" } else { "\n" };
    let Record { failure, rtt_ms, .. } = record;
    let _ = writeln!(text, "{separator}{failure}, RTT {rtt_ms} ms: {}", failure.explained());
    let _ = writeln!(
        text,
        "  {:14}{:>11}{:>10}{:>14}{:>10}{:>10}{:>8}",
        "", "first stall", "max", "until smooth", "max", "of MPTCP", "lost"
    );
}

fn row<'a>(text: &mut String, record: &Record, mut peers: impl Iterator<Item = &'a Record>) {
    let mptcp = peers.find(|peer| peer.system == System::Mptcp && peer.until_smooth_ms > 0.0);
    let ratio = mptcp.map_or_else(String::new, |mptcp| {
        format!("{:.0} %", 100.0 * record.until_smooth_ms / mptcp.until_smooth_ms)
    });
    let _ = writeln!(
        text,
        "  {:14}{:>8.0} ms{:>7.0} ms{:>11.0} ms{:>7.0} ms{ratio:>10}{:>8}",
        record.system,
        record.first_stall_ms,
        record.first_stall_max_ms,
        record.until_smooth_ms,
        record.until_smooth_max_ms,
        format!("{}/{}", record.lost_sessions, record.runs)
    );
}

#[cfg(test)]
mod tests {
    use super::super::flow::Finished;
    use super::*;

    fn outcome(first_stall: u64, until_smooth: Option<u64>) -> Outcome {
        Outcome {
            first_stall: Duration::from_millis(first_stall),
            until_smooth: until_smooth
                .map(Duration::from_millis)
                .ok_or_else(|| "it broke".to_owned()),
            cut: Duration::ZERO,
            notes: Vec::new(),
            flow: Finished {
                sent: 0,
                arrivals: Vec::new(),
                error: None,
            },
        }
    }

    fn record(system: System, outcomes: &[Outcome]) -> Record {
        Record::of(system, FailureKind::OneWay, Duration::from_millis(20), outcomes).expect("there are runs")
    }

    #[test]
    fn a_lost_session_counts_as_the_whole_patience() {
        let record = record(
            System::Shim6,
            &[outcome(200, Some(300)), outcome(210, None), outcome(190, Some(250))],
        );
        assert_eq!((record.runs, record.lost_sessions), (3, 1));
        assert_eq!((record.first_stall_ms, record.first_stall_max_ms), (200.0, 210.0));
        assert_eq!((record.until_smooth_ms, record.until_smooth_max_ms), (300.0, 15_000.0));
        assert_eq!(record.until_smooth_samples_ms.values(), [300.0, 15_000.0, 250.0]);
        assert_eq!(Record::of(System::Tcp, FailureKind::OneWay, PATIENCE, &[]), None);
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(record(System::MptcpBackup, &[outcome(1, Some(2))])).expect("serialises");
        for (field, value) in [("system", "mptcp-backup"), ("failure", "one-way")] {
            assert_eq!(json[field], value);
        }
        for (field, value) in [("rtt_ms", 20), ("runs", 1), ("lost_sessions", 0)] {
            assert_eq!(json[field], value);
        }
        assert_eq!(json["first_stall_ms"], 1.0);
        assert_eq!(json["until_smooth_ms"], 2.0);
    }

    #[test]
    fn table_compares_each_system_with_mptcp_in_the_same_block() {
        let text = table(&[
            record(System::Shim6, &[outcome(200, Some(300))]),
            record(System::Mptcp, &[outcome(220, Some(2400))]),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[0].starts_with("one-way, RTT 20 ms: packets to the receiver"),
            "{text}"
        );
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[2]), "shim6 200 ms 200 ms 300 ms 300 ms 12 % 0/1");
        assert_eq!(words(lines[3]), "mptcp 220 ms 220 ms 2400 ms 2400 ms 100 % 0/1");
    }
}
