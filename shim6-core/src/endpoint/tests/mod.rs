//! The endpoint with others of its kind, in a network that the tests rule over.

mod config;
mod errors;
mod eviction;
mod exchange;
mod extremes;
mod failback;
mod failover;
mod forgery;
mod forks;
mod icmp;
mod limits;
mod manual;
mod packets;
mod recovery;
mod rfc5533;
mod robustness;
mod room;
#[cfg(feature = "rsa")]
mod signed;
mod stranger;
mod survey;
mod timeouts;
mod traffic;
#[cfg(not(feature = "rsa"))]
mod unsigned;
mod update;
mod update_errors;
mod verification;
mod wish;
mod world;
