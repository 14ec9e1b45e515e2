//! Holds the stack's crates against other people's libraries and a second reading of the RFCs.

mod addresses;
mod answers;
mod captures;
mod golden;
mod independent;
mod messages;
mod packets;
mod signatures;
mod strategies;
// Of a package that depends on this one.
#[path = "../../../tests/src/tools.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod tools;
mod world;
