//! Having the daemon read its configuration again.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::server::{Patience, Requests};
use super::wire::{INTERFACE, Reply};
use super::{Client, ControlError, Request};

/// The error for a configuration that is not applied.
const REFUSED: &str = "ReloadRefused";

/// What became of a configuration that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The files that were read.
    pub files: Vec<String>,
    /// The keys that are other ones than before.
    pub changed: Vec<Changed>,
    /// What is legal but doubtful.
    pub warnings: Vec<String>,
}

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Its name, such as `trigger.packets`.
    pub key: String,
    /// The value before, as the file has it.
    pub from: Option<String>,
    /// The value that holds now.
    pub to: Option<String>,
}

/// Why nothing was applied: at least one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Each in a line that says what to do.
    pub problems: Vec<String>,
}

/// Serves `Reload`.
pub(super) async fn serve(requests: &Requests, patience: Patience) -> Reply {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        requests.send(Request::Reload(answer)).await.ok()?;
        answered.await.ok()
    };
    match timeout(patience.answer, asked).await.ok().flatten() {
        Some(Ok(reloaded)) => Reply::last(reloaded),
        Some(Err(refusal)) => Reply::error(INTERFACE, REFUSED, refusal),
        None => Reply::error(INTERFACE, "Unavailable", serde_json::json!({})),
    }
}

impl Client {
    /// Has the daemon read its configuration again, and apply it whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ControlError::ReloadRefused`] when nothing was applied; otherwise when the daemon does not answer, answers with another
    /// error, or is of another version.
    pub async fn reload(&mut self) -> Result<Reloaded, ControlError> {
        match self.ask("org.shim6.Reload").await {
            Err(ControlError::Refused {
                path,
                error,
                parameters,
            }) => match serde_json::from_str(&parameters) {
                Ok(Refusal { problems }) if error.ends_with(REFUSED) => Err(ControlError::ReloadRefused { problems }),
                _ => Err(ControlError::Refused {
                    path,
                    error,
                    parameters,
                }),
            },
            answer => answer,
        }
    }
}
