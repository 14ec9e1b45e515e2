//! The daemon against a kernel of its own.

mod follow;
mod identity;
mod run;
mod taps;

use super::endpoint_config;
use crate::config::Config;

#[test]
fn switch_for_icmp_errors_reaches_the_endpoint() {
    let mut config = Config::default();
    assert!(!endpoint_config(&config, Vec::new()).deliver_all_icmp);
    config.icmp.deliver_all = true;
    assert!(endpoint_config(&config, Vec::new()).deliver_all_icmp);
}
