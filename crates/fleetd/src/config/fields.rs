//! Reads fields of a YAML mapping one by one; every problem is noted with its path, and reading goes on.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of YAML's kinds of values one is expected, whatever the others are"
)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde_yaml::{Mapping, Value};

/// Problems found so far, shared by all parts of a document.
pub(super) type Problems = Rc<RefCell<Vec<String>>>;

/// A mapping of the document, and which of its keys were asked for.
pub(super) struct Fields {
    path: String,
    mapping: Mapping,
    asked: BTreeSet<&'static str>,
    problems: Problems,
}

impl Fields {
    pub(super) fn new(path: &str, value: Value, problems: &Problems) -> Self {
        let mapping = match value {
            Value::Mapping(mapping) => mapping,
            Value::Null => Mapping::new(),
            other => {
                let place = if path.is_empty() { "the document" } else { path };
                problems.borrow_mut().push(format!("{place}: expected a mapping, found {}", kind_of(&other)));
                Mapping::new()
            }
        };
        Self { path: path.to_owned(), mapping, asked: BTreeSet::new(), problems: Rc::clone(problems) }
    }

    fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problem(&self, key: &str, message: impl std::fmt::Display) {
        self.problems.borrow_mut().push(format!("{}: {message}", self.place(key)));
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.insert(key);
        self.mapping.remove(key).filter(|value| !value.is_null())
    }

    /// More problems, with their places in them.
    pub(super) fn problems(&self, more: Vec<String>) {
        self.problems.borrow_mut().extend(more);
    }

    /// The value below a key as it is; nothing when absent.
    pub(super) fn raw(&mut self, key: &'static str) -> Value {
        self.take(key).unwrap_or(Value::Null)
    }

    /// The mapping below a key; empty when absent.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let value = self.take(key).unwrap_or(Value::Null);
        Self::new(&self.place(key), value, &self.problems)
    }

    /// The mapping below a key, when it is there.
    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        Some(Self::new(&self.place(key), value, &self.problems))
    }

    /// The mappings of a list below a key.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let place = self.place(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Sequence(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Self::new(&format!("{place}[{index}]"), item, &self.problems))
                .collect(),
            Some(other) => {
                self.problem(key, format_args!("expected a list, found {}", kind_of(&other)));
                Vec::new()
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) if text.is_empty() => {
                self.problem(key, "is empty");
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.problem(key, format_args!("expected text, found {}", kind_of(&other)));
                None
            }
        }
    }

    pub(super) fn required_text(&mut self, key: &'static str) -> String {
        let before = self.problems.borrow().len();
        let text = self.text(key);
        if text.is_none() && self.problems.borrow().len() == before {
            self.problem(key, "is missing");
        }
        text.unwrap_or_default()
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.take(key)? {
            Value::Sequence(items) => {
                let texts: Vec<String> =
                    items.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect();
                if texts.len() != items.len() {
                    self.problem(key, "expected a list of texts");
                }
                Some(texts)
            }
            other => {
                self.problem(key, format_args!("expected a list of texts, found {}", kind_of(&other)));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.problem(key, format_args!("expected true or false, found {}", kind_of(&value)));
        }
        flag
    }

    pub(super) fn number(&mut self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        let value = self.take(key)?;
        let number = value.as_u64().filter(|number| (low..=high).contains(number));
        if number.is_none() {
            self.problem(key, format_args!("expected a whole number from {low} to {high}"));
        }
        number
    }

    /// A size such as `10Gi`, `500Mi` or a number of bytes, within bounds.
    pub(super) fn bytes(&mut self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        let value = self.take(key)?;
        let bytes = match &value {
            Value::String(text) => parse_bytes(text),
            other => other.as_u64(),
        };
        let bytes = bytes.filter(|bytes| (low..=high).contains(bytes));
        if bytes.is_none() {
            let wanted = format_args!("expected a size from {low} to {high} bytes, such as 500Mi or 10Gi");
            self.problem(key, wanted);
        }
        bytes
    }

    /// A duration such as `15s`, `2m`, `24h` or `14d`, within bounds.
    pub(super) fn duration(&mut self, key: &'static str, low: Duration, high: Duration) -> Option<Duration> {
        if let Some(Value::Number(number)) = self.mapping.get(key) {
            let number = number.clone();
            self.take(key);
            self.problem(key, format_args!("{number} has no unit; write {number}s for seconds"));
            return None;
        }
        let text = self.text(key)?;
        match parse_duration(&text) {
            Some(duration) if (low..=high).contains(&duration) => Some(duration),
            Some(_) => {
                self.problem(
                    key,
                    format_args!("{text} is out of range: {} to {} seconds", low.as_secs(), high.as_secs()),
                );
                None
            }
            None => {
                self.problem(key, format_args!("{text:?} is not a duration such as 500ms, 15s, 2m, 24h or 14d"));
                None
            }
        }
    }

    /// A value that parses from text.
    pub(super) fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text(key)?;
        text.parse().map_err(|error| self.problem(key, format_args!("{text:?}: {error}"))).ok()
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.mapping.keys() {
            let shown = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
            let known: Vec<&str> = self.asked.iter().copied().collect();
            self.problem(&shown, format_args!("unknown key; known here: {}", known.join(", ")));
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

/// Parses `<whole number><ms|s|m|h|d>`.
fn parse_bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("15s"), Some(Duration::from_secs(15)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("14d"), Some(Duration::from_secs(14 * 86_400)));
        for bad in ["", "15", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }
}
