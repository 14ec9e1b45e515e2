//! Tests that need namespaces of their own.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::isolation::{reexec, reexec_as_root};
use super::support;

/// Set in the re-executed test binary, to the name of the test.
const INSIDE: &str = "SHIM6_TEST_NAMESPACE";
/// A file into which the re-executed test writes a word, to prove that it ran.
const PROOF: &str = "SHIM6_TEST_PROOF";
/// Set to 1 where the lab must be available.
const REQUIRE: &str = "SHIM6_REQUIRE_LAB";
/// Set to 1 to run the tests in network namespaces alone, as root: what the kernel keeps from user namespaces, such as eBPF, is then used.
const AS_ROOT: &str = "SHIM6_LAB_AS_ROOT";
/// How long a test may take inside.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the body of a test in user and network namespaces of its own, on a tokio runtime with two
/// workers.
///
/// The test binary is executed again for this test alone: `test_name` is the name that
/// `cargo test` prints, for example `lab::tests::hosts_reach_each_other`. Everything that the
/// body leaves in its namespaces is gone afterwards. Where no lab can be built, the test says
/// `skipped` and passes; `SHIM6_REQUIRE_LAB=1` in the environment makes that a failure. With `SHIM6_LAB_AS_ROOT=1` it stays root outside of
/// its namespace.
///
/// # Panics
/// When the test fails, takes more than two minutes, or `test_name` names no test.
///
/// ```no_run
/// #[test]
/// fn loopback_is_up() {
///     shim6_tun::lab::isolated("loopback_is_up", || async {
///         tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
///     });
/// }
/// ```
pub fn isolated<F: Future<Output = ()>>(test_name: &str, body: impl FnOnce() -> F) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == test_name) {
        run_inside(body);
        return;
    }
    match support() {
        Ok(()) => run_outside(test_name),
        Err(why) => skip(test_name, why),
    }
}

/// Says on standard error that a test does not run here, and why; fails it when
/// `SHIM6_REQUIRE_LAB=1`.
///
/// # Panics
/// When `SHIM6_REQUIRE_LAB=1`.
pub fn skip(test_name: &str, why: impl Display) {
    assert!(
        env::var_os(REQUIRE).is_none_or(|value| value != "1"),
        "{test_name} must run ({REQUIRE}=1) but cannot: {why}"
    );
    // Not `eprintln!`, which the test runner would hide.
    let _ = writeln!(std::io::stderr(), "skipped: {test_name}: {why}");
}

/// Whether tests run as root, with all that the kernel permits to root alone.
#[must_use]
pub fn is_privileged() -> bool {
    env::var_os(AS_ROOT).is_some_and(|value| value == "1")
}

fn run_inside<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    let proof = env::var_os(PROOF).expect("the outer test names a file");
    std::fs::write(proof, "ran").expect("write the proof");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("build a runtime");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, body())
            .await
            .expect("the test takes too long");
    });
}

fn run_outside(test_name: &str) {
    let proof = tempfile::NamedTempFile::new().expect("make a temporary file");
    let mut output = tempfile::tempfile().expect("make a temporary file");
    let stdio = |file: &File| Stdio::from(file.try_clone().expect("duplicate a descriptor"));
    let mut command = Command::new(env::current_exe().expect("find the test binary"));
    command
        .args([test_name, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, test_name)
        .env(PROOF, proof.path())
        .stdin(Stdio::null())
        .stdout(stdio(&output))
        .stderr(stdio(&output));
    let run = if is_privileged() { reexec_as_root } else { reexec };
    let status = run(command).unwrap_or_else(|error| panic!("{test_name}: {error}"));

    let mut said = Vec::new();
    output.rewind().expect("rewind the output");
    output.read_to_end(&mut said).expect("read the output");
    print!("{}", String::from_utf8_lossy(&said));
    assert!(status.success(), "{test_name} failed inside: {status}");
    let ran = std::fs::read(proof.path()).expect("read the proof");
    assert_eq!(ran, b"ran", "`{test_name}` is not the name of this test");
}
