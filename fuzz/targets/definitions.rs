//! Any bytes as a definition, and its schema against any document.
#![no_main]

use git_intake::catalog::{judge, read_definitions};
use git_intake::yaml::Limits;
use git_intake::yaml::parse::parse;

libfuzzer_sys::fuzz_target!(init: catching(), |texts: (String, String)| {
    let Ok(found) = read_definitions(&texts.0) else { return };
    let (documents, _) = parse(&texts.1, Limits::default());
    for version in found.iter().flat_map(|it| &it.entry.versions) {
        for root in documents.iter().filter_map(|it| it.root.as_ref()) {
            version.schema.as_deref().map(|it| judge(it, root));
        }
    }
});

/// As in `documents`: the product catches the parser's panics, and the fuzzer must not end at them.
fn catching() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_none_or(|it| !it.file().contains("libyaml")) {
            eprintln!("{panic}");
        }
    }));
}
