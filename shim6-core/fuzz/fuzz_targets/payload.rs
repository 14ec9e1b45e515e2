#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shim6_core::fuzz::payload(octets));
