//! Why a received packet was dropped.

use core::fmt;

macro_rules! discards {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, )*) => {
        /// The reason for which a received packet was dropped: one counter each.
        ///
        /// The first group are faults of the octets themselves ([`ParseError`]); the second are
        /// packets that are well formed and that the endpoint refuses.
        ///
        /// [`ParseError`]: super::ParseError
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Discard {
            $( $(#[$doc])* $variant, )*
        }

        impl Discard {
            /// Every reason, in the order of [`Discard::index`].
            pub const ALL: &'static [Discard] = &[$( Discard::$variant, )*];

            /// A stable name in `snake_case`, for counters and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Discard::$variant => $name, )*
                }
            }
        }
    };
}

discards! {
    /// Fewer than the 8 octets that every Shim6 header has.
    Truncated = "truncated",
    /// A payload header where a control message was expected.
    NotControl = "not_control",
    /// A control message where a payload header was expected.
    NotPayload = "not_payload",
    /// A payload header whose Hdr Ext Len is not 0.
    PayloadHeaderLength = "payload_header_length",
    /// Hdr Ext Len reaches past the end of the packet.
    LengthPastEnd = "length_past_end",
    /// The checksum is wrong.
    BadChecksum = "bad_checksum",
    /// The S bit is set: a HIP message or garbage.
    SBitSet = "s_bit_set",
    /// A message type that we do not know.
    UnknownMessageType = "unknown_message_type",
    /// Shorter than the fixed part of its message type.
    BelowMinimumLength = "below_minimum_length",
    /// An option reaches past the end of its message.
    OptionPastEnd = "option_past_end",
    /// An option that may occur once occurs twice.
    DuplicateOption = "duplicate_option",
    /// The contents of an option do not fit its definition.
    MalformedOption = "malformed_option",
    /// An option that the message must have is missing.
    MissingOption = "missing_option",
    /// An option that we do not know, or that is not valid there, has its critical bit set.
    UnknownCriticalOption = "unknown_critical_option",
    /// The state in a Probe is 3, which is not defined.
    ProbeState = "probe_state",
    /// The probe counts do not fit the length, or no sent probe is there.
    ProbeCount = "probe_count",
    /// The number of locators does not fit the option's Length.
    LocatorCount = "locator_count",
    /// A Locator List without locators.
    ZeroLocators = "zero_locators",
    /// Locator Preferences with Element Len 0.
    ZeroElementLen = "zero_element_len",

    /// The source or destination is a multicast address.
    Multicast = "multicast",
    /// The source or destination is the unspecified address.
    UnspecifiedAddress = "unspecified_address",
    /// No context has the tag, ULIDs or nonce of the packet.
    NoContext = "no_context",
    /// The source or destination is not among the context's locators.
    LocatorNotInSet = "locator_not_in_set",
    /// The Responder Validator is not one that we computed for these parameters.
    BadValidator = "bad_validator",
    /// The Responder Validator is ours and too old.
    StaleValidator = "stale_validator",
    /// A reply (R1, R2) for which we initiated nothing.
    NoMatchingInitiator = "no_matching_initiator",
    /// The locators do not belong to the HBA set.
    HbaVerificationFailed = "hba_verification_failed",
    /// The locators whose method is CGA come without a signature by the key of the ULID.
    SignatureVerificationFailed = "signature_verification_failed",
    /// The CGA parameters are not those of the peer's ULID.
    ParametersNotOfUlid = "parameters_not_of_ulid",
    /// A verification method that we do not support.
    UnsupportedVerificationMethod = "unsupported_verification_method",
    /// The context's state does not take this message.
    WrongState = "wrong_state",
    /// The configuration does not let the peer set up a context.
    NotAnswered = "not_answered",
    /// A bound on the number of contexts is reached.
    ContextLimit = "context_limit",
    /// A rate limit is reached.
    RateLimited = "rate_limited",
    /// A message of ours that does not fit its packet, because it would have to carry back too much.
    TooLong = "too_long",
    /// Preferences for another list than the one that the peer has told.
    PreferenceGeneration = "preference_generation",
    /// Preferences for another number of locators than the peer's list has.
    PreferenceCount = "preference_count",
    /// An Update Acknowledgement, or an Error about an Update Request, for which no update is under way.
    NoMatchingUpdate = "no_matching_update",
    /// An Error whose packet in error is none that we could have sent.
    NoPacketInError = "no_packet_in_error",
    /// An ICMPv6 error about a control message that changes nothing.
    IcmpIgnored = "icmp_ignored",
    /// A packet that is neither Shim6 nor an ICMPv6 error about Shim6.
    Unrelated = "unrelated",
    /// More is waiting to be fetched by the owner of the endpoint than there is room for.
    QueueFull = "queue_full",
    /// Our own packet came back.
    OwnPacket = "own_packet",
}

impl Discard {
    /// Position in [`Discard::ALL`], to index an array of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn index_is_the_position_in_all() {
        for (position, discard) in Discard::ALL.iter().enumerate() {
            assert_eq!(discard.index(), position);
        }
    }

    #[test]
    fn names_are_distinct_snake_case() {
        let names: BTreeSet<_> = Discard::ALL.iter().map(|discard| discard.as_str()).collect();
        assert_eq!(names.len(), Discard::ALL.len());
        for name in names {
            assert!(
                name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_'),
                "{name}"
            );
        }
    }
}
