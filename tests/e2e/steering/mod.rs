//! Steering moves every kind of flow at once, there and back, whatever rules the host has, and leaves nothing behind.

mod flows;
mod leftovers;
mod rules;
