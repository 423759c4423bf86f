//! Labels and the rules for their keys and values (those of Kubernetes).

use std::collections::BTreeMap;

/// Labels, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// Why a label key or value is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key breaks the rule.
    #[error(
        "label key {0:?} is not `[prefix/]name`: a name of at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, and a DNS prefix of at most 253"
    )]
    Key(String),
    /// The value breaks the rule.
    #[error(
        "label value {0:?} is not empty or at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
    )]
    Value(String),
}

fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Checks a label key.
///
/// # Errors
/// [`LabelError::Key`] when it breaks the rule.
pub fn validate_label_key(key: &str) -> Result<(), LabelError> {
    let ok = match key.split_once('/') {
        None => is_qualified_name(key),
        Some((prefix, name)) => prefix.parse::<crate::ResourceName>().is_ok() && is_qualified_name(name),
    };
    if ok { Ok(()) } else { Err(LabelError::Key(key.to_owned())) }
}

/// Checks a label value.
///
/// # Errors
/// [`LabelError::Value`] when it breaks the rule.
pub fn validate_label_value(value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_qualified_name(value) { Ok(()) } else { Err(LabelError::Value(value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_kubernetes_hold() {
        for good in ["site", "example.com/site", "a.b_c-d", "A1"] {
            assert!(validate_label_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "-a", "a b", "Example.com/a", "a/b/c", &"x".repeat(64)] {
            assert!(validate_label_key(bad).is_err(), "{bad}");
        }
        assert!(validate_label_value("").is_ok());
        assert!(validate_label_value("a b").is_err());
    }
}
