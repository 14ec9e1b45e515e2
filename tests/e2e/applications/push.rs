//! Servers that speak when they have something to say: a WebSocket and long polls, both through nginx.

use std::net::TcpStream as StdTcpStream;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use shim6_tests::{isolated, tools};
use shim6_tun::demo::stage;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use super::http::curl;
use super::nginx::Nginx;
use super::progress::Progress;
use super::scene::Scene;
use crate::packets::lab::{LIMIT, octets};

/// Between two things to say.
const PACE: Duration = Duration::from_millis(20);
/// Messages to see in each phase.
const MESSAGES: u64 = 30;
/// Octets of a file that takes enough packets.
const NEWS: usize = 1 << 20;

/// A server of the test's own on host b, which only nginx talks to.
fn behind_nginx(scene: &Scene) -> (TcpListener, u16) {
    let (listener, address) = stage::listen(scene.b(), std::net::Ipv6Addr::LOCALHOST, None).expect("a listener");
    (TcpListener::from_std(listener).expect("a listener"), address.port())
}

/// Sends numbers to the one client that comes until it is told to stop, then says goodbye. Gives how many it sent, and what came back.
async fn push(listener: TcpListener, mut stop: oneshot::Receiver<()>) -> (u64, Vec<String>) {
    let (stream, _) = listener.accept().await.expect("nginx");
    let mut socket = accept_async(stream).await.expect("a client");
    let (mut tick, mut number, mut answers) = (interval(PACE), 0, Vec::new());
    let mut is_over = false;
    loop {
        tokio::select! {
            _ = tick.tick(), if !is_over => {
                let message = Message::text(number.to_string());
                socket.send(message).await.expect("the client listens");
                number += 1;
            }
            _ = &mut stop, if !is_over => {
                is_over = true;
                socket.close(None).await.expect("the client listens");
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => answers.push(text.to_string()),
                Some(Ok(Message::Close(_))) | None => return (number, answers),
                other => panic!("{other:?} is no answer"),
            },
        }
    }
}

/// Answers each message with itself, until the server says goodbye.
async fn answer(stream: TcpStream, url: String, progress: Progress) {
    let (mut socket, _) = client_async(url, stream).await.expect("a server");
    while let Some(message) = socket.next().await {
        match message.expect("the connection lives") {
            Message::Text(text) => {
                progress.add(1);
                socket.send(Message::Text(text)).await.expect("the server listens");
            }
            Message::Close(_) => {}
            other => panic!("{other:?} is no message of the server"),
        }
    }
}

#[test]
fn a_websocket_goes_on_and_comes_back() {
    if !tools::require(&["nginx"]) {
        return;
    }
    isolated("applications::push::a_websocket_goes_on_and_comes_back", || async {
        let scene = Scene::set().await;
        let (listener, port) = behind_nginx(&scene);
        let nginx = Nginx::start(&scene, port).await;
        let (stop, stopped) = oneshot::channel();
        let pushing = tokio::spawn(push(listener, stopped));
        let to = nginx.address;
        let stream = scene.a().namespace.run(|| {
            let stream = StdTcpStream::connect(to)?;
            stream.set_nonblocking(true)?;
            std::io::Result::Ok(stream)
        });
        let stream = TcpStream::from_std(stream.expect("a namespace").expect("a connection")).expect("a connection");
        let progress = Progress::default();
        let url = nginx.url.replace("http:", "ws:") + "/live/";
        let answering = tokio::spawn(answer(stream, url, progress.clone()));

        scene.established().await;
        progress.advance(MESSAGES).await;
        scene.fail(&progress).await;
        progress.advance(MESSAGES).await;
        scene.heal(&progress).await;
        progress.advance(MESSAGES).await;
        stop.send(()).expect("it pushes");
        let both = async { (pushing.await.expect("it pushes"), answering.await.expect("it answers")) };
        let ((sent, answers), ()) = timeout(LIMIT, both).await.expect("an end");
        assert_eq!(progress.amount(), sent);
        let numbers: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
        assert_eq!(answers, numbers);
        assert_eq!(nginx.requests(1).await, ["GET 101 1"]);
        scene.report("WebSocket (tungstenite, nginx)", &progress);
        scene.end().await;
    });
}

/// Holds each request until there is an event, and tells when it has one to hold.
async fn hold_requests(listener: TcpListener, mut events: mpsc::Receiver<u64>, held: Progress) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("nginx");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let octet = stream.read_u8().await.expect("a request");
            request.push(octet);
        }
        held.add(1);
        let Some(event) = events.recv().await else {
            return;
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n{event:05}\n");
        stream.write_all(answer.as_bytes()).await.expect("nginx reads");
    }
}

/// Nobody talks when the path fails: that is found out by the first thing that is said afterwards.
#[test]
fn a_long_poll_is_answered_after_its_path_has_failed_in_silence() {
    if !tools::require(&["nginx", "curl"]) {
        return;
    }
    let name = "applications::push::a_long_poll_is_answered_after_its_path_has_failed_in_silence";
    isolated(name, || async {
        let scene = Scene::set().await;
        let (listener, port) = behind_nginx(&scene);
        let nginx = Nginx::start(&scene, port).await;
        let (event, events) = mpsc::channel(1);
        let held = Progress::default();
        let holding = tokio::spawn(hold_requests(listener, events, held.clone()));
        // What is asked for before makes the context, or a poll would have to wait for it.
        scene.write("files/news", octets(1, NEWS));
        let mut first = curl(&scene).arg(format!("{}/news", nginx.url)).start();
        first.succeeded().await;
        scene.established().await;
        let polls = 2 * MESSAGES;
        let mut curl = curl(&scene)
            .arg(format!("{}/live/[1-{polls}]", nginx.url))
            .with_output()
            .start();
        let mut lines = BufReader::new(curl.child.stdout.take().expect("a pipe")).lines();
        let progress = Progress::default();
        let counted = progress.clone();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(line) = lines.next_line().await.expect("what curl writes") {
                counted.add(1);
                all.push(line);
            }
            all
        });
        let mut tick = interval(PACE);
        for number in 0..polls {
            held.reach(number + 1).await;
            tick.tick().await;
            if number == MESSAGES {
                // The last answer is there, and so is the next request.
                progress.reach(number).await;
                scene.fail_quietly(&progress).await;
            }
            event.send(number).await.expect("it holds a request");
        }
        drop(event);
        curl.succeeded().await;
        scene.moved().await;
        holding.abort();
        let numbers: Vec<String> = (0..polls).map(|number| format!("{number:05}")).collect();
        assert_eq!(reading.await.expect("it reads"), numbers);
        assert_eq!(curl.said().matches("connections=1").count(), 1, "{}", curl.said());
        let mut requests = vec!["GET 200 1".to_owned()];
        requests.extend((1..=polls).map(|number| format!("GET 200 {number}")));
        assert_eq!(nginx.requests(requests.len()).await, requests);
        scene.report("HTTP long poll (curl, nginx)", &progress);
        scene.end().await;
    });
}
