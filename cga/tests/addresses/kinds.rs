//! Addresses and sets of any kind.

use std::net::Ipv6Addr;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha1::{Digest, Sha1};
use shim6_cga::{
    Cga, CgaParameters, CgaParametersRef, ExtensionType, HbaSearch, HbaSet, Sec, SubnetPrefix, VerifyError,
};

/// The public key of RFC 3972 appendix A.
pub(crate) const KEY: [u8; 94] = hex_literal::hex!(
    "305c 300d 0609 2a86 4886 f70d 0101 0105 0003 4b00 3048 0241"
    "00c2 c2f1 3730 5454 f10b d9ce a368 44b5 30e9 211a 4b26 2b16"
    "467c b7df ba1f 595c 0194 f275 be5a 4d38 6f2c 3c23 8250 8773"
    "c786 7f9b 3b9e 63a0 9c7b c48f 7a54 ebef af02 0301 0001"
);

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub(crate) fn prefixes(count: u16) -> Vec<SubnetPrefix> {
    (1..=count)
        .map(|site| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, site, 1, 0, 0, 0, 0)))
        .collect()
}

/// What was generated: one address or a set of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Generated {
    Cga(Cga),
    Set(HbaSet),
}

impl Generated {
    pub(crate) fn parameters(&self) -> &CgaParameters {
        match self {
            Self::Cga(cga) => cga.parameters(),
            Self::Set(set) => set.parameters(),
        }
    }

    pub(crate) fn addresses(&self) -> Vec<Ipv6Addr> {
        match self {
            Self::Cga(cga) => vec![cga.address()],
            Self::Set(set) => set.addresses().to_vec(),
        }
    }

    pub(crate) fn sec(&self) -> Sec {
        match self {
            Self::Cga(cga) => cga.sec(),
            Self::Set(set) => set.sec(),
        }
    }

    pub(crate) fn collision_count(&self) -> u8 {
        match self {
            Self::Cga(cga) => cga.collision_count(),
            Self::Set(set) => set.collision_count(),
        }
    }

    /// The verdict of a peer that received these parameters: on an address as HBA if this is a set, else as CGA.
    pub(crate) fn verify(&self, parameters: &CgaParametersRef<'_>, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        match self {
            Self::Cga(_) => parameters.verify_cga(address),
            Self::Set(_) => parameters.verify_hba(address),
        }
    }

    /// How many zero bits Hash2 starts with, by the textbook.
    pub(crate) fn hash2_zero_bits(&self) -> u32 {
        let mut input = self.parameters().to_vec();
        input[16..25].fill(0);
        let hash2 = Sha1::digest(&input);
        u64::from_be_bytes(*hash2.first_chunk().unwrap()).leading_zeros()
    }
}

/// What an address or a set is generated from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) prefixes: Vec<SubnetPrefix>,
    /// None: an HBA-only set.
    pub(crate) public_key: Option<Vec<u8>>,
    pub(crate) is_set: bool,
    /// Before and after the Multi-Prefix extension of a set.
    pub(crate) unknown_extensions: [Vec<u8>; 2],
    pub(crate) sec: Sec,
    pub(crate) seed: u64,
    pub(crate) collision_count: u8,
}

impl Recipe {
    pub(crate) fn generate(&self) -> Generated {
        let rng = &mut rng(self.seed);
        let extensions = self.unknown_extensions.concat();
        match &self.public_key {
            Some(key) if !self.is_set => {
                let cga = Cga::generate(self.prefixes[0], key, &extensions, self.sec, rng).unwrap();
                Generated::Cga(cga.with_collision_count(self.collision_count).unwrap())
            }
            key => {
                let search = match key {
                    Some(key) => HbaSearch::with_public_key(&self.prefixes, key, self.sec, rng),
                    None => HbaSearch::new(&self.prefixes, self.sec, rng),
                };
                let mut search = self.extend(search.unwrap());
                let set = search.step(u64::MAX).unwrap();
                Generated::Set(set.with_collision_count(self.collision_count).unwrap())
            }
        }
    }

    /// The same search with the unknown extension fields around the Multi-Prefix extension.
    fn extend(&self, search: HbaSearch) -> HbaSearch {
        let plain = search.parameters();
        let [before, after] = &self.unknown_extensions;
        let extensions = [before, plain.extension_octets(), after].concat();
        let extended = CgaParameters::new(
            plain.modifier(),
            plain.subnet_prefix(),
            0,
            plain.public_key(),
            &extensions,
        );
        HbaSearch::resume(&extended.unwrap(), self.sec).unwrap()
    }
}

/// Any address or set: CGA, HBA-only or CGA/HBA, at Sec 0 and now and then at Sec 1.
pub(crate) fn any_recipe() -> impl Strategy<Value = Recipe> {
    let unknown_extensions = [any_unknown_extensions(), any_unknown_extensions()];
    let sec = prop_oneof![9 => Just(Sec::ZERO), 1 => Just(Sec::ONE)];
    (
        any_prefixes(),
        proptest::option::of(any_key()),
        any::<bool>(),
        unknown_extensions,
        sec,
        any::<u64>(),
        0..=2_u8,
    )
        .prop_map(
            |(prefixes, public_key, is_set, unknown_extensions, sec, seed, collision_count)| Recipe {
                prefixes,
                is_set: is_set || public_key.is_none(),
                public_key,
                unknown_extensions,
                sec,
                seed,
                collision_count,
            },
        )
}

/// Up to 8 prefixes, in any order, that are not refused: so many fit beside all keys of [`any_key`].
fn any_prefixes() -> impl Strategy<Value = Vec<SubnetPrefix>> {
    let prefix = any::<[u8; 8]>()
        .prop_map(SubnetPrefix::new)
        .prop_filter("a host's prefix", SubnetPrefix::is_assignable);
    btree_set(prefix, 1..=8)
        .prop_map(|prefixes| prefixes.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

/// A SEQUENCE of anything, with a length of one, two or three octets.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![0..0x80_usize, 0x80..0x100_usize, 0x100..0x120_usize]
        .prop_flat_map(|len| vec(any::<u8>(), len))
        .prop_map(|content| {
            let header = match u16::try_from(content.len()).unwrap().to_be_bytes() {
                [0, len @ 0..0x80] => vec![0x30, len],
                [0, len] => vec![0x30, 0x81, len],
                [high, low] => vec![0x30, 0x82, high, low],
            };
            [header, content].concat()
        })
}

/// A row of extension fields, none of them a Multi-Prefix extension; perhaps none at all.
fn any_unknown_extensions() -> impl Strategy<Value = Vec<u8>> {
    let kind = any::<u16>().prop_filter("unknown", |kind| *kind != ExtensionType::MULTI_PREFIX.0);
    let field = (kind, vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| {
        let len = u16::try_from(data.len()).unwrap().to_be_bytes();
        [&kind.to_be_bytes()[..], &len, &data].concat()
    });
    vec(field, 0..3).prop_map(|fields| fields.concat())
}
