//! Walks a mapping and gathers what is wrong with it, so that all of it can be told at once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::duration;

/// One mapping, and what was asked of it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    mapping: &'a Mapping,
    prefix: String,
    asked: BTreeSet<String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mapping: &'a Mapping) -> Self {
        let (asked, problems, warnings) = Default::default();
        Self { mapping, prefix: String::new(), asked, problems, warnings }
    }

    pub(super) fn below(prefix: &str, mapping: &'a Mapping) -> Self {
        Self { prefix: format!("{prefix}."), ..Self::new(mapping) }
    }

    /// A reader of a mapping inside this one.
    pub(super) fn inner<'b>(&self, key: &str, mapping: &'b Mapping) -> Reader<'b> {
        Reader { prefix: format!("{}{key}.", self.prefix), ..Reader::new(mapping) }
    }

    /// Notes a problem; `what` begins with the key.
    pub(super) fn problem(&mut self, what: &str) {
        self.problems.push(format!("{}{what}", self.prefix));
    }

    fn get(&mut self, key: &str) -> Option<&'a Value> {
        self.asked.insert(key.to_owned());
        self.mapping.get(key).filter(|value| !value.is_null())
    }

    /// Takes what another reader found.
    pub(super) fn absorb(&mut self, other: Reader<'_>) {
        let (problems, warnings) = other.finish();
        self.problems.extend(problems);
        self.warnings.extend(warnings);
    }

    /// Accepts a key that has no effect here.
    pub(super) fn ignore(&mut self, key: &str) {
        if self.get(key).is_some() {
            self.warnings.push(format!("{}{key} has no effect in this agent", self.prefix));
        }
    }

    pub(super) fn section(&mut self, key: &str, required: bool) -> Option<Mapping> {
        match self.get(key) {
            Some(Value::Mapping(mapping)) => Some(mapping.clone()),
            Some(_) => {
                self.problem(&format!("{key} is not a mapping"));
                None
            }
            None => {
                if required {
                    self.problem(&format!("{key} is missing"));
                }
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.get(key) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.problem(&format!("{key} is not a text"));
                None
            }
        }
    }

    /// A mapping of texts to texts.
    pub(super) fn texts(&mut self, key: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (name, value) in self.section(key, false).unwrap_or_default() {
            match (name.as_str(), value.as_str()) {
                (Some(name), Some(value)) => found.push((name.to_owned(), value.to_owned())),
                _ => self.problem(&format!("{key}.{}: is not a text; quote it", name.as_str().unwrap_or("?"))),
            }
        }
        found
    }

    pub(super) fn duration(&mut self, key: &str, into: &mut Duration, shortest: Duration) {
        let Some(text) = self.text(key) else { return };
        match duration::parse(&text) {
            Some(value) if value >= shortest => *into = value,
            Some(_) => self.problem(&format!("{key}: {text:?} is shorter than {shortest:?}")),
            None => self.problem(&format!("{key}: {text:?} is not a duration such as 60s, 1m30s or 500ms")),
        }
    }

    /// A first and a longest delay.
    pub(super) fn duration_pair(&mut self, base: &str, max: &str, into: &mut (Duration, Duration)) {
        let shortest = Duration::from_millis(1);
        self.duration(base, &mut into.0, shortest);
        self.duration(max, &mut into.1, shortest);
        if into.0 > into.1 {
            self.problem(&format!("{base} is longer than {max}"));
        }
    }

    pub(super) fn url(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        let trimmed = text.trim_end_matches('/').to_owned();
        let known = trimmed.is_empty() || trimmed.starts_with("https://") || trimmed.starts_with("http://");
        if !known || reqwest::Url::parse(&trimmed).is_err() && !trimmed.is_empty() {
            self.problem(&format!("{key}: {text:?} is not a URL"));
            return None;
        }
        Some(trimmed)
    }

    pub(super) fn required_https(&mut self, key: &str) -> Option<String> {
        let Some(text) = self.text(key) else {
            if !self.problems.iter().any(|p| p.starts_with(&format!("{}{key} ", self.prefix))) {
                self.problem(&format!("{key} is missing"));
            }
            return None;
        };
        let trimmed = text.trim_end_matches('/').to_owned();
        let ok = reqwest::Url::parse(&trimmed)
            .is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.path() == "/" && url.query().is_none());
        if ok {
            return Some(trimmed);
        }
        self.problem(&format!("{key}: {text:?} is not of the form https://host:port"));
        None
    }

    /// Problems and warnings, unknown keys among the former.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        for key in self.mapping.keys() {
            match key.as_str() {
                Some(key) if self.asked.contains(key) => {}
                Some(key) => self.problems.push(format!("{}{key} is not a known key", self.prefix)),
                None => self.problems.push(format!("{}{key:?} is not a text", self.prefix)),
            }
        }
        (self.problems, self.warnings)
    }
}
