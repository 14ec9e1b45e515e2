//! Labs that stay up between commands: a process in the background keeps the namespaces and works the links, and answers on a Unix
//! socket. This is what `shim6 lab` is made of; a program that builds its lab itself needs none of it.

mod client;
mod directory;
mod leftovers;
mod server;
mod surroundings;
mod wire;

pub use client::{Keeper, Way};
pub use directory::Directory;
pub use server::keep;
