//! Reads keys from TOML tables and remembers what was asked for, so that what is left over is unknown.
//!
//! A derive would know types but not lines, ranges or names; here each key is read with the range of its description, and every
//! problem carries the place it was found at. A document may be made of several files, each over those before it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use super::load::Origin;
use super::{keys, nearest};

/// Largest configuration file read, in octets.
const MAX_FILE: u64 = 1 << 20;

/// The parsed files, each over those before it, and what was found in them so far.
pub(crate) struct Document<'a> {
    sources: Vec<Source<'a>>,
    problems: RefCell<Vec<(Place, Problem)>>,
    /// Where the value in force of each key that is set was found.
    origins: RefCell<BTreeMap<String, Place>>,
}

/// One file.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
    /// `None` if it is not TOML.
    table: Option<Spanned<DeTable<'a>>>,
}

/// A place in a file: in which one, and how many octets from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: usize,
    offset: usize,
}

/// One table of the document, of one file or of several; or a table that is not there (every key then reads as absent).
pub(crate) struct Section<'a> {
    document: &'a Document<'a>,
    /// The table's name; empty for the top level.
    path: &'static str,
    /// The same, with its number in an array of tables.
    name: String,
    /// The table in each file that has it. A later one counts for more.
    layers: Vec<Layer<'a>>,
    /// Where the table starts, or the one around it if there is none.
    at: Place,
    known: RefCell<Vec<&'static str>>,
}

#[derive(Clone, Copy)]
struct Layer<'a> {
    table: &'a DeTable<'a>,
    at: Place,
}

/// A value in a file.
type Found<'a> = (&'a DeValue<'a>, Place);

impl<'a> Document<'a> {
    /// Parses the TOML of each file; a later one counts for more.
    pub(crate) fn parse(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let mut document = Self {
            sources: Vec::new(),
            problems: RefCell::default(),
            origins: RefCell::default(),
        };
        for (file, (path, text)) in files.into_iter().enumerate() {
            let table = DeTable::parse(text).map_err(|error| {
                let problem = not_toml(text, path, &error, "expected lines such as key = \"value\" or [table]");
                let offset = error.span().map_or(0, |span| span.start);
                document.problems.get_mut().push((Place { file, offset }, problem));
            });
            document.sources.push(Source {
                text,
                path,
                table: table.ok(),
            });
        }
        document
    }

    /// The top level.
    pub(crate) fn root(&'a self) -> Section<'a> {
        let layers = self.sources.iter().enumerate().filter_map(|(file, source)| {
            let table = source.table.as_ref()?.get_ref();
            let at = Place { file, offset: 0 };
            Some(Layer { table, at })
        });
        self.table("", String::new(), layers.collect(), Place { file: 0, offset: 0 })
    }

    /// The configuration and where each key is set, if nothing was wrong.
    pub(crate) fn into_result<T>(self, config: T) -> Result<(T, BTreeMap<String, Origin>), ConfigError> {
        let origins = self.origins.take().into_iter();
        let origins = origins.map(|(key, place)| (key, self.origin(place))).collect();
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok((config, origins));
        }
        problems.sort_by_key(|&(place, _)| place);
        Err(ConfigError::Invalid(
            problems.into_iter().map(|(_, problem)| problem).collect(),
        ))
    }

