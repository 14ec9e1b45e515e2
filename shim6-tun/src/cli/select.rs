//! Which context and which pair a command is about.

use std::net::Ipv6Addr;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;

use super::UsageError;
use crate::control::Client;
use crate::status::{ContextStatus, PairStatus, PathStatus};

/// A context as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selector {
    /// By its number.
    Id(u64),
    /// By an address of its peer.
    Peer(Ipv6Addr),
}

/// A locator pair as people name it.
#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// This host's address of the pair
    #[arg(value_name = "LOCAL", requires = "peer")]
    local: Option<Ipv6Addr>,
    /// The peer's address of the pair
    #[arg(value_name = "PEER")]
    peer: Option<Ipv6Addr>,
    /// Instead of a pair: the best one from this uplink
    #[arg(long, value_name = "INTERFACE", conflicts_with = "local")]
    uplink: Option<String>,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let address = text.parse().map(Self::Peer);
        address.map_err(|_| {
            "expected the number of a context, as in shim6 contexts, or an IPv6 address of its peer".to_owned()
        })
    }
}

impl Selector {
    /// The context's number. Whether there is one with a number that was given is for the daemon to say.
    pub(super) async fn resolve(self, client: &mut Client) -> anyhow::Result<u64> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Peer(peer) => only(peer, &client.contexts(Some(peer)).await?),
        }
    }
}

impl PairArgs {
    /// The pair of the context that is meant, if one is named.
    pub(super) async fn resolve(&self, client: &mut Client, context: u64) -> anyhow::Result<Option<PairStatus>> {
        if let (Some(local), Some(peer)) = (self.local, self.peer) {
            return Ok(Some(PairStatus { local, peer }));
        }
        match &self.uplink {
            Some(uplink) => best(uplink, &client.paths(Some(context)).await?).map(Some),
            None => Ok(None),
        }
    }
}

fn only(peer: Ipv6Addr, contexts: &[ContextStatus]) -> anyhow::Result<u64> {
    match contexts {
        [] => bail!("there is no context with {peer}; to see those that there are: shim6 contexts"),
        [context] => Ok(context.id),
        several => {
            let ids: Vec<_> = several.iter().map(|context| context.id.to_string()).collect();
            let ids = ids.join(", ");
            let count = several.len();
            Err(UsageError(format!(
                "there are {count} contexts with {peer}; name one by its number: {ids} (shim6 contexts --peer {peer})"
            ))
            .into())
        }
    }
}

/// The first in the order of preference that works, else the first that may.
pub(super) fn best(uplink: &str, paths: &[PathStatus]) -> anyhow::Result<PairStatus> {
    let theirs = || paths.iter().filter(|path| path.uplink.as_deref() == Some(uplink));
    let path = theirs()
        .find(|path| path.state == "working")
        .or_else(|| theirs().next());
    let Some(path) = path else {
        if paths.is_empty() {
            bail!(
                "there are no paths to choose from before a context is established; to have one: shim6 session protect"
            );
        }
        let mut uplinks: Vec<_> = paths.iter().filter_map(|path| path.uplink.as_deref()).collect();
        uplinks.sort_unstable();
        uplinks.dedup();
        let uplinks = uplinks.join(", ");
        bail!("the context has no path from the uplink {uplink:?}; those that it has are from: {uplinks}");
    };
    Ok(path.pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(uplink: &str, local: &str, state: &str) -> PathStatus {
        PathStatus {
            pair: PairStatus {
                local: local.parse().unwrap(),
                peer: "2001:db8:b::1".parse().unwrap(),
            },
            uplink: Some(uplink.to_owned()),
            state: state.to_owned(),
            used_by: Vec::new(),
            users: 0,
            rtt_us: None,
            probes_sent: 0,
            probes_answered: 0,
            loss_permille: None,
            answered_ago_ms: None,
            failed_ago_ms: None,
            heard_ago_ms: None,
        }
    }

    #[test]
    fn a_context_is_a_number_or_an_address() {
        assert_eq!("7".parse(), Ok(Selector::Id(7)));
        assert_eq!(
            "2001:db8::1".parse(),
            Ok(Selector::Peer("2001:db8::1".parse().unwrap()))
        );
        for wrong in ["", "seven", "-1", "192.0.2.1", "2001:db8::1/64"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_best_path_of_an_uplink_works() {
        let paths = [
            path("eth0", "2001:db8:a::1", "working"),
            path("eth1", "2001:db8:a::2", "failed"),
            path("eth1", "2001:db8:a::3", "working"),
        ];
        let best_of = |uplink| best(uplink, &paths).map(|pair| pair.local.to_string());
        assert_eq!(best_of("eth1").unwrap(), "2001:db8:a::3");
        assert_eq!(best("eth1", &paths[..2]).unwrap().local.to_string(), "2001:db8:a::2");
        let error = best_of("eth2").unwrap_err().to_string();
        assert_eq!(
            error,
            "the context has no path from the uplink \"eth2\"; those that it has are from: eth0, eth1"
        );
        let error = best("eth1", &[]).unwrap_err().to_string();
        assert!(error.contains("before a context is established"), "{error}");
    }
}
