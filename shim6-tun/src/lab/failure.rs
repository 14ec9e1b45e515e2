//! Cutting an uplink, and healing it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use clap::ValueEnum;
use tokio::sync::Mutex;

use super::LabError;
use super::node::Node;

/// The address that every ISP uses towards its customers, on each access link.
pub(super) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Metric of the routes that cut: lower than that of any other route.
const CUT_METRIC: u32 = 1;
const EVERYWHERE: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 0);

/// How an uplink fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Failure {
    /// Packets from and to the uplink's prefix vanish silently inside its ISP. The link stays up.
    Blackhole,
    /// The ISP's end of the access link goes down: the host loses the carrier.
    LinkDown,
    /// Packets *to* the host vanish inside its ISP; those that it sends still arrive.
    OneWay,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Blackhole, Self::LinkDown, Self::OneWay];

    /// `blackhole`, `link-down` or `one-way`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::LinkDown => "link-down",
            Self::OneWay => "one-way",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no failure: expected `blackhole`, `link-down` or `one-way`")]
pub struct UnknownFailure(pub String);

impl FromStr for Failure {
    type Err = UnknownFailure;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|failure| failure.as_str() == word)
            .ok_or_else(|| UnknownFailure(word.to_owned()))
    }
}

/// The ISP's side of an access link.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) isp: Node,
    /// Index of the ISP's interface to the host.
    interface: u32,
    /// The customer's prefix, a /64.
    prefix: Ipv6Addr,
    /// What is cut now. Held while cutting or healing, so that the two never mix.
    failure: Mutex<Option<Failure>>,
}

impl Access {
    /// Gives the ISP's interface its addresses.
    pub(super) async fn new(isp: Node, interface: u32, prefix: Ipv6Addr) -> Result<Self, LabError> {
        let access = Self {
            isp,
            interface,
            prefix,
            failure: Mutex::new(None),
        };
        access.add_addresses().await?;
        Ok(access)
    }

    pub(super) async fn cut(&self, failure: Failure) -> Result<(), LabError> {
        let mut current = self.failure.lock().await;
        if *current == Some(failure) {
            return Ok(());
        }
        if let Some(other) = *current {
            self.undo(other).await?;
        }
        // First, so that healing undoes a cut of which only a part was done.
        *current = Some(failure);
        match failure {
            Failure::Blackhole => {
                self.isp.add_blackhole((self.prefix, 64), CUT_METRIC).await?;
                self.isp.add_blackhole(EVERYWHERE, CUT_METRIC).await
            }
            Failure::OneWay => self.isp.add_blackhole((self.prefix, 64), CUT_METRIC).await,
            Failure::LinkDown => self.isp.set_down(self.interface).await,
        }
    }

    pub(super) async fn heal(&self) -> Result<(), LabError> {
        let mut current = self.failure.lock().await;
        if let Some(failure) = *current {
            self.undo(failure).await?;
            *current = None;
        }
        Ok(())
    }

    async fn undo(&self, failure: Failure) -> Result<(), LabError> {
        let towards_host = (self.prefix, 64);
        match failure {
            Failure::Blackhole => {
                self.isp.delete_blackhole(towards_host, CUT_METRIC).await?;
                self.isp.delete_blackhole(EVERYWHERE, CUT_METRIC).await
            }
            Failure::OneWay => self.isp.delete_blackhole(towards_host, CUT_METRIC).await,
            Failure::LinkDown => {
                self.isp.set_up(self.interface).await?;
                // The kernel removed them when the interface went down.
                self.add_addresses().await
            }
        }
    }

    async fn add_addresses(&self) -> Result<(), LabError> {
        let global = Ipv6Addr::from_bits(self.prefix.to_bits() | 0xffff);
        self.isp.add_address(self.interface, GATEWAY, 64).await?;
        self.isp.add_address(self.interface, global, 64).await
    }
}
