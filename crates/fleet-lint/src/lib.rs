//! From bytes to typed manifests and findings: the same code behind `fleetctl lint` and the syncer.
//!
//! [`parse_file`] reads one file and says everything that can be said without the others; its result depends on the
//! path and the bytes alone and may be kept per blob. [`check_tree`] looks at all files of a repository together.
//! [`schema`] generates the JSON Schemas that manifests are validated with. A commit may be applied when no finding
//! has the severity `Error`. Everything here is a pure function of its arguments: no I/O, no clock, no async.
//!
//! Codes are listed in [`codes`]; they are stable.
#![forbid(unsafe_code)]

mod apps;
pub mod codes;
mod config;
mod contents;
mod cron;
mod document;
mod explain;
mod finding;
mod foreign;
mod overlap;
mod parse;
mod rules;
pub mod schema;
mod suppress;
mod tree;
mod validate;
mod walk;
mod yaml;

pub use config::{CONFIG_FILE, LintConfig};
pub use contents::credentials;
pub use explain::explain;
pub use finding::Span;
pub use parse::{MAX_FILE_BYTES, ParsedFile, ParsedManifest, parse_file};
pub use tree::{PlacedManifest, Suppressed, TreeReport, check_part, check_tree};
pub use walk::is_candidate;

/// Whether a finding refuses the commit.
pub fn has_errors<'a>(diagnostics: impl IntoIterator<Item = &'a fleet_model::Diagnostic>) -> bool {
    diagnostics.into_iter().any(|diagnostic| diagnostic.severity == fleet_model::Severity::Error)
}
