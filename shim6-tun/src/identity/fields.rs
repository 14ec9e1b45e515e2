//! Reads the keys of a small TOML file one by one, so that what is wrong is named with its line.

use std::fmt::Display;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::Problem;
use crate::config::read::{instead, kind, line, not_toml};

/// The top level of a file that has no tables.
pub(super) struct Fields<'a> {
    text: &'a str,
    origin: &'a Path,
    table: DeTable<'a>,
}

impl<'a> Fields<'a> {
    /// Parses the TOML itself.
    pub(super) fn parse(text: &'a str, origin: &'a Path) -> Result<Self, Problem> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self {
                text,
                origin,
                table: table.into_inner(),
            }),
            Err(error) => Err(not_toml(text, origin, &error, "expected lines such as key = \"value\"")),
        }
    }

    /// Refuses every key that is not one of `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            return Err(self.problem(key.span().start, name, "unknown key", instead(name, known)));
        }
        Ok(())
    }

    /// An integer of at most `most`.
    pub(super) fn integer(&self, key: &str, most: u64) -> Result<u64, Problem> {
        let expected = format!("expected an integer from 0 to {most}");
        let value = self.required(key, &expected)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong_type(key, value, &expected));
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number
            .filter(|number| *number <= most)
            .ok_or_else(|| self.wrong(key, format!("{integer} is out of range"), expected))
    }

    /// A boolean; false if there is none.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Problem> {
        let Some(value) = self.table.get(key) else {
            return Ok(false);
        };
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.wrong_type(key, value, "expected true or false"))
    }

    /// A string that `parse` understands, else says what is wrong with.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Problem> {
        let value = self.required(key, expected)?;
        let text = value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong_type(key, value, expected))?;
        parse(text).map_err(|wrong| self.wrong(key, wrong, expected))
    }

    /// The same, `None` if the key is not there.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        if self.table.contains_key(key) {
            self.parsed(key, expected, parse).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A problem with the value of `key`, at its line.
    pub(super) fn wrong(&self, key: &str, wrong: impl Display, expected: impl Display) -> Problem {
        let place = self.table.get(key).map_or(0, |value| value.span().start);
        self.problem(place, key, wrong, expected)
    }

    fn required(&self, key: &str, expected: &str) -> Result<&Spanned<DeValue<'a>>, Problem> {
        let value = self.table.get(key);
        value.ok_or_else(|| self.wrong(key, "is missing", expected))
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Problem {
        self.wrong(key, format!("is {}", kind(value.get_ref())), expected)
    }

    fn problem(&self, offset: usize, key: &str, wrong: impl Display, expected: impl Display) -> Problem {
        Problem {
            file: self.origin.to_owned(),
            line: line(self.text, offset),
            // A quoted key may hold anything, line ends and terminal escapes too.
            key: key.escape_debug().to_string(),
            wrong: wrong.to_string(),
            expected: expected.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Fields<'_>, Problem> {
        Fields::parse(text, Path::new("f.toml"))
    }

    fn said<T>(result: Result<T, Problem>) -> String {
        result.err().expect("a problem").to_string()
    }

    #[test]
    fn values_are_read_by_type() {
        let fields = fields("n = 0x10\nt = \"text\"\nyes = true\n").unwrap();
        assert_eq!(fields.integer("n", 16), Ok(16));
        assert_eq!(fields.flag("yes"), Ok(true));
        assert_eq!(fields.flag("no"), Ok(false));
        assert_eq!(
            fields.parsed("t", "", |text| Ok(text.to_owned())),
            Ok("text".to_owned())
        );
        assert_eq!(fields.optional("u", "", |text| Ok(text.to_owned())), Ok(None));
        assert_eq!(fields.only(&["n", "t", "yes"]), Ok(()));
    }

    #[test]
    fn problems_name_file_line_and_key() {
        assert!(said(fields("a = 1\nb =\n")).starts_with("f.toml:2: this is not TOML: "));
        let fields = fields("n = 17\n\ntext = 3\nyes = 1.0\n").unwrap();
        for (wanted, found) in [
            (
                "f.toml:1: n: 17 is out of range; expected an integer from 0 to 16",
                said(fields.integer("n", 16)),
            ),
            (
                "f.toml:3: text: is an integer; expected x",
                said(fields.parsed("text", "expected x", |_| Ok(()))),
            ),
            (
                "f.toml:4: yes: is a float; expected true or false",
                said(fields.flag("yes")),
            ),
            (
                "f.toml:1: u: is missing; expected x",
                said(fields.parsed("u", "expected x", |_| Ok(()))),
            ),
            (
                "f.toml:4: yes: unknown key; expected one of n, text",
                said(fields.only(&["n", "text"])),
            ),
            (
                "f.toml:3: text: unknown key; did you mean test?",
                said(fields.only(&["n", "test", "yes"])),
            ),
        ] {
            assert_eq!(found, wanted);
        }
    }
}
