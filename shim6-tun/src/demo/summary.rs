//! What a run of the demo came to: as a value, as a JSON document, in words.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::live::Note;
use super::stage::{Locators, Shutdown};
use super::traffic::{Download, Series};
use crate::lab::Failure;

/// One of the two downloads.
#[derive(Debug, Clone)]
pub struct Side {
    /// What the client got.
    pub download: Download,
    /// When it got it.
    pub series: Series,
}

/// All about a run. Times count from the start of the transfers.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was done to the uplink.
    pub failure: Failure,
    /// Octets that each download was to transfer.
    pub octets: u64,
    /// Pace of each server, in octets per second.
    pub rate: u64,
    /// The download between addresses that Shim6 protects.
    pub with: Side,
    /// The download between plain addresses.
    pub without: Side,
    /// When the uplink was cut.
    pub cut: Duration,
    /// When the run was over.
    pub ended: Duration,
    /// How long after the repair of the uplink both hosts used it again; nothing if they did not.
    pub back: Option<Duration>,
    /// The context's locators just before the cut.
    pub locators_before: Locators,
    /// The context's locators after the failure.
    pub locators_after: Locators,
    /// What was told along the way.
    pub notes: Vec<Note>,
    /// How the daemons went away.
    pub shutdown: Shutdown,
    /// The ends of the daemons' logs.
    pub logs: String,
}

/// The document that `shim6 demo --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// `blackhole`, `link-down` or `one-way`.
    pub failure: String,
    /// The download that Shim6 protects.
    pub with_shim6: Protected,
    /// The same download between plain addresses.
    pub without_shim6: Unprotected,
}

/// See [`Summary::with_shim6`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Whether all data arrived.
    pub completed: bool,
    /// Octets that arrived.
    pub bytes: u64,
    /// Whether the SHA-256 of the data is right.
    pub sha256_match: bool,
    /// Longest time without new payload octets at the receiver around the cut, in milliseconds.
    pub stall_ms: f64,
    /// The context's locators just before the cut.
    pub locators_before: Locators,
    /// The context's locators after the failure.
    pub locators_after: Locators,
}

/// See [`Summary::without_shim6`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unprotected {
    /// Whether all data arrived.
    pub completed: bool,
    /// Octets that arrived.
    pub bytes: u64,
}

impl Outcome {
    /// Whether the download with Shim6 arrived whole and unharmed.
    pub fn is_success(&self) -> bool {
        self.with.download.completed && self.with.download.digest_matches
    }

    /// The longest time without new payload octets around the cut, with Shim6.
    pub fn stall(&self) -> Duration {
        self.with.series.longest_silence(self.cut, self.ended)
    }

    /// How long after the cut a daemon had noticed it.
    pub fn noticed(&self) -> Option<Duration> {
        let mut noticed = self.events_after_cut("reachability");
        noticed.next().map(|at| at.saturating_sub(self.cut))
    }

    /// How long after the cut the daemons that had to had moved to another path.
    pub fn moved(&self) -> Option<Duration> {
        let moved = self.events_after_cut("failover").last();
        moved.map(|at| at.saturating_sub(self.cut))
    }

    fn events_after_cut<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = Duration> + 'a {
        let notes = self.notes.iter().filter(move |note| note.kind.as_deref() == Some(kind));
        notes
            .map(|note| note.at)
            .filter(|&at| (self.cut..self.ended).contains(&at))
    }

    /// The document for `--json`.
    pub fn summary(&self) -> Summary {
        let with = &self.with.download;
        Summary {
            failure: self.failure.to_string(),
            with_shim6: Protected {
                completed: with.completed,
                bytes: with.octets,
                sha256_match: with.digest_matches,
                stall_ms: (self.stall().as_secs_f64() * 10_000.0).round() / 10.0,
                locators_before: self.locators_before,
                locators_after: self.locators_after,
            },
            without_shim6: Unprotected {
                completed: self.without.download.completed,
                bytes: self.without.download.octets,
            },
        }
    }

    /// The run as rows of a table: what, with Shim6, without.
    pub fn rows(&self) -> Vec<[String; 3]> {
        let [with, without] = [&self.with.download, &self.without.download];
        let stall = |side: &Side| {
            let silence = side.series.longest_silence(self.cut, self.ended);
            if side.download.completed {
                format!("{:.2} s", silence.as_secs_f64())
            } else {
                format!("{:.2} s, until it was stopped", silence.as_secs_f64())
            }
        };
        let completed = |download: &Download| match download.completed {
            true => "yes".to_owned(),
            false => "no".to_owned(),
        };
        let received = |download: &Download| {
            let part = 100.0 * download.octets as f64 / self.octets.max(1) as f64;
            format!("{} ({part:.0} %)", megabytes(download.octets))
        };
        let digest = |download: &Download| match (download.digest_matches, download.completed) {
            (true, _) => "matches".to_owned(),
            (false, true) => "DOES NOT MATCH".to_owned(),
            (false, false) => "data is missing".to_owned(),
        };
        let seconds =
            |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
        let back = match self.back {
            Some(back) => format!("{:.2} s from the repair", back.as_secs_f64()),
            None => "-".to_owned(),
        };
        let row = |name: &str, with: String, without: String| [name.to_owned(), with, without];
        vec![
            row("completed", completed(with), completed(without)),
            row("received", received(with), received(without)),
            row("SHA-256", digest(with), digest(without)),
            row("longest stall", stall(&self.with), stall(&self.without)),
            row("noticed after", seconds(self.noticed()), "-".to_owned()),
            row("moved after", seconds(self.moved()), "-".to_owned()),
            row("back after", back, "-".to_owned()),
        ]
    }

    /// What the run means, for someone who has never heard of Shim6.
    pub fn meaning(&self) -> String {
        let what = failure_in_words(self.failure);
        let mut text = format!(
            "At {:.1} s {what}. Host a has a second uplink that still worked.\n",
            self.cut.as_secs_f64()
        );
        let with = &self.with.download;
        if self.is_success() {
            let _ = writeln!(
                text,
                "With Shim6 the daemons noticed, agreed on another pair of addresses and carried \
                 the same TCP connection over it:\nthe application saw {:.2} s without data, no \
                 error, and got every octet.",
                self.stall().as_secs_f64()
            );
            if self.back.is_some() {
                text.push_str(
                    "When the uplink was repaired the daemons went back to it, after it had worked for a while.\n",
                );
            }
        } else {
            let why = match (&with.error, with.completed) {
                (Some(error), _) => error.clone(),
                (None, true) => "its data was wrong".to_owned(),
                (None, false) => "it did not complete".to_owned(),
            };
            let _ = writeln!(text, "The download with Shim6 FAILED: {why}.");
        }
        let without = &self.without.download;
        if without.completed {
            text.push_str("The download without Shim6 completed, which was not expected.\n");
        } else {
            let _ = writeln!(
                text,
                "Without Shim6 the connection stayed bound to the dead uplink and got nothing \
                 after {}.",
                megabytes(without.octets)
            );
        }
        text
    }
}

