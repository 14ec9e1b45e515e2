//! A UDP request/response flow with retransmission by the application, as DNS, QUIC or a game have.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV6;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::pattern::{self, Pattern};

/// Octets of payload behind the sequence number of each message.
const PAYLOAD: usize = 512;
/// A whole message: the sequence number (8 octets, network order) and the payload.
const MESSAGE: usize = 8 + PAYLOAD;
/// When an unanswered request is sent again for the first time; the wait doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two transmissions of a request.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Requests under way at most; while it is reached, no new ones are sent.
const WINDOW: usize = 64;

/// What is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialogue {
    /// Seed of the payloads.
    pub seed: u64,
    /// How many requests.
    pub requests: u64,
    /// Time from one new request to the next.
    pub interval: Duration,
}

/// What came of it, at the asking side.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Each request was answered.
    pub completed: bool,
    /// Requests with an answer.
    pub answered: u64,
    /// Requests that were sent more than once, counted each time.
    pub retransmissions: u64,
    /// Answers to a request that had its answer already.
    pub duplicates: u64,
    /// First answers that came after the answer to a later request.
    pub out_of_order: u64,
    /// Datagrams that were no answer to any request, or had other data in them.
    pub strange: u64,
    /// The SHA-256 over the payloads of all answers, in the order of the requests, is right.
    pub digest_matches: bool,
}

