//! Arguments that several subcommands take.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

use anyhow::Context as _;
use clap::Args;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use shim6_cga::{KeySizes, Sec, SubnetPrefix};

use crate::config::{self, Config, ConfigError, Prefix64, Source};
use crate::identity::{Store, hex};

/// Hashes per second of one thread that times are told for: the order of magnitude of a processor of today.
const TYPICAL_RATE: f64 = 1e7;
const SECONDS_PER_YEAR: f64 = 31_557_600.0;

/// Where the identity is.
#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    /// Directory of the identity [default: that of the daemon: as in /etc/shim6/shim6.toml, else /var/lib/shim6/identity]
    #[arg(long = "identity", value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// How the modifier is searched for.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// 32 octets to take modifier and nonce from, so that the addresses come out the same again
    ///
    /// The same seed, prefixes, Sec and key give the same addresses, with any number of threads. The seed never covers a
    /// key: --new-key makes another one each time. Whoever knows the seed can tell the addresses beforehand.
    #[arg(long, value_name = "HEX")]
    pub(super) seed: Option<Seed>,
    /// Threads that search; any number gives the same addresses [default: one per processor]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(super) threads: Option<NonZeroUsize>,
}

/// The octets that a modifier and a nonce are made from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Seed([u8; 32]);

impl IdentityArgs {
    /// The directory asked for, else that of the daemon.
    pub(super) fn store(&self) -> anyhow::Result<Store> {
        if let Some(directory) = &self.directory {
            return Ok(Store::new(directory));
        }
        let configured = configuration()?.addresses.identity;
        configured.map(Store::new).with_context(|| {
            format!(
                "the daemon is to keep no identity: addresses.identity is \"none\" in {}; name a directory there, or with \
                 --identity",
                config::DEFAULT_PATH
            )
        })
    }

    /// What a next command has to be told about the directory.
    pub(super) fn repeated(&self) -> String {
        let directory = self.directory.as_ref();
        directory.map_or(String::new(), |directory| {
            format!(" --identity {}", directory.display())
        })
    }
}

impl SearchArgs {
    pub(super) fn threads(&self) -> NonZeroUsize {
        let available = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(available)
    }
}

impl Seed {
    /// A generator whose octets are those of ChaCha20 with the seed as key.
    pub(super) fn rng(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.0)
    }
}

/// Whoever sees the seed knows the addresses beforehand.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The daemon's configuration; without its file, the built-in defaults.
pub(super) fn configuration() -> Result<Config, ConfigError> {
    Source::new(None).load().map(|loaded| loaded.config)
}

/// A prefix that a host can have an address under, as argument.
pub(super) fn prefix(text: &str) -> Result<SubnetPrefix, String> {
    let expected = "expected a /64 such as 2001:db8:a::/64";
    let prefix: Prefix64 = text.parse().map_err(|error| format!("{error}; {expected}"))?;
    let prefix = SubnetPrefix::new(prefix.octets());
    match prefix.octets()[0] {
        0x20..=0x3f | 0xfc | 0xfd => Ok(prefix),
        _ => Err(format!(
            "{prefix} is neither global unicast (2000::/3) nor unique local (fc00::/7)"
        )),
    }
}

/// A Sec with a registered meaning, as argument.
pub(super) fn sec(text: &str) -> Result<Sec, String> {
    let expected = "expected 0, 1 or 2";
    let value: u8 = text.parse().map_err(|_| expected.to_owned())?;
    Sec::try_from(value).map_err(|_| match value {
        3..=7 => {
            let bits = 16 * u32::from(value);
            let years = 2_f64.powi(bits as i32) / TYPICAL_RATE / SECONDS_PER_YEAR;
            format!(
                "{expected}: no other value has a registered meaning (RFC 4982), and the 2^{bits} hashes for this one \
                 would take a thread some {} years",
                rounded(years)
            )
        }
        _ => format!("{expected}: there are three bits for it, and no other value has a registered meaning (RFC 4982)"),
    })
}

/// A size of RSA keys that is accepted, in bits, as argument.
pub(super) fn key_bits(text: &str) -> Result<usize, String> {
    let sizes = KeySizes::default();
    let bits = text.parse().ok().filter(|bits| sizes.contains(*bits));
    bits.ok_or_else(|| format!("expected {sizes}"))
}

/// Whether there can be a set for these prefixes, of which at most `most` fit a message.
pub(super) fn check_prefixes(prefixes: &[SubnetPrefix], most: usize) -> Result<(), String> {
    for (index, prefix) in prefixes.iter().enumerate() {
        if prefixes[..index].contains(prefix) {
            return Err(format!("the prefix {prefix} is given twice; give each once"));
        }
    }
    if prefixes.len() > most {
        return Err(format!(
            "{} prefixes are given; more than {most} do not fit a message of 1280 octets with this kind of key",
            prefixes.len()
        ));
    }
    Ok(())
}

/// Octets of the SubjectPublicKeyInfo of an RSA key of `bits` bits and the exponent 65537.
pub(super) const fn public_key_len(bits: usize) -> usize {
    // The highest bit of a modulus is set, so that an octet goes before it where the size is one of whole octets.
    let modulus = element_len(bits / 8 + 1);
    let rsa_public_key = element_len(modulus + element_len(3));
    const RSA_ENCRYPTION: usize = 15;
    element_len(RSA_ENCRYPTION + element_len(1 + rsa_public_key))
}

