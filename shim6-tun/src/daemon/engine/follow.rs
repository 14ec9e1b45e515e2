//! Carries out what becomes of the uplinks: addresses and routes come and go, and peers are told of locators.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::Engine;
use crate::daemon::addresses::PATIENCE;
use crate::daemon::follower::{FollowError, Made, News, Plan};
use crate::daemon::uplink::Uplink;

impl Engine<'_> {
    /// Looks at the uplinks and follows what has changed, if it is time.
    pub(super) async fn follow_uplinks_when_due(&mut self) {
        let now = self.shared.clock.now();
        if !self.follower.take_due(now) {
            return;
        }
        match self.follow().await {
            Ok(()) => self.follower.succeeded(),
            Err(error) => {
                let wait = self.follower.failed(now);
                tracing::error!(%error, "following a change of the uplinks; tried again in {wait:?}");
            }
        }
        self.report_locators();
    }

    /// Takes what was made or heard in the background.
    pub(super) fn adopt(&mut self, made: Made) {
        self.follower.adopt(made, self.shared.clock.now());
    }

    /// Another host has one of our addresses.
    pub(super) async fn avoid_duplicate(&mut self, locator: Ipv6Addr) {
        tracing::error!(%locator, "another host uses this address as well; taking another in its place");
        self.follower.avoid(locator);
        if let Err(error) = self.addresses.remove(locator).await {
            tracing::error!(%error, "taking a duplicate address away");
        }
        self.follower.wake(self.shared.clock.now());
    }

    async fn follow(&mut self) -> Result<(), FollowError> {
        let Plan { uplinks, withdrawn } = self.follower.look(self.addresses).await?;
        // What fails with one uplink must not keep the others from being followed.
        let mut first_error = None;
        for uplink in &withdrawn {
            tracing::info!(interface = uplink.interface, prefix = %uplink.prefix, "the prefix was withdrawn");
            for address in self.addresses_under(uplink) {
                let removed = self.addresses.remove(address).await;
                first_error = first_error.or(removed.err().map(FollowError::from));
            }
            self.follower.forget(uplink);
        }
        // Before addresses are given out: they may be those of a former set.
        self.follower.make(&uplinks, self.shared.clock.now());
        for (uplink, deprecated) in &uplinks {
            let given = self.give_address(uplink, *deprecated).await;
            first_error = first_error.or(given.err());
        }
        match self.addresses.restore().await {
            Ok(true) => {}
            Ok(false) => self.follower.wake(self.shared.clock.now() + PATIENCE),
            Err(error) => first_error = first_error.or(Some(error.into())),
        }
        self.watch_uplinks().await;
        self.paths.set_uplinks(self.addresses.uplinks());
        self.follow_addresses();
        self.report_locators();
        self.tell_locators()?;
        self.shared.wire.look_up_again();
        self.follow_mtu().await?;
        first_error.map_or(Ok(()), Err)
    }

    /// Sees to it that the host has the address on an uplink that it is to have there, and no other as soon as that one can be used
    /// and no session is on the other.
    async fn give_address(&mut self, uplink: &Uplink, deprecated: bool) -> Result<(), FollowError> {
        self.addresses.set_gateway(uplink).await?;
        let present = self.addresses_under(uplink);
        let others = self.addresses.uplinks().count() - present.len();
        let Some((wanted, is_ulid)) = self.follower.address_under(uplink, others) else {
            return Ok(());
        };
        let deprecated = deprecated || !is_ulid;
        if present.contains(&wanted) {
            self.addresses.set_deprecated(wanted, deprecated).await?;
        } else {
            tracing::info!(interface = uplink.interface, address = %wanted, "a locator comes");
            self.addresses.assign_as(uplink, wanted, deprecated).await?;
        }
        let is_proven = self.addresses.proven().any(|proven| proven == wanted);
        // A peer that is not told of the new address yet hears from this host by the former one only.
        let in_use: BTreeSet<_> = self.endpoint.contexts().map(|context| context.locators.local).collect();
        for former in present.into_iter().filter(|former| *former != wanted) {
            if is_proven && !in_use.contains(&former) {
                self.addresses.remove(former).await?;
            } else {
                self.addresses.set_deprecated(former, true).await?;
            }
        }
        Ok(())
    }

    fn addresses_under(&self, uplink: &Uplink) -> Vec<Ipv6Addr> {
        let here = self.addresses.uplinks().filter(|(other, _)| {
            other.prefix == uplink.prefix && (other.index == uplink.index || other.interface == uplink.interface)
        });
        here.map(|(_, address)| address).collect()
    }

    /// Tells the endpoint, hence the peers, of the locators that there are now.
    fn tell_locators(&mut self) -> Result<(), FollowError> {
        let now = self.shared.clock.now();
        let bound: BTreeSet<_> = self.endpoint.contexts().map(|context| context.ulids.local).collect();
        let news = self.follower.news(self.addresses, &bound)?;
        self.follower.look_after_former(now);
        let Some(news) = news else { return Ok(()) };
        let prepared = self.prepare(&news);
        if prepared.is_err() {
            self.follower.untold();
        }
        prepared?;
        for identity in news.identities {
            self.endpoint.set_identity(now, identity);
        }
        // It takes those that it has not heard of for usable.
        self.usable.extend(news.added);
        self.report_locators();
        Ok(())
    }

    /// Lets packets be sent from the locators and be watched.
    fn prepare(&mut self, news: &News) -> std::io::Result<()> {
        let open = |locator| self.follower.open_sender(locator);
        self.shared.wire.set_addresses(&news.all, open)?;
        self.observers.set_locals(&news.all)
    }

    /// Makes the TUN device as wide as the widest uplink, unless the configuration says how wide.
    async fn follow_mtu(&mut self) -> Result<(), FollowError> {
        let mtu = self.follower.tun_mtu(self.addresses);
        if mtu != self.tun.mtu {
            self.addresses.netlink().set_mtu(self.tun.device.index(), mtu).await?;
            self.tun.mtu = mtu;
        }
        Ok(())
    }
}
