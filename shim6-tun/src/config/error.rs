//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read; check its name and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("the configuration {} is larger than {limit} octets; check that it is the right file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in octets.
        limit: u64,
    },
    /// There are too many files in the drop-in directory.
    #[error("the directory {} has more than {limit} configuration files; put what they say into fewer", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The most that are read.
        limit: usize,
    },
    /// The file says things that are not understood: at least one, in the order of the file.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing wrong in a configuration. Displays as `FILE:LINE: key: what is wrong; what is expected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The key with its tables, such as `reap.send_timeout`; empty where the TOML itself is broken.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What is expected instead.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.wrong, self.expected)
    }
}

impl ConfigError {
    /// The error for a file that stops being UTF-8 after `valid`.
    pub(super) fn not_utf8(path: &Path, valid: &[u8]) -> Self {
        Self::Invalid(vec![Problem {
            file: path.to_owned(),
            line: 1 + valid.iter().filter(|&&octet| octet == b'\n').count(),
            key: String::new(),
            wrong: "this line is not UTF-8".to_owned(),
            expected: "expected a TOML file in UTF-8".to_owned(),
        }])
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
