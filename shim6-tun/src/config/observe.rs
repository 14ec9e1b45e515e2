//! `[observe]`: how packets are watched that the daemon does not touch.

use std::fmt;

use super::read::Section;

const EXPECTED: &str = "expected \"auto\", \"tap\" or \"ebpf\"";

/// `[observe]`: how packets are watched that the daemon does not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObserveConfig {
    /// `method`: by what. Default `auto`.
    pub method: ObserveMethod,
}

/// By what packets are watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ObserveMethod {
    /// By programs in the kernel where it permits them, else by taps.
    #[default]
    Auto,
    /// By packet taps, which need nothing special.
    Tap,
    /// By programs in the kernel; without them the daemon does not start.
    Ebpf,
}

impl fmt::Display for ObserveMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tap => "tap",
            Self::Ebpf => "ebpf",
        })
    }
}

/// Reads the section.
pub(super) fn observe(section: Section<'_>) -> ObserveConfig {
    let observe = ObserveConfig {
        method: section.parsed("method", EXPECTED, method).unwrap_or_default(),
    };
    section.finish();
    observe
}

fn method(text: &str) -> Result<ObserveMethod, String> {
    let methods = [ObserveMethod::Auto, ObserveMethod::Tap, ObserveMethod::Ebpf];
    let named = methods.into_iter().find(|method| method.to_string() == text);
    named.ok_or_else(|| format!("{text:?} is no method"))
}