    /// Whether anything was wrong so far.
    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    fn table(&'a self, path: &'static str, name: String, layers: Vec<Layer<'a>>, around: Place) -> Section<'a> {
        Section {
            document: self,
            path,
            name,
            at: layers.first().map_or(around, |layer| layer.at),
            layers,
            known: RefCell::default(),
        }
    }

    fn origin(&self, place: Place) -> Origin {
        let source = self.sources.get(place.file);
        Origin {
            file: source.map_or_else(PathBuf::new, |source| source.path.to_owned()),
            line: source.map_or(1, |source| line(source.text, place.offset)),
        }
    }

    fn report(&self, place: Place, key: String, wrong: &str, expected: &str) {
        let Origin { file, line } = self.origin(place);
        let problem = Problem {
            file,
            line,
            key,
            wrong: wrong.to_owned(),
            expected: expected.to_owned(),
        };
        self.problems.borrow_mut().push((place, problem));
    }
}

impl<'a> Section<'a> {
    /// The table called `key`.
    pub(crate) fn section(&self, key: &'static str) -> Section<'a> {
        let expected = format!("expected a table, [{key}]");
        let mut layers = Vec::new();
        for (value, at) in self.values(key) {
            match value {
                DeValue::Table(table) => layers.push(Layer { table, at }),
                other => self
                    .document
                    .report(at, self.full(key), &format!("is {}", kind(other)), &expected),
            }
        }
        self.document.table(key, key.to_owned(), layers, self.at)
    }

    /// The tables of the array called `key`, those of a later file behind those of the files before. With an `identity`, one
    /// that has the same value of that key as one of an earlier file is a layer over that.
    pub(crate) fn sections(&self, key: &'static str, identity: Option<&str>) -> Vec<Section<'a>> {
        let expected = format!("expected an array of tables, each starting with [[{key}]]");
        let mut found: Vec<Vec<Layer<'a>>> = Vec::new();
        for (value, at) in self.values(key) {
            let DeValue::Array(items) = value else {
                let wrong = format!("is {}", kind(value));
                self.document.report(at, self.full(key), &wrong, &expected);
                continue;
            };
            for item in items.iter() {
                let at = Place {
                    offset: item.span().start,
                    ..at
                };
                let DeValue::Table(table) = item.get_ref() else {
                    let wrong = format!("has {} in it", kind(item.get_ref()));
                    self.document.report(at, self.full(key), &wrong, &expected);
                    continue;
                };
                let layer = Layer { table, at };
                let name = |layer: &Layer<'a>| identity.and_then(|key| layer.table.get(key)?.get_ref().as_str());
                let is_same = |layers: &&mut Vec<Layer<'a>>| {
                    let is_over = layers.iter().all(|below| below.at.file < at.file);
                    is_over && name(&layer).is_some() && layers.iter().any(|below| name(below) == name(&layer))
                };
                match found.iter_mut().find(is_same) {
                    Some(layers) => layers.push(layer),
                    None => found.push(vec![layer]),
                }
            }
        }
        let section = |(number, layers)| self.document.table(key, format!("{key}[{number}]"), layers, self.at);
        found.into_iter().enumerate().map(section).collect()
    }

    /// An integer in the range of its description.
    pub(super) fn integer<T: TryFrom<u64>>(&self, key: &'static str) -> Option<T> {
        self.count(key, keys::find(self.path, key).integer_range())
    }

    /// An integer in this range.
    pub(crate) fn count<T: TryFrom<u64>>(&self, key: &'static str, (least, most): (u64, u64)) -> Option<T> {
        let expected = if most == i64::MAX.unsigned_abs() {
            format!("expected an integer, {least} or more")
        } else {
            format!("expected an integer from {least} to {most}")
        };
        self.read(key, &expected, |value| {
            let DeValue::Integer(integer) = value else {
                return Err(format!("is {}", kind(value)));
            };
            let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
            number
                .and_then(|number| u64::try_from(number).ok())
                .filter(|number| (least..=most).contains(number))
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| format!("{integer} is out of range"))
        })
    }

    /// A boolean.
    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.read(key, "expected true or false", |value| {
            value.as_bool().ok_or_else(|| format!("is {}", kind(value)))
        })
    }

