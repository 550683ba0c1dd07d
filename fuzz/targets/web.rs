//! A whole push to a web server that says what the fuzzer makes up, heads and bodies.
#![no_main]

use git_intake::push::feed::Remote;
use std::sync::OnceLock;

static REMOTE: OnceLock<Remote> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    REMOTE.get_or_init(|| Remote::start("http")).push(bytes);
});
