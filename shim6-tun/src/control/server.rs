//! The daemon's end of the control socket.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::bind::{self, Access, SocketFile};
use super::methods::Method;
use super::session::{SessionMethod, Watch};
use super::wire::{Call, DESCRIPTION, EventParameters, FrameError, INTERFACE, Reply, SERVICE, frame, read_frame};
use super::{Answer, ControlError, Objection, Request};
use crate::status::{Event, SessionName};

/// Connections served at once; further ones get an error.
pub(super) const MAX_CONNECTIONS: usize = 32;
/// Longest request, in octets.
pub(super) const MAX_REQUEST: usize = 64 * 1024;

/// How long things may take before a connection is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the next request is complete.
    pub(super) request: Duration,
    /// Until the daemon has answered.
    pub(super) answer: Duration,
    /// Until what can be done only now and then can be done again.
    pub(super) turn: Duration,
    /// Until the client has taken a reply.
    pub(super) reply: Duration,
}

/// A bound control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: StdListener,
    /// Kept for its drop.
    _file: SocketFile,
    patience: Patience,
}

/// Where requests go.
pub(super) type Requests = mpsc::Sender<Request>;

/// What all connections share.
#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Event>,
    patience: Patience,
}

/// Ends a connection: the client has gone, does not follow, or broke the protocol.
#[derive(Debug)]
struct Hangup;

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            answer: Duration::from_secs(5),
            turn: Duration::from_secs(10),
            reply: Duration::from_secs(10),
        }
    }
}

