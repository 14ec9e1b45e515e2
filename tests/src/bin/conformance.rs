//! Plays all checks of `shim6 conform` against the daemon in the lab, and prints the document about it.

use std::io::{Write as _, stderr, stdout};

use anyhow::Context as _;
use shim6_tests::binary;
use shim6_tests::conform::Stage;
use shim6_tun::lab;

const PREFACE: &str = "\
# What the conformance tester says of our daemon

Made by `cargo run -p shim6-tests --bin conformance > docs/conformance-daemon.md`, which builds the lab, starts the daemon on
one host, and plays `shim6 conform --slow` on the other: two hosts with two uplinks each, no loss, the daemon's default
configuration. What the tester is and what it can be used for is in [conform.md](conform.md). What holds without being visible
from outside is in [conformance.md](conformance.md).

";

fn main() -> anyhow::Result<()> {
    let shim6 = binary::build()?;
    lab::enter_user_namespace()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let output = runtime.block_on(async {
        let stage = Stage::build(&shim6).await?;
        let output = stage.conform(&["--slow", "--markdown", stage.target()]).await?;
        stage.stop().await?;
        anyhow::Ok(output)
    })?;
    stderr().write_all(&output.stderr)?;
    anyhow::ensure!(!output.stdout.is_empty(), "the tester says nothing");
    let mut out = stdout().lock();
    out.write_all(PREFACE.as_bytes()).context("cannot write the document")?;
    out.write_all(&output.stdout).context("cannot write the document")?;
    anyhow::ensure!(output.status.success(), "a check fails: {}", output.status);
    Ok(())
}
