//! Wire format of Shim6 (RFC 5533 section 5).
