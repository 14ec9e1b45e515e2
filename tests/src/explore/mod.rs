//! The exhaustive check: every state that two real endpoints can get into in a small world, one event after the other.
//!
//! A *world* ([`world::World`]) is two hosts, the packets in flight, and budgets for what does not happen by itself:
//! packets lost and duplicated, hosts crashing, exchanges begun. [`search::explore`] takes it breadth-first through all events
//! that can come next: any packet in flight arrives, a host's next timeout comes, or something is spent from a budget. A
//! state that was seen before is not gone into again; two states are the same when they differ in nothing but the names
//! of tags, nonces and validators and in how long things take ([`canonical`]). Each host has a clock of its own that only its
//! timeouts move: so a timer can run out at any moment as seen from the other host, however long packets take.
//!
//! What is not explored: that validators age, that rate limits are reached, more packets in flight than a world allows, and
//! timers of one host in another order than that of the first way that was found to a state.
//!
//! Of each state two things are asked: that it is safe ([`world::World::check`]), and that it ends well ([`settle`]): that both ends
//! agree, on a context or on none, once nothing more is lost.

mod canonical;
mod search;
mod settle;
mod setup;
mod tests;
mod world;
