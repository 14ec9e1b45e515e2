//! Why the daemon does not do what it was asked for.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::status::PairStatus;

/// Why the daemon does not do what a client asked for: an error of our Varlink interface, by its name there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Objection {
    /// There is no such context.
    #[error("there is no context {context}; to see those that there are: shim6 contexts")]
    NoSuchContext {
        /// Its number.
        context: u64,
    },
    /// The pair cannot be probed or used, or not now.
    #[error("context {context}: {message}")]
    PathRefused {
        /// The context.
        context: u64,
        /// What is in the way, and what to do.
        message: String,
        /// Milliseconds until it can be tried again, if that is known.
        retry_ms: Option<u64>,
    },
    /// The pair was to be used, but the peer did not answer the probe on it. Nothing was changed.
    #[error(
        "context {context} stays where it is: no answer to a probe on {} -> {} within {waited_ms} ms; \
         what is known of its paths: shim6 paths {context}",
        pair.local, pair.peer
    )]
    NotProved {
        /// The context.
        context: u64,
        /// The pair.
        pair: PairStatus,
        /// How long an answer was waited for.
        waited_ms: u64,
    },
    /// What was asked for a session cannot be done, or not now.
    #[error("{message}")]
    SessionRefused {
        /// What is in the way, and what to do.
        message: String,
        /// Milliseconds until it can be tried again, if that is known.
        retry_ms: Option<u64>,
    },
}

impl Objection {
    /// The name of the error within our interface, and its parameters.
    pub(super) fn describe(&self) -> (String, Value) {
        let mut value = json!(self);
        let name = value["error"].as_str().unwrap_or_default().to_owned();
        (name, value["parameters"].take())
    }

    /// The objection that an error of our interface is, if it is one.
    pub(super) fn read(name: &str, parameters: &RawValue) -> Option<Self> {
        let parameters: Value = serde_json::from_str(parameters.get()).ok()?;
        serde_json::from_value(json!({ "error": name, "parameters": parameters })).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, parameters: &Value) -> Option<Objection> {
        let parameters = serde_json::value::to_raw_value(parameters).unwrap();
        Objection::read(name, &parameters)
    }

    #[test]
    fn refusals_survive_the_wire() {
        let pair = PairStatus {
            local: "2001:db8::1".parse().unwrap(),
            peer: "2001:db8::2".parse().unwrap(),
        };
        let objections = [
            Objection::NoSuchContext { context: 7 },
            Objection::PathRefused {
                context: 7,
                message: "not now".to_owned(),
                retry_ms: Some(12),
            },
            Objection::NotProved {
                context: 7,
                pair,
                waited_ms: 3_000,
            },
        ];
        let names = ["NoSuchContext", "PathRefused", "NotProved"];
        let refused = Objection::SessionRefused {
            message: "not this one".to_owned(),
            retry_ms: None,
        };
        let (name, parameters) = refused.describe();
        assert_eq!(read(&name, &parameters), Some(refused));
        for (objection, expected) in objections.into_iter().zip(names) {
            let (name, parameters) = objection.describe();
            assert_eq!((name.as_str(), &parameters["context"]), (expected, &json!(7)));
            assert_eq!(read(&name, &parameters), Some(objection));
        }
        assert_eq!(read("NoSuchContext", &json!({ "context": "seven" })), None);
        assert_eq!(read("Unavailable", &json!({})), None);
    }
}
