//! The figures side by side, for people and programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Case, Kind, Measured, Sample, State};
use crate::compare::Samples;

/// The measurements of one case. Of `gbit_s`, `pps` and `us` it has the one that fits its traffic: a median, like the other
/// figures that are not sums.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The case's name, such as `steered/tcp-1/a-b`.
    pub case: Case,
    /// TCP: gigabits of payload received per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gbit_s: Option<f64>,
    /// UDP: datagrams received per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<f64>,
    /// Latency: the median round-trip time, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us: Option<f64>,
    /// Latency: the round-trip time that one of a hundred exceeds, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us_p99: Option<f64>,
    /// Seconds of processor time per gigabyte of payload received, see [`CpuMeter`](super::cpu::CpuMeter). Not for latency.
    pub cpu_s_per_gb: Option<f64>,
    /// The figure as a part of that of the plain kernel: the median of what it was each time that both were measured close to each
    /// other, so that it does not matter if the machine is slow now and then. For latency more is worse.
    pub ratio_to_plain: Option<f64>,
    /// The figure as a part of that of the kernel that carries packet by packet, likewise.
    pub ratio_to_per_packet_kernel: Option<f64>,
    /// Latency: what it has more than the plain kernel, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us_more_than_plain: Option<f64>,
    /// How often it was measured.
    pub runs: usize,
    /// The length of each measurement, in seconds.
    pub seconds: f64,
    /// The figure of each measurement.
    pub samples: Samples,
    /// UDP: the share of the datagrams sent that did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// TCP: segments that were sent again, in all measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// Packets that either host found to have a wrong checksum, in all measurements.
    pub checksum_errors: u64,
    /// UDP: datagrams that arrived after one sent later, in all measurements. TCP: how often a sender noticed that segments
    /// were overtaken.
    pub reordered: u64,
    /// TCP: segments that arrived before an earlier one, because that was lost or overtaken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
    /// Mean length of the frames that the router in the middle received, in octets; beyond 1514 there are segments larger
    /// than the MTU among them.
    pub frame_octets: Option<f64>,
    /// How often contexts moved to other locators meanwhile. None should.
    pub failovers: u64,
}

/// The records of all that was measured, in the same order.
#[must_use]
pub fn records(measured: &[Measured]) -> Vec<Record> {
    let base = |state: State, kind: Kind| measured.iter().find(|other| other.case == Case { state, kind });
    let record = |one: &Measured| {
        let kind = one.case.kind;
        Record::of(one, base(State::Plain, kind), base(State::PerPacket, kind))
    };
    measured.iter().filter_map(record).collect()
}

fn figures_of(kind: Kind, samples: &[Sample]) -> Samples {
    let figure = |sample: &Sample| match kind {
        Kind::Tcp { .. } => Some(sample.gigabits_per_second()),
        Kind::Udp { .. } => Some(sample.datagrams_per_second()),
        Kind::Latency { .. } => sample.round_trip_us(0.5),
    };
    samples.iter().filter_map(figure).collect()
}

/// What the figure is of that of `base`, each time that both were measured close to each other.
fn ratios(own: &Measured, base: &Measured) -> Samples {
    let kind = own.case.kind;
    let (rounds, whole) = ([&own.rounds, &base.rounds], [&own.samples, &base.samples]);
    let [own, base] = if rounds[0].len() == rounds[1].len() {
        rounds
    } else {
        whole
    };
    figures_of(kind, own).ratios_to(&figures_of(kind, base))
}

