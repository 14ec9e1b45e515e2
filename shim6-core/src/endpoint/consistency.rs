//! What always holds of an endpoint, for tests and fuzz targets.

use super::Endpoint;

impl Endpoint {
    /// The endpoint's tables fit each other, and its contexts the bounds of its configuration.
    pub(crate) fn assert_consistent(&self) {
        self.contexts.assert_indices_agree();
        assert!(self.contexts.len() <= self.config.limits.contexts);
        assert!(self.failures.iter().count() <= self.config.limits.holddowns);
    }
}
