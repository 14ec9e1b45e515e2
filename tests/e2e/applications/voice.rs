//! A call: datagrams at a steady pace in both directions, none of which is sent again.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shim6_tests::isolated;
use shim6_tun::demo::stage;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::progress::Progress;
use super::scene::Scene;
use crate::packets::lab::LIMIT;

/// As G.711 has it: 20 ms of voice in each datagram.
const PACE: Duration = Duration::from_millis(20);
const OCTETS: usize = 160;
/// Datagrams to hear in each phase.
const HEARD: u64 = 40;
/// In place of a number: the call is over.
const GOODBYE: u32 = u32::MAX;

/// An end of a call. Both tasks end when all is said and heard.
struct Party {
    /// How many datagrams it has sent.
    speaking: JoinHandle<u32>,
    /// The numbers of those that came.
    listening: JoinHandle<Vec<u32>>,
    progress: Progress,
}

impl Party {
    async fn call(socket: std::net::UdpSocket, peer: SocketAddrV6, is_over: &Arc<AtomicBool>) -> Self {
        let socket = UdpSocket::from_std(socket).expect("a socket");
        socket.connect(SocketAddr::from(peer)).await.expect("a peer");
        let socket = Arc::new(socket);
        let progress = Progress::default();
        Self {
            speaking: tokio::spawn(speak(Arc::clone(&socket), Arc::clone(is_over))),
            listening: tokio::spawn(listen(socket, progress.clone())),
            progress,
        }
    }

    /// How many datagrams it sent, and the numbers of those that it heard.
    async fn said_and_heard(self) -> (u32, Vec<u32>) {
        let both = async { (self.speaking.await, self.listening.await) };
        let (said, heard) = timeout(LIMIT, both).await.expect("the call ends");
        (said.expect("it speaks"), heard.expect("it listens"))
    }
}

async fn speak(socket: Arc<UdpSocket>, is_over: Arc<AtomicBool>) -> u32 {
    let (mut tick, mut number) = (interval(PACE), 0);
    loop {
        tick.tick().await;
        let is_over = is_over.load(Ordering::Relaxed);
        let mut datagram = [0; OCTETS];
        datagram[..4].copy_from_slice(&if is_over { GOODBYE } else { number }.to_be_bytes());
        socket.send(&datagram).await.expect("no error is reported");
        if is_over {
            return number;
        }
        number += 1;
    }
}

async fn listen(socket: Arc<UdpSocket>, progress: Progress) -> Vec<u32> {
    let (mut heard, mut datagram) = (Vec::new(), [0; OCTETS + 1]);
    loop {
        let length = socket.recv(&mut datagram).await.expect("no error is reported");
        assert_eq!(length, OCTETS);
        match u32::from_be_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]) {
            GOODBYE => return heard,
            number => heard.push(number),
        }
        progress.add(1);
    }
}

#[test]
fn a_call_goes_on_and_comes_back() {
    isolated("applications::voice::a_call_goes_on_and_comes_back", || async {
        let scene = Scene::set().await;
        let (caller, from) = stage::udp(scene.a(), scene.lab.ulids[0]).expect("a socket");
        let (called, to) = stage::udp(scene.b(), scene.server()).expect("a socket");
        let is_over = Arc::new(AtomicBool::new(false));
        let caller = Party::call(caller, to, &is_over).await;
        let called = Party::call(called, from, &is_over).await;
        let both = [&caller.progress, &called.progress];

        scene.established().await;
        for progress in both {
            progress.advance(HEARD).await;
        }
        called.progress.next_phase();
        scene.fail(&caller.progress).await;
        for progress in both {
            progress.advance(HEARD).await;
        }
        called.progress.next_phase();
        scene.heal(&caller.progress).await;
        for progress in both {
            progress.advance(HEARD).await;
        }
        is_over.store(true, Ordering::Relaxed);
        let heard_by = [
            ("UDP voice to the host that fails", caller.progress.clone()),
            ("UDP voice from the host that fails", called.progress.clone()),
        ];
        let (said_a, heard_a) = caller.said_and_heard().await;
        let (said_b, heard_b) = called.said_and_heard().await;
        for ((what, progress), (said, heard)) in heard_by.into_iter().zip([(said_b, heard_a), (said_a, heard_b)]) {
            let mut numbers = heard.clone();
            numbers.sort_unstable();
            numbers.dedup();
            let [came, different] = [heard.len(), numbers.len()].map(|count| u32::try_from(count).expect("few"));
            let [lost, twice] = [said - different, came - different];
            let what = format!("{what} ({lost} of {said} lost, {twice} came twice)");
            scene.report(&what, &progress);
            // Only what was said until the failure was noticed is lost: they are neighbours.
            let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
            assert!(gaps <= 1, "{what}: {heard:?}");
        }
        scene.end().await;
    });
}