    /// A duration in the range of its description, written with its unit.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let (least, most) = keys::find(self.path, key).duration_range();
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
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, expected, |value| match value.as_str() {
            Some(text) => parse(text),
            None => Err(format!("is {}", kind(value))),
        })
    }

    /// One or several strings or integers, at most `most`, each of which `parse` understands.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        (expected, most): (&str, usize),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let one = |value: &DeValue<'_>| match value {
            DeValue::String(text) => parse(text),
            // As it is written, so that 0x10 is no port: nobody means that.
            DeValue::Integer(integer) if integer.radix() == 10 => parse(integer.as_str()),
            other => Err(format!("has {} in it", kind(other))),
        };
        self.read(key, expected, |value| match value {
            DeValue::Array(items) if items.is_empty() => Err("is empty".to_owned()),
            DeValue::Array(items) if items.len() > most => {
                Err(format!("has {} entries, more than {most}", items.len()))
            }
            DeValue::Array(items) => items.iter().map(|item| one(item.get_ref())).collect(),
            DeValue::String(_) | DeValue::Integer(_) => one(value).map(|one| vec![one]),
            other => Err(format!("is {}", kind(other))),
        })
    }

    /// Reports `key` if it is absent.
    pub(crate) fn required(&self, key: &'static str, expected: &str) {
        if self.values(key).is_empty() {
            self.problem_at(key, "is missing", expected);
        }
    }

    /// The table's name.
    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// Whether any file sets `key`.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        !self.values(key).is_empty()
    }

    /// Reports `key` if an earlier section had the same `value`; `seen` holds the place of each.
    pub(super) fn unique(&self, key: &'static str, seen: &mut Seen, value: String) {
        let here = self.place(key);
        if let Some(&before) = seen.0.get(&value) {
            let Origin { file, line } = self.document.origin(before);
            let wrong = if before.file == here.file {
                format!("\"{value}\" is already on line {line}")
            } else {
                format!("\"{value}\" is already in {}:{line}", file.display())
            };
            let expected = format!("expected a different one in each [[{}]]", self.path);
            self.problem_at(key, &wrong, &expected);
        } else {
            seen.0.insert(value, here);
        }
    }

    /// Reports a problem with the whole table.
    pub(super) fn problem(&self, wrong: &str, expected: &str) {
        self.document.report(self.at, self.path.to_owned(), wrong, expected);
    }

    /// Reports a problem with the value of `key`, at its line (or the table's, if only the default is in force).
    pub(crate) fn problem_at(&self, key: &'static str, wrong: &str, expected: &str) {
        self.document.report(self.place(key), self.full(key), wrong, expected);
    }

    /// Reports every key that nothing asked for. To be called when all keys have been read.
    pub(crate) fn finish(&self) {
        let known = self.known.borrow();
        for layer in &self.layers {
            for key in layer.table.keys() {
                let name: &str = key.get_ref();
                if known.contains(&name) {
                    continue;
                }
                let at = Place {
                    offset: key.span().start,
                    ..layer.at
                };
                self.document
                    .report(at, self.full(name), "unknown key", &instead(name, &known));
            }
        }
    }

    /// Has `parse` read the value of each file, so that a wrong one is reported although another file overrides it. The last
    /// one is in force.
    fn read<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let mut in_force = None;
        for (value, place) in self.values(key) {
            match parse(value) {
                Ok(value) => in_force = Some((value, place)),
                Err(wrong) => self.document.report(place, self.full(key), &wrong, expected),
            }
        }
        let (value, place) = in_force?;
        let name = match self.name.as_str() {
            "" => key.to_owned(),
            table => format!("{table}.{key}"),
        };
        self.document.origins.borrow_mut().insert(name, place);
        Some(value)
    }

    /// The value of `key` in each file that has it.
    fn values(&self, key: &'static str) -> Vec<Found<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let values = self.layers.iter().filter_map(|layer| {
            let value = layer.table.get(key)?;
            let at = Place {
                offset: value.span().start,
                ..layer.at
            };
            Some((value.get_ref(), at))
        });
        values.collect()
    }

    fn place(&self, key: &'static str) -> Place {
        self.values(key).last().map_or(self.at, |&(_, place)| place)
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

/// Where the values were that have to be different.
#[derive(Default)]
pub(super) struct Seen(HashMap<String, Place>);

/// The file's octets, if there are at most `limit`.
pub(super) fn file(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let mut options = std::fs::OpenOptions::new();
    // A pipe without a writer must not hold up whoever reads the configuration: it is empty.
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let mut file = file.map_err(failed)?.take(limit + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if file.limit() == 0 {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// The text of a file.
pub(crate) fn text(path: &Path) -> Result<String, ConfigError> {
    let octets = file(path, MAX_FILE)?;
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        ConfigError::not_utf8(path, &error.as_bytes()[..valid])
    })
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
