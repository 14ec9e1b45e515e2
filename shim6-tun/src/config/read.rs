//! Reads keys from TOML tables and remembers what was asked for, so that what is left over is unknown.
//!
//! A derive would know types but not lines, ranges or names; here each key is read with its range, and every problem
//! carries the place it was found at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use super::nearest;

/// A parsed file and the problems found in it so far.
pub(super) struct Document<'a> {
    text: &'a str,
    origin: &'a Path,
    table: Spanned<DeTable<'a>>,
    problems: RefCell<Vec<Problem>>,
}

/// One table of the document, or a table that is not there (every key then reads as absent).
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    /// The table's name; empty for the top level.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// Where the table starts, in octets of the text.
    offset: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Document<'a> {
    /// Parses the TOML itself.
    pub(super) fn parse(text: &'a str, origin: &'a Path) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let expected = "expected lines such as key = \"value\" or [table]";
            ConfigError::Invalid(vec![not_toml(text, origin, &error, expected)])
        })?;
        Ok(Self {
            text,
            origin,
            table,
            problems: RefCell::new(Vec::new()),
        })
    }

    /// The top level.
    pub(super) fn root(&'a self) -> Section<'a> {
        self.table(String::new(), Some(self.table.get_ref()), 0)
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn into_result<T>(self, config: T) -> Result<T, ConfigError> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(config);
        }
        problems.sort_by_key(|problem| problem.line);
        Err(ConfigError::Invalid(problems))
    }

    fn table(&'a self, path: String, table: Option<&'a DeTable<'a>>, offset: usize) -> Section<'a> {
        Section {
            document: self,
            path,
            table,
            offset,
            known: RefCell::new(Vec::new()),
        }
    }

    fn report(&self, offset: usize, key: String, wrong: &str, expected: &str) {
        self.problems.borrow_mut().push(Problem {
            file: self.origin.to_owned(),
            line: line(self.text, offset),
            key,
            wrong: wrong.to_owned(),
            expected: expected.to_owned(),
        });
    }
}

impl<'a> Section<'a> {
    /// The table called `key`.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let absent = || self.document.table(key.to_owned(), None, self.offset);
        let Some(value) = self.value(key) else {
            return absent();
        };
        match value.get_ref() {
            DeValue::Table(table) => self.document.table(key.to_owned(), Some(table), value.span().start),
            other => {
                self.problem_at(
                    key,
                    &format!("is {}", kind(other)),
                    &format!("expected a table, [{key}]"),
                );
                absent()
            }
        }
    }

    /// The array of tables called `key`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let expected = format!("expected an array of tables, each starting with [[{key}]]");
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.problem_at(key, &format!("is {}", kind(value.get_ref())), &expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(self.document.table(key.to_owned(), Some(table), item.span().start));
                }
                other => {
                    let wrong = format!("has {} in it", kind(other));
                    self.document
                        .report(item.span().start, self.full(key), &wrong, &expected);
                }
            }
        }
        sections
    }

    /// An integer from `least` to `most`.
    pub(super) fn integer<T: TryFrom<u64>>(&self, key: &'static str, least: u64, most: u64) -> Option<T> {
        let expected = if most == i64::MAX.unsigned_abs() {
            format!("expected an integer, {least} or more")
        } else {
            format!("expected an integer from {least} to {most}")
        };
        let value = self.value(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.problem_at(key, &format!("is {}", kind(value.get_ref())), &expected);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let in_range = number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| T::try_from(number).ok());
        if in_range.is_none() {
            self.problem_at(key, &format!("{integer} is out of range"), &expected);
        }
        in_range
    }

    /// A boolean.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        if value.get_ref().as_bool().is_none() {
            self.problem_at(key, &format!("is {}", kind(value.get_ref())), "expected true or false");
        }
        value.get_ref().as_bool()
    }

    /// A duration from `least` to `most`, written with its unit.
    pub(super) fn duration(&self, key: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        let expected = format!(
            "expected a duration from {} to {}, such as \"{0}\"",
            show(least),
            show(most)
        );
        self.parsed(key, &expected, |text| {
            let duration =
                humantime::parse_duration(text).map_err(|error| format!("{text:?} is no duration: {error}"))?;
            if (least..=most).contains(&duration) {
                Ok(duration)
            } else {
                Err(format!("{text:?} is out of range"))
            }
        })
    }

    /// A string that `parse` understands, else says what is wrong with; `expected` says what it should have been.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let parsed = match value.get_ref().as_str() {
            Some(text) => parse(text),
            None => Err(format!("is {}", kind(value.get_ref()))),
        };
        parsed.map_err(|wrong| self.problem_at(key, &wrong, expected)).ok()
    }

    /// Reports `key` if it is absent.
    pub(super) fn required(&self, key: &'static str, expected: &str) {
        if self.value(key).is_none() {
            self.document
                .report(self.offset, self.full(key), "is missing", expected);
        }
    }

    /// Reports `key` if an earlier section had the same `value`; `seen` holds the line of each.
    pub(super) fn unique(&self, key: &'static str, seen: &mut HashMap<String, usize>, value: String) {
        let here = line(self.document.text, self.place(key));
        if let Some(before) = seen.get(&value) {
            let wrong = format!("\"{value}\" is already on line {before}");
            self.problem_at(
                key,
                &wrong,
                &format!("expected a different one in each [[{}]]", self.path),
            );
        } else {
            seen.insert(value, here);
        }
    }

    /// Reports a problem with the whole table.
    pub(super) fn problem(&self, wrong: &str, expected: &str) {
        self.document.report(self.offset, self.path.clone(), wrong, expected);
    }

    /// Reports a problem with the value of `key`, at its line (or the table's, if only the default is in force).
    pub(super) fn problem_at(&self, key: &'static str, wrong: &str, expected: &str) {
        self.document.report(self.place(key), self.full(key), wrong, expected);
    }

    /// Reports every key that nothing asked for. To be called when all keys have been read.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            self.document
                .report(key.span().start, self.full(name), "unknown key", &instead(name, &known));
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table?.get(key)
    }

    fn place(&self, key: &'static str) -> usize {
        self.value(key).map_or(self.offset, |value| value.span().start)
    }

    fn full(&self, key: &str) -> String {
        // A quoted key may hold anything, line ends and terminal escapes too.
        let key = key.escape_debug();
        if self.path.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// The file's octets, if there are at most `limit`.
pub(super) fn file(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(limit + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if file.limit() == 0 {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// A duration as one writes it in the file.
pub(super) fn show(duration: Duration) -> impl Display {
    humantime::format_duration(duration)
}

/// The problem of a text that is not even TOML.
pub(crate) fn not_toml(text: &str, origin: &Path, error: &toml::de::Error, expected: &str) -> Problem {
    Problem {
        file: origin.to_owned(),
        line: line(text, error.span().map_or(0, |span| span.start)),
        key: String::new(),
        wrong: format!("this is not TOML: {}", error.message().trim().replace('\n', ", ")),
        expected: expected.to_owned(),
    }
}

/// What one may have meant by an unknown key.
pub(crate) fn instead(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}

/// The line, counted from 1, of the octet at `offset`.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&octet| octet == b'\n').count()
}

/// The type of a value as people call it.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
