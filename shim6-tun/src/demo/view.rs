//! The run in the terminal: bars that grow while it happens, events between them.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::style::Stylize;
use crossterm::terminal::{Clear, ClearType};
use crossterm::{QueueableCommand, terminal};

use super::live::{Live, Note};
use super::traffic::Series;

/// Columns of a row that are not the bars: name, rate and percentage.
const AROUND: usize = 40;
const NAME: usize = 15;
/// Time over which the rate in numbers is taken.
const RATE_WINDOW: Duration = Duration::from_millis(300);
/// Time between two lines of progress when there is no terminal.
const PLAIN_PERIOD: Duration = Duration::from_secs(1);
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How to show a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bars redrawn in place, for a terminal.
    Bars,
    /// Lines that are only ever added, for a file or a pipe.
    Lines,
    /// Nothing.
    Silent,
}

/// What the view has to know of a run before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// How long the transfers take without a failure.
    pub expected: Duration,
    /// Pace of each transfer, in octets per second.
    pub rate: u64,
    /// Octets of each transfer.
    pub octets: u64,
}

/// Shows a [`Live`] record. Call [`View::draw`] about ten times a second.
pub struct View<W: Write> {
    out: W,
    style: Style,
    scope: Scope,
    shown: usize,
    rows: u16,
    next_line: Duration,
}

impl<W: Write> View<W> {
    /// A view that writes to `out`.
    pub fn new(out: W, style: Style, scope: Scope) -> Self {
        Self {
            out,
            style,
            scope,
            shown: 0,
            rows: 0,
            next_line: PLAIN_PERIOD,
        }
    }

    /// Shows what is new.
    pub fn draw(&mut self, live: &Live) -> io::Result<()> {
        match self.style {
            Style::Silent => Ok(()),
            Style::Lines => self.draw_lines(live),
            Style::Bars => self.draw_bars(live),
        }
    }

    /// Shows what is new for the last time; the bars stay.
    pub fn finish(mut self, live: &Live) -> io::Result<W> {
        self.draw(live)?;
        Ok(self.out)
    }

    fn draw_lines(&mut self, live: &Live) -> io::Result<()> {
        for note in live.notes(self.shown) {
            writeln!(self.out, "{}", line(&note))?;
            self.shown += 1;
        }
        let now = live.now();
        if now >= self.next_line && live.with().ended().is_none() {
            self.next_line = now + PLAIN_PERIOD;
            let part = |series: &Series| {
                format!(
                    "{:.1} MB/s ({:.0} %)",
                    series.rate(RATE_WINDOW, now) / 1e6,
                    self.percent(series)
                )
            };
            let (with, without) = (part(&live.with()), part(&live.without()));
            writeln!(self.out, "{}  with Shim6 {with}, without Shim6 {without}", stamp(now))?;
        }
        self.out.flush()
    }

    fn draw_bars(&mut self, live: &Live) -> io::Result<()> {
        if self.rows > 0 {
            self.out.queue(MoveUp(self.rows))?;
        }
        self.out.queue(MoveToColumn(0))?;
        self.out.queue(Clear(ClearType::FromCursorDown))?;
        for note in live.notes(self.shown) {
            let text = line(&note);
            match note.host {
                Some(_) => writeln!(self.out, "{}", text.cyan())?,
                None => writeln!(self.out, "{text}")?,
            }
            self.shown += 1;
        }
        let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let [with, without, below] = self.bars(live, columns);
        writeln!(self.out, "{}", with.green())?;
        writeln!(self.out, "{}", without.yellow())?;
        writeln!(self.out, "{}", below.red())?;
        self.rows = 3;
        self.out.flush()
    }

    /// The two rows of bars and the one below that marks the cut, less than `columns` wide.
    fn bars(&self, live: &Live, columns: usize) -> [String; 3] {
        let width = columns.saturating_sub(AROUND).clamp(8, 120);
        let now = live.now();
        let horizon = self.scope.expected.max(now).max(Duration::from_millis(1));
        let bin = horizon / width as u32;
        let row = |name: &str, series: &Series| {
            let mut bars: String = series
                .throughput(bin, now)
                .into_iter()
                .take(width)
                .map(|rate| bar(rate / (self.scope.rate as f64 * 1.2)))
                .collect();
            let missing = width - bars.chars().count();
            bars.extend(std::iter::repeat_n(' ', missing));
            let rate = series.rate(RATE_WINDOW, now) / 1e6;
            let percent = self.percent(series);
            format!("{name:NAME$}{bars}|{rate:6.1} MB/s {percent:3.0} %")
        };
        let with = row("with Shim6", &live.with());
        let without = row("without Shim6", &live.without());
        let below = live.cut().map_or_else(String::new, |cut| {
            let column = (cut.as_nanos() / bin.as_nanos().max(1)) as usize;
            let indent = NAME + column.min(width - 1);
            format!("{:indent$}^ cut at {:.1} s", "", cut.as_secs_f64())
        });
        [with, without, below]
    }

    fn percent(&self, series: &Series) -> f64 {
        100.0 * series.total() as f64 / self.scope.octets.max(1) as f64
    }
}

/// The bar for a part of the full height.
fn bar(part: f64) -> char {
    let level = (part * 8.0).round().clamp(0.0, 8.0) as usize;
    // A trickle is still something.
    BARS[level.max(usize::from(part > 0.0))]
}

fn stamp(at: Duration) -> String {
    format!("{:+8.3} s", at.as_secs_f64())
}

fn line(note: &Note) -> String {
    let at = stamp(note.at);
    match &note.host {
        Some(host) => format!("{at}  host {host}: {}", note.text),
        None => format!("{at}  {}", note.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope {
        expected: Duration::from_secs(10),
        rate: 1000,
        octets: 10_000,
    };

    fn drawn(style: Style, live: &Live) -> String {
        let view = View::new(Vec::new(), style, SCOPE);
        String::from_utf8(view.finish(live).expect("a vector takes all")).expect("UTF-8")
    }

    #[test]
    fn each_note_is_shown_once() {
        let live = Live::default();
        live.note("building the lab");
        let mut view = View::new(Vec::new(), Style::Lines, SCOPE);
        view.draw(&live).expect("a vector takes all");
        live.event("b", "failover", "path moved");
        view.draw(&live).expect("a vector takes all");
        let text = String::from_utf8(view.finish(&live).expect("a vector")).expect("UTF-8");
        assert_eq!(text, "  +0.000 s  building the lab\n  +0.000 s  host b: path moved\n");
        assert_eq!(drawn(Style::Silent, &live), "");
    }

    #[test]
    fn rows_fit_into_the_terminal_and_have_one_width() {
        let live = Live::default();
        live.begin();
        live.mark_cut();
        live.with().record(Duration::ZERO, 5000);
        for columns in [0, 40, 80, 200] {
            let view = View::new(Vec::new(), Style::Bars, SCOPE);
            let [with, without, below] = view.bars(&live, columns);
            let width = with.chars().count();
            assert_eq!(width, without.chars().count());
            assert!(width <= columns.max(48), "{columns}: {width}");
            assert!(with.contains(" 50 %") && without.contains("  0 %"), "{with}");
            assert!(below.contains("^ cut at 0.0 s"));
        }
    }

    #[test]
    fn bars_show_a_trickle_and_cap_a_burst() {
        assert_eq!(bar(0.0), ' ');
        assert_eq!(bar(0.001), '▁');
        assert_eq!(bar(0.5), '▄');
        assert_eq!(bar(7.0), '█');
    }
}
