//! Known addresses, which a program of its own generated.

use std::net::Ipv6Addr;

use shim6_cga::{CgaParameters, CgaParametersRef, CgaSearch, HbaSearch, Modifier, Sec};

struct Vector {
    sec: Sec,
    start: Modifier,
    parameters: Vec<u8>,
    addresses: Vec<Ipv6Addr>,
}

fn vectors() -> impl Iterator<Item = Vector> {
    let lines = include_str!("vectors.txt").lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split(' ');
            let mut field = || fields.next().expect("Sec, start, parameters");
            Vector {
                sec: Sec::try_from(field().parse::<u8>().unwrap()).unwrap(),
                start: u128::from_str_radix(field(), 16).unwrap().to_be_bytes(),
                parameters: from_hex(field()),
                addresses: fields.map(|address| address.parse().unwrap()).collect(),
            }
        })
}

fn from_hex(digits: &str) -> Vec<u8> {
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    assert!(odd.is_empty());
    let octet = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(octet).collect()
}

#[test]
fn known_addresses_are_generated() {
    for vector in vectors() {
        let expected = CgaParameters::parse(&vector.parameters).unwrap();
        let start = expected.clone().with_modifier(vector.start);
        let (parameters, addresses) = if expected.multi_prefix().is_some() {
            let mut search = HbaSearch::resume(&start, vector.sec).unwrap();
            let set = search.step(u64::MAX).unwrap();
            let set = set.with_collision_count(expected.collision_count()).unwrap();
            (set.parameters().clone(), set.addresses().to_vec())
        } else {
            let mut search = CgaSearch::resume(&start, vector.sec);
            let cga = search.step(u64::MAX).unwrap();
            let cga = cga.with_collision_count(expected.collision_count()).unwrap();
            (cga.parameters().clone(), vec![cga.address()])
        };
        assert_eq!(parameters, expected);
        assert_eq!(addresses, vector.addresses);
    }
}

#[test]
fn known_addresses_verify() {
    for vector in vectors() {
        let received = CgaParametersRef::parse(&vector.parameters).unwrap();
        assert_eq!(received.verify_cga(&vector.addresses[0]), Ok(vector.sec));
        let verifier = received.hba_verifier();
        assert_eq!(verifier.is_ok(), received.multi_prefix().is_some());
        if let Ok(mut verifier) = verifier {
            for address in &vector.addresses {
                assert_eq!(verifier.verify(address), Ok(vector.sec));
                assert_eq!(received.verify_hba(address), Ok(vector.sec));
            }
        }
    }
}
