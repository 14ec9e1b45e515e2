//! What an embedder may set, with the defaults of RFC 5533 section 14 and RFC 5534 section 7.

use core::time::Duration;

use shim6_cga::KeySizes;
use shim6_reap::Config as ReapConfig;

/// Configuration of an [`Endpoint`](crate::Endpoint).
#[derive(Debug, Clone, Default)]
pub struct EndpointConfig {
    /// REAP timing wished for with peers that announce that they know [`KeepaliveTimeoutMs`]. Towards any other peer a
    /// Send Timeout below the RFC's 15 s is raised to it and the RFC's probe intervals apply.
    ///
    /// [`KeepaliveTimeoutMs`]: crate::wire::OptionType::KEEPALIVE_TIMEOUT_MS
    pub reap: ReapConfig,
    /// Timers of the four-way exchange.
    pub establishment: EstablishmentConfig,
    /// Bounds on everything that a peer can make grow.
    pub limits: LimitsConfig,
}

/// Timers of context establishment (RFC 5533 section 14).
#[derive(Debug, Clone)]
pub struct EstablishmentConfig {
    /// First I1 retransmission interval, before backoff and randomisation. 4 s.
    pub i1_timeout: Duration,
    /// How often an I1 is retransmitted. 4.
    pub i1_retries_max: u32,
    /// First I2 retransmission interval. 4 s.
    pub i2_timeout: Duration,
    /// How often an I2 is retransmitted before falling back to I1. 2.
    pub i2_retries_max: u32,
    /// How long a peer that stayed silent is left alone. 60 s.
    pub no_r1_holddown: Duration,
    /// How long a Responder Validator is accepted. 30 s.
    pub validator_lifetime: Duration,
}

impl Default for EstablishmentConfig {
    fn default() -> Self {
        Self {
            i1_timeout: Duration::from_secs(4),
            i1_retries_max: 4,
            i2_timeout: Duration::from_secs(4),
            i2_retries_max: 2,
            no_r1_holddown: Duration::from_secs(60),
            validator_lifetime: Duration::from_secs(30),
        }
    }
}

/// Bounds on what a peer can make grow or make us send.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Contexts in total, being set up or established. 10,000.
    pub contexts: usize,
    /// Contexts with one peer ULID. 16.
    pub contexts_per_peer: usize,
    /// Locators accepted in a peer's list. 16.
    pub peer_locators: usize,
    /// Remembered peers that did not answer. 4,096.
    pub holddowns: usize,
    /// Messages waiting in the output queue; further ones are dropped and counted. 4,096.
    pub transmit_queue: usize,
    /// R1 messages per second, all peers together. 10,000.
    pub r1_per_second: u32,
    /// R2 messages per second, all peers together. 10,000.
    pub r2_per_second: u32,
    /// Error messages per second, all peers together. 10.
    pub errors_per_second: u32,
    /// Locator lists and parameters verified per second: each costs a few hashes. 20,000.
    pub verifications_per_second: u32,
    /// Signatures verified per second, all peers together: each costs about a tenth of a millisecond. 1,000.
    pub signatures_per_second: u32,
    /// RSA keys accepted from peers, by the size of their modulus: see [`KeySizes`].
    pub peer_key_sizes: KeySizes,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            contexts: 10_000,
            contexts_per_peer: 16,
            peer_locators: 16,
            holddowns: 4_096,
            transmit_queue: 4_096,
            r1_per_second: 10_000,
            r2_per_second: 10_000,
            errors_per_second: 10,
            verifications_per_second: 20_000,
            signatures_per_second: 1_000,
            peer_key_sizes: KeySizes::default(),
        }
    }
}
