//! A place to fetch the figures from: `GET /metrics` over HTTP/1.1.
//!
//! Whoever can reach the address may ask, so connections, the size of requests and all waiting are bounded, and the engine is
//! asked once in a second at most.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::encode;
use crate::control::Request;

/// Connections served at once; further ones are told so.
pub(super) const MAX_CONNECTIONS: usize = 8;
/// Longest request, in octets.
pub(super) const MAX_REQUEST: usize = 8 * 1024;
/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// How long figures are given again instead of new ones.
const FRESH: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a connection may last until its request is complete, and again until its answer is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub(super) Duration);

/// Why the figures cannot be served.
#[derive(Debug, Error)]
#[error(
    "cannot serve metrics at {address}; choose another metrics.listen whose address is this host's and whose port is free, \
     or \"none\""
)]
pub struct MetricsError {
    address: SocketAddr,
    source: io::Error,
}

/// A bound address.
#[derive(Debug)]
pub struct Server {
    listener: StdListener,
    patience: Patience,
}

/// What all connections share.
struct Shared {
    requests: mpsc::Sender<Request>,
    /// The last answer, and when it was made.
    last: Mutex<Option<(Instant, Arc<str>)>>,
    patience: Patience,
}

struct Response {
    status: &'static str,
    content_type: &'static str,
    body: Arc<str>,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// When it is not this host's, or in use.
    pub fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let bind = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| MetricsError { address, source })?;
        tracing::info!(%address, "serving metrics");
        Ok(Self {
            listener,
            patience: Patience(Duration::from_secs(5)),
        })
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Patience(patience);
        self
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Answers until the receiver of `requests` is dropped.
    ///
    /// # Errors
    ///
    /// When the system has no event queue.
    pub async fn serve(self, requests: mpsc::Sender<Request>) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let shared = Arc::new(Shared {
            requests: requests.clone(),
            last: Mutex::new(None),
            patience: self.patience,
        });
        // Dropping the set on the way out ends all connections.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = requests.closed() => anyhow::bail!("nobody gives figures any more"),
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                // A new socket's buffer is empty: what is not taken at once is not waited for.
                Ok((stream, _)) if connections.len() >= MAX_CONNECTIONS => {
                    let _ =
                        stream.try_write(&refusal("503 Service Unavailable", "too many connections\n").head_and_body());
                }
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { shared.attend(stream).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection for metrics");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Shared {
    /// Serves one request. However that ends, there is nobody left to tell.
    async fn attend(&self, mut stream: TcpStream) {
        let Patience(patience) = self.patience;
        let response = match timeout(patience, read_request(&mut stream)).await {
            Ok(Ok(Some(response))) => response,
            Ok(Ok(None)) => self.figures().await,
            Ok(Err(_)) | Err(_) => return,
        };
        let answer = async {
            stream.write_all(&response.head_and_body()).await?;
            stream.shutdown().await?;
            // What the client still sends is read, or the reset that follows would take the answer from it.
            let mut rest = [0; 1_024];
            let mut left = MAX_REQUEST;
            while left > 0 {
                match stream.read(&mut rest).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            Ok::<_, io::Error>(())
        };
        drop(timeout(patience, answer).await);
    }

    async fn figures(&self) -> Response {
        // Held while asking, so that many who ask at once share one answer.
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return ok(text.clone());
        }
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.requests.send(Request::Figures(answer)).await.ok()?;
            answered.await.ok()
        };
        let figures = timeout(self.patience.0, asked).await.ok().flatten();
        match figures.and_then(|figures| encode(figures).ok()) {
            Some(text) => {
                let text: Arc<str> = text.into();
                *last = Some((Instant::now(), text.clone()));
                ok(text)
            }
            None => refusal("503 Service Unavailable", "the daemon does not answer\n"),
        }
    }
}

/// Reads one request. `None`: it asks for the figures; else what to answer.
async fn read_request(stream: &mut TcpStream) -> io::Result<Option<Response>> {
    let mut octets = Vec::new();
    let mut chunk = [0; 1_024];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        octets.extend_from_slice(&chunk[..count]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&octets) {
            Ok(httparse::Status::Complete(_)) => return Ok(answer(&request)),
            Ok(httparse::Status::Partial) if octets.len() <= MAX_REQUEST => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                let status = "431 Request Header Fields Too Large";
                return Ok(Some(refusal(status, "the request is too long\n")));
            }
            Err(_) => return Ok(Some(refusal("400 Bad Request", "this is no HTTP request\n"))),
        }
    }
}

/// What to answer but the figures.
fn answer(request: &httparse::Request<'_, '_>) -> Option<Response> {
    let path = request.path.map(|path| path.split('?').next().unwrap_or(path));
    match (request.method, path) {
        (Some("GET"), Some("/metrics")) => None,
        (_, Some("/metrics")) => Some(refusal("405 Method Not Allowed", "only GET is possible\n")),
        _ => Some(refusal("404 Not Found", "the figures are at /metrics\n")),
    }
}

fn ok(body: Arc<str>) -> Response {
    Response {
        status: "200 OK",
        content_type: OPENMETRICS,
        body,
    }
}

fn refusal(status: &'static str, body: &str) -> Response {
    Response {
        status,
        content_type: TEXT,
        body: body.into(),
    }
}

impl Response {
    fn head_and_body(&self) -> Vec<u8> {
        let Self {
            status,
            content_type,
            body,
        } = self;
        let allow = if status.starts_with("405") {
            "Allow: GET\r\n"
        } else {
            ""
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }
}
