//! End-to-end tests: the real program as a process per host, real sockets, real packets.
//!
//! Each test has a network of its own, made of namespaces, and needs neither root nor installed
//! tools. Where user namespaces are not allowed the tests say `skipped`; `SHIM6_REQUIRE_LAB=1`
//! makes that a failure.

mod address;
mod addresses;
mod applications;
mod bad_input;
mod configuration;
mod conform;
mod control;
mod decode;
mod demo;
mod dissection;
mod doctor;
mod downloads;
mod embedding;
mod failover;
mod hold;
mod lab;
mod packets;
mod path_mtu;
mod plans;
mod policy;
mod reload;
mod requests;
mod restart;
mod scale;
mod scenarios;
mod service;
mod sessions;
mod set_up;
mod shortcut;
mod shutdown;
mod signed;
mod soak;
mod steering;
mod throughput;
mod top;
mod unprotected;
