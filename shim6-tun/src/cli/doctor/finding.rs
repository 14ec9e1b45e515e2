//! What an examination finds.

use serde::Serialize;

use super::super::output::{Style, plain};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Could not be looked at.
    Unchecked,
    /// May do harm, or does so in some cases.
    Doubtful,
    /// Keeps Shim6 from working, at least in part.
    Wrong,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, in a word.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What was found.
    pub(super) found: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) means: Option<String>,
    /// Commands that mend it, one of them or one after the other, as the text says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mend: Vec<String>,
}

impl Finding {
    pub(super) fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Good, found, None)
    }

    pub(super) fn unchecked(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Unchecked, found, None)
    }

    pub(super) fn doubtful(check: &'static str, found: impl Into<String>, means: &str) -> Self {
        Self::new(check, Level::Doubtful, found, Some(means))
    }

    pub(super) fn wrong(check: &'static str, found: impl Into<String>, means: &str) -> Self {
        Self::new(check, Level::Wrong, found, Some(means))
    }

    /// The same with a command that mends it.
    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }

    fn new(check: &'static str, level: Level, found: impl Into<String>, means: Option<&str>) -> Self {
        Self {
            check,
            level,
            found: found.into(),
            means: means.map(str::to_owned),
            mend: Vec::new(),
        }
    }

    /// Some lines for people.
    pub(super) fn text(&self, style: Style) -> String {
        let mark = match self.level {
            Level::Good => style.good("ok      "),
            Level::Unchecked => "skipped ".to_owned(),
            Level::Doubtful => style.changing("doubtful"),
            Level::Wrong => style.bad("WRONG   "),
        };
        let mut text = format!("{mark}  {:<10}  {}\n", self.check, plain(&self.found));
        let indent = " ".repeat(22);
        if let Some(means) = &self.means {
            for line in wrapped(&plain(means)) {
                text += &format!("{indent}{line}\n");
            }
        }
        for command in &self.mend {
            text += &format!("{indent}  {}\n", plain(command));
        }
        text
    }
}

/// Lines of some 90 columns.
fn wrapped(text: &str) -> Vec<String> {
    const COLUMNS: usize = 90;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > COLUMNS {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            *line += word;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_it_means_and_what_mends_it() {
        let finding = Finding::wrong("kernel", "there is no /dev/net/tun", "No session can move.").mend("modprobe tun");
        assert_eq!(
            finding.text(Style { colored: false }),
            "WRONG     kernel      there is no /dev/net/tun\n                      No session can move.\n                        modprobe tun\n"
        );
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            json,
            r#"{"check":"kernel","level":"wrong","found":"there is no /dev/net/tun","means":"No session can move.","mend":["modprobe tun"]}"#
        );
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let lines = wrapped(&"word ".repeat(40));
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= 90));
        assert_eq!(lines.join(" "), ["word"; 40].join(" "));
    }
}
