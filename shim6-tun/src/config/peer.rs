//! `[[peer]]`: what holds towards some peers only.

use super::ReapConfig;
use super::network::{self, Network};
use super::read::{Section, Seen};
use super::sections::reap_over;

/// Most of them: each exchange with a peer looks at all.
const MAX_PEERS: usize = 256;

/// One `[[peer]]`: where several networks have a peer, the longest prefix counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// `prefix`: the network of the peers' ULIDs; required, and different in each.
    pub prefix: Network,
    /// The keys of `[reap]`, each with the value there unless it is given here.
    pub reap: ReapConfig,
    /// `contexts_per_peer`: contexts with each of these peers, 1 to 65535. Default: that of `[limits]`.
    pub contexts_per_peer: Option<usize>,
}

/// Reads the array.
pub(super) fn peers(root: &Section<'_>, reap: &ReapConfig) -> Vec<PeerConfig> {
    let sections = root.sections("peer", Some("prefix"));
    if let Some(first_too_many) = sections.get(MAX_PEERS) {
        let wrong = format!("there are {} peers", sections.len());
        first_too_many.problem(&wrong, &format!("expected at most {MAX_PEERS}"));
    }
    let mut seen = Seen::default();
    let mut peers = Vec::with_capacity(sections.len());
    for section in sections {
        let prefix = section.parsed("prefix", network::EXPECTED, |text| {
            text.parse::<Network>().map_err(|error| error.to_string())
        });
        match prefix {
            None => section.required("prefix", network::EXPECTED),
            Some(prefix) => section.unique("prefix", &mut seen, prefix.to_string()),
        }
        let reap = reap_over(&section, reap);
        let contexts_per_peer = section.integer("contexts_per_peer");
        section.finish();
        peers.extend(prefix.map(|prefix| PeerConfig {
            prefix,
            reap,
            contexts_per_peer,
        }));
    }
    peers
}
