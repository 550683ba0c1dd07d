//! Any text, line by line and by libyaml alone: the same documents, places and faults.
#![no_main]

use git_intake::yaml::parse::{parse_on, parse_on_by_libyaml};
use git_intake::yaml::{Limits, decode};

libfuzzer_sys::fuzz_target!(init: catching(), |bytes: &[u8]| {
    let Ok(text) = decode::decode(bytes) else { return };
    for limits in [Limits::default(), Limits { documents_max: 3, depth_max: 3, nodes_max: 12 }] {
        assert_eq!(parse_on(&text, limits), parse_on_by_libyaml(&text, limits));
    }
});

/// As in `documents`: what libyaml's panics come to is a fault, and must be the same as well.
fn catching() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_none_or(|it| !it.file().contains("libyaml")) {
            eprintln!("{panic}");
        }
    }));
}
