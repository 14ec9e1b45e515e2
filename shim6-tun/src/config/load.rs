//! The files that a configuration is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Problem};
use super::read::{self, Document};
use super::{Config, DEFAULT_PATH, sections, warn};

/// Most files read from a directory.
const MAX_FILES: usize = 256;

/// Where a configuration comes from: a file, and the drop-in directory that has its name with `.d` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether it has to exist. If not, its absence means the built-in defaults, and what the drop-in directory says.
    pub required: bool,
}

/// A configuration and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Where it comes from.
    pub source: Source,
    /// The files that were read, each over those before it.
    pub files: Vec<PathBuf>,
    /// Where each key is set that is: `tun.mtu`, `uplink[0].interface`.
    pub origins: BTreeMap<String, Origin>,
    /// What is legal but most likely not meant.
    pub warnings: Vec<Problem>,
}

/// Where a value was found. Displays as `FILE:LINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Source {
    /// The file that was asked for, which has to exist; else the default one, which need not.
    #[must_use]
    pub fn new(asked: Option<&Path>) -> Self {
        Self {
            path: asked.unwrap_or(Path::new(DEFAULT_PATH)).to_owned(),
            required: asked.is_some(),
        }
    }

    /// The directory whose `*.toml` files are read after the file.
    #[must_use]
    pub fn drop_in_directory(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".d");
        name.into()
    }

    /// Reads and checks the file, then the `*.toml` files of its drop-in directory in the order of their names: where one says
    /// something else than those before it, it counts.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or says something that is not understood.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut texts: Vec<(PathBuf, String)> = Vec::new();
        match read::text(&self.path) {
            Ok(text) => texts.push((self.path.clone(), text)),
            Err(ConfigError::Read { source, .. }) if !self.required && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (drop_ins, ignored) = drop_ins(&self.drop_in_directory())?;
        for path in drop_ins {
            let text = read::text(&path)?;
            texts.push((path, text));
        }
        let (config, origins) = parse(texts.iter().map(|(path, text)| (path.as_path(), text.as_str())))?;
        let mut loaded = Loaded {
            warnings: Vec::new(),
            config,
            source: self.clone(),
            files: texts.into_iter().map(|(path, _)| path).collect(),
            origins,
        };
        loaded.warnings = warn::warnings(&loaded, &ignored);
        Ok(loaded)
    }
}

impl Loaded {
    /// A configuration that comes from no file.
    #[must_use]
    pub fn built_in(config: Config) -> Self {
        Self {
            config,
            source: Source::new(None),
            files: Vec::new(),
            origins: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Where `key` is set, if it is.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }
}

/// Checks the texts of a configuration, each over those before it.
pub(super) fn parse<'a>(
    texts: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Result<(Config, BTreeMap<String, Origin>), ConfigError> {
    let document = Document::parse(texts);
    let config = sections::root(&document.root());
    document.into_result(config)
}

/// The drop-in files, in their order, and what else is in the directory.
fn drop_ins(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ConfigError> {
    let failed = |source| ConfigError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(failed(error)),
    };
    let (mut files, mut ignored) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        } else if !is_hidden {
            ignored.push(path);
        }
    }
    if files.len() > MAX_FILES {
        return Err(ConfigError::TooMany {
            path: directory.to_owned(),
            limit: MAX_FILES,
        });
    }
    files.sort();
    ignored.sort();
    Ok((files, ignored))
}
