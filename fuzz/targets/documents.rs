//! Any bytes as a drop: judged without a panic, and what is taken is read again as the same.
#![no_main]

use git_intake::catalog::Catalog;
use git_intake::model::document::Intake;
use git_intake::model::path::RawPath;
use git_intake::pipeline::validation::{Rules, SchemaStrategy, read_managed, validate};
use git_intake::yaml::Limits;
use std::sync::LazyLock;

static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::hedgehog);

/// The parser panics in places, which the product catches. The fuzzer would end at the panic itself
/// and never see whether it was caught; what reaches this target ends it all the same.
fn catching() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_none_or(|it| !it.file().contains("libyaml")) {
            eprintln!("{panic}");
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: catching(), |bytes: &[u8]| {
    let limits = Limits::default();
    let rules = Rules { limits, catalog: &CATALOG, schema: SchemaStrategy::Warn, partial: false };
    for name in ["a.yaml", "a.json"] {
        let Ok(valid) = validate(Intake::new(RawPath::new(name), bytes), &rules) else { continue };
        for it in valid.documents {
            let again = read_managed(it.text.as_bytes(), &limits).expect("what is filed is read");
            assert_eq!((&again.text, again.content), (&it.text, it.content));
            let theirs: serde_yaml::Value = serde_yaml::from_str(&it.text).expect("by others too");
            assert!(theirs.is_mapping());
        }
    }
});
