//! Generation and verification of all kinds of addresses, through the public API alone.

mod allocations;
mod collisions;
mod flips;
mod kinds;
mod limits;
mod searches;
mod vectors;
