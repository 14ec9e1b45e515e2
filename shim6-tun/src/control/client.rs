//! The end of the control socket that asks.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::ControlError;
use super::wire::{EventParameters, FrameError, Reply, frame, read_frame};
use crate::status::{Event, Status};

/// Longest reply taken, in octets: some hundred thousand contexts.
const MAX_REPLY: usize = 256 << 20;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a daemon. Needs a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    /// The part of the next reply that has come.
    partial: Vec<u8>,
    path: PathBuf,
}

/// The events of a daemon, from [`Client::events`] on.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    ended: bool,
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    ///
    /// When no daemon is there or the socket's permissions exclude this user.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| Self::unreachable(path, error))?;
        Ok(Self {
            stream: BufReader::new(stream),
            partial: Vec::new(),
            path: path.to_owned(),
        })
    }

    /// Asks for the daemon's status.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer, answers with an error, or is of another version.
    pub async fn status(&mut self) -> Result<Status, ControlError> {
        self.call("org.shim6.Status", false).await?;
        let reply = self.reply_in_time().await?;
        self.document(reply)
    }

    /// Calls a method without parameters that is answered once.
    pub(super) async fn ask<T: DeserializeOwned>(&mut self, method: &str) -> Result<T, ControlError> {
        self.call(method, false).await?;
        let reply = self.reply_in_time().await?;
        self.document(reply)
    }

    /// Subscribes to the daemon's events. Whatever happens after this returns is in the stream.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer, answers with an error, or is of another version.
    pub async fn events(mut self) -> Result<EventStream, ControlError> {
        self.call("org.shim6.Events", true).await?;
        let first = self.reply_in_time().await?;
        Ok(EventStream {
            ended: !first.continues,
            client: self,
        })
    }

    fn unreachable(path: &Path, error: io::Error) -> ControlError {
        let path = path.to_owned();
        match error.kind() {
            // Anything that is not a socket refuses too.
            io::ErrorKind::ConnectionRefused if !is_socket(&path) => ControlError::NotASocket { path },
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ControlError::NotRunning { path },
            _ => ControlError::io("connect to", &path, error),
        }
    }

    async fn call(&mut self, method: &str, more: bool) -> Result<(), ControlError> {
        let call = if more {
            json!({ "method": method, "parameters": {}, "more": true })
        } else {
            json!({ "method": method, "parameters": {} })
        };
        match self.stream.write_all(&frame(&call)).await {
            Ok(()) => Ok(()),
            // A daemon that turns us away says why before it closes.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(ControlError::io("write to", &self.path, error)),
        }
    }

    async fn reply_in_time(&mut self) -> Result<Reply, ControlError> {
        let path = self.path.clone();
        match timeout(PATIENCE, self.reply()).await {
            Ok(reply) => reply?.ok_or(ControlError::Closed { path }),
            Err(_) => Err(ControlError::NoAnswer { path }),
        }
    }

    /// The next reply; `None` when the connection has ended.
    async fn reply(&mut self) -> Result<Option<Reply>, ControlError> {
        let message = match read_frame(&mut self.stream, &mut self.partial, MAX_REPLY).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(None);
            }
            Err(FrameError::Io(error)) => {
                return Err(ControlError::io("read from", &self.path, error));
            }
            Err(FrameError::Truncated) => {
                return Err(ControlError::Closed {
                    path: self.path.clone(),
                });
            }
            Err(FrameError::TooLarge) => return Err(self.not_understood("its answer is too long")),
        };
        let reply: Reply = serde_json::from_slice(&message).map_err(|error| self.not_understood(error))?;
        match reply.error {
            Some(error) => Err(ControlError::Refused {
                path: self.path.clone(),
                error,
                parameters: reply.parameters.to_string(),
            }),
            None => Ok(Some(reply)),
        }
    }

    fn document<T: DeserializeOwned>(&self, reply: Reply) -> Result<T, ControlError> {
        serde_json::from_value(reply.parameters).map_err(|error| self.not_understood(error))
    }

    fn not_understood(&self, what: impl std::fmt::Display) -> ControlError {
        ControlError::Protocol {
            path: self.path.clone(),
            what: what.to_string(),
        }
    }
}

impl EventStream {
    /// The next event, however long that takes; `None` when the stream has ended. An event of the kind `lagged` is the
    /// last of a stream whose reader was too slow.
    ///
    /// Cancel safe: a call dropped halfway loses nothing.
    ///
    /// # Errors
    ///
    /// When the daemon answers with an error or is of another version.
    pub async fn next(&mut self) -> Result<Option<Event>, ControlError> {
        while !self.ended {
            let Some(reply) = self.client.reply().await? else {
                break;
            };
            self.ended = !reply.continues;
            let parameters: EventParameters = self.client.document(reply)?;
            if parameters.event.is_some() {
                return Ok(parameters.event);
            }
        }
        self.ended = true;
        Ok(None)
    }
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
