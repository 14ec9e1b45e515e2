//! `shim6 address` as people run it: the identity is made, shown, verified, renewed and put into DNS.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use shim6_tests::{binary, isolated};
use shim6_tun::config::DEFAULT_PATH as DEFAULT_CONFIGURATION;
use shim6_tun::lab::Topology;
use tempfile::TempDir;

/// How long a program may take to say something or to end.
const PATIENCE: Duration = Duration::from_secs(120);
const A: &str = "2001:db8:a::/64";
const B: &str = "2001:db8:b::/64";

/// A place for an identity.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn identity(&self) -> PathBuf {
        self.0.path().join("identity")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.identity().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::shim6());
        command
            .arg("address")
            .args(arguments)
            .arg("--identity")
            .arg(self.identity());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("shim6 runs")
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What is printed on one line with `--json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// What is said on standard error with this exit code.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

fn addresses(set: &Value) -> Vec<Ipv6Addr> {
    let entries = set["addresses"].as_array().expect("an array");
    let address = |entry: &Value| {
        entry["address"]
            .as_str()
            .expect("a string")
            .parse()
            .expect("an address")
    };
    entries.iter().map(address).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

/// The exit code and what is printed with `--json`.
fn verify(address: Ipv6Addr, parameters: &[u8]) -> (Option<i32>, Value) {
    let mut child = Command::new(binary::shim6())
        .args(["address", "verify", &address.to_string(), "--params", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("shim6 runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(parameters).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).expect("JSON"),
    )
}

fn octets(hex: &str) -> Vec<u8> {
    let octet = |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).expect("digits");
    (0..hex.len()).step_by(2).map(octet).collect()
}

#[test]
fn every_address_of_an_identity_is_verified_by_its_parameters() {
    let place = Place::new();
    let made = place.json(&["generate", A, B]);
    assert_eq!(
        (&made["type"], &made["sec"], &made["key"]),
        (&"hba".into(), &1.into(), &Value::Null)
    );
    let shown = place.json(&["show"]);
    assert_eq!(addresses(&shown), addresses(&made));
    let hex = shown["parameters"].as_str().expect("a string");
    for (index, address) in addresses(&shown).into_iter().enumerate() {
        for parameters in [hex.as_bytes(), hex.to_uppercase().as_bytes(), &octets(hex)] {
            let (code, verdict) = verify(address, parameters);
            let expected = serde_json::json!({
                "address": address, "cga": index == 0, "hba": true, "sec": 1, "reason": null
            });
            assert_eq!((code, verdict), (Some(0), expected));
        }
    }
    let wrong = Ipv6Addr::from_bits(addresses(&shown)[0].to_bits() ^ 1);
    let (code, verdict) = verify(wrong, hex.as_bytes());
    assert_eq!(
        (code, &verdict["cga"], &verdict["hba"]),
        (Some(1), &false.into(), &false.into())
    );
    assert!(verdict["reason"].as_str().expect("a reason").contains("Hash1"));
}

async fn prefixes_of_the_uplinks() {
    if Path::new(DEFAULT_CONFIGURATION).exists() {
        eprintln!("skipped: {DEFAULT_CONFIGURATION} may name the uplinks of this machine");
        return;
    }
    let topology = Topology::two_by_two().await.expect("a lab");
    let place = Place::new();
    let mut command = topology.a.namespace.command(binary::shim6());
    command
        .args(["address", "generate", "--json", "--identity"])
        .arg(place.identity());
    let output = command.output().expect("shim6 runs");
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let prefixes: Vec<&Value> = made["addresses"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|entry| &entry["prefix"])
        .collect();
    assert_eq!(prefixes, ["2001:db8:a1::/64", "2001:db8:a2::/64"]);
}

#[test]
fn without_prefixes_those_of_the_uplinks_are_taken() {
    isolated(
        "address::without_prefixes_those_of_the_uplinks_are_taken",
        prefixes_of_the_uplinks,
    );
}

#[test]
fn parameters_that_are_none_verify_nothing() {
    let address = "2001:db8::1".parse().expect("an address");
    let (code, verdict) = verify(address, b"00ff");
    assert_eq!(code, Some(1));
    assert!(
        verdict["reason"]
            .as_str()
            .expect("a reason")
            .contains("modifier: expected 16 octets, found 2")
    );
    let absent = Command::new(binary::shim6())
        .args([
            "address",
            "verify",
            "2001:db8::1",
            "--params",
            "/nonexistent/parameters",
            "--json",
        ])
        .output()
        .expect("shim6 runs");
    assert_eq!(absent.status.code(), Some(1));
    assert!(absent.stdout.is_empty());
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/nonexistent/parameters"));
}

#[test]
fn seed_gives_the_same_addresses_at_any_number_of_threads() {
    let seed = "5e".repeat(32);
    let made: Vec<_> = ["1", "2", "7"]
        .iter()
        .map(|threads| addresses(&Place::new().json(&["generate", A, B, "--seed", &seed, "--threads", threads])))
        .collect();
    assert_eq!(made[0], made[1]);
    assert_eq!(made[0], made[2]);
    let place = Place::new();
    assert_ne!(addresses(&place.json(&["generate", A, B])), made[0]);
    let other = addresses(&place.json(&["rotate", "--seed", &seed]));
    assert_eq!(other, made[0], "the seed decides, not what was there");
    let said = place.refused(2, &["rotate", "--seed", &seed]);
    assert!(said.contains("were made from this seed"), "{said}");
}

#[test]
fn records_lead_from_the_name_to_the_addresses_and_back() {
    let place = Place::new();
    let made = addresses(&place.json(&["generate", A, B, "--sec", "0"]));
    let zone = place.text(&["dns", "host.example.com", "--ttl", "300"]);
    let records: Vec<Vec<&str>> = zone
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(records.len(), 4);
    for (record, address) in records.iter().zip(&made) {
        assert_eq!(record[..4], ["host.example.com.", "300", "IN", "AAAA"]);
        assert_eq!(record[4].parse(), Ok(*address));
    }
    for (record, address) in records[2..].iter().zip(&made) {
        let nibbles: Vec<&str> = record[0].split('.').take(32).collect();
        let digits: String = nibbles.into_iter().rev().collect();
        assert_eq!(u128::from_str_radix(&digits, 16), Ok(address.to_bits()));
        assert!(record[0].ends_with(".ip6.arpa."));
        assert_eq!(record[1..], ["300", "IN", "PTR", "host.example.com."]);
    }
    assert!(place.refused(2, &["dns", "bad-.example"]).contains("hyphen"));
}

#[test]
fn rotation_changes_all_addresses_and_keeps_the_former_file() {
    let place = Place::new();
    let old = place.json(&["generate", A, B]);
    let new = place.json(&["rotate"]);
    assert_eq!(new["old"], old["addresses"]);
    assert_eq!(addresses(&place.json(&["show"])), addresses(&new));
    for (old, new) in addresses(&old).iter().zip(addresses(&new)) {
        assert_ne!(old.octets()[8..], new.octets()[8..]);
        assert_eq!(old.octets()[..8], new.octets()[..8]);
    }
    // No field of the parameters links them: the public key field starts after 25 octets with a tag and a nonce.
    let field = |set: &Value| set["parameters"].as_str().expect("a string")[2 * 60..2 * 100].to_owned();
    assert_ne!(field(&old), field(&new));
    let former = new["former"].as_str().expect("a path");
    fs::rename(former, place.file("identity.toml")).expect("the same directory");
    assert_eq!(addresses(&place.json(&["show"])), addresses(&old));
}

#[test]
fn key_is_kept_private_and_used_again_until_a_new_one_is_wanted() {
    let place = Place::new();
    let made = place.json(&["generate", A, B, "--sec", "0", "--new-key=1024"]);
    assert_eq!((&made["type"], &made["key"]["bits"]), (&"cga-hba".into(), &1024.into()));
    let file = |set: &Value| PathBuf::from(set["key"]["file"].as_str().expect("a path"));
    let key = file(&made);
    assert_eq!((mode(&key), mode(&place.file("identity.toml"))), (0o600, 0o644));
    let rotated = place.json(&["rotate"]);
    assert_eq!(file(&rotated), key);
    assert_ne!(addresses(&rotated), addresses(&made));
    assert!(place.text(&["rotate"]).contains("which links both sets"));

    set_mode(&key, 0o644);
    let said = place.refused(1, &["rotate"]);
    assert!(said.contains(&format!("chmod 600 {}", key.display())), "{said}");
    let elsewhere = Place::new();
    let said = elsewhere.refused(1, &["generate", A, "--key", key.to_str().expect("UTF-8")]);
    assert!(said.contains("mode 0644"), "{said}");
    assert!(!elsewhere.identity().exists());
    // Reading needs no key, and says so.
    assert_eq!(place.json(&["show"])["key_state"], "open");
    set_mode(&key, 0o600);
    let copied = elsewhere.json(&["generate", A, "--key", key.to_str().expect("UTF-8")]);
    assert_eq!(
        fs::read(file(&copied)).expect("readable"),
        fs::read(&key).expect("readable")
    );
    assert_eq!(mode(&file(&copied)), 0o600);

    let renewed = place.json(&["rotate", "--new-key=1024"]);
    assert_ne!(file(&renewed), key);
    assert_eq!(renewed["former_key"].as_str(), key.to_str());
    assert!(key.exists());
}

#[test]
fn what_cannot_be_a_set_is_refused_before_anything_is_written() {
    let place = Place::new();
    let many: Vec<String> = (0..40).map(|number| format!("2001:db8:0:{number}::/64")).collect();
    let many: Vec<&str> = std::iter::once("generate")
        .chain(many.iter().map(String::as_str))
        .collect();
    let cases: [(&[&str], &str); 12] = [
        (&["generate", "2001:db8:a::/48"], "is not a /64"),
        (&["generate", "2001:db8:a::1/64"], "bits set after the first 64"),
        (&["generate", "ff02::/64"], "multicast"),
        (&["generate", "fe80::/64"], "link-local"),
        (&["generate", "::/64"], "reserved"),
        (&["generate", "64:ff9b::/64"], "neither global unicast"),
        (&["generate", A, B, A], "2001:db8:a::/64 is given twice"),
        (&many, "40 prefixes are given; more than 32"),
        (&["generate", A, "--sec", "3"], "2^48 hashes"),
        (&["generate", A, "--new-key=512"], "1024 to 3072 bits"),
        (&["generate", A, "--seed", "00"], "expected 32"),
        (&["generate", A, "--new-key", "--key", "x"], "cannot be used with"),
    ];
    for (arguments, wanted) in cases {
        let said = place.refused(2, arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert!(!place.identity().exists());
    }
    for command in ["show", "rotate", "dns"] {
        assert!(
            place
                .refused(1, &[command])
                .contains("make one with: shim6 address generate")
        );
        assert!(!place.identity().exists());
    }
}

#[test]
fn identity_is_replaced_by_force_only_and_nothing_is_lost() {
    let place = Place::new();
    let first = place.json(&["generate", A, "--sec", "0", "--new-key=1024"]);
    let said = place.refused(1, &["generate", B, "--sec", "0"]);
    assert!(
        said.contains("--force") && said.contains("shim6 address rotate"),
        "{said}"
    );
    assert_eq!(addresses(&place.json(&["show"])), addresses(&first));
    let second = place.json(&["generate", B, "--sec", "0", "--force"]);
    assert_eq!(second["former_key"], first["key"]["file"]);
    assert!(Path::new(second["former_key"].as_str().expect("a path")).exists());
    assert!(Path::new(second["former"].as_str().expect("a path")).exists());
    fs::write(place.file("identity.toml"), "version = 9\n").expect("writable");
    assert!(
        place
            .refused(1, &["generate", B, "--sec", "0"])
            .contains("identity.toml:1: version: 9 is not known")
    );
    place.text(&["generate", B, "--sec", "0", "--force"]);
    place.json(&["show"]);
}

/// A search that runs, with what it says on standard error.
struct Search {
    child: Child,
    said: Receiver<String>,
}

impl Search {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = place
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("shim6 runs");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, said }
    }

    /// The next line with `wanted` in it; `None` if the program ended before.
    fn wait_for(&self, wanted: &str) -> Option<String> {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(wanted) => return Some(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("it does not say {wanted:?}"),
            }
        }
    }

    /// Waits for progress and sends the signal. Whether it was in time: about one search of Sec 2 in some thousands is
    /// over by then.
    fn interrupt(mut self, place: &Place, signal: Signal) -> bool {
        if self.wait_for(" hashes, ").is_some() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
            kill(pid, signal).expect("it is not waited for yet");
        }
        let kept = self.wait_for("shim6: interrupted after ").is_some();
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(if kept { 130 } else { 0 }));
        if !kept {
            assert_eq!(place.json(&["show"])["sec"], 2);
        }
        kept
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        // Over already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The next candidate and how many were tried, of the interrupted search.
fn kept(place: &Place) -> (u128, u64) {
    let text = fs::read_to_string(place.file("search.toml")).expect("it was kept");
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.unwrap_or_else(|| panic!("no {key} in {text}"))
            .trim_matches('"')
            .to_owned()
    };
    let modifier = u128::from_str_radix(&value("parameters")[..32], 16).expect("digits");
    (modifier, value("tried").parse().expect("a number"))
}

#[test]
fn two_commands_do_not_write_at_once() {
    let place = Place::new();
    let search = Search::start(&place, &["generate", A, B, "--sec", "2"]);
    search.wait_for("Searching").expect("it says so");
    let output = place.run(&["generate", A]);
    if search.interrupt(&place, Signal::SIGTERM) {
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("another process is writing"),
            "{output:?}"
        );
    }
}

/// Nobody waits for the end of a search of Sec 2, so what it finds after its interruption is tested in the library.
#[test]
fn interrupted_search_is_kept_and_goes_on_by_the_same_command_only() {
    let place = Place::new();
    let command = ["generate", A, B, "--sec", "2", "--new-key=1024", "--threads", "2"];
    if !Search::start(&place, &command).interrupt(&place, Signal::SIGINT) {
        return;
    }
    let (candidate, tried) = kept(&place);
    assert!(tried > 0);
    assert_eq!(mode(&place.file("search.toml")), 0o600);
    assert!(!place.file("identity.toml").exists());

    for other in [
        &["generate", A, "--sec", "2", "--new-key=1024"][..],
        &["generate", A, B, "--sec", "2"],
        &["generate", A, B, "--sec", "1", "--new-key=1024"],
        &["generate", A, B, "--sec", "2", "--new-key=1032"],
    ] {
        let said = place.refused(1, other);
        assert!(
            said.contains("holds another search") && said.contains("remove the file to give it up"),
            "{said}"
        );
        assert_eq!(kept(&place), (candidate, tried));
    }

    let search = Search::start(&place, &command);
    let line = search.wait_for("Going on with the search").expect("it says so");
    assert!(
        line.contains("search.toml: ") && line.ends_with(" hashes are done."),
        "{line}"
    );
    if !search.interrupt(&place, Signal::SIGTERM) {
        return;
    }
    let (later, tried_later) = kept(&place);
    assert!(tried_later > tried);
    assert_eq!(
        later.wrapping_sub(candidate),
        u128::from(tried_later - tried),
        "nothing is skipped"
    );
    let keys = fs::read_dir(place.identity()).expect("a directory").flatten();
    let keys = keys.filter(|entry| entry.file_name().to_string_lossy().starts_with("key-"));
    assert_eq!(keys.count(), 1, "the key was kept");
}

#[test]
fn search_with_a_seed_goes_on_with_that_seed_only() {
    let place = Place::new();
    let (seed, other) = ("11".repeat(32), "22".repeat(32));
    let command = ["generate", A, B, "--sec", "2", "--seed", &seed];
    if !Search::start(&place, &command).interrupt(&place, Signal::SIGTERM) {
        return;
    }
    let before = kept(&place);
    for other in [
        &["generate", A, B, "--sec", "2", "--seed", &other][..],
        &["generate", A, B, "--sec", "2"],
    ] {
        assert!(place.refused(1, other).contains("holds another search"));
        assert_eq!(kept(&place), before);
    }
    let search = Search::start(&place, &command);
    search.wait_for("Going on with the search").expect("it says so");
    if !search.interrupt(&place, Signal::SIGTERM) {
        return;
    }
    // Given up, as the message says.
    fs::remove_file(place.file("search.toml")).expect("it is there");
    place.json(&["generate", A, B]);
}
