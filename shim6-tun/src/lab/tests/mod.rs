//! The lab's tests, by what they need: `isolation` processes, `topology` two hosts, `failure`
//! traffic between them, `link` time.

mod failure;
mod isolation;
mod link;
mod topology;
mod traffic;
