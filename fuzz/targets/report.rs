//! Any bytes as a remote's last words, with and without a sideband.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| git_intake::push::feed::report(bytes));
