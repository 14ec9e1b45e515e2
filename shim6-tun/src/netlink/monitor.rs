use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::sys::AsyncSocket;
use tokio::task::AbortHandle;

use super::types::{Change, MAIN_TABLE, RouteSpec};
use super::{NetlinkError, message};

/// Room for the kernel's messages, in octets: a flood of them should not be lost while we are busy.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A subscription to changes of the network configuration.
pub struct Monitor {
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    /// A message may tell of several routes.
    pending: VecDeque<Change>,
    connection: AbortHandle,
}

impl Monitor {
    pub(super) fn subscribe() -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| NetlinkError::NoRuntime)?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
            MulticastGroup::Neigh,
        ];
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_rx_buf_sz(RECEIVE_BUFFER).map_err(NetlinkError::Open)?;
        let connection = runtime.spawn(connection).abort_handle();
        Ok(Self {
            messages: messages.map(|(message, _)| message).boxed(),
            pending: VecDeque::new(),
            connection,
        })
    }

    /// The next change, in the kernel's order; `None` when the connection is gone. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            let message = self.messages.next().await?;
            self.pending.extend(changes(&message.payload));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // The connection would notice only at the next message, and hold the namespace till then.
        self.connection.abort();
    }
}

impl core::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Monitor")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

fn changes(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Vec<Change> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return vec![Change::Overrun],
        _ => return Vec::new(),
    };
    match message {
        RouteNetlinkMessage::NewLink(m) => message::link(m).map(Change::Link).into_iter().collect(),
        RouteNetlinkMessage::DelLink(m) => {
            let removed = message::link(m).map(|link| Change::LinkRemoved(link.index));
            removed.into_iter().collect()
        }
        RouteNetlinkMessage::NewAddress(m) => {
            let added = message::address(m).map(Change::AddressAdded);
            added.into_iter().collect()
        }
        RouteNetlinkMessage::DelAddress(m) => {
            let removed = message::address(m).map(Change::AddressRemoved);
            removed.into_iter().collect()
        }
        RouteNetlinkMessage::NewRoute(m) => defaults(m).map(Change::RouteAdded).collect(),
        RouteNetlinkMessage::DelRoute(m) => defaults(m).map(Change::RouteRemoved).collect(),
        RouteNetlinkMessage::NewNeighbour(m) => {
            let failed = message::failed_neighbour(m);
            let failed = failed.map(|(index, address)| Change::NeighbourFailed { index, address });
            failed.into_iter().collect()
        }
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => vec![Change::Rules],
        _ => Vec::new(),
    }
}

fn defaults(message: &RouteMessage) -> impl Iterator<Item = RouteSpec> {
    message::routes(message)
        .into_iter()
        .filter(|route| route.is_default() && route.table == MAIN_TABLE)
}
