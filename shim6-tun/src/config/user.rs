//! `user`: whose rights the daemon keeps.

use super::read::Section;

const EXPECTED: &str = "expected the name or number of a user, such as \"shim6\", or \"none\"";

/// `user`: whose rights the daemon keeps when root starts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RunAs {
    /// Those of the user `shim6`, if there is one.
    #[default]
    Auto,
    /// Its own, but for the capabilities that it does not need. Written `"none"`.
    Unchanged,
    /// Those of this user, who has to exist.
    User(String),
}

impl RunAs {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// A text that no user can be called.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/');
        match text {
            "none" => Ok(Self::Unchanged),
            "" => Err("is empty".to_owned()),
            _ if text.contains(is_odd) || text.starts_with('-') => Err(format!("{text:?} is no user's name")),
            _ => Ok(Self::User(text.to_owned())),
        }
    }
}

/// Reads the key.
pub(super) fn user(root: &Section<'_>) -> RunAs {
    root.parsed("user", EXPECTED, RunAs::parse).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_none() {
        assert_eq!(RunAs::parse("none"), Ok(RunAs::Unchanged));
        assert_eq!(RunAs::parse("shim6"), Ok(RunAs::User("shim6".to_owned())));
        for odd in ["", "a b", "a:b", "../x", "-x", "a\n"] {
            RunAs::parse(odd).expect_err(odd);
        }
    }
}
