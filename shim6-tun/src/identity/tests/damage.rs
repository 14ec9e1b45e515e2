//! Files that hold no identity, or no key of it.

use super::*;

#[test]
fn damage_is_told_from_what_a_person_can_mend() {
    let (_directory, store, saved) = saved(&with_key());
    let good = fs::read(&saved.identity).expect("readable");
    let about = |octets: &[u8]| {
        fs::write(&saved.identity, octets).expect("writable");
        store.load().err().map(|error| (error.is_damage(), error.is_lost_key()))
    };
    for damaged in [&b""[..], &good[..good.len() / 2], &[0; 4096], &[b'#'; 1 << 17], b"\xff"] {
        assert_eq!(about(damaged), Some((true, false)));
    }
    let newer = String::from_utf8(good.clone())
        .expect("text")
        .replace("version = 1", "version = 2");
    assert_eq!(about(newer.as_bytes()), Some((false, false)));
    assert_eq!(about(&good), None);

    let key = saved.key.expect("a key file");
    set_mode(&key, 0o644);
    assert_eq!(about(&good), Some((false, false)), "its mode is to be mended");
    set_mode(&key, 0o600);
    for lost in [&b"no key"[..], new_key().to_pkcs8_pem().as_bytes(), &[b'a'; 1 << 17]] {
        fs::write(&key, lost).expect("writable");
        assert_eq!(about(&good), Some((false, true)));
    }
    fs::remove_file(&key).expect("it is ours");
    assert_eq!(about(&good), Some((false, true)));
}

#[test]
fn damaged_file_is_moved_to_a_name_of_its_own() {
    let (_directory, store, saved) = saved(&with_key());
    let mut aside = Vec::new();
    for damaged in [&b"one"[..], b"another", &[b'#'; 1 << 17], b"one"] {
        fs::write(&saved.identity, damaged).expect("writable");
        let path = store.lock().and_then(|writer| writer.set_aside()).expect("writable");
        assert_eq!(fs::read(&path).expect("it is there"), damaged);
        assert!(!saved.identity.exists());
        aside.push(path);
    }
    aside.sort();
    aside.dedup();
    assert_eq!(aside.len(), 3);
    assert!(said(store.lock().and_then(|writer| writer.set_aside())).contains("cannot read"));
}
