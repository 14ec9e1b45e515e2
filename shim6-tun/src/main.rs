//! The `shim6` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    shim6_tun::cli::main()
}
