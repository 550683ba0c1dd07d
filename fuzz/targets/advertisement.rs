//! Any bytes as a remote's first words.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| git_intake::push::feed::advertisement(bytes));