/// Octets of a DER element with that much content.
const fn element_len(content: usize) -> usize {
    content
        + match content {
            0..0x80 => 2,
            0x80..0x100 => 3,
            _ => 4,
        }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let octets = hex::decode(text).map_err(|error| format!("{error}; expected 64 hexadecimal digits"))?;
        let octets = octets.try_into();
        octets.map(Self).map_err(|octets: Vec<u8>| {
            let found = octets.len();
            format!("these are {found} octets; expected 32, that is 64 hexadecimal digits")
        })
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number: Option<NonZeroUsize> = text.parse().ok();
    number
        .filter(|number| number.get() <= 1024)
        .ok_or_else(|| "expected a number from 1 to 1024".to_owned())
}

/// A number of years with the digits that matter.
fn rounded(years: f64) -> String {
    if years < 10.0 {
        format!("{years:.1}")
    } else if years < 1e6 {
        format!("{years:.0}")
    } else {
        format!("{years:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;
    use shim6_cga::PrivateKey;

    use super::*;

    #[test]
    fn only_prefixes_that_hosts_have_are_taken() {
        for good in [
            "2001:db8:a::/64",
            "2000::/64",
            "3fff:ffff::/64",
            "fd00:1::/64",
            "fc00::/64",
        ] {
            assert_eq!(prefix(good).expect(good).to_string(), good);
        }
        for (bad, why) in [
            ("2001:db8:a::", "has no prefix length"),
            ("2001:db8:a::/48", "is not a /64"),
            ("2001:db8:a::/065", "is not a /64"),
            ("2001:db8:a::1/64", "it has bits set after the first 64"),
            ("ff02::/64", "is multicast"),
            ("fe80::/64", "is link-local"),
            ("::/64", "is reserved"),
            ("::1/64", "it has bits set after the first 64"),
            ("fec0::/64", "is neither global unicast"),
            ("64:ff9b::/64", "is neither global unicast"),
            ("0:0:0:1::/64", "is neither global unicast"),
            ("192.0.2.0/64", "is not an IPv6 prefix"),
            ("", "has no prefix length"),
        ] {
            let said = prefix(bad).expect_err(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn sec_without_meaning_is_refused_with_its_cost() {
        assert_eq!(sec("0"), Ok(Sec::ZERO));
        assert_eq!(sec("2"), Ok(Sec::TWO));
        let three = sec("3").expect_err("3");
        assert!(
            three.contains("RFC 4982") && three.contains("2^48 hashes") && three.contains(" 0.9 years"),
            "{three}"
        );
        assert!(sec("4").expect_err("4").contains("some 58454 years"));
        assert!(sec("7").expect_err("7").contains("some 2e19 years"));
        assert!(sec("8").expect_err("8").contains("three bits"));
        assert_eq!(sec("-1"), Err("expected 0, 1 or 2".to_owned()));
        assert_eq!(sec("two"), Err("expected 0, 1 or 2".to_owned()));
    }

    #[test]
    fn seeds_are_32_octets_and_not_shown() {
        let text = "AB".repeat(32);
        let given = Seed::from_str(&text).expect("32 octets");
        assert_eq!(given, Seed([0xab; 32]));
        assert_eq!(format!("{given:?}"), "Seed(..)");
        assert!(
            Seed::from_str("ab")
                .expect_err("1 octet")
                .contains("these are 1 octets; expected 32")
        );
        assert!(
            Seed::from_str(&"x".repeat(64))
                .expect_err("no digits")
                .contains("expected 64 hexadecimal digits")
        );
        let mut octets = [0; 8];
        Seed([0; 32]).rng().fill_bytes(&mut octets);
        // The start of the key stream of ChaCha20 with a zero key and nonce, RFC 8439 appendix A.1.
        assert_eq!(octets, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(key_bits("1024"), Ok(1024));
        assert_eq!(key_bits("512"), Err("expected 1024 to 3072 bits".to_owned()));
        assert!(key_bits("8192").is_err());
        assert!(threads("0").is_err());
        assert!(threads("1025").is_err());
        assert_eq!(threads("1024").map(NonZeroUsize::get), Ok(1024));
    }

    #[test]
    fn prefixes_given_twice_or_too_many_are_refused() {
        let prefixes: Vec<_> = (0..64)
            .map(|number| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, number]))
            .collect();
        assert_eq!(check_prefixes(&prefixes[..2], 2), Ok(()));
        let twice = [prefixes[0], prefixes[1], prefixes[0]];
        assert!(
            check_prefixes(&twice, 3)
                .expect_err("twice")
                .contains("2001:db8::/64 is given twice")
        );
        assert_eq!(check_prefixes(&prefixes[..32], 32), Ok(()));
        let said = check_prefixes(&prefixes[..33], 32).expect_err("one too many");
        assert!(
            said.contains("33 prefixes are given; more than 32 do not fit"),
            "{said}"
        );
    }

    #[test]
    fn length_of_a_key_is_known_before_it_is_made() {
        for bits in [1024, 1025, 1032, 1056] {
            let sizes = KeySizes::default();
            let key = PrivateKey::generate(bits, sizes, &mut rand::rng()).expect("a key");
            assert_eq!(key.public_key().spki().len(), public_key_len(bits), "{bits}");
        }
        // As OpenSSL writes them.
        assert_eq!([public_key_len(2048), public_key_len(3072)], [294, 422]);
    }
}
