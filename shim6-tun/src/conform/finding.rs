//! What came out of a check.

use std::time::Duration;

/// A key word of the RFCs; what an RFC describes without one counts as [`Level::Must`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Without it hosts do not get on with each other, or are not safe.
    Must,
    /// There can be a reason to do otherwise.
    Should,
    /// It is left to the implementation; that it then does it right is what is checked.
    May,
}

impl Level {
    /// The key word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

/// Whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Pass,
    /// It does not.
    Fail,
    /// It cannot be seen here.
    NotApplicable,
}

impl Outcome {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotApplicable => "not_applicable",
        }
    }
}

/// A packet of a check.
#[derive(Debug, Clone)]
pub struct LoggedPacket {
    /// Since the start of the check.
    pub at: Duration,
    /// Whether the tester sent it.
    pub sent: bool,
    /// From its IPv6 header on.
    pub octets: Vec<u8>,
}

/// What came out of a check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Of the check.
    pub id: &'static str,
    /// Of the check.
    pub level: Level,
    /// Of the check.
    pub title: &'static str,
    /// What came out.
    pub outcome: Outcome,
    /// Why it failed or is not applicable.
    pub reason: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// All packets in both directions.
    pub packets: Vec<LoggedPacket>,
}

impl Finding {
    /// RFC and section, such as `RFC 5533 7.9`.
    #[must_use]
    pub fn place(&self) -> String {
        let mut parts = self.id.split('-');
        let (rfc, section) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("RFC {rfc} {section}")
    }
}
