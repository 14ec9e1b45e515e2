//! Over HTTP, and what clients may not do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::server::{MAX_CONNECTIONS, MAX_REQUEST};
use super::openmetrics::read;
use super::*;
use crate::control::Request;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

struct Fixture {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Fixture {
    fn start(patience: Duration) -> Self {
        let server = Server::bind("[::1]:0".parse().unwrap())
            .unwrap()
            .with_patience(patience);
        let address = server.address();
        let (requests, mut to_daemon) = mpsc::channel(4);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        tokio::spawn(server.serve(requests));
        tokio::spawn(async move {
            while let Some(request) = to_daemon.recv().await {
                if let Request::Figures(answer) = request {
                    counted.fetch_add(1, Relaxed);
                    drop(answer.send(figures(1)));
                }
            }
        });
        Self { address, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends octets and gives all that comes back.
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may have hung up in the midst of it.
        let _ = stream.write_all(request).await;
        answer(&mut stream).await
    }
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut text))
        .await
        .expect("an end in time");
    // A reset after the answer is an end as well.
    drop(read);
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_scrape_gets_the_figures() {
    let fixture = Fixture::start(LONG);
    let answer = fixture
        .ask(b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(read(body).unwrap().contains_key("shim6_contexts"));
}

#[tokio::test]
async fn many_scrapes_at_once_ask_the_daemon_once() {
    let fixture = Fixture::start(LONG);
    let asks = (0..MAX_CONNECTIONS).map(|_| fixture.ask(b"GET /metrics HTTP/1.0\r\n\r\n"));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")));
    assert_eq!(fixture.asked.load(Relaxed), 1);
}

#[tokio::test]
async fn other_requests_are_refused_with_the_reason() {
    let fixture = Fixture::start(LONG);
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "a".repeat(2 * MAX_REQUEST));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(100));
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"\x16\x03\x01\x00\xff\x00\x00", "400"),
        (b"GET /metrics SPDY/9\r\n\r\n", "400"),
        (long.as_bytes(), "431"),
        (many.as_bytes(), "431"),
    ];
    for (request, status) in cases {
        let answer = fixture.ask(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer} to {request:?}"
        );
    }
    assert_eq!(fixture.asked.load(Relaxed), 0);
}

#[tokio::test]
async fn whoever_says_nothing_is_hung_up_on_and_keeps_nobody_out_for_long() {
    let fixture = Fixture::start(Duration::from_millis(300));
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = fixture.connect().await;
        stream.write_all(b"GET /metr").await.unwrap();
        silent.push(stream);
    }
    let told = fixture.ask(b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 503 ") || told.is_empty(), "{told}");
    for stream in &mut silent {
        assert_eq!(answer(stream).await, "");
    }
    let answer = fixture.ask(b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_remedy() {
    let fixture = Fixture::start(LONG);
    let error = Server::bind(fixture.address).expect_err("it is taken").to_string();
    assert!(
        error.starts_with(&format!("cannot serve metrics at {}; choose another", fixture.address)),
        "{error}"
    );
}
