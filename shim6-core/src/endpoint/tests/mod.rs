//! The endpoint with others of its kind, in a network that the tests rule over.

mod errors;
mod exchange;
mod failover;
mod forgery;
mod limits;
mod packets;
mod robustness;
mod signed;
mod stranger;
mod timeouts;
mod traffic;
mod verification;
mod world;
