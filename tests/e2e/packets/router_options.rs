//! Extension headers that routers look at, which come in front of the shim's own.

use shim6_tests::isolated;
use shim6_tun::lab::Topology;
use shim6_tun::sys::ancillary::set_option;
use socket2::Socket;

use super::headers::{LENGTHS, arrival, options, with_options};
use super::lab::{Lab, Pair, octets};

#[test]
fn options_of_routers_arrive_as_they_were_sent() {
    let name = "packets::router_options::options_of_routers_arrive_as_they_were_sent";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        for length in [8, 64, 512] {
            lab.compare("hop-by-hop options", move |pair| {
                with_options(pair, libc::IPV6_HOPOPTS, length)
            })
            .await;
        }
        for side in [lab.pair().from, lab.pair().to] {
            // The kernel drops packets with a segment routing header unless told otherwise.
            let allow = || -> std::io::Result<()> {
                for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")? {
                    std::fs::write(entry?.path().join("seg6_enabled"), "1")?;
                }
                Ok(())
            };
            side.namespace.run(allow).expect("a namespace").expect("a setting");
        }
        lab.compare("routing header", with_routing_header).await;
        lab.end().await;
    });
}

/// Sends with destination options for routers, a segment routing header with one segment that is left behind already, and
/// options for all that come before.
fn with_routing_header(pair: &Pair) -> [(usize, usize, usize); 2] {
    let mut routing = vec![0, 2, 4, 0, 0, 0, 0, 0];
    routing.extend(pair.to.address.octets());
    LENGTHS.map(|length| {
        let prepare = |socket: &Socket| {
            for (option, header) in [
                (libc::IPV6_HOPOPTS, &options(16)),
                (libc::IPV6_RTHDRDSTOPTS, &options(24)),
                (libc::IPV6_RTHDR, &routing),
                (libc::IPV6_DSTOPTS, &options(32)),
            ] {
                set_option(socket, libc::IPPROTO_IPV6, option, header)
                    .unwrap_or_else(|error| panic!("option {option}: {error}"));
            }
        };
        let arrival = arrival(pair, &octets(6, length), prepare);
        assert_eq!(arrival.routing.len(), 1, "{}: {arrival:?}", pair.name);
        assert_eq!(arrival.routing[0][1..4], routing[1..4], "{}", pair.name);
        assert_eq!(arrival.hop_by_hop[0][1..], options(16)[1..], "{}", pair.name);
        let destination: Vec<_> = arrival.destination.iter().map(|header| header[1..].to_vec()).collect();
        assert_eq!(destination, [24, 32].map(|length| options(length)[1..].to_vec()));
        (
            arrival.hop_by_hop.len(),
            arrival.routing.len(),
            arrival.destination.len(),
        )
    })
}
