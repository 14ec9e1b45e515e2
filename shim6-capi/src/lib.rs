//! The shim layer of a host ([`shim6_core::Shim`]) for programs in C: what `include/shim6.h` declares.
//!
//! The header is made of this source by cbindgen, its texts are those here, and so they use the names that things have in C.
//! For programs in Rust there is nothing here that `shim6_core` does not have in a better way.
//!
//! # Safety
//!
//! What holds for all functions, as the head of the header says it:
//!
//! - A pointer is null, or there is memory for what its type and the length that goes with it say, aligned or not. Null is an error where it
//!   is not said to be allowed.
//! - A handle is null, or was given by this library and is not freed.
//! - One handle is used by one thread at a time. An identity may be read by several.
//!
//! All else is checked. No panic leaves a function: there should be none, and if there is one, the handle is dead.
// The only crate but one module of the daemon that has such code. All is in small pieces, most of it in `raw`.
#![allow(unsafe_code)]
#![allow(
    clippy::missing_safety_doc,
    reason = "it is the same for all functions, and stands above"
)]

mod commands;
mod config;
mod event;
mod handle;
mod identity;
mod packets;
mod queries;
mod raw;
mod status;
#[cfg(test)]
mod tests;
mod types;

pub use commands::{
    Hint, Protection, shim6_close, shim6_establish, shim6_fork, shim6_handle_hint, shim6_join, shim6_move_to,
    shim6_prefer, shim6_probe, shim6_release, shim6_set_in_use, shim6_set_preferences, shim6_set_protection,
};
pub use config::{Config, Profile, shim6_config_check, shim6_config_init};
pub use event::{
    Cause, CloseReason, Event, EventKind, Reachability, shim6_cause_name, shim6_event_name, shim6_poll_event,
};
pub use handle::{Shim, shim6_free, shim6_new, shim6_set_identity};
pub use identity::{
    Identity, shim6_identity_address, shim6_identity_after_collision, shim6_identity_count, shim6_identity_free,
    shim6_identity_generate, shim6_identity_load, shim6_identity_save,
};
pub use packets::{
    shim6_handle_locator, shim6_handle_timeout, shim6_poll_deliver, shim6_poll_timeout, shim6_poll_transmit,
    shim6_receive, shim6_send,
};
pub use queries::{
    ContextInfo, ContextState, Counters, PathInfo, shim6_context, shim6_contexts, shim6_discard, shim6_get_counters,
    shim6_path, shim6_session,
};
pub use status::{Status, shim6_strerror, shim6_version};
pub use types::{
    Address, Flow, Pair, Preference, SHIM6_HEADROOM, SHIM6_LEAST_BUFFER, SHIM6_NEVER, SHIM6_SEED_LEN,
    shim6_flow_of_received, shim6_flow_of_sent,
};