/// What a failure is, as the end of a sentence that begins with a moment.
pub fn failure_in_words(failure: Failure) -> &'static str {
    match failure {
        Failure::Blackhole => "the first uplink of host a began to swallow every packet, with its link still up",
        Failure::LinkDown => "the link of host a's first uplink went down",
        Failure::OneWay => {
            "the first uplink of host a went deaf: nothing arrives on it, what host a sends still \
             leaves"
        }
    }
}

/// A number of octets for people.
pub fn megabytes(octets: u64) -> String {
    format!("{:.1} MB", octets as f64 / 1e6)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that never was: 4 s at 10 kB/s, cut at 1.5 s, back at 1.9 s with Shim6.
    pub(crate) fn made_up() -> Outcome {
        let mut with = Series::default();
        for at in (0..1500).chain(1900..4400).step_by(10) {
            with.record(Duration::from_millis(at), 100);
        }
        with.end();
        let mut without = Series::default();
        for at in (0..1500).step_by(10) {
            without.record(Duration::from_millis(at), 100);
        }
        let note = |at, host: Option<&str>, kind: Option<&str>, text: &str| Note {
            at: Duration::from_millis(at),
            host: host.map(str::to_owned),
            kind: kind.map(str::to_owned),
            text: text.to_owned(),
        };
        let address = |text: &str| text.parse().expect("an address");
        Outcome {
            failure: Failure::Blackhole,
            octets: 40_000,
            rate: 10_000,
            with: Side {
                download: Download {
                    completed: true,
                    octets: 40_000,
                    digest_matches: true,
                    error: None,
                },
                series: with,
            },
            without: Side {
                download: Download {
                    octets: 15_000,
                    ..Download::default()
                },
                series: without,
            },
            cut: Duration::from_millis(1500),
            ended: Duration::from_millis(6400),
            back: Some(Duration::from_millis(2600)),
            locators_before: [address("2001:db8:a1::a"), address("2001:db8:b1::b")],
            locators_after: [address("2001:db8:a2::a"), address("2001:db8:b1::b")],
            notes: vec![
                note(400, Some("a"), Some("established"), "context 1 established"),
                note(1500, None, None, "uplink 0 of host a is cut: <blackhole> & \"co\""),
                note(1650, Some("b"), Some("reachability"), "looking for another path"),
                note(
                    1880,
                    Some("b"),
                    Some("failover"),
                    "path moved to 2001:db8:b1::b -> 2001:db8:a2::a",
                ),
            ],
            shutdown: Shutdown::default(),
            logs: String::new(),
        }
    }

    #[test]
    fn summary_has_exactly_the_promised_shape() {
        let text = serde_json::to_string(&made_up().summary()).expect("serialises");
        assert_eq!(
            text,
            "{\"failure\":\"blackhole\",\"with_shim6\":{\"completed\":true,\"bytes\":40000,\
             \"sha256_match\":true,\"stall_ms\":410.0,\
             \"locators_before\":[\"2001:db8:a1::a\",\"2001:db8:b1::b\"],\
             \"locators_after\":[\"2001:db8:a2::a\",\"2001:db8:b1::b\"]},\
             \"without_shim6\":{\"completed\":false,\"bytes\":15000}}"
        );
    }

    #[test]
    fn success_needs_all_of_the_data_unharmed() {
        let good = made_up();
        assert!(good.is_success());
        let mut wrong = good.clone();
        wrong.with.download.digest_matches = false;
        assert!(!wrong.is_success());
        assert!(wrong.meaning().contains("FAILED: its data was wrong"));
        let mut short = good;
        short.with.download.completed = false;
        short.with.download.error = Some("it took too long".to_owned());
        assert!(!short.is_success());
        assert!(short.meaning().contains("FAILED: it took too long"));
    }

    #[test]
    fn words_tell_the_stall_of_both() {
        let outcome = made_up();
        assert!(outcome.meaning().contains("0.41 s without data"));
        let rows = outcome.rows();
        assert_eq!(rows[1], ["received", "0.0 MB (100 %)", "0.0 MB (38 %)"]);
        assert_eq!(rows[3], ["longest stall", "0.41 s", "4.91 s, until it was stopped"]);
        assert_eq!(rows[4], ["noticed after", "0.15 s", "-"]);
        assert_eq!(rows[5], ["moved after", "0.38 s", "-"]);
        assert_eq!(rows[6], ["back after", "2.60 s from the repair", "-"]);
    }
}
