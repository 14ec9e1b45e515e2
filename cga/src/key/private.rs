//! RSA private keys, and PKCS #8 in which they are kept.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::fmt;

use rand_core::CryptoRng;
use rsa::{
    BoxedUint, RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey,
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding, der::pem},
};
use zeroize::Zeroizing;

use super::{KeyError, KeyField, KeySizes, PublicKey, public, reader::Reader};

const OCTET_STRING: u8 = 0x04;
/// The attributes of PrivateKeyInfo: the tag `[0]` of something that holds elements.
const ATTRIBUTES: u8 = 0xa0;

/// The label of PKCS #8 in PEM (RFC 7468 section 10).
const PEM_LABEL: &str = "PRIVATE KEY";

/// An RSA private key of two primes, with its public key.
///
/// Its numbers are zeroized when it is dropped, and the encodings of it when they were used; what is left behind by
/// computing with it is not. `Debug` shows the size and nothing else.
pub struct PrivateKey {
    pub(crate) rsa: RsaPrivateKey,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a key with a modulus of `bits` bits and the public exponent 65537.
    ///
    /// `rng` decides the key: it has to be unpredictable. How long it takes is a matter of luck: some tenths of a second for
    /// 2048 bits, or several times as long.
    pub fn generate(bits: usize, sizes: KeySizes, rng: &mut dyn CryptoRng) -> Result<Self, KeyError> {
        if !sizes.contains(bits) {
            return Err(KeyError::Size { found: bits, sizes });
        }
        let rsa = RsaPrivateKey::new(rng, bits).map_err(|_| KeyError::Inconsistent)?;
        Self::from_rsa(rsa, sizes)
    }

    /// Reads the PEM block `PRIVATE KEY` (RFC 7468 section 10); see [`from_pkcs8_der`](Self::from_pkcs8_der).
    ///
    /// Text in front of the block is skipped, and nothing but line ends may follow it. What else is often found in a
    /// key file has an error of its own: an encrypted key, PKCS #1, a public key.
    pub fn from_pkcs8_pem(text: &str, sizes: KeySizes) -> Result<Self, KeyError> {
        check_pem_label(text)?;
        let mut decoder = pem::Decoder::new(text.as_bytes()).map_err(|_| KeyError::PemBody)?;
        let mut octets = Zeroizing::new(vec![0; decoder.remaining_len()]);
        decoder.decode(&mut octets).map_err(|_| KeyError::PemBody)?;
        Self::from_pkcs8_der(&octets, sizes)
    }

    /// Reads an unencrypted PKCS #8 PrivateKeyInfo of rsaEncryption, version 0 (RFC 5208 section 5).
    ///
    /// Strict as [`PublicKey::from_spki`] is; attributes are ignored. The numbers have to be those of one key of two
    /// different factors, the redundant ones included. Whether the factors are prime is not tested: if they are not, then
    /// signing fails, as each signature is verified before it is given out.
    pub fn from_pkcs8_der(octets: &[u8], sizes: KeySizes) -> Result<Self, KeyError> {
        let mut info = Reader::whole_sequence(KeyField::PrivateKeyInfo, octets)?;
        if !info.unsigned(KeyField::PrivateKeyInfoVersion)?.is_empty() {
            return Err(KeyError::Version {
                field: KeyField::PrivateKeyInfoVersion,
            });
        }
        info.rsa_encryption()?;
        let pkcs1 = info.element(KeyField::PrivateKey, OCTET_STRING)?;
        if !info.is_empty() {
            info.element(KeyField::Attributes, ATTRIBUTES)?;
        }
        info.end()?;

        let key = Self::from_rsa(read_rsa_private_key(pkcs1, sizes)?, sizes)?;
        // The numbers that follow from the others were not read.
        let encoded = key.rsa.to_pkcs1_der().map_err(|_| KeyError::Inconsistent)?;
        if encoded.as_bytes() != pkcs1 {
            return Err(KeyError::Inconsistent);
        }
        Ok(key)
    }

    /// The key as PKCS #8 in a PEM block `PRIVATE KEY`, with line feeds.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        self.rsa
            .to_pkcs8_pem(LineEnding::LF)
            .expect("was encoded when the key was made or read")
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn from_rsa(rsa: RsaPrivateKey, sizes: KeySizes) -> Result<Self, KeyError> {
        // Fails for two equal factors, which have no coefficient.
        rsa.to_pkcs8_der().map_err(|_| KeyError::Inconsistent)?;
        let spki = rsa
            .as_public_key()
            .to_public_key_der()
            .map_err(|_| KeyError::Inconsistent)?;
        let public = PublicKey::from_spki(spki.as_bytes(), sizes)?;
        Ok(Self { rsa, public })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("bits", &self.public.bits())
            .finish_non_exhaustive()
    }
}

/// Reads an RSAPrivateKey (RFC 8017 appendix A.1.2), but not the numbers that follow from the others.
fn read_rsa_private_key(octets: &[u8], sizes: KeySizes) -> Result<RsaPrivateKey, KeyError> {
    let mut key = Reader::whole_sequence(KeyField::RsaPrivateKey, octets)?;
    match key.unsigned(KeyField::RsaPrivateKeyVersion)? {
        [] => {}
        [1] => return Err(KeyError::MultiPrime),
        _ => {
            return Err(KeyError::Version {
                field: KeyField::RsaPrivateKeyVersion,
            });
        }
    }
    let modulus = key.unsigned(KeyField::Modulus)?;
    let exponent = key.unsigned(KeyField::PublicExponent)?;
    let private_exponent = key.unsigned(KeyField::PrivateExponent)?;
    let primes = [key.unsigned(KeyField::Prime1)?, key.unsigned(KeyField::Prime2)?];
    for field in [KeyField::Exponent1, KeyField::Exponent2, KeyField::Coefficient] {
        key.unsigned(field)?;
    }
    key.end()?;

    // First what bounds the work.
    public::check_modulus(modulus, sizes)?;
    let exponent = public::read_exponent(exponent)?;
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    let bits = modulus.bits_vartime();
    let read = |number, bits| BoxedUint::from_be_slice(number, bits).map_err(|_| KeyError::Inconsistent);
    let private_exponent = read(private_exponent, bits)?;
    let primes = primes
        .into_iter()
        .map(|prime| read(prime, bits.div_ceil(2)))
        .collect::<Result<Vec<_>, _>>()?;
    RsaPrivateKey::from_components(modulus, exponent, private_exponent, primes).map_err(|_| KeyError::Inconsistent)
}

/// Looks for the first PEM block and says what it is if it is not [`PEM_LABEL`].
fn check_pem_label(text: &str) -> Result<(), KeyError> {
    let (_, block) = text.split_once("-----BEGIN ").ok_or(KeyError::NoPem)?;
    let (label, _) = block.split_once("-----").ok_or(KeyError::NoPem)?;
    match label {
        PEM_LABEL => Ok(()),
        "ENCRYPTED PRIVATE KEY" => Err(KeyError::EncryptedPem),
        "RSA PRIVATE KEY" => Err(KeyError::Pkcs1Pem),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(KeyError::PublicKeyPem),
        // Not of any length, nor with control characters: it goes into messages.
        _ if label.len() > 64 || !label.bytes().all(|octet| matches!(octet, b' '..=b'~')) => Err(KeyError::NoPem),
        _ => Err(KeyError::OtherPem {
            label: label.to_string(),
        }),
    }
}
