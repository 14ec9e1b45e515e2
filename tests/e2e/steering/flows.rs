//! Flows of every kind, in both directions, old and new ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use shim6_tests::isolated;
use shim6_tun::lab::Topology;
use shim6_tun::sys::ancillary::receive;
use socket2::Socket;

use crate::packets::lab::{Lab, Pair, address_of, octets};
use crate::packets::streams::{connected, unbound};

/// What is said each way in one round: a few packets.
const OCTETS: usize = 3_000;

/// Two ends that talk.
pub(super) struct Flow {
    name: String,
    ends: Ends,
}

enum Ends {
    Stream([TcpStream; 2]),
    Connected([Socket; 2]),
    Unconnected([Socket; 2]),
}

impl Flow {
    /// One of each kind between this pair, all of them started by its first side.
    pub(super) fn of_each_kind(pair: &Pair) -> Vec<Self> {
        let sockets = || [pair.from.udp(), pair.to.udp()];
        let of = |what, ends| Self {
            name: format!("{what} {}", pair.name),
            ends,
        };
        let free = unbound(pair);
        let local = free[0].local_addr().expect("an address").ip();
        assert_eq!(
            local, pair.from.address,
            "the kernel takes the address that was added last"
        );
        let both = sockets();
        both[0].connect(&address_of(&both[1]).into()).expect("a peer");
        both[1].connect(&address_of(&both[0]).into()).expect("a peer");
        vec![
            of("connection of a bound client", Ends::Stream(connected(pair, true))),
            of("connection of a client that is not bound", Ends::Stream(free)),
            of("connected datagrams", Ends::Connected(both)),
            of("unconnected datagrams", Ends::Unconnected(sockets())),
        ]
    }

    /// Each end says something and hears what the other one has said.
    pub(super) fn talk(&self, round: usize) {
        for (from, to) in [(0, 1), (1, 0)] {
            let said = octets(2 * round + from, OCTETS);
            match &self.ends {
                Ends::Stream(ends) => {
                    (&ends[from]).write_all(&said).expect("it is taken");
                    let mut heard = vec![0; OCTETS];
                    (&ends[to])
                        .read_exact(&mut heard)
                        .unwrap_or_else(|error| panic!("round {round} of {}: {error}", self.name));
                    assert!(heard == said, "round {round} of {}", self.name);
                }
                Ends::Connected(ends) => {
                    ends[from].send(&said).expect("it is taken");
                    self.hear(&ends[to], &said, round);
                }
                Ends::Unconnected(ends) => {
                    let address = address_of(&ends[to]).into();
                    ends[from].send_to(&said, &address).expect("it is taken");
                    self.hear(&ends[to], &said, round);
                }
            }
        }
    }

    fn hear(&self, socket: &Socket, said: &[u8], round: usize) {
        match receive(socket, 0) {
            Ok(heard) => assert!(heard.data == said, "round {round} of {}", self.name),
            Err(error) => panic!("round {round} of {}: {error}", self.name),
        }
    }
}

/// Flows that host a starts, and flows that host b starts.
fn both_ways(lab: &Lab) -> impl FnOnce() -> Vec<Flow> + Send + 'static {
    let forth = lab.pair();
    let back = forth.reversed("between the ULIDs, from b to a");
    move || [forth, back].iter().flat_map(Flow::of_each_kind).collect()
}

/// Packets that the daemon of each host has moved.
async fn moved(lab: &Lab) -> [[u64; 2]; 2] {
    lab.status().await.map(|status| {
        let counters = status.counters.dataplane;
        [counters["out_rewritten"], counters["in_restored"]]
    })
}

#[test]
fn flows_of_every_kind_move_at_once_and_back() {
    let name = "steering::flows::flows_of_every_kind_move_at_once_and_back";
    isolated(name, || async {
        let lab = Lab::start(Topology::two_by_two().await.expect("a lab"), "").await;
        let mut flows = lab.blocking(both_ways(&lab)).await;
        let mut round = 0;
        let mut talk = async |mut flows: Vec<Flow>, more: bool| {
            round += 1;
            let now = round;
            let more = more.then(|| both_ways(&lab));
            lab.blocking(move || {
                flows.extend(more.map(|more| more()).unwrap_or_default());
                flows.iter().for_each(|flow| flow.talk(now));
                flows
            })
            .await
        };
        flows = talk(flows, false).await;
        assert_eq!(moved(&lab).await, [[0; 2]; 2]);

        lab.steer().await;
        flows = talk(flows, false).await;
        flows = talk(flows, true).await;
        let steered = moved(&lab).await;
        // Three packets each way for each flow, at the least.
        assert!(steered.iter().flatten().all(|count| *count > 2 * 3 * 8), "{steered:?}");

        lab.heal().await;
        flows = talk(flows, false).await;
        let back = moved(&lab).await;
        drop(talk(flows, true).await);
        assert_eq!(moved(&lab).await, back, "nothing goes through the daemons any more");
        lab.end().await;
    });
}
