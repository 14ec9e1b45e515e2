//! Programs that people use, unmodified, while the path under them fails: none of them may notice.
//!
//! Each test has two hosts with two uplinks each, a round-trip time of 20 ms, and the daemon on both. The application talks
//! to the peer's address as to any other; its own traffic is what makes the hosts set up a context. Then the uplink in use is
//! cut silently. The application has to end as if nothing had been, on the connection that it had, and must not have waited
//! for longer than [`scene::BOUND`]. Each test prints for how long it did: `docs/applications.md` has a table of that.
//!
//! Programs that are not installed are told as `skipped`, see `shim6_tests::tools`.

mod http;
mod iperf3;
mod nginx;
mod progress;
mod push;
mod quic;
mod redis;
mod scene;
mod ssh;
mod voice;
