//! How far a search is, on standard error.

use std::io::{self, IsTerminal as _, Write};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use shim6_cga::Sec;

use super::super::output::{age, count};
use crate::search::Progress;

/// A search that is over by then needs no words.
const SILENCE: Duration = Duration::from_secs(1);
/// Time between two lines where they stay: in a log.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows progress on a terminal as one line that changes, elsewhere as a line now and then.
pub(super) struct View<W> {
    out: W,
    redraws: bool,
    sec: Sec,
    threads: NonZeroUsize,
    /// Hashes of earlier runs.
    before: u64,
    introduced: bool,
    last: Option<Instant>,
}

impl View<io::Stderr> {
    pub(super) fn stderr(sec: Sec, threads: NonZeroUsize, before: u64) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            out: io::stderr(),
            redraws: io::stderr().is_terminal() && !is_dumb,
            sec,
            threads,
            before,
            introduced: false,
            last: None,
        }
    }
}

impl<W: Write> View<W> {
    /// Says what is done, if it takes long for sure.
    pub(super) fn begin(&mut self) {
        if self.sec > Sec::ONE {
            self.introduce();
        }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        if !self.introduced {
            if progress.elapsed < SILENCE {
                return;
            }
            self.introduce();
        }
        if progress.tried == 0 {
            return;
        }
        if self.redraws {
            self.write(&format!("\r{}\x1b[K", self.line(progress)));
        } else if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.write(&(self.line(progress) + "\n"));
        } else {
            return;
        }
        self.last = Some(Instant::now());
    }

    fn introduce(&mut self) {
        self.introduced = true;
        self.write(&introduction(self.sec, self.threads));
    }

    /// Makes room for what is said next.
    pub(super) fn end(&mut self) {
        if self.redraws && self.last.is_some() {
            self.write("\r\x1b[K");
        }
    }

    /// One line of at most 79 columns.
    fn line(&self, progress: &Progress) -> String {
        let tried = self.before.saturating_add(progress.tried);
        let expected = self.sec.expected_hashes().max(1);
        let rate = progress.rate();
        let typical = match expected.saturating_mul(1000).checked_div(rate) {
            Some(milliseconds) => age(milliseconds),
            None => "ages".to_owned(),
        };
        format!(
            "{} hashes, {}/s; a typical search takes {typical}; by now {} are over",
            count(tried),
            count(rate),
            share(tried as f64 / expected as f64),
        )
    }

    fn write(&mut self, text: &str) {
        // A progress that cannot be shown is no reason to stop.
        drop(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
    }
}

/// Said once, since the line has no room for it.
fn introduction(sec: Sec, threads: NonZeroUsize) -> String {
    format!(
        "Searching for a modifier of Sec {sec}: {} hashes on average; threads: {threads}.\n\
         The search has no memory: however long it has run, as many hashes are to be expected.\n\
         Ctrl-C keeps what is done; the same command then goes on from there.\n",
        count(sec.expected_hashes())
    )
}

/// The share of searches that are over after that many times the average.
fn share(averages: f64) -> String {
    let percent = 100.0 * -(-averages).exp_m1();
    match percent {
        ..1.0 => "under 1%".to_owned(),
        99.0.. => "over 99%".to_owned(),
        _ => format!("{}%", percent as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(sec: Sec, redraws: bool) -> View<Vec<u8>> {
        View {
            out: Vec::new(),
            redraws,
            sec,
            threads: NonZeroUsize::MIN,
            before: 0,
            introduced: false,
            last: None,
        }
    }

    fn progress(tried: u64, elapsed: Duration) -> Progress {
        Progress {
            tried,
            candidate: [0; 16],
            settled: tried,
            elapsed,
        }
    }

    fn said(view: View<Vec<u8>>) -> String {
        String::from_utf8(view.out).expect("text")
    }

    #[test]
    fn line_tells_rate_average_and_chance() {
        let mut view = view(Sec::TWO, false);
        let after = Duration::from_secs(100);
        assert_eq!(
            view.line(&progress(1_234_000_000, after)),
            "1.23G hashes, 12.3M/s; a typical search takes 5m 48s; by now 24% are over"
        );
        // What was done before counts for the chance, not for the rate.
        view.before = 1 << 33;
        assert_eq!(
            view.line(&progress(1_234_000_000, after)),
            "9.82G hashes, 12.3M/s; a typical search takes 5m 48s; by now 89% are over"
        );
        assert_eq!(
            view.line(&progress(0, Duration::ZERO)),
            "8.58G hashes, 0/s; a typical search takes ages; by now 86% are over"
        );
    }

    #[test]
    fn no_line_is_too_wide_for_a_terminal() {
        for tried in [0, 1, 999, 999_999, 999_999_999_999, u64::MAX] {
            for seconds in [1, 99_999] {
                let mut view = view(Sec::TWO, true);
                view.before = tried;
                let line = view.line(&progress(tried, Duration::from_secs(seconds)));
                assert!(line.len() <= 79, "{line}");
            }
        }
    }

    #[test]
    fn a_short_search_says_nothing() {
        let mut log = view(Sec::ONE, false);
        log.begin();
        log.show(&progress(1000, Duration::from_millis(999)));
        assert!(log.out.is_empty());
        log.show(&progress(1000, Duration::from_secs(1)));
        assert!(said(log).starts_with("Searching for a modifier of Sec 1: 65.5k hashes on average; threads: 1.\n"));
    }

    #[test]
    fn a_log_gets_few_lines() {
        let mut log = view(Sec::TWO, false);
        log.begin();
        log.show(&progress(1000, Duration::from_secs(1)));
        log.show(&progress(2000, Duration::from_secs(2)));
        log.end();
        let text = said(log);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("Searching for a modifier of Sec 2: 4.29G hashes on average"));
        assert!(text.ends_with("1.00k hashes, 1.00k/s; a typical search takes 49d 17h; by now under 1% are over\n"));
    }

    #[test]
    fn a_terminal_has_one_line_that_changes_and_goes() {
        let mut terminal = view(Sec::TWO, true);
        terminal.show(&progress(1000, Duration::from_secs(1)));
        terminal.show(&progress(2000, Duration::from_secs(1)));
        terminal.end();
        let text = said(terminal);
        assert!(text.contains("\r1.00k hashes") && text.contains("\r2.00k hashes"));
        assert!(text.ends_with("are over\x1b[K\r\x1b[K"), "{text:?}");
    }

    #[test]
    fn share_is_that_of_a_search_without_memory() {
        assert_eq!(share(0.0), "under 1%");
        assert_eq!(share(0.6932), "50%");
        assert_eq!(share(1.0), "63%");
        assert_eq!(share(4.0), "98%");
        assert_eq!(share(1e9), "over 99%");
    }
}
