//! `.fleetlint.yaml` at the root of a repository: severities of codes, and files that are no manifests.
//!
//! The file is read as strictly as manifests are. What is wrong in it is a finding; the rest of it counts.

use std::collections::BTreeMap;

use fleet_model::{Diagnostic, Severity};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::{Value, json};

use crate::codes::{self, Code};
use crate::finding::{Finding, Span, in_order, nearest};
use crate::parse::readable_text;
use crate::suppress::{known, not_adjustable};
use crate::yaml::{self, LoadedFile};

/// The name of the configuration, at the root of the repository.
pub const CONFIG_FILE: &str = ".fleetlint.yaml";

/// The largest configuration, in bytes.
const MAX_BYTES: usize = 256 << 10;
/// Most patterns of `exclude`.
const MAX_PATTERNS: usize = 256;
/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;
/// What the configuration may say, with what it means.
const KEYS: [&str; 2] = ["exclude", "severity"];

/// What a repository wants of a kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Say nothing.
    Off,
    /// Say it; the commit is accepted.
    Warning,
    /// Refuse the commit.
    Error,
}

impl Level {
    const NAMES: [(&'static str, Self); 3] = [("off", Self::Off), ("warning", Self::Warning), ("error", Self::Error)];
}

/// How a repository wants to be linted. The default changes nothing.
#[derive(Debug, Clone, Default)]
pub struct LintConfig {
    levels: BTreeMap<&'static str, Level>,
    patterns: Vec<String>,
    excluded: GlobSet,
}

impl LintConfig {
    /// Reads the bytes of [`CONFIG_FILE`]. Never fails and never panics: what is wrong is a finding at that file, and
    /// what is right counts. An empty file is the default. Whoever refuses errors must refuse these, too; they are not
    /// among the findings of [`check_tree`](crate::check_tree).
    pub fn parse(bytes: &[u8]) -> (Self, Vec<Diagnostic>) {
        let mut findings = Vec::new();
        let config = if bytes.len() > MAX_BYTES {
            let message = format!("the configuration has {} bytes; at most {MAX_BYTES} are read", bytes.len());
            findings.push(Finding::new(codes::LINT_CONFIG, Span::START, message));
            Self::default()
        } else {
            readable_text(bytes, &mut findings).map(|text| read(text, &mut findings)).unwrap_or_default()
        };
        let mut diagnostics: Vec<Diagnostic> =
            findings.into_iter().take(1_000).map(|finding| finding.into_diagnostic(CONFIG_FILE)).collect();
        in_order(&mut diagnostics);
        (config, diagnostics)
    }

    /// Whether a path from the repository's root is excluded: its file is no manifest, whatever it looks like. A file
    /// that a `gitRef` names stays content.
    pub fn is_excluded(&self, path: &str) -> bool {
        !self.excluded.is_empty() && self.excluded.is_match(path)
    }

    /// Whether any path can be excluded.
    pub fn excludes_anything(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// The severity that findings of this code have here; `None` when nothing is to be said.
    pub fn severity(&self, code: &str, own: Severity) -> Option<Severity> {
        match self.levels.get(code) {
            None => Some(own),
            Some(Level::Off) => None,
            Some(Level::Warning) => Some(Severity::Warning),
            Some(Level::Error) => Some(Severity::Error),
        }
    }
}

/// Two configurations are equal when they say the same.
impl PartialEq for LintConfig {
    fn eq(&self, other: &Self) -> bool {
        (&self.levels, &self.patterns) == (&other.levels, &other.patterns)
    }
}

impl Eq for LintConfig {}

/// The JSON Schema of the configuration.
pub(crate) fn schema() -> Value {
    let levels = |code: &Code| {
        let names: Vec<&str> = if code.can_be_lowered() { vec!["off", "warning", "error"] } else { vec!["error"] };
        json!({"type": "string", "enum": names, "description": code.title})
    };
    let codes: serde_json::Map<String, Value> =
        codes::ALL.iter().map(|code| (code.code.to_owned(), levels(code))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "FleetLint",
        "description": "How a repository wants to be linted: .fleetlint.yaml at its root.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "severity": {
                "description": "The severity of findings, by code.",
                "type": "object",
                "additionalProperties": false,
                "properties": codes,
            },
            "exclude": {
                "description": "Files that are no manifests: patterns as in .gitignore, relative to the root, without `!`.",
                "type": "array",
                "maxItems": MAX_PATTERNS,
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN_BYTES},
            },
        },
    })
}

fn read(text: &str, findings: &mut Vec<Finding>) -> LintConfig {
    let mut file = yaml::load(text, false);
    let (values, more) = yaml::decode_documents(text, &file, false);
    let mut notation = std::mem::take(&mut file.findings);
    notation.extend(more);
    let mut config = LintConfig::default();
    let mut documents = file.documents.iter().zip(&values).filter_map(|(document, value)| {
        let (root, value) = (document.root?, value.as_ref()?);
        (!value.is_null()).then_some((root, value))
    });
    if let Some((root, value)) = documents.next() {
        Reader { file: &file, root, findings }.config(value, &mut config);
    }
    // YAML 1.1 takes `off` for a boolean; here it is a word, and there is no other reader.
    notation.retain(|finding| finding.code != codes::AMBIGUOUS);
    if let Some((root, _)) = documents.next() {
        let message = "the configuration is one document; this is a second one";
        findings.push(Finding::new(codes::LINT_CONFIG, file.tree.value_span(root), message));
    }
    findings.extend(notation);
    config
}

