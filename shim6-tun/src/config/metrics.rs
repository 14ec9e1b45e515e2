//! `[metrics]`: figures for Prometheus.

use std::net::SocketAddr;

use super::read::Section;

const EXPECTED: &str = "expected an address and a port such as \"[::1]:9573\", or \"none\"";

/// `[metrics]`: figures for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `listen`: the address and port where they are served over HTTP; `None`, written `"none"`, for nowhere. Default none.
    pub listen: Option<SocketAddr>,
    /// `paths`: locator pairs that have series of their own, 0 to 1000. Default 50.
    pub paths: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: None,
            paths: 50,
        }
    }
}

/// Reads the section.
pub(super) fn metrics(section: Section<'_>) -> MetricsConfig {
    let defaults = MetricsConfig::default();
    let metrics = MetricsConfig {
        listen: section.parsed("listen", EXPECTED, listen).unwrap_or(defaults.listen),
        paths: section.integer("paths").unwrap_or(defaults.paths),
    };
    section.finish();
    metrics
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("{text:?} has no port")),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(format!("{text:?} is no address with a port")),
    }
}
