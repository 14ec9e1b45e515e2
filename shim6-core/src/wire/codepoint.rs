//! Code points: newtypes, so that values unknown to us survive.

use core::fmt;

macro_rules! code_points {
    ($(
        $(#[$type_doc:meta])*
        $type:ident($inner:ty) {
            $( $(#[$doc:meta])* $constant:ident = $value:literal, $name:literal; )*
        }
    )*) => { $(
        $(#[$type_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $type(
            /// The number on the wire.
            pub $inner,
        );

        impl $type {
            $( $(#[$doc])* pub const $constant: $type = $type($value); )*

            /// The name that the defining document gives to the value, `None` when it is unknown.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($name), )*
                    _ => None,
                }
            }
        }

        /// The name, or the number when it has none.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => fmt::Display::fmt(&self.0, f),
                }
            }
        }
    )* };
}

code_points! {
    /// Type of a control message, 7 bits (RFC 5533 section 5.3, table 1).
    MessageType(u8) {
        /// First message of the exchange, from the initiator.
        I1 = 1, "I1";
        /// Answer to I1, from a responder that keeps no state.
        R1 = 2, "R1";
        /// Third message of the exchange, from the initiator.
        I2 = 3, "I2";
        /// Last message of the exchange, from the responder.
        R2 = 4, "R2";
        /// Answer to a reference to a context that does not exist.
        R1BIS = 5, "R1bis";
        /// Answer to R1bis.
        I2BIS = 6, "I2bis";
        /// New locators or preferences.
        UPDATE_REQUEST = 64, "Update Request";
        /// Answer to an Update Request.
        UPDATE_ACKNOWLEDGEMENT = 65, "Update Acknowledgement";
        /// Shows the peer that its packets arrive (RFC 5534).
        KEEPALIVE = 66, "Keepalive";
        /// Explores locator pairs (RFC 5534).
        PROBE = 67, "Probe";
        /// Tells the peer what could not be processed.
        ERROR = 68, "Error";
    }

    /// Type of an option, 15 bits, without the critical bit (RFC 5533 section 5.15, table 3).
    OptionType(u16) {
        /// Responder Validator, in R1, I2 and I2bis.
        RESPONDER_VALIDATOR = 1, "Responder Validator";
        /// Locator List.
        LOCATOR_LIST = 2, "Locator List";
        /// Locator Preferences.
        LOCATOR_PREFERENCES = 3, "Locator Preferences";
        /// CGA Parameter Data Structure.
        CGA_PARAMETERS = 4, "CGA Parameter Data Structure";
        /// CGA Signature.
        CGA_SIGNATURE = 5, "CGA Signature";
        /// ULID Pair.
        ULID_PAIR = 6, "ULID Pair";
        /// Forked Instance Identifier.
        FORKED_INSTANCE = 7, "Forked Instance Identifier";
        /// Keepalive Timeout in seconds (RFC 5534).
        KEEPALIVE_TIMEOUT = 10, "Keepalive Timeout";
        /// Keepalive Timeout in milliseconds: ours, from the experimental range. Peers that do not
        /// know it ignore it.
        KEEPALIVE_TIMEOUT_MS = 21302, "Keepalive Timeout in milliseconds";
    }

    /// Error Code of an Error message, 7 bits (RFC 5533 section 5.14, table 2).
    ErrorCode(u8) {
        /// Unknown message type; the pointer is at the type.
        UNKNOWN_MESSAGE_TYPE = 0, "unknown Shim6 message type";
        /// Critical option not recognized; the pointer is at the option's type.
        CRITICAL_OPTION = 1, "critical option not recognized";
        /// Locator verification method failed; the pointer is at the method's octet.
        VERIFICATION_METHOD = 2, "locator verification method failed";
        /// Locator List Generation number out of sync.
        GENERATION_OUT_OF_SYNC = 3, "Locator List Generation number out of sync";
        /// Wrong number of locators in a Locator Preferences option.
        PREFERENCE_COUNT = 4, "error in the number of locators in a Locator Preference option";
    }

    /// How ownership of a locator is shown (RFC 5533 section 5.15.2, table 4).
    VerificationMethod(u8) {
        /// Hash-based address (RFC 5535).
        HBA = 1, "HBA";
        /// Cryptographically generated address (RFC 3972), with a signature.
        CGA = 2, "CGA";
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn unknown_values_keep_their_number() {
        assert_eq!(format!("{} {}", MessageType::R1BIS, MessageType(9)), "R1bis 9");
        assert_eq!(OptionType(8).name(), None);
        assert_eq!(format!("{}", VerificationMethod(201)), "201");
    }
}
