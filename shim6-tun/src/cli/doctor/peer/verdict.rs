//! What follows from what came back.

use super::super::finding::Finding;
use super::CHECK;
use super::probe::{Outcome, Refusal};

/// ICMPv6 Parameter Problem, of an unknown Next Header (RFC 4443 section 3.4).
const UNKNOWN_NEXT_HEADER: (u8, u8) = (4, 1);
/// ICMPv6 Destination Unreachable (RFC 4443 section 3.1).
const UNREACHABLE: u8 = 1;
/// Of its codes, those of a filter.
const PROHIBITED: [u8; 3] = [1, 5, 6];

const OPEN: &str =
    "nft insert rule inet filter input meta l4proto 140 accept   # on that machine, if it filters with nftables";

/// A finding for each pair, and one for what they have in common.
pub(super) fn judge(peer: &str, outcomes: &[Outcome]) -> Vec<Finding> {
    let mut findings: Vec<_> = outcomes.iter().map(of).collect();
    let working = outcomes.iter().filter(|outcome| outcome.shim6.is_some()).count();
    let without = |outcome: &Outcome| {
        let refusal = outcome.refused.filter(|refusal| refusal.from == outcome.pair.remote);
        refusal.is_some_and(|refusal| (refusal.kind, refusal.code) == UNKNOWN_NEXT_HEADER)
    };
    if working == outcomes.len() {
        findings.push(Finding::good(
            CHECK,
            format!("{peer} speaks Shim6, and all {working} pairs work"),
        ));
    } else if working > 0 {
        let found = format!("{peer} speaks Shim6; {working} of {} pairs work", outcomes.len());
        findings.push(Finding::doubtful(
            CHECK,
            found,
            "Sessions can use those that work, and have fewer to move to.",
        ));
    } else if outcomes.iter().any(without) {
        let found = format!("{peer} does not speak Shim6: its kernel knows nothing that takes protocol 140");
        let means = "Shim6 packets arrive there. Connections work as always, and are not protected.";
        findings.push(Finding::wrong(CHECK, found, means).mend("systemctl start shim6   # on that host"));
    }
    findings
}

fn of(outcome: &Outcome) -> Finding {
    let pair = format!("{} -> {}", outcome.pair.local, outcome.pair.remote);
    if let Some(took) = outcome.shim6 {
        return Finding::good(
            CHECK,
            format!(
                "{pair}: a message and its answer took {:.1} ms",
                took.as_secs_f64() * 1e3
            ),
        );
    }
    if let Some(refusal) = outcome.refused {
        return refused(&pair, outcome, refusal);
    }
    let other = match (outcome.echo, outcome.tcp) {
        (Some(_), _) => "an ICMPv6 echo".to_owned(),
        (None, Some(port)) => format!("TCP port {port}"),
        (None, None) => {
            let reached = outcome.echo_hops.last();
            let until = reached.map_or(String::new(), |(hops, router)| {
                format!("; the last to answer is router {hops}, {router}")
            });
            let found = format!("{pair}: nothing comes back, be it Shim6, ICMPv6 echo or TCP{until}");
            let means = "The way is down, or its packets leave by another uplink than their source's.";
            let (local, remote) = (outcome.pair.local, outcome.pair.remote);
            return Finding::wrong(CHECK, found, means)
                .mend("shim6 doctor   # looks at this host's routes")
                .mend(format!("traceroute -6 -s {local} {remote}"));
        }
    };
    eaten(&pair, &other, outcome)
}

fn refused(pair: &str, outcome: &Outcome, refusal: Refusal) -> Finding {
    let Refusal { from, kind, code } = refusal;
    let is_peer = from == outcome.pair.remote;
    match (kind, code) {
        UNKNOWN_NEXT_HEADER if is_peer => Finding::wrong(
            CHECK,
            format!("{pair}: the host has no Shim6 (ICMPv6 Parameter Problem)"),
            "No daemon runs there. The way lets Shim6 through.",
        )
        .mend("systemctl start shim6   # on that host"),
        (UNREACHABLE, code) if PROHIBITED.contains(&code) || outcome.echo.is_some() => {
            let who = if is_peer {
                "the host itself".to_owned()
            } else {
                from.to_string()
            };
            let found = format!("{pair}: {who} refuses Shim6 (ICMPv6 Destination Unreachable, code {code})");
            Finding::wrong(CHECK, found, "A packet filter there rejects protocol 140.").mend(OPEN)
        }
        _ => {
            let found = format!("{pair}: {from} answers with ICMPv6 error {kind}, code {code}");
            let means = "The way is down at that router, for whatever is sent.";
            Finding::wrong(CHECK, found, means).mend(format!(
                "traceroute -6 -s {} {}",
                outcome.pair.local, outcome.pair.remote
            ))
        }
    }
}

