//! A whole push to a web server that says what the fuzzer makes up, heads and bodies.
#![no_main]

use git_intake::push::feed::Remote;
use std::sync::OnceLock;

static REMOTE: OnceLock<Remote> = OnceLock::new();

// As in every program of Rust: a remote that hangs up is an error, not the end of the process.
fn as_in_rust() {
    // SAFETY: nothing else deals with signals here.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

libfuzzer_sys::fuzz_target!(init: as_in_rust(), |bytes: &[u8]| {
    REMOTE.get_or_init(|| Remote::start("http")).push(bytes);
});
