//! Varlink messages and their framing, shared by both ends.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::status::Event;

/// Our interface.
pub(super) const INTERFACE: &str = "org.shim6";
/// The interface that every Varlink service has.
pub(super) const SERVICE: &str = "org.varlink.service";
/// The description of [`INTERFACE`].
pub(super) const DESCRIPTION: &str = include_str!("org.shim6.varlink");

/// A call, as the server reads it. Fields that we do not know are ignored, as Varlink asks.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) method: String,
    #[serde(default)]
    pub(super) parameters: Map<String, Value>,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default)]
    pub(super) oneway: bool,
}

/// A reply, as either end sees it: `error` is absent when all went well.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// As text: a status of thousands of contexts would be several times larger as a tree of values.
    #[serde(default = "null")]
    pub(super) parameters: Box<RawValue>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) continues: bool,
}

/// The parameters of a reply to `Events`; absent in the first one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<Event>,
}

/// What came instead of a message.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The message is longer than allowed.
    TooLarge,
    /// The connection ended within a message.
    Truncated,
    /// The system's error.
    Io(io::Error),
}

impl Reply {
    /// The only or last reply of a call.
    pub(super) fn last(parameters: impl Serialize) -> Self {
        Self::new(None, parameters, false)
    }

    /// A reply that others follow.
    pub(super) fn continued(parameters: impl Serialize) -> Self {
        Self::new(None, parameters, true)
    }

    /// An error of `interface`.
    pub(super) fn error(interface: &str, name: &str, parameters: impl Serialize) -> Self {
        Self::new(Some(format!("{interface}.{name}")), parameters, false)
    }

    fn new(error: Option<String>, parameters: impl Serialize, continues: bool) -> Self {
        // Our documents have string keys and no failing serializers: this cannot fail.
        let parameters = to_raw_value(&parameters).unwrap_or_else(|_| null());
        Self {
            error,
            parameters,
            continues,
        }
    }
}

/// One message with its final zero octet.
pub(super) fn frame(message: &impl Serialize) -> Vec<u8> {
    // Our documents have string keys and no failing serializers: this cannot fail, and an empty object is harmless.
    let mut octets = serde_json::to_vec(message).unwrap_or_else(|_| b"{}".to_vec());
    octets.push(0);
    octets
}

/// Reads one message of at most `limit` octets, without its zero octet. `None` when the connection has ended.
///
/// Cancel safe: what was read of a message stays in `partial`, which belongs to the reader.
pub(super) async fn read_frame(
    reader: &mut (impl AsyncBufRead + Unpin),
    partial: &mut Vec<u8>,
    limit: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    let left = limit.saturating_add(1).saturating_sub(partial.len());
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    reader.take(left).read_until(0, partial).await.map_err(FrameError::Io)?;
    let mut message = std::mem::take(partial);
    match message.pop() {
        None => Ok(None),
        Some(0) => Ok(Some(message)),
        Some(_) if message.len() >= limit => Err(FrameError::TooLarge),
        Some(_) => Err(FrameError::Truncated),
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn is_false(value: &bool) -> bool {
    !value
}
