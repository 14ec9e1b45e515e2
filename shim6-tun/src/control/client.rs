//! The end of the control socket that asks.

use std::io;
use std::net::Ipv6Addr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire::{EventParameters, FrameError, INTERFACE, Reply, frame, read_frame};
use super::{Advice, ControlError, Objection, Protect};
use crate::status::{
    AdviceStatus, ContextDetail, ContextStatus, Event, MoveStatus, PairStatus, PathStatus, ProbeStatus, SessionName,
    SessionStatus, Status,
};

/// Longest reply taken, in octets: some hundred thousand contexts.
const MAX_REPLY: usize = 256 << 20;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Contexts {
    contexts: Vec<ContextStatus>,
}

#[derive(Deserialize)]
struct Paths {
    paths: Vec<PathStatus>,
}

#[derive(Deserialize)]
struct Session {
    status: SessionStatus,
}

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
        self.ask("Status", json!({})).await
    }

    /// Asks for all contexts, or for those with one peer: its ULID or one of its locators.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status).
    pub async fn contexts(&mut self, peer: Option<Ipv6Addr>) -> Result<Vec<ContextStatus>, ControlError> {
        let Contexts { contexts } = self.ask("Contexts", json!({ "peer": peer })).await?;
        Ok(contexts)
    }

    /// Asks for one context and its pairs.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status), and when there is no such context.
    pub async fn context(&mut self, context: u64) -> Result<ContextDetail, ControlError> {
        self.ask("GetContext", json!({ "context": context })).await
    }

    /// Asks for all locator pairs, or for those of one context.
    ///
    /// # Errors
    ///
    /// As [`context`](Self::context).
    pub async fn paths(&mut self, context: Option<u64>) -> Result<Vec<PathStatus>, ControlError> {
        let Paths { paths } = self.ask("Paths", json!({ "context": context })).await?;
        Ok(paths)
    }

    /// Has a pair of a context probed, the one in use if none is given, and waits for the outcome.
    ///
    /// # Errors
    ///
    /// As [`context`](Self::context), and when the pair cannot be probed.
    pub async fn probe(&mut self, context: u64, pair: Option<PairStatus>) -> Result<ProbeStatus, ControlError> {
        self.ask("Probe", json!({ "context": context, "pair": pair })).await
    }

    /// Has a context send on a pair, once that is known to work, or choose by itself again if none is given.
    ///
    /// # Errors
    ///
    /// As [`probe`](Self::probe), and when the peer does not answer on the pair.
    pub async fn move_to(&mut self, context: u64, pair: Option<PairStatus>) -> Result<MoveStatus, ControlError> {
        self.ask("Move", json!({ "context": context, "pair": pair })).await
    }

    /// Has a context forgotten.
    ///
    /// # Errors
    ///
    /// As [`context`](Self::context).
    pub async fn close(&mut self, context: u64) -> Result<(), ControlError> {
        let Value::Object(_) = self.ask("Close", json!({ "context": context })).await? else {
            return Err(self.not_understood("its answer is no object"));
        };
        Ok(())
    }

    /// Asks what is known of a session.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status), and when its local address is none that sessions can be protected with.
    pub async fn session(&mut self, session: SessionName) -> Result<SessionStatus, ControlError> {
        let Session { status } = self.ask("GetSession", json!({ "session": session })).await?;
        Ok(status)
    }

    /// Asks for a context now, or never, and waits for a moment until there is one.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session), and when there cannot be a context.
    pub async fn protect(&mut self, session: SessionName, protection: Protect) -> Result<SessionStatus, ControlError> {
        let parameters = json!({ "session": session, "protection": protection });
        let Session { status } = self.ask("Protect", parameters).await?;
        Ok(status)
    }

    /// Has a session's context go back to a pair instead of its ULIDs, or to those again.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session), and when it has no context or the context no such pair.
    pub async fn prefer(
        &mut self,
        session: SessionName,
        pair: Option<PairStatus>,
    ) -> Result<SessionStatus, ControlError> {
        let Session { status } = self.ask("Prefer", json!({ "session": session, "pair": pair })).await?;
        Ok(status)
    }

    /// As [`move_to`](Self::move_to), for the context of a session.
    ///
    /// # Errors
    ///
    /// As there, and when the session has no context.
    pub async fn pin(&mut self, session: SessionName, pair: Option<PairStatus>) -> Result<MoveStatus, ControlError> {
        self.ask("Pin", json!({ "session": session, "pair": pair })).await
    }

    /// Tells the daemon what the upper layer knows of the path in use.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session), when it has no context, and when it is too much advice or not to be believed.
    pub async fn advise(&mut self, session: SessionName, advice: Advice) -> Result<AdviceStatus, ControlError> {
        self.ask("Advise", json!({ "session": session, "advice": advice }))
            .await
    }

    /// Has a flow get a context, hence a path, of its own.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session), and when the flow cannot have one.
    pub async fn fork(&mut self, session: SessionName) -> Result<SessionStatus, ControlError> {
        let Session { status } = self.ask("Fork", json!({ "session": session })).await?;
        Ok(status)
    }

    /// Has a flow that was forked take the path of the others again.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session), and when the flow has no fork.
    pub async fn join(&mut self, session: SessionName) -> Result<SessionStatus, ControlError> {
        let Session { status } = self.ask("Join", json!({ "session": session })).await?;
        Ok(status)
    }

    /// As [`events`](Self::events), of one session.
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session).
    pub async fn session_events(self, session: SessionName) -> Result<EventStream, ControlError> {
        self.stream("SessionEvents", json!({ "session": session })).await
    }

    /// Subscribes to the daemon's events. Whatever happens after this returns is in the stream.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer, answers with an error, or is of another version.
    pub async fn events(self) -> Result<EventStream, ControlError> {
        self.stream("Events", json!({})).await
    }

    async fn stream(mut self, method: &str, parameters: Value) -> Result<EventStream, ControlError> {
        self.call(method, parameters, true).await?;
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

    /// Calls a method that is answered once.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: Value,
    ) -> Result<T, ControlError> {
        self.call(method, parameters, false).await?;
        let reply = self.reply_in_time().await?;
        self.document(reply)
    }

    async fn call(&mut self, method: &str, parameters: Value, more: bool) -> Result<(), ControlError> {
        let method = format!("{INTERFACE}.{method}");
        let call = if more {
            json!({ "method": method, "parameters": parameters, "more": true })
        } else {
            json!({ "method": method, "parameters": parameters })
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
        let name = reply
            .error
            .as_deref()
            .and_then(|error| error.strip_prefix(INTERFACE)?.strip_prefix('.'));
        if let Some(objection) = name.and_then(|name| Objection::read(name, &reply.parameters)) {
            return Err(objection.into());
        }
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
        serde_json::from_str(reply.parameters.get()).map_err(|error| self.not_understood(error))
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