struct Reader<'r, 't> {
    file: &'r LoadedFile<'t>,
    root: u32,
    findings: &'r mut Vec<Finding>,
}

impl Reader<'_, '_> {
    fn value_span(&self, pointer: &str) -> Span {
        let found = self.file.tree.find(self.root, pointer);
        found.map_or(Span::START, |(node, _)| self.file.tree.value_span(node))
    }

    fn key_span(&self, pointer: &str) -> Span {
        let found = self.file.tree.find(self.root, pointer);
        found.and_then(|(_, key)| key).unwrap_or_else(|| self.value_span(pointer))
    }

    fn find(&mut self, at: Span, pointer: &str, message: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding::new(codes::LINT_CONFIG, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn config(&mut self, value: &Value, config: &mut LintConfig) {
        let Value::Object(fields) = value else {
            let at = self.value_span("");
            self.find(at, "", "the configuration is not a mapping").hint =
                Some(format!("known keys: {}", KEYS.join(", ")));
            return;
        };
        for (key, field) in fields {
            let pointer = child("", key);
            match key.as_str() {
                "severity" => self.levels(field, &pointer, config),
                "exclude" => self.patterns(field, &pointer, config),
                _ => {
                    let at = self.key_span(&pointer);
                    let hint = nearest(key, KEYS).map_or_else(
                        || format!("known keys: {}", KEYS.join(", ")),
                        |near| format!("did you mean `{near}`?"),
                    );
                    let short: String = key.chars().take(60).collect();
                    self.find(at, &pointer, format!("unknown key `{short}`")).hint = Some(hint);
                }
            }
        }
    }

    fn levels(&mut self, value: &Value, pointer: &str, config: &mut LintConfig) {
        let Value::Object(levels) = value else {
            let at = self.value_span(pointer);
            self.find(at, pointer, "`severity` is not a mapping").hint =
                Some("write for instance `SB0505: off`".to_owned());
            return;
        };
        for (name, level) in levels {
            let pointer = child(pointer, name);
            let at = self.value_span(&pointer);
            let code = match known(name, self.key_span(&pointer)) {
                Ok(code) => code,
                Err(finding) => {
                    self.findings.push(finding.at_pointer(pointer));
                    continue;
                }
            };
            let word = level.as_str().unwrap_or_default();
            let Some((_, level)) = Level::NAMES.into_iter().find(|(name, _)| *name == word) else {
                self.find(at, &pointer, format!("the severity of {name} is neither off, warning nor error"));
                continue;
            };
            if level == Level::Error || code.can_be_lowered() {
                config.levels.insert(code.code, level);
            } else {
                self.findings.push(not_adjustable(code, "lowered", self.key_span(&pointer)).at_pointer(pointer));
            }
        }
    }

    fn patterns(&mut self, value: &Value, pointer: &str, config: &mut LintConfig) {
        let Value::Array(patterns) = value else {
            let at = self.value_span(pointer);
            self.find(at, pointer, "`exclude` is not a list of patterns");
            return;
        };
        let mut all = GlobSetBuilder::new();
        for (number, pattern) in patterns.iter().enumerate() {
            let pointer = format!("{pointer}/{number}");
            let at = self.value_span(&pointer);
            if number >= MAX_PATTERNS {
                self.find(at, &pointer, format!("there are more than {MAX_PATTERNS} patterns"));
                break;
            }
            let Some(pattern) = pattern.as_str() else {
                self.find(at, &pointer, "the pattern is not text");
                continue;
            };
            match compile(pattern) {
                Ok(globs) => {
                    globs.into_iter().for_each(|glob| {
                        all.add(glob);
                    });
                    config.patterns.push(pattern.to_owned());
                }
                Err(message) => {
                    let finding = Finding::new(codes::BAD_GLOB, at, message).at_pointer(pointer);
                    self.findings
                        .push(finding.hint("write patterns as in .gitignore: `docs/`, `*.draft.yaml`, `/old/**`"));
                }
            }
        }
        match all.build() {
            Ok(all) => config.excluded = all,
            Err(error) => {
                config.patterns.clear();
                let at = self.value_span(pointer);
                self.find(at, pointer, format!("the patterns cannot be used together: {error}"));
            }
        }
    }
}

/// A pattern as in `.gitignore`: with a slash at its beginning or inside it counts from the root, otherwise it is about
/// names in any directory; one with a slash at its end is about directories only; a directory stands for all below it.
fn compile(pattern: &str) -> Result<Vec<globset::Glob>, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("the pattern has more than {MAX_PATTERN_BYTES} bytes"));
    }
    if pattern.starts_with('!') {
        return Err("patterns that begin with `!` are not supported".to_owned());
    }
    let trimmed = pattern.trim_end_matches('/');
    let name = trimmed.strip_prefix('/').unwrap_or(trimmed);
    if name.is_empty() || name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(format!("the pattern {pattern:?} matches no path of a repository"));
    }
    let rooted = if trimmed.contains('/') { name.to_owned() } else { format!("**/{name}") };
    let build = |glob: &str| {
        GlobBuilder::new(glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| format!("the pattern {pattern:?} is not valid: {}", error.kind()))
    };
    let below = build(&format!("{rooted}/**"))?;
    if trimmed.len() < pattern.len() { Ok(vec![below]) } else { Ok(vec![build(&rooted)?, below]) }
}

/// The pointer of a field.
fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
