mod damage;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use shim6_cga::{HbaSearch, KeySizes};
use tempfile::TempDir;

use super::*;

const PREFIXES: [SubnetPrefix; 2] = [
    SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0]),
    SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0]),
];

/// In PEM, so that each test has it as its own.
static KEY: LazyLock<String> = LazyLock::new(|| new_key().to_pkcs8_pem().to_string());

fn new_key() -> PrivateKey {
    PrivateKey::generate(1024, KeySizes::default(), &mut rand::rng()).expect("a key")
}

fn key() -> PrivateKey {
    PrivateKey::from_pkcs8_pem(&KEY, KeySizes::default()).expect("the key")
}

fn without_key() -> StoredIdentity {
    StoredIdentity {
        set: HbaSet::generate(&PREFIXES, Sec::ZERO, &mut rand::rng()).expect("a set"),
        key: None,
        created: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        automatic: false,
    }
}

fn with_key() -> StoredIdentity {
    let key = key();
    let search = HbaSearch::with_public_key(&PREFIXES, key.public_key().spki(), Sec::ZERO, &mut rand::rng());
    StoredIdentity {
        set: search.expect("prefixes").step(1).expect("Sec 0 takes the first"),
        key: Some(key),
        ..without_key()
    }
}

fn search(identity: &StoredIdentity) -> StoredSearch {
    StoredSearch {
        parameters: identity.set.parameters().clone(),
        sec: Sec::TWO,
        tried: 1 << 40,
        seeded: true,
        key: None,
        new_key: false,
    }
}

/// A store that does not exist yet, and what keeps its place.
fn empty() -> (TempDir, Store) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::new(directory.path().join("deep/identity"));
    (directory, store)
}

