//! One measurement.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use shim6_tun::demo::stage::Locators;
use shim6_tun::lab::Topology;

use super::Kind;
use super::counters::{HostCounters, RouterCounters};
use super::cpu::CpuMeter;
use super::load::{Load, Progress, RoundTrip};

/// What one measurement gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Length of the window, from whose start to whose end `arrived`, `round_trips` and `cpu` are.
    pub window: Duration,
    /// What was sent and arrived.
    pub arrived: Progress,
    /// How long each request took whose answer came within the window, in order of length.
    pub round_trips: Vec<Duration>,
    /// Processor time.
    pub cpu: Duration,
    /// What both hosts counted, the time before the window included.
    pub hosts: HostCounters,
    /// What the router in the middle received in that time.
    pub core: RouterCounters,
}

impl Sample {
    /// Runs traffic between these addresses and measures it for `window`, after `warm_up`. Blocks.
    ///
    /// # Errors
    /// The traffic broke, or something could not be read.
    pub fn take(
        kind: Kind,
        topology: &Topology,
        addresses: Locators,
        cpu: &CpuMeter,
        [warm_up, window]: [Duration; 2],
    ) -> anyhow::Result<Self> {
        let hosts = || {
            let [a, b] = [&topology.a, &topology.b].map(|host| HostCounters::read(&host.namespace));
            anyhow::Ok(a? + b?)
        };
        let (hosts_before, core_before) = (hosts()?, RouterCounters::read(topology.core())?);
        let load = Load::start(kind, topology, addresses)?;
        std::thread::sleep(warm_up);
        let before = Reading::take(&load, cpu)?;
        std::thread::sleep(window);
        let after = Reading::take(&load, cpu)?;
        let round_trips = load.finish()?;
        let within = |trip: &&RoundTrip| trip.at > before.at && trip.at <= after.at;
        let mut round_trips: Vec<Duration> = round_trips.iter().filter(within).map(|trip| trip.took).collect();
        round_trips.sort_unstable();
        Ok(Self {
            window: after.at - before.at,
            arrived: after.progress_since(&before),
            round_trips,
            cpu: after.cpu.saturating_sub(before.cpu),
            hosts: hosts()? - hosts_before,
            core: RouterCounters::read(topology.core())? - core_before,
        })
    }

    /// This measurement and another of the same, as one of both lengths.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.round_trips.append(&mut other.round_trips);
        self.round_trips.sort_unstable();
        Self {
            window: self.window + other.window,
            arrived: self.arrived + other.arrived,
            round_trips: self.round_trips,
            cpu: self.cpu + other.cpu,
            hosts: self.hosts + other.hosts,
            core: self.core + other.core,
        }
    }

    /// Gigabits of payload per second.
    #[must_use]
    pub fn gigabits_per_second(&self) -> f64 {
        self.arrived.octets as f64 * 8e-9 / self.window.as_secs_f64()
    }

    /// Datagrams received per second.
    #[must_use]
    pub fn datagrams_per_second(&self) -> f64 {
        self.arrived.datagrams as f64 / self.window.as_secs_f64()
    }

    /// The round-trip time, in microseconds, that this part of them does not exceed; nothing without any.
    #[must_use]
    pub fn round_trip_us(&self, part: f64) -> Option<f64> {
        let last = self.round_trips.len().checked_sub(1)?;
        // The smallest that has at least this part of them at or below it.
        let rank = (part * self.round_trips.len() as f64).ceil() as usize;
        Some(self.round_trips[rank.saturating_sub(1).min(last)].as_secs_f64() * 1e6)
    }

    /// Seconds of processor time for a gigabyte (10^9 octets) of payload that arrived; nothing if none did.
    #[must_use]
    pub fn cpu_per_gigabyte(&self) -> Option<f64> {
        (self.arrived.octets > 0).then(|| self.cpu.as_secs_f64() * 1e9 / self.arrived.octets as f64)
    }
}

/// How far everything is at a moment.
struct Reading {
    at: Instant,
    progress: Progress,
    cpu: Duration,
}

impl Reading {
    fn take(load: &Load, cpu: &CpuMeter) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            progress: load.progress(),
            cpu: cpu.read().context("cannot read the processor time")?,
        })
    }

    fn progress_since(&self, earlier: &Self) -> Progress {
        self.progress - earlier.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_of_the_window() {
        let sample = Sample {
            window: Duration::from_millis(500),
            arrived: Progress {
                octets: 250_000_000,
                datagrams: 1000,
                ..Progress::default()
            },
            cpu: Duration::from_millis(600),
            ..Sample::default()
        };
        assert_eq!(sample.gigabits_per_second(), 4.0);
        assert_eq!(sample.datagrams_per_second(), 2000.0);
        assert_eq!(sample.cpu_per_gigabyte(), Some(2.4));
        assert_eq!(Sample::default().cpu_per_gigabyte(), None);
    }

    #[test]
    fn two_measurements_together_are_as_one_of_both_lengths() {
        let sample = |seconds, octets, us: &[u64]| Sample {
            window: Duration::from_secs(seconds),
            arrived: Progress {
                octets,
                ..Progress::default()
            },
            round_trips: us.iter().copied().map(Duration::from_micros).collect(),
            cpu: Duration::from_secs(seconds),
            core: RouterCounters {
                octets: 1500 * seconds,
                frames: 2,
            },
            ..Sample::default()
        };
        let both = sample(1, 1_000_000_000, &[10, 30]).and(sample(3, 2_000_000_000, &[20]));
        assert_eq!(both.gigabits_per_second(), 6.0);
        assert_eq!(both.round_trip_us(0.5), Some(20.0));
        assert_eq!(both.cpu_per_gigabyte(), Some(4.0 / 3.0));
        assert_eq!(both.core.frame_octets(), Some(1500.0));
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let of = |count| Sample {
            round_trips: (1..=count).map(Duration::from_micros).collect(),
            ..Sample::default()
        };
        assert_eq!(of(0).round_trip_us(0.5), None);
        assert_eq!(of(1).round_trip_us(0.99), Some(1.0));
        assert_eq!(of(4).round_trip_us(0.5), Some(2.0));
        assert_eq!(of(200).round_trip_us(0.99), Some(198.0));
        assert_eq!(of(200).round_trip_us(1.0), Some(200.0));
    }
}
