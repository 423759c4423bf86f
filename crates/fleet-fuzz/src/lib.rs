//! What is fuzzed: everything that reads bytes of other people's repositories. A target takes any bytes and panics when
//! a promise is broken; the ordinary tests run every target over its seeds, tests/fuzz.sh lets libFuzzer loose on them.
//!
//! Most parsers are reached the way a repository reaches them: the bytes become a field of a manifest.
#![forbid(unsafe_code)]

mod manifests;
mod signatures;
mod texts;

/// Takes any bytes; panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets by name. A target's seeds lie in `seeds/<name>/`.
pub const TARGETS: [(&str, Target); 12] = [
    ("compose", manifests::compose),
    ("config", texts::config),
    ("cron", manifests::cron),
    ("fmt", texts::fmt),
    ("glob", texts::glob),
    ("image", manifests::image),
    ("json", manifests::json),
    ("manifest", manifests::manifest),
    ("quadlet", manifests::quadlet),
    ("selector", manifests::selector),
    ("signature", signatures::signature),
    ("template", texts::template),
];

/// Input for parsers of text: whatever is no UTF-8 is replaced, so that no byte is lost on them.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}
