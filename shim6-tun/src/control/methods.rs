//! The methods of our interface, and their parameters.

use std::net::Ipv6Addr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::session::SessionMethod;
use super::wire::{INTERFACE, Reply, SERVICE};
use crate::status::{PairStatus, SessionName};

/// A call of our interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Status,
    Events,
    Contexts { peer: Option<Ipv6Addr> },
    GetContext { context: u64 },
    Paths { context: Option<u64> },
    Probe { context: u64, pair: Option<PairStatus> },
    Move { context: u64, pair: Option<PairStatus> },
    Close { context: u64 },
    Reload,
    Session(SessionName, SessionMethod),
}

/// Parameters as they came. What was asked for is taken out, so that what is left is unknown.
pub(super) struct Parameters(Map<String, Value>);

impl Method {
    /// Reads a call, or says what is wrong with it.
    pub(super) fn read(name: &str, parameters: Map<String, Value>) -> Result<Self, Reply> {
        let mut parameters = Parameters(parameters);
        let method = match name {
            "Status" => Self::Status,
            "Events" => Self::Events,
            "Contexts" => Self::Contexts {
                peer: parameters.optional("peer")?,
            },
            "GetContext" => Self::GetContext {
                context: parameters.required("context")?,
            },
            "Paths" => Self::Paths {
                context: parameters.optional("context")?,
            },
            "Probe" => Self::Probe {
                context: parameters.required("context")?,
                pair: parameters.optional("pair")?,
            },
            "Move" => Self::Move {
                context: parameters.required("context")?,
                pair: parameters.optional("pair")?,
            },
            "Close" => Self::Close {
                context: parameters.required("context")?,
            },
            "Reload" => Self::Reload,
            _ => match SessionMethod::read(name, &mut parameters) {
                Some(read) => {
                    let (session, method) = read?;
                    Self::Session(session, method)
                }
                None => {
                    let method = format!("{INTERFACE}.{name}");
                    return Err(Reply::error(SERVICE, "MethodNotFound", json!({ "method": method })));
                }
            },
        };
        match parameters.0.keys().next() {
            Some(unknown) => Err(invalid(unknown)),
            None => Ok(method),
        }
    }

    /// What to log of a call that changes something, and of which context; `None`: it only reads.
    pub(super) fn change(self) -> Option<(&'static str, Option<u64>)> {
        match self {
            Self::Status | Self::Events | Self::Contexts { .. } | Self::GetContext { .. } | Self::Paths { .. } => None,
            Self::Probe { context, .. } => Some(("probe", Some(context))),
            Self::Move { context, .. } => Some(("move", Some(context))),
            Self::Close { context } => Some(("close", Some(context))),
            Self::Reload => Some(("read the configuration again", None)),
            // Logged with the session.
            Self::Session(..) => None,
        }
    }
}

impl Parameters {
    pub(super) fn optional<T: for<'a> Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, Reply> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|_| invalid(name)),
        }
    }

    pub(super) fn required<T: for<'a> Deserialize<'a>>(&mut self, name: &str) -> Result<T, Reply> {
        self.optional(name)?.ok_or_else(|| invalid(name))
    }
}

pub(super) fn invalid(parameter: &str) -> Reply {
    Reply::error(SERVICE, "InvalidParameter", json!({ "parameter": parameter }))
}
