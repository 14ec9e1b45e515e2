//! Verification and the search for a modifier beside the bare hashing that they need.

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::thread;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha1::{Digest, Sha1};
use shim6_cga::{Cga, CgaParametersRef, HbaSearch, ModifierSearch, Sec, SubnetPrefix};

mod paired;

use paired::Effort;

/// Octets of the CGA Parameters in front of the public key, and of the modifier at their start.
const HEAD: usize = 25;
const MODIFIER: usize = 16;

fn main() {
    let effort = Effort::from_args();
    if !effort.measures() {
        println!("Not a measurement: each way runs once, to see that it does. `cargo bench` measures.");
    }
    println!("instructions for SHA-1: {}", paired::sha_instructions());
    println!("public key of CGA and CGA/HBA: as long as that of RSA with 2048 bits");
    verification(effort);
    search(effort);
    threads(effort);
}

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(1)
}

fn prefixes(count: u16) -> Vec<SubnetPrefix> {
    (1..=count)
        .map(|site| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 0)))
        .collect()
}

/// The form of an RSA key of 2048 bits, which nobody looks into here.
fn public_key() -> Vec<u8> {
    let mut key = vec![0; 294];
    rng().fill_bytes(&mut key);
    key[..4].copy_from_slice(&[0x30, 0x82, 0x01, 0x22]);
    key
}

fn hash2_input(parameters: &[u8]) -> Vec<u8> {
    let mut input = parameters.to_vec();
    input[MODIFIER..HEAD].fill(0);
    input
}

fn digest_each(inputs: &[Vec<u8>]) {
    for input in inputs {
        black_box(Sha1::digest(black_box(input)));
    }
}

/// From the octets received to the verdict on each address.
fn verification(effort: Effort) {
    paired::title(
        "Verification of all addresses, parsing included, beside SHA-1 over the same octets",
        ["", "verification", "bare SHA-1", "ratio"],
    );
    for sec in [Sec::ZERO, Sec::ONE] {
        for locators in [2, 4, 8] {
            let search = HbaSearch::new(&prefixes(locators), sec, &mut rng()).expect("a search");
            hba_verification(effort, &format!("HBA, {locators} locators, Sec {sec}"), search);
        }
        let search = HbaSearch::with_public_key(&prefixes(4), &public_key(), sec, &mut rng()).expect("a search");
        hba_verification(effort, &format!("CGA/HBA, 4 locators, Sec {sec}"), search);
        cga_verification(effort, sec);
    }
}

fn hba_verification(effort: Effort, what: &str, mut search: HbaSearch) {
    let set = search.step(u64::MAX).expect("a set");
    let received = set.parameters().to_vec();
    let mut hashed: Vec<_> = (0..set.addresses().len())
        .filter_map(|index| Some(set.parameters_for(index)?.to_vec()))
        .collect();
    if set.sec() != Sec::ZERO {
        hashed.push(hash2_input(&received));
    }
    let verify = || {
        let parameters = CgaParametersRef::parse(black_box(&received)).expect("parameters");
        let mut verifier = parameters.hba_verifier().expect("parameters of a set");
        for address in set.addresses() {
            assert_eq!(verifier.verify(black_box(address)), Ok(set.sec()));
        }
    };
    paired::row_of_times(what, &effort.compare(verify, || digest_each(&hashed)));
}

fn cga_verification(effort: Effort, sec: Sec) {
    let cga = Cga::generate(prefixes(1)[0], &public_key(), &[], sec, &mut rng()).expect("an address");
    let received = cga.parameters().to_vec();
    let mut hashed = vec![received.clone()];
    if sec != Sec::ZERO {
        hashed.push(hash2_input(&received));
    }
    let verify = || {
        let parameters = CgaParametersRef::parse(black_box(&received)).expect("parameters");
        assert_eq!(parameters.verify_cga(black_box(&cga.address())), Ok(sec));
    };
    paired::row_of_times(
        &format!("CGA, Sec {sec}"),
        &effort.compare(verify, || digest_each(&hashed)),
    );
}

/// A search at Sec 1 for parameters with this public key and as many prefixes; `None`: a nonce.
fn modifier_search(locators: u16, public_key: Option<&[u8]>) -> (ModifierSearch, Vec<u8>) {
    let prefixes = prefixes(locators);
    let search = match public_key {
        Some(key) => HbaSearch::with_public_key(&prefixes, key, Sec::ONE, &mut rng()),
        None => HbaSearch::new(&prefixes, Sec::ONE, &mut rng()),
    };
    let search = search.expect("a search");
    (
        search.modifier_search().clone(),
        hash2_input(&search.parameters().to_vec()),
    )
}

/// Tries exactly so many modifiers; what is found is passed by.
fn try_modifiers(search: &mut ModifierSearch, count: u64) {
    let goal = search.tried() + count;
    while search.tried() < goal {
        if search.step(goal - search.tried()).is_some() {
            search.split_off(1);
        }
    }
}

fn search(effort: Effort) {
    const COUNT: u64 = 256;
    paired::title(
        "Search for a modifier at Sec 1 by one thread, in 10^6 modifiers a second, beside SHA-1 over the same octets",
        ["", "search", "bare SHA-1", "ratio"],
    );
    let key = public_key();
    for (what, locators, key) in [
        ("HBA, 2 locators", 2, None),
        ("HBA, 8 locators", 8, None),
        ("CGA/HBA, 4 locators", 4, Some(&key[..])),
    ] {
        let (mut search, input) = modifier_search(locators, key);
        let bare = || {
            for _ in 0..COUNT {
                black_box(Sha1::digest(black_box(&input)));
            }
        };
        let comparison = effort.compare(|| try_modifiers(black_box(&mut search), COUNT), bare);
        let rate = |seconds: f64| format!("{:.2}", COUNT as f64 / seconds * 1e-6);
        paired::row([
            what.to_string(),
            rate(comparison.a.median),
            rate(comparison.b.median),
            comparison.ratio.inverse(1.0).to_string(),
        ]);
        let expected = |sec: Sec| sec.expected_hashes() as f64 * comparison.a.median / COUNT as f64;
        println!(
            "    expected: {:.1} ms at Sec 1, {:.0} s at Sec 2",
            expected(Sec::ONE) * 1e3,
            expected(Sec::TWO)
        );
    }
}

fn threads(effort: Effort) {
    /// Of each thread; some milliseconds, so that to start it does not count.
    const COUNT: u64 = 1 << 15;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    paired::title(
        &format!("Search by several threads, in 10^6 modifiers a second, beside one; this machine has {cores}"),
        ["", "all threads", "one thread", "ratio"],
    );
    let (search, _) = modifier_search(2, None);
    let run = |threads: usize| {
        let mut rest = search.clone();
        thread::scope(|scope| {
            for _ in 0..threads {
                let mut part = rest.split_off(2 * COUNT);
                scope.spawn(move || try_modifiers(&mut part, COUNT));
            }
        });
    };
    for threads in 1..=cores {
        let comparison = effort.compare(|| run(threads), || run(1));
        let rate = |threads: usize, seconds: f64| format!("{:.2}", (threads as u64 * COUNT) as f64 / seconds * 1e-6);
        paired::row([
            format!("threads: {threads}"),
            rate(threads, comparison.a.median),
            rate(1, comparison.b.median),
            comparison.ratio.inverse(threads as f64).to_string(),
        ]);
    }
}