/// Answers each request on `socket` with itself, until it is dropped.
///
/// Errors that the network reports on the socket do not end it.
pub async fn echo(socket: std::net::UdpSocket) -> io::Result<()> {
    let socket = UdpSocket::from_std(socket)?;
    let mut buffer = [0; 2048];
    loop {
        // An error here is one that the network reported for an earlier answer; it is used up.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    }
}

/// Sends the requests of `dialogue` to `server` and waits for the answers, until `deadline`.
///
/// `answered` is called with the octets of payload of each first answer, as it arrives.
pub async fn converse(
    socket: std::net::UdpSocket,
    server: SocketAddrV6,
    dialogue: Dialogue,
    deadline: Instant,
    mut answered: impl FnMut(u64),
) -> io::Result<Exchange> {
    let socket = UdpSocket::from_std(socket)?;
    let mut client = Client::new(dialogue);
    let mut message = [0; MESSAGE];
    let mut buffer = [0; 2048];
    let work = async {
        socket.connect(std::net::SocketAddr::from(server)).await?;
        let mut ticks = interval(dialogue.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !client.is_done() {
            tokio::select! {
                now = ticks.tick() => {
                    for sequence in client.due(now) {
                        dialogue.write(sequence, &mut message);
                        // What cannot be sent now is sent again when its wait is over.
                        let _ = socket.send(&message).await;
                    }
                }
                got = socket.recv(&mut buffer) => {
                    if let Ok(length) = got
                        && client.handle_answer(&buffer[..length])
                    {
                        answered(PAYLOAD as u64);
                    }
                }
            }
        }
        Ok::<(), io::Error>(())
    };
    if let Ok(ended) = timeout_at(deadline, work).await {
        ended?;
    }
    let expected = pattern::digest(dialogue.seed, dialogue.requests * PAYLOAD as u64);
    Ok(client.finish(expected))
}

impl Dialogue {
    /// As many requests as give `octets` of answers, at `rate` octets of answers per second.
    pub fn paced(seed: u64, octets: u64, rate: u64) -> Self {
        let payload = PAYLOAD as u64;
        Self {
            seed,
            requests: (octets / payload).max(1),
            interval: Duration::from_nanos(payload * 1_000_000_000 / rate.max(1)),
        }
    }

    /// Octets of payload of all answers.
    pub fn octets(&self) -> u64 {
        self.requests * PAYLOAD as u64
    }

    /// Writes request number `sequence`.
    fn write(&self, sequence: u64, message: &mut [u8; MESSAGE]) {
        message[..8].copy_from_slice(&sequence.to_be_bytes());
        Pattern::at(self.seed, sequence * PAYLOAD as u64).fill(&mut message[8..]);
    }
}

/// A request under way.
struct Pending {
    again_at: Instant,
    wait: Duration,
}

/// The asking side, without its socket.
struct Client {
    dialogue: Dialogue,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// Answers that wait for one to an earlier request, to be hashed in order.
    early: BTreeMap<u64, Vec<u8>>,
    hashed: u64,
    newest: Option<u64>,
    hash: Sha256,
    result: Exchange,
}

impl Client {
    fn new(dialogue: Dialogue) -> Self {
        Self {
            dialogue,
            next: 0,
            pending: BTreeMap::new(),
            early: BTreeMap::new(),
            hashed: 0,
            newest: None,
            hash: Sha256::new(),
            result: Exchange::default(),
        }
    }

    fn is_done(&self) -> bool {
        self.result.answered == self.dialogue.requests
    }

    /// The requests to send at `now`: those whose wait is over, and a new one.
    fn due(&mut self, now: Instant) -> Vec<u64> {
        let mut due = Vec::new();
        for (sequence, pending) in &mut self.pending {
            if pending.again_at <= now {
                pending.wait = (pending.wait * 2).min(LONGEST_WAIT);
                pending.again_at = now + pending.wait;
                due.push(*sequence);
            }
        }
        self.result.retransmissions += due.len() as u64;
        if self.next < self.dialogue.requests && self.pending.len() < WINDOW {
            let pending = Pending {
                again_at: now + FIRST_WAIT,
                wait: FIRST_WAIT,
            };
            self.pending.insert(self.next, pending);
            due.push(self.next);
            self.next += 1;
        }
        due
    }

    /// Takes in a datagram; whether it is the first answer to a request.
    fn handle_answer(&mut self, datagram: &[u8]) -> bool {
        let Some((sequence, payload)) = datagram.split_first_chunk::<8>() else {
            self.result.strange += 1;
            return false;
        };
        let sequence = u64::from_be_bytes(*sequence);
        if payload.len() != PAYLOAD || sequence >= self.next {
            self.result.strange += 1;
            return false;
        }
        if self.pending.remove(&sequence).is_none() {
            self.result.duplicates += 1;
            return false;
        }
        self.result.answered += 1;
        if self.newest.is_some_and(|newest| sequence < newest) {
            self.result.out_of_order += 1;
        }
        self.newest = self.newest.max(Some(sequence));
        self.early.insert(sequence, payload.to_vec());
        while let Some(payload) = self.early.remove(&self.hashed) {
            self.hash.update(&payload);
            self.hashed += 1;
        }
        true
    }

    fn finish(self, expected: [u8; 32]) -> Exchange {
        let completed = self.is_done();
        let got: [u8; 32] = self.hash.finalize().into();
        Exchange {
            completed,
            digest_matches: got == expected,
            ..self.result
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::sockets;
    use super::*;

    const DIALOGUE: Dialogue = Dialogue {
        seed: 9,
        requests: 100,
        interval: Duration::from_millis(1),
    };

    fn answer(sequence: u64) -> [u8; MESSAGE] {
        let mut message = [0; MESSAGE];
        DIALOGUE.write(sequence, &mut message);
        message
    }

    #[tokio::test]
    async fn requests_are_answered_over_real_sockets() {
        let server = sockets::datagram(Ipv6Addr::LOCALHOST).expect("loopback has IPv6");
        let address = sockets::local(server.local_addr()).expect("bound");
        let serving = tokio::spawn(echo(server));
        let socket = sockets::datagram(Ipv6Addr::LOCALHOST).expect("loopback has IPv6");
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut octets = 0;
        let exchange = converse(socket, address, DIALOGUE, deadline, |n| octets += n)
            .await
            .expect("sockets work");
        serving.abort();
        assert!(exchange.completed && exchange.digest_matches, "{exchange:?}");
        assert_eq!(octets, 100 * PAYLOAD as u64);
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        // Bound, but nobody answers there.
        let server = sockets::datagram(Ipv6Addr::LOCALHOST).expect("loopback has IPv6");
        let address = sockets::local(server.local_addr()).expect("bound");
        let socket = sockets::datagram(Ipv6Addr::LOCALHOST).expect("loopback has IPv6");
        let deadline = Instant::now() + Duration::from_millis(250);
        let exchange = converse(socket, address, DIALOGUE, deadline, |_| ())
            .await
            .expect("sockets work");
        assert!(!exchange.completed && !exchange.digest_matches);
        assert_eq!(exchange.answered, 0);
        assert!(exchange.retransmissions > 0);
    }

    #[test]
    fn answers_in_any_order_give_the_same_digest() {
        let dialogue = Dialogue {
            requests: 4,
            ..DIALOGUE
        };
        let mut client = Client::new(dialogue);
        let now = Instant::now();
        for sequence in 0..4 {
            assert_eq!(client.due(now), [sequence]);
        }
        assert!(client.due(now).is_empty());
        for sequence in [2, 0, 3, 1] {
            assert!(client.handle_answer(&answer(sequence)));
        }
        let result = client.finish(pattern::digest(9, 4 * PAYLOAD as u64));
        assert!(result.completed && result.digest_matches, "{result:?}");
        assert_eq!(result.out_of_order, 2);
    }

    #[test]
    fn unanswered_request_is_sent_again_with_a_growing_wait() {
        let dialogue = Dialogue {
            requests: 1,
            ..DIALOGUE
        };
        let mut client = Client::new(dialogue);
        let start = Instant::now();
        assert_eq!(client.due(start), [0]);
        let sent: Vec<u64> = (1..2000)
            .filter(|ms| !client.due(start + Duration::from_millis(*ms)).is_empty())
            .collect();
        assert_eq!(sent, [100, 300, 700, 1200, 1700]);
    }

    #[test]
    fn repeated_and_strange_answers_do_not_count() {
        let mut client = Client::new(DIALOGUE);
        client.due(Instant::now());
        assert!(client.handle_answer(&answer(0)));
        assert!(!client.handle_answer(&answer(0)));
        assert!(!client.handle_answer(&answer(1)));
        assert!(!client.handle_answer(b"short"));
        assert!(!client.handle_answer(&[0; 9]));
        assert_eq!(client.result.duplicates, 1);
        assert_eq!(client.result.strange, 3);
        assert_eq!(client.result.answered, 1);
    }

    #[test]
    fn window_bounds_what_is_under_way() {
        let mut client = Client::new(Dialogue {
            requests: 1000,
            ..DIALOGUE
        });
        let now = Instant::now();
        for _ in 0..200 {
            client.due(now);
        }
        assert_eq!(client.pending.len(), WINDOW);
    }
}
