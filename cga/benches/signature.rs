//! Signing and verifying a locator list beside the bare RSA signature of the `rsa` crate on the same octets.
//!
//! `cargo bench -p shim6-cga --bench signature`

mod paired;

use std::hint::black_box;
use std::net::Ipv6Addr;

use paired::{Effort, row_of_times, title};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey},
};
use sha1::{Digest, Sha1};
use shim6_cga::{CgaParameters, KeySizes, MessageTypeTag, PrivateKey, Sec, SubnetPrefix};

const GENERATION: u32 = 7;
const LOCATORS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 2),
];

fn main() {
    let effort = Effort::from_args();
    let keys = [1024, 2048, 3072].map(|bits| (bits, Key::new(bits)));
    title(
        "RSA signatures over two locators",
        ["", "shim6-cga", "rsa", "shim6-cga / rsa"],
    );
    for (bits, key) in &keys {
        key.compare_signing(effort, *bits);
    }
    for (bits, key) in &keys {
        key.compare_verifying(effort, *bits);
    }
    for (bits, key) in &keys {
        key.compare_verifying_all(effort, *bits);
    }
}

/// A key, read by us and by the `rsa` crate, and what it has to do.
struct Key {
    ours: PrivateKey,
    private: RsaPrivateKey,
    public: RsaPublicKey,
    hash: [u8; 20],
    signature: Vec<u8>,
}

impl Key {
    fn new(bits: usize) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(bits as u64);
        let ours = PrivateKey::generate(bits, KeySizes::default(), &mut rng).expect("a key");
        let private = RsaPrivateKey::from_pkcs8_pem(&ours.to_pkcs8_pem()).expect("the same key");
        let public = RsaPublicKey::from_public_key_der(ours.public_key().spki()).expect("the same key");
        let mut hash = Sha1::new_with_prefix(MessageTypeTag::SHIM6.0);
        hash.update(GENERATION.to_be_bytes());
        for locator in LOCATORS {
            hash.update(locator.octets());
        }
        let signature = ours
            .sign_locators(GENERATION, &LOCATORS, &mut rng)
            .expect("a signature");
        Self {
            ours,
            private,
            public,
            hash: hash.finalize().into(),
            signature,
        }
    }

    fn verify_with_rsa(&self) {
        let verdict = self.public.verify(scheme(), &self.hash, black_box(&self.signature));
        black_box(verdict).expect("verifies");
    }

    fn compare_signing(&self, effort: Effort, bits: usize) {
        let [mut rng_a, mut rng_b] = [ChaCha20Rng::seed_from_u64(1), ChaCha20Rng::seed_from_u64(1)];
        let comparison = effort.compare(
            || {
                let signature = self.ours.sign_locators(GENERATION, black_box(&LOCATORS), &mut rng_a);
                black_box(signature).expect("a signature");
            },
            || {
                let signature = self.private.sign_with_rng(&mut rng_b, scheme(), black_box(&self.hash));
                black_box(signature).expect("a signature");
            },
        );
        row_of_times(&format!("sign, {bits} bits"), &comparison);
    }

    /// With the key read before.
    fn compare_verifying(&self, effort: Effort, bits: usize) {
        let public = self.ours.public_key();
        let comparison = effort.compare(
            || {
                let verdict = public.verify_locators(GENERATION, &LOCATORS, black_box(&self.signature));
                black_box(verdict).expect("verifies");
            },
            || self.verify_with_rsa(),
        );
        row_of_times(&format!("verify, {bits} bits"), &comparison);
    }

    /// What a message from a peer costs: the ULID is verified and the key is read, too.
    fn compare_verifying_all(&self, effort: Effort, bits: usize) {
        let prefix = SubnetPrefix::from(LOCATORS[0]);
        let public_key = self.ours.public_key().spki();
        let parameters = CgaParameters::new([7; 16], prefix, 0, public_key, &[]).expect("parameters");
        let ulid = parameters.address(Sec::ZERO);
        let comparison = effort.compare(
            || {
                let signature = black_box(&self.signature);
                let verdict = parameters.view().verify_signed_locators(
                    &ulid,
                    GENERATION,
                    &LOCATORS,
                    signature,
                    KeySizes::default(),
                );
                black_box(verdict).expect("verifies");
            },
            || self.verify_with_rsa(),
        );
        row_of_times(&format!("verify with ULID and key, {bits} bits"), &comparison);
    }
}

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign::new::<Sha1>()
}