fn saved(identity: &StoredIdentity) -> (TempDir, Store, Saved) {
    let (directory, store) = empty();
    let saved = store.save(identity).expect("it can be written");
    (directory, store, saved)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn names(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.directory()).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn said<T>(result: Result<T, IdentityError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn there_is_no_identity_before_one_is_saved() {
    let (_directory, store) = empty();
    assert!(store.load().expect("no error").is_none());
    assert!(store.load_public().expect("no error").is_none());
    assert!(store.load_search().expect("no error").is_none());
    assert!(!store.directory().exists(), "reading makes nothing");
}

#[test]
fn set_without_a_key_is_read_as_it_was_saved() {
    let identity = without_key();
    let (_directory, store, saved) = saved(&identity);
    assert_eq!((saved.key, saved.former), (None, None));
    let read = store.load().expect("readable").expect("saved");
    assert_eq!((read.set, read.created), (identity.set, identity.created));
    assert!(!read.automatic);
    assert!(read.key.is_none());
    assert_eq!(mode(&saved.identity), 0o644);
    assert_eq!(mode(store.directory()), 0o755);
    assert_eq!(names(&store), [".lock", "identity.toml"]);
}

#[test]
fn set_with_a_key_is_read_as_it_was_saved() {
    let identity = with_key();
    let (_directory, store, saved) = saved(&identity);
    let file = saved.key.expect("a key file");
    assert_eq!(mode(&file), 0o600);
    let read = store.load().expect("readable").expect("saved");
    assert_eq!(read.set, identity.set);
    let read = read.key.expect("a key");
    assert_eq!(read.public_key().spki(), key().public_key().spki());
    let public = store.load_public().expect("readable").expect("saved");
    assert_eq!(public.key.as_ref(), Some(&file));
    fs::remove_file(&file).expect("it is ours");
    assert_eq!(store.load_public().expect("needs no key"), Some(public));
    assert!(said(store.load()).contains("cannot read"));
}

#[test]
fn collisions_are_kept() {
    let mut identity = without_key();
    identity.set = identity.set.with_collision_count(2).expect("2 is allowed");
    let (_directory, store, _) = saved(&identity);
    assert_eq!(store.load().expect("readable").expect("saved").set, identity.set);
}

#[test]
fn file_tells_the_addresses_to_its_reader() {
    let identity = without_key();
    let (_directory, _store, saved) = saved(&identity);
    let text = fs::read_to_string(saved.identity).expect("readable");
    for address in identity.set.addresses() {
        assert!(text.contains(&format!("/64  {address}\n")), "{text}");
    }
    assert!(text.contains("# HBA-only, Sec 0\n"), "{text}");
    assert!(
        text.contains("\nversion = 1\nsec = 0\ncreated = \"2023-11-14T22:13:20Z\"\nautomatic = false\nparameters = \""),
        "{text}"
    );
}

#[test]
fn key_that_others_can_get_at_is_refused() {
    let (_directory, store, saved) = saved(&with_key());
    let file = saved.key.expect("a key file");
    for open in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
        set_mode(&file, open);
        let said = said(store.load());
        let advice = format!("chmod 600 {}", file.display());
        assert!(
            said.contains(&advice) && said.contains(&format!("mode {open:04o}")),
            "{said}"
        );
    }
    for private in [0o600, 0o400, 0o700] {
        set_mode(&file, private);
        assert!(store.load().is_ok(), "{private:o}");
    }
}

#[test]
fn link_to_a_key_is_as_good_as_the_key() {
    let (directory, store, saved) = saved(&with_key());
    let file = saved.key.expect("a key file");
    let elsewhere = directory.path().join("elsewhere.pem");
    fs::rename(&file, &elsewhere).expect("the same file system");
    symlink(&elsewhere, &file).expect("a link");
    assert!(store.load().is_ok());
    set_mode(&elsewhere, 0o644);
    assert!(matches!(store.load(), Err(IdentityError::KeyMode { mode: 0o644, .. })));
}

#[test]
fn only_regular_files_of_their_size_are_read() {
    let (_directory, store, saved) = saved(&with_key());
    let file = saved.key.expect("a key file");
    fs::remove_file(&file).expect("it is ours");
    fs::create_dir(&file).expect("nothing is there");
    assert!(matches!(store.load(), Err(IdentityError::NotAFile { .. })));
    fs::remove_dir(&file).expect("it is empty");
    // Nobody writes to it: a reader that waits would wait for ever.
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).expect("nothing is there");
    assert!(matches!(store.load(), Err(IdentityError::NotAFile { .. })));
    fs::remove_file(&file).expect("it is ours");
    fs::write(&file, vec![b'a'; 1 << 17]).expect("writable");
    set_mode(&file, 0o600);
    assert!(said(store.load()).contains("is larger than 65536 octets"));
    fs::write(&saved.identity, vec![b'#'; 1 << 17]).expect("writable");
    assert!(said(store.load_public()).contains("is larger than 65536 octets"));
}

#[test]
fn file_with_no_key_or_another_one_is_refused() {
    let (_directory, store, saved) = saved(&with_key());
    let file = saved.key.expect("a key file");
    for nonsense in [&b"no key"[..], b"\xff\xfe", b""] {
        fs::write(&file, nonsense).expect("writable");
        assert!(said(store.load()).contains("expected an RSA key in PKCS#8 PEM"));
    }
    fs::write(&file, new_key().to_pkcs8_pem().as_bytes()).expect("writable");
    assert!(said(store.load()).contains("holds another key than the one in the parameters"));
}

#[test]
fn identity_whose_key_does_not_belong_to_it_is_not_saved() {
    let (_directory, store) = empty();
    let mut identity = with_key();
    identity.key = Some(new_key());
    assert!(matches!(store.save(&identity), Err(IdentityError::NoKey)));
    identity.key = None;
    assert!(matches!(store.save(&identity), Err(IdentityError::NoKey)));
    let mut identity = without_key();
    identity.key = Some(key());
    assert!(matches!(store.save(&identity), Err(IdentityError::NoKey)));
    assert_eq!(names(&store), [".lock"]);
}

#[test]
fn new_identity_leaves_the_former_one_and_its_key_beside_it() {
    let former = with_key();
    let (_directory, store, first) = saved(&former);
    let second = store.save(&without_key()).expect("writable");
    let kept = second.former.expect("there was one");
    assert!(first.key.expect("a key file").exists());
    assert!(store.load().expect("readable").expect("saved").key.is_none());
    // As its reader is told.
    fs::rename(kept, second.identity).expect("the same directory");
    let back = store.load().expect("readable").expect("saved");
    assert_eq!(back.set, former.set);
    assert!(back.key.is_some());
}

