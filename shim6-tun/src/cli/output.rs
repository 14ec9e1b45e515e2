//! Numbers, times and tables as people read them.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use anyhow::Context;

/// Columns that output is made for.
pub(super) const WIDTH: usize = 100;

/// Writes to standard output at once. A closed pipe is an error like others here: the caller stops, quietly.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output; check where it goes")
}

/// A text as it goes to a terminal: control characters cannot act there.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// An amount of octets with three digits: `999 B`, `1.23 MB`.
pub(super) fn octets(octets: u64) -> String {
    scaled(octets, ["B", "kB", "MB", "GB", "TB", "PB", "EB"], " ")
}

/// A count with three digits: `999`, `1.23k`.
pub(super) fn count(count: u64) -> String {
    scaled(count, ["", "k", "M", "G", "T", "P", "E"], "")
}

/// A time since the daemon's start: `12.345s`.
pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// A length of time in its two largest units: `250ms`, `12.3s`, `3m 5s`, `2d 4h`.
pub(super) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A share in thousandths: `3.1%`.
pub(super) fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{}%", permille / 10),
        tenth => format!("{}.{tenth}%", permille / 10),
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Whether the reader is a terminal that wants colours.
    pub(super) colored: bool,
}

impl Style {
    /// What suits standard output.
    pub(super) fn of_stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colored: io::stdout().is_terminal() && !no_color,
        }
    }

    /// What is as it should be.
    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What needs attention.
    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// What is on its way from one to the other.
    pub(super) fn changing(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Headings.
    pub(super) fn heading(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colored {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One cell: its text, and how it is shown (the two differ in colour only).
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    shown: String,
}

impl Cell {
    /// A cell whose text `style` colours.
    pub(super) fn styled(text: &str, style: impl FnOnce(&str) -> String) -> Self {
        Self {
            shown: style(text),
            text: text.to_owned(),
        }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        let text = value.to_string();
        Self {
            shown: text.clone(),
            text,
        }
    }
}

/// Rows of cells under headings, aligned, two blanks apart.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
    /// Whole lines after the row with that number.
    notes: Vec<(usize, String)>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str], style: Style) -> Self {
        let row = headings
            .iter()
            .map(|text| Cell::styled(text, |text| style.heading(text)))
            .collect();
        Self {
            rows: vec![row],
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a line that belongs to the last row.
    pub(super) fn note(&mut self, line: String) {
        self.notes.push((self.rows.len(), line));
    }

    /// The table's lines. Where they would be wider than [`WIDTH`], the last column goes to a line of its own.
    pub(super) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let widest = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let folded = widths.iter().map(|width| width + 2).sum::<usize>() > WIDTH + 2;
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let (last, aligned) = row.split_last().expect("a table has a column");
            let mut line = String::new();
            for (cell, width) in aligned.iter().zip(&widths) {
                let padding = width - cell.text.chars().count() + 2;
                line += &cell.shown;
                line += &" ".repeat(padding);
            }
            if folded && number == 0 {
                text += line.trim_end();
            } else if folded {
                let _ = write!(
                    text,
                    "{}\n  {} {}",
                    line.trim_end(),
                    self.rows[0][columns - 1].text.to_lowercase(),
                    last.shown
                );
            } else {
                line += &last.shown;
                text += line.trim_end();
            }
            text.push('\n');
            for (_, note) in self.notes.iter().filter(|(after, _)| *after == number + 1) {
                text += note;
                text.push('\n');
            }
        }
        text
    }
}

/// Three digits and the unit, cut and not rounded up, so that 999999 is `999 k` and never `1000 k`.
fn scaled(value: u64, units: [&str; 7], gap: &str) -> String {
    let mut unit = 0;
    let mut whole = value;
    let mut divisor: u64 = 1;
    while whole >= 1000 {
        whole /= 1000;
        divisor *= 1000;
        unit += 1;
    }
    let number = if unit == 0 {
        whole.to_string()
    } else {
        let thousandths = (value % divisor) / (divisor / 1000);
        match whole {
            0..10 => format!("{whole}.{:02}", thousandths / 10),
            10..100 => format!("{whole}.{}", thousandths / 100),
            _ => whole.to_string(),
        }
    };
    format!("{number}{gap}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        assert_eq!(octets(0), "0 B");
        assert_eq!(octets(999), "999 B");
        assert_eq!(octets(1_000), "1.00 kB");
        assert_eq!(octets(12_345_678), "12.3 MB");
        assert_eq!(octets(999_999), "999 kB");
        assert_eq!(octets(u64::MAX), "18.4 EB");
        assert_eq!(count(42), "42");
        assert_eq!(count(1_239), "1.23k");
    }

    #[test]
    fn ages_have_two_units() {
        assert_eq!(age(0), "0ms");
        assert_eq!(age(999), "999ms");
        assert_eq!(age(12_345), "12.3s");
        assert_eq!(age(185_000), "3m 5s");
        assert_eq!(age(3_600_000), "1h 0m");
        assert_eq!(age(187_200_000), "2d 4h");
        assert_eq!(seconds(1_002), "1.002s");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let lines = |colored| {
            let style = Style { colored };
            let mut table = Table::new(&["A", "B"], style);
            table.row([Cell::styled("up", |text| style.good(text)), 1.into()]);
            table.row([Cell::styled("down", |text| style.bad(text)), 22.into()]);
            table.render()
        };
        assert_eq!(lines(false), "A     B\nup    1\ndown  22\n");
        let bare = lines(true).replace("\x1b[0m", "").replace("\x1b[1m", "");
        assert_eq!(bare.replace("\x1b[32m", "").replace("\x1b[1;31m", ""), lines(false));
        assert!(lines(true).contains("\x1b[32mup\x1b[0m"));
    }

    #[test]
    fn a_wide_table_folds_its_last_column() {
        let mut table = Table::new(&["NAME", "GATEWAY"], Style { colored: false });
        table.row(["x".repeat(60).into(), "y".repeat(39).into()]);
        assert_eq!(
            table.render(),
            format!("NAME\n{}\n  gateway {}\n", "x".repeat(60), "y".repeat(39))
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }
}
