//! The lab's tests, by what they need: `isolation` processes, `topology` two hosts, `failure`
//! traffic between them, `link` time, `segmentation` much of it.

mod failure;
mod isolation;
mod link;
mod network;
mod segmentation;
mod topology;
mod traffic;