#[test]
fn copies_are_kept_of_what_a_person_made() {
    let automatic = || StoredIdentity {
        automatic: true,
        ..without_key()
    };
    let (_directory, store, _) = saved(&automatic());
    assert!(store.load().expect("readable").expect("saved").automatic);
    assert_eq!(store.save(&automatic()).expect("writable").former, None);
    assert!(store.save(&without_key()).expect("writable").former.is_some());
    assert!(store.save(&without_key()).expect("writable").former.is_some());
    assert!(store.save(&automatic()).expect("writable").former.is_some());
    fs::write(store.identity_path(), "nonsense").expect("writable");
    assert!(store.save(&automatic()).expect("writable").former.is_some());
}

#[test]
fn saving_the_same_again_keeps_no_copy() {
    let identity = without_key();
    let (_directory, store, _) = saved(&identity);
    assert_eq!(store.save(&identity).expect("writable").former, None);
    assert_eq!(names(&store), [".lock", "identity.toml"]);
}

#[test]
fn crash_at_any_point_leaves_the_former_identity_and_the_next_write_succeeds() {
    let (new, key_name) = (with_key(), key::file_name(key().public_key().spki()));
    let pem = KEY.as_bytes();
    let (unfinished_key, unfinished) = (format!(".{key_name}.new"), ".identity.toml.new".to_owned());
    // What each step of a write leaves behind if it is the last.
    let steps: [&[(&String, &[u8])]; 5] = [
        &[(&unfinished_key, b"")],
        &[(&unfinished_key, &pem[..pem.len() / 2])],
        &[(&key_name, pem)],
        &[(&key_name, pem), (&unfinished, b"")],
        &[(&key_name, pem), (&unfinished, b"version = 1\nsec")],
    ];
    for step in steps {
        let former = without_key();
        let (_directory, store, _) = saved(&former);
        for (name, octets) in step {
            let path = store.directory().join(name);
            fs::write(&path, octets).expect("writable");
            set_mode(&path, 0o600);
        }
        let read = store.load().expect("readable").expect("saved");
        assert_eq!(read.set, former.set);
        store.save(&new).expect("writable");
        assert_eq!(store.load().expect("readable").expect("saved").set, new.set);
        assert!(
            !names(&store).iter().any(|name| name.ends_with(".new")),
            "{:?}",
            names(&store)
        );
    }
}

#[test]
fn one_writer_at_a_time() {
    let (_directory, store) = empty();
    let writer = store.lock().expect("nobody else writes");
    assert_eq!(
        said(store.save(&without_key())),
        format!(
            "another process is writing to {}; wait until it is done, or stop it",
            store.directory().display()
        )
    );
    writer.save(&without_key()).expect("writable");
    assert!(store.load().expect("readable while somebody writes").is_some());
    drop(writer);
    store.lock().expect("given back");
    assert_eq!(mode(&store.directory().join(".lock")), 0o600);
}

#[test]
fn failed_write_names_the_file() {
    let (directory, store) = empty();
    fs::write(directory.path().join("deep"), "in the way").expect("writable");
    let said = said(store.save(&without_key()));
    let start = format!("cannot create the directory {}; ", store.directory().display());
    assert!(said.starts_with(&start), "{said}");
}

#[test]
fn identity_in_the_place_of_which_something_else_is_stays_untouched() {
    let (_directory, store) = empty();
    fs::create_dir_all(store.identity_path()).expect("writable");
    assert!(said(store.save(&without_key())).contains("is not a regular file"));
    assert_eq!(names(&store), [".lock", "identity.toml"]);
}

