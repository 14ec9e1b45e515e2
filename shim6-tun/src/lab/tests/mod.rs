//! The lab's tests, by what they need: `isolation` processes, `topology` two hosts, `failure`
//! traffic between them.

mod failure;
mod isolation;
mod topology;
mod traffic;