impl Server {
    /// Takes the socket at `path` as [`bind_for`](Self::bind_for) does, for the default group.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        Self::bind_for(path, &Access::default())
    }

    /// Takes the socket at `path` for this user and the group that `access` names (mode 0660), creating the directory if
    /// needed. The socket of a daemon that is gone is replaced.
    ///
    /// # Errors
    ///
    /// When a daemon answers there already (the error says its pid), when something else is in the way, when there is no such
    /// group, or when the system refuses.
    pub fn bind_for(path: &Path, access: &Access) -> Result<Self, ControlError> {
        let (listener, file) = bind::bind(path, access)?;
        Ok(Self {
            listener,
            _file: file,
            patience: Patience::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Serves clients until the receiver of `requests` is dropped. Must run within a tokio runtime with I/O and time.
    ///
    /// Clients get the events sent to `events` from their subscription on. Its capacity is how many events a client
    /// may be behind before it loses its stream: some hundreds let an ordinary reader through a burst.
    pub async fn serve(self, requests: mpsc::Sender<Request>, events: broadcast::Sender<Event>) {
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the control socket cannot be served"),
        };
        let shared = Arc::new(Shared {
            requests: requests.clone(),
            events,
            patience: self.patience,
        });
        // Dropping the set on the way out ends all connections.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = requests.closed() => return,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) if connections.len() >= MAX_CONNECTIONS => turn_away(stream),
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    // However a connection ends, there is nobody left to tell.
                    connections.spawn(async move { drop(Connection::new(stream, shared).run().await) });
                }
                Err(error) => {
                    // Out of descriptors, mostly: trying again at once would only burn the processor.
                    tracing::warn!(%error, "cannot accept a control connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Says why and closes. A new socket's buffer is empty, so that the write does not have to wait.
fn turn_away(stream: UnixStream) {
    let reply = frame(&Reply::error(
        INTERFACE,
        "TooManyConnections",
        json!({ "limit": MAX_CONNECTIONS }),
    ));
    let written = stream
        .into_std()
        .and_then(|mut stream| std::io::Write::write_all(&mut stream, &reply));
    tracing::debug!(?written, "turned a control connection away: {MAX_CONNECTIONS} are open");
}

/// One client.
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The part of the next request that has come.
    partial: Vec<u8>,
    /// Who it is, as the kernel says.
    user: Option<UCred>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(stream: UnixStream, shared: Arc<Shared>) -> Self {
        let user = stream.peer_cred().ok();
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader),
            writer,
            partial: Vec::new(),
            user,
            shared,
        }
    }

    async fn run(mut self) -> Result<(), Hangup> {
        loop {
            let read = read_frame(&mut self.reader, &mut self.partial, MAX_REQUEST);
            let malformed = match timeout(self.shared.patience.request, read).await {
                Ok(Ok(Some(request))) => match serde_json::from_slice(&request) {
                    Ok(call) => {
                        self.answer(call).await?;
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Ok(Err(FrameError::TooLarge)) => {
                    let reply = Reply::error(INTERFACE, "RequestTooLarge", json!({ "limit": MAX_REQUEST }));
                    return self.send(&reply).await;
                }
                Ok(Err(FrameError::Truncated)) => "the connection ended before the final zero octet".to_owned(),
                Ok(Ok(None) | Err(FrameError::Io(_))) | Err(_) => return Err(Hangup),
            };
            let reply = Reply::error(INTERFACE, "MalformedRequest", json!({ "message": malformed }));
            return self.send(&reply).await;
        }
    }

    async fn answer(&mut self, call: Call) -> Result<(), Hangup> {
        let (interface, method) = call.method.rsplit_once('.').unwrap_or(("", &call.method));
        let reply = match interface {
            INTERFACE => match Method::read(method, call.parameters) {
                Ok(Method::Events) if call.more && !call.oneway => return self.stream_events(None).await,
                Ok(Method::Session(session, SessionMethod::Events)) if call.more && !call.oneway => {
                    return self.stream_events(Some(session)).await;
                }
                Ok(Method::Events | Method::Session(_, SessionMethod::Events)) => {
                    Reply::error(SERVICE, "ExpectedMore", json!({}))
                }
                Ok(method) => self.carry_out(method).await,
                Err(reply) => reply,
            },
            SERVICE => introspect(&call.method, method, &call.parameters),
            _ => Reply::error(SERVICE, "InterfaceNotFound", json!({ "interface": interface })),
        };
        if call.oneway { Ok(()) } else { self.send(&reply).await }
    }

    async fn carry_out(&self, method: Method) -> Reply {
        if let Some((what, context)) = method.change() {
            let (uid, pid) = (self.user(), self.process());
            tracing::info!(uid, pid, context, "asked to {what}");
        }
        let answer = match method {
            Method::Status => self.ask(Request::Status).await.map(Reply::last),
            Method::Contexts { peer } => {
                let contexts = self.ask(|answer| Request::Contexts(peer, answer)).await;
                contexts.map(|contexts| Reply::last(BTreeMap::from([("contexts", contexts)])))
            }
            Method::GetContext { context } => self.ask(|answer| Request::Context(context, answer)).await.map(reply),
            Method::Paths { context } => {
                let paths = self.ask(|answer| Request::Paths(context, answer)).await;
                paths.map(|paths| reply(paths.map(|paths| BTreeMap::from([("paths", paths)]))))
            }
            Method::Probe { context, pair } => {
                let probed = self.ask_again(|answer| Request::Probe(context, pair, answer)).await;
                probed.map(reply)
            }
            Method::Move { context, pair } => {
                let moved = self.ask_again(|answer| Request::Move(context, pair, answer)).await;
                moved.map(reply)
            }
            Method::Close { context } => {
                let closed = self.ask(|answer| Request::Close(context, answer)).await;
                closed.map(|closed| reply(closed.map(|()| json!({}))))
            }
            Method::Reload => return super::reload::serve(&self.shared.requests, self.shared.patience).await,
            Method::Session(session, method) => self.serve_session(session, method).await,
            // Answered by a stream.
            Method::Events => None,
        };
        answer.unwrap_or_else(|| Reply::error(INTERFACE, "Unavailable", json!({})))
    }

    /// Who it is, as the kernel says.
    pub(super) fn user(&self) -> Option<u32> {
        self.user.map(|user| user.uid())
    }

    /// Which process it was that connected.
    pub(super) fn process(&self) -> Option<i32> {
        self.user.and_then(|user| user.pid())
    }

    pub(super) async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.shared.requests.send(request(answer)).await.ok()?;
            answered.await.ok()
        };
        timeout(self.shared.patience.answer, asked).await.ok().flatten()
    }

    /// Asks until the daemon does not say that it is too early, as long as that is soon.
    pub(super) async fn ask_again<T>(
        &self,
        request: impl Fn(Answer<Result<T, Objection>>) -> Request,
    ) -> Option<Result<T, Objection>> {
        let start = Instant::now();
        loop {
            match self.ask(&request).await? {
                Err(Objection::PathRefused {
                    retry_ms: Some(retry_ms),
                    ..
                }) if start.elapsed() + Duration::from_millis(retry_ms) <= self.shared.patience.turn => {
                    sleep(Duration::from_millis(retry_ms.max(1))).await;
                }
                answer => return Some(answer),
            }
        }
    }

    /// Sends all events from now on, or those about a session.
    async fn stream_events(&mut self, session: Option<SessionName>) -> Result<(), Hangup> {
        let mut events = self.shared.events.subscribe();
        let mut watch: Option<Watch> = None;
        if let Some(session) = session {
            match self.watch(session).await {
                Ok(begun) => watch = Some(begun),
                Err(refusal) => return self.send(&refusal).await,
            }
        }
        self.send(&Reply::continued(EventParameters { event: None })).await?;
        let mut last_at_ms = 0;
        loop {
            let mut octet = [0];
            let received = tokio::select! {
                received = events.recv() => received,
                // The client hangs up, or sends what nobody will read before the stream's end, which never comes.
                _ = self.reader.read(&mut octet) => return Err(Hangup),
            };
            match received {
                Ok(event) => {
                    last_at_ms = event.at_ms;
                    if watch.as_mut().is_some_and(|watch| !watch.is_about(&event)) {
                        continue;
                    }
                    self.send(&Reply::continued(EventParameters { event: Some(event) }))
                        .await?;
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let event = Some(lagged(last_at_ms, missed));
                    self.send(&Reply::last(EventParameters { event })).await?;
                    return Err(Hangup);
                }
                Err(broadcast::error::RecvError::Closed) => return Err(Hangup),
            }
        }
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Hangup> {
        match timeout(self.shared.patience.reply, self.writer.write_all(&frame(reply))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Hangup),
        }
    }
}

fn info() -> serde_json::Value {
    json!({
        "vendor": "Shim6",
        "product": "shim6",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "",
        "interfaces": [SERVICE, INTERFACE],
    })
}

fn introspect(name: &str, method: &str, parameters: &Map<String, Value>) -> Reply {
    let takes: &[&str] = match method {
        "GetInfo" => &[],
        "GetInterfaceDescription" => &["interface"],
        _ => return Reply::error(SERVICE, "MethodNotFound", json!({ "method": name })),
    };
    if let Some(unknown) = parameters.keys().find(|key| !takes.contains(&key.as_str())) {
        return Reply::error(SERVICE, "InvalidParameter", json!({ "parameter": unknown }));
    }
    if method == "GetInfo" {
        return Reply::last(info());
    }
    match parameters.get("interface").and_then(|name| name.as_str()) {
        Some(INTERFACE) => Reply::last(json!({ "description": DESCRIPTION })),
        Some(other) => Reply::error(SERVICE, "InterfaceNotFound", json!({ "interface": other })),
        None => Reply::error(SERVICE, "InvalidParameter", json!({ "parameter": "interface" })),
    }
}

pub(super) fn reply(answer: Result<impl Serialize, Objection>) -> Reply {
    match answer {
        Ok(document) => Reply::last(document),
        Err(objection) => {
            let (name, parameters) = objection.describe();
            Reply::error(INTERFACE, &name, parameters)
        }
    }
}

fn lagged(at_ms: u64, missed: u64) -> Event {
    Event {
        at_ms,
        kind: "lagged".to_owned(),
        context: None,
        message: format!("{missed} events were missed because this reader is too slow; the stream ends here"),
        detail: json!({ "missed": missed }),
    }
}
