//! What generation refuses.

use shim6_cga::{Cga, Field, GenerateError, HbaSearch, MAX_PREFIXES, ParseError, Sec, SubnetPrefix, max_prefixes};

use crate::kinds::{KEY, prefixes, rng};

/// Fails before any search, and so does not take the time of one.
fn set_error(prefixes: &[SubnetPrefix], key: &[u8]) -> GenerateError {
    HbaSearch::with_public_key(prefixes, key, Sec::TWO, &mut rng(1)).unwrap_err()
}

fn cga_error(prefix: SubnetPrefix, key: &[u8], extensions: &[u8]) -> GenerateError {
    Cga::generate(prefix, key, extensions, Sec::TWO, &mut rng(1)).unwrap_err()
}

#[test]
fn key_that_is_not_one_sequence_is_refused() {
    let prefixes = prefixes(2);
    for (key, error) in [
        ([&KEY[..], &[0]].concat(), ParseError::PublicKeyTrailing { octets: 1 }),
        (vec![0x02, 0x01, 0x00], ParseError::PublicKeyTag { found: 0x02 }),
        (
            KEY[..93].to_vec(),
            ParseError::Truncated {
                field: Field::PublicKey,
                needed: 94,
                available: 93,
            },
        ),
    ] {
        assert_eq!(set_error(&prefixes, &key), GenerateError::Malformed(error));
        assert_eq!(cga_error(prefixes[0], &key, &[]), GenerateError::Malformed(error));
    }
}

#[test]
fn octets_that_are_no_extension_fields_are_refused() {
    let error = cga_error(prefixes(1)[0], &KEY, &[0xff, 0xfd, 0, 1]);
    assert!(
        matches!(error, GenerateError::Malformed(ParseError::Truncated { .. })),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "extension field: expected 5 octets, found 4");
}

#[test]
fn prefix_that_no_host_has_is_refused() {
    for octets in [[0; 8], [0xff; 8], [0xff, 0x02, 0, 0, 0, 0, 0, 0]] {
        let prefix = SubnetPrefix::new(octets);
        let refused = GenerateError::UnassignablePrefix { prefix };
        assert_eq!(cga_error(prefix, &KEY, &[]), refused);
        assert_eq!(set_error(&[prefixes(1)[0], prefix], &KEY), refused);
    }
}

#[test]
fn prefixes_that_make_no_set_are_refused() {
    assert_eq!(set_error(&[], &KEY), GenerateError::NoPrefixes);
    let mut twice = prefixes(3);
    twice.push(twice[1]);
    let refused = GenerateError::DuplicatePrefix { prefix: twice[1] };
    assert_eq!(set_error(&twice, &KEY), refused);
}

/// The field of an RSA key of 1024, 2048, 3072 and 4096 bits.
#[test]
fn longer_keys_leave_room_for_fewer_prefixes() {
    assert_eq!(MAX_PREFIXES, 32);
    assert_eq!([162, 294, 422, 550].map(max_prefixes), [25, 15, 6, 0]);
    let all: Vec<_> = (0..2000).map(max_prefixes).collect();
    assert!(all.is_sorted_by(|shorter, longer| shorter >= longer));
    assert_eq!([1280, usize::MAX].map(max_prefixes), [0, 0]);
}

#[test]
fn error_about_too_many_prefixes_says_how_many_fit() {
    let most = max_prefixes(KEY.len());
    let many = prefixes(40);
    assert!(HbaSearch::with_public_key(&many[..most], &KEY, Sec::TWO, &mut rng(1)).is_ok());
    let error = set_error(&many[..most + 1], &KEY);
    let expected = GenerateError::TooManyPrefixes {
        given: most + 1,
        most,
        public_key_len: 94,
    };
    assert_eq!(error, expected);
    let says = format!("{} prefixes: expected at most {most} beside a public key", most + 1);
    assert!(error.to_string().starts_with(&says), "{error}");
}
