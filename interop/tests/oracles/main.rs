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
mod world;
