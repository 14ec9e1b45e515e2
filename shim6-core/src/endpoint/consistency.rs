//! What always holds of an endpoint, for tests and fuzz targets.

use alloc::vec::Vec;

use super::Endpoint;

impl Endpoint {
    /// Each context is in all the endpoint's tables that its state asks for, and nothing else is.
    pub(crate) fn assert_consistent(&self) {
        let contexts = || self.contexts.values();
        assert_eq!(self.by_ulids.len(), self.contexts.len());
        assert_eq!(self.by_local_tag.len(), self.contexts.len());
        assert_eq!(self.per_peer.values().sum::<usize>(), self.contexts.len());
        assert_eq!(
            self.by_nonce.len(),
            contexts().filter(|context| context.initiation().is_some()).count()
        );
        assert_eq!(
            self.timers.len(),
            contexts().filter(|context| context.timer.is_some()).count()
        );
        let by_peer_tag = self.by_peer_tag.values().map(Vec::len).sum::<usize>();
        assert_eq!(
            by_peer_tag,
            contexts().filter(|context| context.established().is_some()).count()
        );
        for context in contexts() {
            let id = context.id;
            assert_eq!(self.by_ulids.get(&(context.ulids, context.forked_instance)), Some(&id));
            assert_eq!(self.by_local_tag.get(&context.local_tag), Some(&id));
            assert_eq!(context.timer, context.deadline());
            assert!(context.timer.is_none_or(|timer| self.timers.contains(&(timer, id))));
            if let Some(initiation) = context.initiation() {
                assert_eq!(self.by_nonce.get(&initiation.nonce), Some(&id));
            }
            if let Some(established) = context.established() {
                assert!(
                    self.by_peer_tag
                        .get(&established.peer_tag)
                        .is_some_and(|ids| ids.contains(&id))
                );
            }
        }
    }
}
