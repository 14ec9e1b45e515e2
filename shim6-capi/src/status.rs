//! What functions give back, and texts for people.

use std::ffi::{CStr, c_char};

use shim6_core::shim::ForkError;
use shim6_core::{EstablishError, PathError};

/// What a function did. Negative: nothing, because of an error of the caller's or because it cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done; what comes out has been written.
    Ok = 0,
    /// There is nothing: no packet comes of it, or nothing is waiting, or there is no such thing.
    None = 1,
    /// Begun: an event tells if it succeeds.
    Pending = 2,
    /// A pointer is NULL that must not be, or a handle is misaligned.
    BadPointer = -1,
    /// A structure has a size that this version of the library does not know.
    BadSize = -2,
    /// A number is out of its range.
    BadArgument = -3,
    /// There are fewer than SHIM6_HEADROOM octets in front of the packet.
    NoHeadroom = -4,
    /// The buffer is too short. Nothing is lost: try again with a longer one.
    BufferTooShort = -5,
    /// There is no prefix, or too many, or one twice, or one under which a host can have no address.
    BadPrefixes = -6,
    /// The octets are no identity that was saved.
    BadIdentity = -7,
    /// Three sets of addresses were in use by others already (RFC 5535 section 6).
    TooManyCollisions = -8,
    /// The first address is none of this host's identity, or the second one is.
    NotOurs = -9,
    /// The pair shall have no contexts, as shim6_set_protection said.
    Never = -10,
    /// There is such a context already.
    Exists = -11,
    /// An exchange with the peer failed lately, so it is left alone for a while.
    HoldDown = -12,
    /// As many contexts or flows as the configuration allows.
    Limit = -13,
    /// There is no such context.
    NoContext = -14,
    /// The context is not established yet.
    NotEstablished = -15,
    /// Not a pair of locators of this context that both hosts have verified.
    NotAPair = -16,
    /// The local locator cannot be used now, as shim6_handle_locator said.
    Unusable = -17,
    /// The context is looking for a working pair by itself.
    Searching = -18,
    /// The context sent a test a moment ago.
    TooSoon = -19,
    /// Too many probes that were asked for are under way.
    Busy = -20,
    /// A fault in this library. The handle can only be freed.
    Internal = -99,
}

/// The result of what a function does; both sides are a status.
pub(crate) type Outcome = Result<Status, Status>;

const TEXTS: [(Status, &CStr); 24] = [
    (Status::Ok, c"done"),
    (Status::None, c"there is nothing"),
    (Status::Pending, c"begun, an event tells if it succeeds"),
    (Status::BadPointer, c"a pointer is NULL or a handle misaligned"),
    (
        Status::BadSize,
        c"a structure has an unknown size: the header is of another version than the library",
    ),
    (Status::BadArgument, c"a number is out of its range"),
    (
        Status::NoHeadroom,
        c"fewer than SHIM6_HEADROOM octets in front of the packet",
    ),
    (
        Status::BufferTooShort,
        c"the buffer is too short: try again with a longer one",
    ),
    (
        Status::BadPrefixes,
        c"no prefix, too many, one twice, or one under which no host can have an address",
    ),
    (Status::BadIdentity, c"no identity that was saved: generate a new one"),
    (
        Status::TooManyCollisions,
        c"three sets of addresses were in use already: look who uses them, or generate a new identity",
    ),
    (
        Status::NotOurs,
        c"no pair of an address of this host's identity and one of a peer",
    ),
    (Status::Never, c"the pair shall have no contexts: shim6_set_protection"),
    (Status::Exists, c"there is such a context already"),
    (
        Status::HoldDown,
        c"an exchange with the peer failed lately: try again later",
    ),
    (Status::Limit, c"as many contexts or flows as the configuration allows"),
    (Status::NoContext, c"there is no such context"),
    (Status::NotEstablished, c"the context is not established yet"),
    (
        Status::NotAPair,
        c"no pair of locators of this context that both hosts have verified",
    ),
    (
        Status::Unusable,
        c"the local locator cannot be used now: shim6_handle_locator",
    ),
    (
        Status::Searching,
        c"the context is looking for a working pair by itself",
    ),
    (
        Status::TooSoon,
        c"the context sent a test a moment ago: try again later",
    ),
    (Status::Busy, c"too many probes are under way: try again later"),
    (Status::Internal, c"a fault in libshim6: free the handle"),
];

impl From<EstablishError> for Status {
    fn from(error: EstablishError) -> Self {
        match error {
            EstablishError::NotOurs(_) => Self::NotOurs,
            EstablishError::Never(_) => Self::Never,
            EstablishError::Exists(_) => Self::Exists,
            EstablishError::HoldDown { .. } => Self::HoldDown,
            EstablishError::Limit => Self::Limit,
            _ => Self::Internal,
        }
    }
}

impl From<ForkError> for Status {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::Establish(error) => error.into(),
            ForkError::Forked => Self::Exists,
            ForkError::Limit { .. } => Self::Limit,
            _ => Self::Internal,
        }
    }
}

impl From<PathError> for Status {
    fn from(error: PathError) -> Self {
        match error {
            PathError::NoContext => Self::NoContext,
            PathError::NotEstablished => Self::NotEstablished,
            PathError::NotAPair(_) => Self::NotAPair,
            PathError::Unusable(_) => Self::Unusable,
            PathError::Searching => Self::Searching,
            PathError::TooSoon { .. } => Self::TooSoon,
            PathError::Busy => Self::Busy,
            _ => Self::Internal,
        }
    }
}

/// What a status means, for people; never NULL, whatever the number. The text is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_strerror(status: i32) -> *const c_char {
    let text = TEXTS.iter().find(|(known, _)| *known as i32 == status);
    text.map_or(c"an unknown status", |&(_, text)| text).as_ptr()
}

/// The version of this library, such as "0.1.0". The text is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