#[test]
fn search_is_read_as_it_was_saved_and_stays_until_removed() {
    let (_directory, store) = empty();
    let writer = store.lock().expect("nobody else writes");
    let identity = with_key();
    let mut search = search(&identity);
    let file = writer.save_key(&key()).expect("writable");
    search.key = Some(file);
    search.new_key = true;
    writer.save_search(&search).expect("writable");
    assert_eq!(mode(&store.search_path()), 0o600);
    assert_eq!(store.load_search().expect("readable"), Some(search.clone()));
    assert_eq!(search.prefixes(), PREFIXES);
    assert!(store.load_search_key(&search).expect("readable").is_some());
    writer.save(&identity).expect("writable");
    assert!(store.load_search().expect("readable").is_some());
    writer.remove_search().expect("writable");
    assert_eq!(store.load_search().expect("readable"), None);
    writer.remove_search().expect("nothing to do");
}

/// What is said about the file of a good identity after `from` is replaced by `to` in it.
fn refused(identity: &StoredIdentity, from: &str, to: &str) -> String {
    let (_directory, store, saved) = saved(identity);
    let text = fs::read_to_string(&saved.identity).expect("readable");
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(&saved.identity, text.replace(from, to)).expect("writable");
    let said = said(store.load_public());
    let place = format!("{}:", saved.identity.display());
    said.strip_prefix(&place).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn what_is_not_understood_is_named_with_its_line_and_what_to_do() {
    for (from, to, wanted) in [
        (
            "version = 1",
            "version = 2",
            "7: version: 2 is not known; expected 1; it may come from a newer shim6",
        ),
        ("version = 1", "", "1: version: is missing; expected an integer"),
        ("version = 1", "version = 2\nnew = 1", "7: version: 2 is not known"),
        ("sec = 0", "sex = 0", "8: sex: unknown key; did you mean sec?"),
        (
            "sec = 0",
            "sec = 3",
            "8: sec: 3 is out of range; expected an integer from 0 to 2",
        ),
        ("sec = 0", "sec = -1", "8: sec: -1 is out of range"),
        ("sec = 0", "sec = \"0\"", "8: sec: is a string; expected an integer"),
        (
            "sec = 0",
            "sec = 2",
            "11: parameters: Hash2 does not start with the 32 zero bits that Sec 2 asks for",
        ),
        (
            "created = \"",
            "created = \"x",
            "9: created: \"x2023-11-14T22:13:20Z\" is no such time; expected a time in UTC",
        ),
        ("created = \"", "created = \"\u{fc}", "9: created: "),
        (
            "automatic = false",
            "automatic = 0",
            "10: automatic: is an integer; expected true or false",
        ),
        ("parameters = \"", "parameters = \"0", "11: parameters: it has "),
        (
            "parameters = \"",
            "parameters = \"x",
            "11: parameters: 'x' after 0 digits is no hexadecimal digit",
        ),
        ("parameters = \"", "parameters = \"00", "11: parameters: public key: "),
        (
            "parameters = \"",
            "parameters = \"\" # ",
            "11: parameters: modifier: expected 16 octets, found 0",
        ),
        (
            "parameters = \"",
            "key = \"key-0123456789abcdef.pem\"\nparameters = \"",
            "11: key: these parameters have a nonce",
        ),
        ("version = 1", "[table]\nversion = 1", "7: table: "),
        ("version = 1", "version", "7: this is not TOML"),
    ] {
        let said = refused(&without_key(), from, to);
        // The version is looked for first.
        let wanted = wanted.replace("7: table: ", "1: version: is missing");
        assert!(said.starts_with(&wanted), "{wanted}\n{said}");
        assert!(
            said.ends_with("or make a new identity: shim6 address generate --force"),
            "{said}"
        );
    }
}

#[test]
fn key_of_the_wrong_name_is_refused() {
    let identity = with_key();
    let name = key::file_name(key().public_key().spki());
    let wanted = format!(
        "12: key: \"../key.pem\" is the file of another key; expected \"{name}\", which is named after the public key"
    );
    let said = refused(&identity, &name, "../key.pem");
    assert!(said.starts_with(&wanted), "{said}");
    let said = refused(&identity, "key = \"", "# key = \"");
    assert!(said.starts_with("1: key: is missing"), "{said}");
}

#[test]
fn prefixes_that_make_no_set_are_refused() {
    let identity = without_key();
    let list = hex::encode(PREFIXES[1].octets());
    for (other, wanted) in [
        (
            hex::encode(PREFIXES[0].octets()),
            "the prefix 2001:db8:a::/64 is in it twice",
        ),
        (
            "ff020000000000aa".to_owned(),
            "no host has an address under the prefix ff02:0:0:aa::/64",
        ),
    ] {
        let said = refused(&identity, &list, &other);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn broken_search_says_how_to_get_rid_of_it() {
    let (_directory, store) = empty();
    let writer = store.lock().expect("nobody else writes");
    writer.save_search(&search(&without_key())).expect("writable");
    let text = fs::read_to_string(store.search_path()).expect("readable");
    for (from, to, wanted) in [
        ("tried = ", "tried = -", "tried: -1099511627776 is out of range"),
        (
            "seeded = true",
            "seeded = 1",
            "seeded: is an integer; expected true or false",
        ),
        (
            "seeded = true",
            "new_key = true",
            "new_key: there is no key; expected true only together with key",
        ),
        ("version = 1", "version = 7", "version: 7 is not known"),
        ("seeded", "seed", "seed: unknown key; did you mean seeded?"),
    ] {
        fs::write(store.search_path(), text.replace(from, to)).expect("writable");
        let said = said(store.load_search());
        assert!(
            said.contains(wanted) && said.ends_with("remove the file to give that search up"),
            "{said}"
        );
    }
}

#[test]
fn line_that_is_no_text_is_named() {
    let (_directory, store, saved) = saved(&without_key());
    fs::write(&saved.identity, b"version = 1\nsec = \xff\n").expect("writable");
    assert!(said(store.load_public()).contains("identity.toml:2: this line is not UTF-8"));
}

#[test]
fn no_secret_is_in_what_is_logged() {
    let identity = with_key();
    let shown = format!("{identity:?}");
    let secret: String = KEY.lines().nth(2).expect("PEM has lines").to_owned();
    assert!(!shown.contains(&secret));
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn times_that_cannot_be_written_are_bounded() {
    assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    assert_eq!(
        timestamp(UNIX_EPOCH + Duration::from_secs(1 << 40)),
        "9999-12-31T23:59:59Z"
    );
}

proptest! {
    #[test]
    fn reader_takes_any_octets(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&octets);
        drop(record::parse_identity(&text, Path::new("f")));
        drop(record::parse_search(&text, Path::new("f")));
    }

    #[test]
    fn reader_takes_any_values(
        version in 0_u8..3, sec in "[0-9-]{1,3}|\"0\"|[a-z]{1,3}", created in "\\PC{0,30}|[0-9TZ:.+-]{15,30}",
        parameters in proptest::collection::vec(any::<u8>(), 0..200), tail in "(key|tried|seeded|new_key) = (1|true|\"a\")|",
    ) {
        let parameters = hex::encode(&parameters);
        let created = created.escape_debug();
        let text = format!(
            "version = {version}\nsec = {sec}\ncreated = \"{created}\"\nparameters = \"{parameters}\"\n{tail}\n"
        );
        drop(record::parse_identity(&text, Path::new("f")));
        drop(record::parse_search(&text, Path::new("f")));
    }

    /// One octet of a good file changed: it is refused, or it says the same or something else that is a set.
    #[test]
    fn reader_takes_a_good_file_with_one_octet_changed(place: proptest::sample::Index, octet: u8) {
        let identity = without_key();
        let mut octets = record::identity(&identity).into_bytes();
        let place = place.index(octets.len());
        octets[place] = octet;
        let text = String::from_utf8_lossy(&octets);
        if let Ok(read) = record::parse_identity(&text, Path::new("f")) {
            prop_assert!(!read.set.addresses().is_empty());
            let again = StoredIdentity {
                set: read.set.clone(),
                key: None,
                created: read.created,
                automatic: read.automatic,
            };
            prop_assert_eq!(record::parse_identity(&record::identity(&again), Path::new("f")), Ok(read));
        }
    }
}