/// Something comes back, but no Shim6. Where does it end?
fn eaten(pair: &str, other: &str, outcome: &Outcome) -> Finding {
    let shim6 = outcome.shim6_hops.last();
    let echo = outcome.echo_hops.last();
    let next = |hops: u8| {
        let next = outcome.echo_hops.iter().find(|(distance, _)| *distance > hops);
        next.map_or_else(
            || "what comes next".to_owned(),
            |(hops, router)| format!("router {hops}, {router},"),
        )
    };
    let remote = outcome.pair.remote;
    match (shim6, echo) {
        // A router counts hops before it filters: the last one that tells may be the one that eats.
        (Some((hops, router)), Some((echo_hops, _))) if hops >= echo_hops => {
            let found = format!(
                "{pair}: {other} is answered, Shim6 is not; it comes as far as the last router on the way, {hops}, {router}"
            );
            let means = "That router or the host drops protocol 140, or its answers are dropped on the way back, or the \
                         address is not one of those that `shim6 status` prints there.";
            Finding::wrong(CHECK, found, means)
                .mend("shim6 status   # on that host: the addresses to use")
                .mend("shim6 doctor   # on that host, and on this one")
                .mend(OPEN)
        }
        (Some((hops, router)), Some(_)) => {
            let eater = next(*hops);
            let found = format!(
                "{pair}: {other} is answered, Shim6 is not; it comes as far as router {hops}, {router}: this one or {eater} eats it"
            );
            Finding::wrong(
                CHECK,
                found,
                "A filter on the way drops what is not TCP, UDP or ICMPv6.",
            )
            .mend(OPEN)
        }
        (None, Some((hops, router))) => {
            let found = format!(
                "{pair}: {other} is answered, Shim6 is not, nor does any router tell of it; of others router {hops}, {router}, tells"
            );
            let means = "This host or its first router drops protocol 140.";
            Finding::wrong(CHECK, found, means).mend("shim6 doctor   # looks at this host's packet filter")
        }
        _ => {
            let found = format!("{pair}: {other} is answered by {remote}, Shim6 is not");
            let means = "Nothing tells where it is lost: a packet filter of either host, or on the way. Or no daemon runs there.";
            Finding::wrong(CHECK, found, means)
                .mend("shim6 doctor   # on both hosts")
                .mend(OPEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::time::Duration;

    use super::super::super::finding::Level;
    use super::super::probe::Pair;
    use super::*;

    fn address(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    /// Nothing came back.
    fn silent() -> Outcome {
        let (local, remote) = (address(1), address(2));
        let ulids = (local, remote);
        Outcome {
            pair: Pair { local, remote, ulids },
            shim6: None,
            refused: None,
            echo: None,
            tcp: None,
            shim6_hops: Vec::new(),
            echo_hops: Vec::new(),
        }
    }

    fn answered() -> Outcome {
        Outcome {
            shim6: Some(Duration::from_millis(3)),
            ..silent()
        }
    }

    /// An echo came back, and routers at these distances told of Shim6 and of echo requests.
    fn heard(shim6: &[u8], echo: &[u8]) -> Outcome {
        let hops = |all: &[u8]| all.iter().map(|&hops| (hops, address(100 + u16::from(hops)))).collect();
        Outcome {
            echo: Some(Duration::from_millis(3)),
            shim6_hops: hops(shim6),
            echo_hops: hops(echo),
            ..silent()
        }
    }

    fn refused(from: u16, kind: u8, code: u8) -> Outcome {
        let from = address(from);
        Outcome {
            refused: Some(Refusal { from, kind, code }),
            ..heard(&[], &[])
        }
    }

    #[track_caller]
    fn is_wrong(outcome: &Outcome, text: &str) {
        let finding = of(outcome);
        assert_eq!(finding.level, Level::Wrong);
        assert!(finding.found.contains(text), "{finding:#?}");
        assert!(finding.means.is_some() && !finding.mend.is_empty(), "{finding:#?}");
    }

    #[test]
    fn each_outcome_has_its_own_explanation() {
        assert_eq!(of(&answered()).level, Level::Good);
        is_wrong(&silent(), "nothing comes back");
        is_wrong(&refused(2, 4, 1), "the host has no Shim6");
        is_wrong(&refused(9, 4, 1), "answers with ICMPv6 error 4, code 1");
        is_wrong(&refused(9, 1, 1), "2001:db8::9 refuses Shim6");
        is_wrong(&refused(2, 1, 1), "the host itself refuses Shim6");
        is_wrong(&heard(&[1, 2], &[1, 2]), "as far as the last router on the way, 2");
        is_wrong(
            &heard(&[1], &[1, 2]),
            "router 1, 2001:db8::65: this one or router 2, 2001:db8::66, eats it",
        );
        is_wrong(&heard(&[], &[1]), "nor does any router tell of it");
        is_wrong(
            &heard(&[], &[]),
            "an ICMPv6 echo is answered by 2001:db8::2, Shim6 is not",
        );
        let tcp = Outcome {
            tcp: Some(22),
            ..silent()
        };
        is_wrong(&tcp, "TCP port 22 is answered");
    }

    #[test]
    fn pairs_are_summed_up() {
        let last = |outcomes: &[Outcome]| judge("peer", outcomes).pop().unwrap();
        assert_eq!(last(&[answered(), answered()]).level, Level::Good);
        assert_eq!(last(&[answered(), silent()]).level, Level::Doubtful);
        assert!(
            last(&[refused(2, 4, 1), silent()])
                .found
                .contains("does not speak Shim6")
        );
        assert!(last(&[silent()]).found.contains("nothing comes back"));
    }
}