impl Record {
    /// Sums up the measurements of a case; nothing without any.
    fn of(measured: &Measured, plain: Option<&Measured>, per_packet: Option<&Measured>) -> Option<Self> {
        let Measured {
            case,
            samples,
            failovers,
            ..
        } = measured;
        let figures = figures_of(case.kind, samples);
        let median = figures.median()?;
        let over = |of: &dyn Fn(&Sample) -> Option<f64>| samples.iter().filter_map(of).collect::<Samples>().median();
        let sum = |of: &dyn Fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>();
        let (tcp, udp) = (
            matches!(case.kind, Kind::Tcp { .. }),
            matches!(case.kind, Kind::Udp { .. }),
        );
        let latency = matches!(case.kind, Kind::Latency { .. });
        let us = |value: f64| rounded(value, 100.0);
        let ratio = |base: Option<&Measured>| Some(rounded(ratios(measured, base?).median()?, 10_000.0));
        let sent = sum(&|sample| sample.arrived.sent);
        Some(Self {
            case: *case,
            gbit_s: tcp.then(|| rounded(median, 1000.0)),
            pps: udp.then(|| median.round()),
            us: latency.then(|| us(median)),
            us_p99: over(&|sample| sample.round_trip_us(0.99)).filter(|_| latency).map(us),
            cpu_s_per_gb: over(&Sample::cpu_per_gigabyte)
                .filter(|_| !latency)
                .map(|cpu| rounded(cpu, 1000.0)),
            ratio_to_plain: ratio(plain),
            ratio_to_per_packet_kernel: ratio(per_packet),
            us_more_than_plain: plain
                .and_then(|plain| figures_of(plain.case.kind, &plain.samples).median())
                .filter(|_| latency)
                .map(|plain| us(median - plain)),
            runs: samples.len(),
            seconds: over(&|sample| Some(sample.window.as_secs_f64())).map_or(0.0, |seconds| rounded(seconds, 1000.0)),
            samples: figures.values().iter().map(|&value| rounded(value, 1000.0)).collect(),
            loss: (udp && sent > 0).then(|| {
                // What was under way at the window's start may make it less than nothing.
                let arrived = sum(&|sample| sample.arrived.datagrams) as f64;
                rounded((1.0 - arrived / sent as f64).max(0.0), 10_000.0)
            }),
            retransmits: (!udp).then(|| sum(&|sample| sample.hosts.retransmits)),
            checksum_errors: sum(&|sample| sample.hosts.checksum_errors),
            reordered: sum(&|sample| match udp {
                true => sample.arrived.reordered,
                false => sample.hosts.reordered,
            }),
            out_of_order: (!udp).then(|| sum(&|sample| sample.hosts.out_of_order)),
            frame_octets: over(&|sample| sample.core.frame_octets()).map(f64::round),
            failovers: *failovers,
        })
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The records for people, a table for each kind of traffic.
#[must_use]
pub fn table(records: &[Record]) -> String {
    let mut text = String::new();
    let mut kind = None;
    for record in records {
        if kind != Some(record.case.kind) {
            kind = Some(record.case.kind);
            heading(&mut text, record);
        }
        row(&mut text, record);
    }
    text
}

fn heading(text: &mut String, record: &Record) {
    let separator = if text.is_empty() { "" } else { "\n" };
    let special = match record.case.kind {
        Kind::Tcp { .. } => "resent",
        Kind::Udp { .. } => "lost",
        Kind::Latency { .. } => "p99",
    };
    let _ = writeln!(text, "{separator}{}", record.case.kind.explained());
    let _ = writeln!(
        text,
        "  {:27}{:>9}{:>20}{:>10}{:>15}{:>10}{special:>9}{:>10}{:>9}",
        "", "median", "range", "of plain", "of per-packet", "CPU s/GB", "reordered", "checksum"
    );
}

fn row(text: &mut String, record: &Record) {
    let figure = |value: f64| match record.case.kind {
        Kind::Tcp { .. } => format!("{value:.2}"),
        Kind::Udp { .. } => format!("{value:.0}"),
        Kind::Latency { .. } => format!("{value:.1}"),
    };
    let or_nothing = |value: Option<f64>, show: &dyn Fn(f64) -> String| value.map_or_else(|| "-".to_owned(), show);
    let percent = |value: f64| format!("{:.0} %", value * 100.0);
    let range = record.samples.range().map_or_else(String::new, |(smallest, largest)| {
        format!("{}..{}", figure(smallest), figure(largest))
    });
    let special = match record.case.kind {
        Kind::Tcp { .. } => record.retransmits.unwrap_or_default().to_string(),
        Kind::Udp { .. } => or_nothing(record.loss, &percent),
        Kind::Latency { .. } => or_nothing(record.us_p99, &figure),
    };
    let _ = writeln!(
        text,
        "  {:27}{:>9}{range:>20}{:>10}{:>15}{:>10}{special:>9}{:>10}{:>9}",
        record.case.state.explained(),
        or_nothing(record.gbit_s.or(record.pps).or(record.us), &figure),
        or_nothing(record.ratio_to_plain, &percent),
        or_nothing(record.ratio_to_per_packet_kernel, &percent),
        or_nothing(record.cpu_s_per_gb, &|value| format!("{value:.2}")),
        record.reordered,
        record.checksum_errors,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::case::Direction;
    use super::super::counters::{HostCounters, RouterCounters};
    use super::super::load::Progress;
    use super::*;

    const TCP: Kind = Kind::Tcp {
        streams: 1,
        direction: Direction::AToB,
    };
    const UDP: Kind = Kind::Udp { octets: 64 };
    const LATENCY: Kind = Kind::Latency { near: false };

    fn measured(state: State, kind: Kind, samples: Vec<Sample>) -> Measured {
        Measured {
            case: Case { state, kind },
            rounds: samples.clone(),
            samples,
            failovers: 0,
        }
    }

    /// A second with so many megabytes in datagrams of 1000 octets, one of a hundred lost, at half a second of a processor.
    fn megabytes(count: u64) -> Sample {
        Sample {
            window: Duration::from_secs(1),
            arrived: Progress {
                octets: count * 1_000_000,
                datagrams: count * 990,
                sent: count * 1000,
                reordered: 2,
            },
            cpu: Duration::from_millis(500),
            hosts: HostCounters {
                checksum_errors: 1,
                retransmits: 3,
                reordered: 5,
                out_of_order: 7,
            },
            core: RouterCounters {
                octets: 14_004,
                frames: 10,
            },
            ..Sample::default()
        }
    }

    fn round_trips(us: [u64; 3]) -> Sample {
        Sample {
            window: Duration::from_secs(1),
            round_trips: us.map(Duration::from_micros).to_vec(),
            ..Sample::default()
        }
    }

    #[test]
    fn json_of_streams_has_the_promised_fields() {
        let json = serde_json::to_value(records(&[
            measured(State::Plain, TCP, [500, 1000, 900].map(megabytes).to_vec()),
            measured(State::PerPacket, TCP, [225, 250, 225].map(megabytes).to_vec()),
            // The machine was slow when the first of each was measured.
            measured(State::Steered, TCP, [450, 500, 450].map(megabytes).to_vec()),
        ]))
        .expect("serialises");
        let [plain, _, steered] = json.as_array().expect("an array").as_slice() else {
            panic!("{json}");
        };
        assert_eq!(plain["case"], "plain/tcp-1/a-b");
        assert_eq!((&plain["gbit_s"], &plain["ratio_to_plain"]), (&7.2.into(), &1.0.into()));
        assert_eq!(plain["samples"], serde_json::json!([4.0, 8.0, 7.2]));
        assert_eq!(
            (&plain["retransmits"], &plain["checksum_errors"]),
            (&9.into(), &3.into())
        );
        assert_eq!((&plain["reordered"], &plain["out_of_order"]), (&15.into(), &21.into()));
        assert_eq!(steered["case"], "steered/tcp-1/a-b");
        assert_eq!(steered["ratio_to_plain"], 0.5);
        assert_eq!(steered["ratio_to_per_packet_kernel"], 2.0);
        assert_eq!(steered["cpu_s_per_gb"], 1.111);
        for absent in ["pps", "us", "us_p99", "loss"] {
            assert!(steered.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn ratio_is_that_of_most_rounds_where_both_have_the_same() {
        let mut plain = measured(State::Plain, TCP, vec![megabytes(700)]);
        let mut daemon = measured(State::Daemon, TCP, vec![megabytes(650)]);
        plain.rounds = [500, 1000, 600].map(megabytes).to_vec();
        // The machine was slow in one of the rounds, for one of both.
        daemon.rounds = [500, 500, 600].map(megabytes).to_vec();
        let records = records(&[plain, daemon]);
        assert_eq!(records[1].ratio_to_plain, Some(1.0));
        assert_eq!((records[1].gbit_s, records[1].runs), (Some(5.2), 1));
    }

    #[test]
    fn json_of_datagrams_counts_what_arrived() {
        let json = serde_json::to_value(records(&[measured(State::Daemon, UDP, vec![megabytes(100)])]));
        let json = &json.expect("serialises")[0];
        assert_eq!(
            (&json["case"], &json["pps"]),
            (&"daemon/udp-64".into(), &99_000.0.into())
        );
        assert_eq!((&json["loss"], &json["reordered"]), (&0.01.into(), &2.into()));
        assert!(
            json.get("gbit_s").is_none() && json.get("retransmits").is_none(),
            "{json}"
        );
        // Nothing to compare with was measured.
        for unknown in ["ratio_to_plain", "ratio_to_per_packet_kernel"] {
            assert_eq!(json.get(unknown), Some(&serde_json::Value::Null));
        }
    }

    #[test]
    fn json_of_latency_has_the_ratio_and_the_difference_of_times() {
        let json = serde_json::to_value(records(&[
            measured(State::Plain, LATENCY, vec![round_trips([10, 20, 30])]),
            measured(State::Steered, LATENCY, vec![round_trips([10, 50, 90])]),
        ]));
        let json = &json.expect("serialises")[1];
        assert_eq!((&json["us"], &json["us_p99"]), (&50.0.into(), &90.0.into()));
        assert_eq!(json["us_more_than_plain"], 30.0);
        assert_eq!(json["ratio_to_plain"], 2.5);
        assert_eq!(json.get("cpu_s_per_gb"), Some(&serde_json::Value::Null));
    }

    #[test]
    fn case_without_a_measurement_has_no_record() {
        assert_eq!(records(&[measured(State::Plain, TCP, Vec::new())]), []);
        assert_eq!(records(&[measured(State::Plain, LATENCY, vec![Sample::default()])]), []);
    }

    #[test]
    fn tables_have_a_heading_for_each_kind_of_traffic() {
        let text = table(&records(&[
            measured(State::Plain, TCP, vec![megabytes(500)]),
            measured(State::Steered, TCP, vec![megabytes(250)]),
            measured(State::Plain, LATENCY, vec![round_trips([10, 20, 30])]),
        ]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4 + 1 + 3, "{text}");
        assert!(lines[0].starts_with("TCP, one stream from host a to host b"), "{text}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(lines[2]),
            "plain kernel, all offloads 4.00 4.00..4.00 100 % - 1.00 3 5 1"
        );
        assert_eq!(
            words(lines[3]),
            "daemons, after a failure 2.00 2.00..2.00 50 % - 2.00 3 5 1"
        );
        assert_eq!(
            words(lines[7]),
            "plain kernel, all offloads 20.0 20.0..20.0 100 % - - 30.0 0 0"
        );
    }
}
