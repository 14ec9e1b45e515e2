//! What is said on a keeper's socket: a request and a reply, a line of JSON each.

use serde::{Deserialize, Serialize};

use crate::lab::{Break, LabStatus};

/// Longest line, in octets.
pub(super) const MAX_LINE: u64 = 1 << 20;

/// What one can ask of a keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// What is there?
    Status,
    /// How does one get into a node?
    Enter { node: String },
    /// Change what happens to packets.
    Set {
        link: String,
        direction: Option<String>,
        settings: Vec<String>,
    },
    /// Break a link.
    Break {
        link: String,
        direction: Option<String>,
        how: Break,
    },
    /// Heal a link, or all.
    Heal { link: Option<String> },
    /// Capture a link: after the reply comes the capture, until the other end is closed.
    Capture { link: String },
    /// End everything.
    Down,
}

/// What a keeper says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Done,
    Status(LabStatus),
    Enter(Entrance),
    /// How many processes were ended with it.
    Down {
        processes: usize,
    },
    /// It did not work, and why.
    Error(String),
}

/// The namespaces of a node: files that whoever owns the lab can open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entrance {
    /// None where the lab is the system's root's own.
    pub(super) user: Option<String>,
    pub(super) network: String,
    /// None where they were not to be had.
    pub(super) mount: Option<String>,
    pub(super) names: Option<String>,
}
