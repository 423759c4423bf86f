//! What to do about a value that does not fit, where the schema says enough to tell.

use fleet_model::ResourceName;
use serde_json::Value;

use crate::apps::clip;
use crate::finding::{Finding, nearest};
use crate::foreign;

/// The field that an unknown one most likely means.
pub(super) fn meant<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    nearest(name, known.iter().copied()).or_else(|| {
        let meant = foreign::also_called(name);
        known.iter().copied().find(|field| meant.contains(field)).or_else(|| part_of(name, known))
    })
}

/// The only field that has the word in its name, or whose name is in the word: `alerts` for `alertRules` is not one.
fn part_of<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = name.to_lowercase();
    let is_part = |field: &&str| {
        let field = field.to_lowercase();
        let (short, long) = if field.len() < lower.len() { (&field, &lower) } else { (&lower, &field) };
        short.len() >= 4 && (long.starts_with(short.as_str()) || long.ends_with(short.as_str()))
    };
    let mut found = known.iter().copied().filter(is_part);
    found.next().filter(|_| found.next().is_none())
}

/// Drops what is missing where an unknown field is that one, misspelt: that is one mistake, at the unknown field.
///
/// `missing` holds the places in `findings` of what is missing, and the names.
pub(super) fn pair_misspelt(findings: &mut Vec<Finding>, missing: &[(usize, String)], unknown: &[usize]) {
    let mut paired = Vec::new();
    for (at, name) in missing {
        let above = findings[*at].pointer.clone();
        let is_it = |own: &&usize| {
            let pointer = &findings[**own].pointer;
            pointer.rsplit_once('/').is_some_and(|(parent, field)| {
                parent == above && meant(&crate::yaml::unescape(field), &[name.as_str()]).is_some()
            })
        };
        if let Some(own) = unknown.iter().find(is_it) {
            findings[*own].hint = Some(format!("did you mean `{name}`?"));
            paired.push(*at);
        }
    }
    let mut at = 0;
    findings.retain(|_| {
        at += 1;
        !paired.contains(&(at - 1))
    });
}

/// What to write instead of a value of the wrong type. `fields` are those of the mapping that is wanted.
pub(super) fn of_type(
    value: &Value,
    wanted: &str,
    plain: Option<&str>,
    field: &str,
    fields: &[&str],
) -> Option<String> {
    match (value, wanted) {
        (Value::Bool(_) | Value::Number(_), "string") => plain.map(|text| format!("quote it: \"{text}\"")),
        (Value::String(text), "integer") if field == "mode" => Some(match text.bytes().all(|b| b.is_ascii_digit()) {
            true => "write the mode without quotes: 0644".to_owned(),
            false => "write the mode as an octal number: 0644".to_owned(),
        }),
        (Value::String(text), "integer" | "number" | "boolean") => {
            let bare = text.trim().trim_end_matches('%').trim_end();
            let fits = match wanted {
                "boolean" => matches!(bare, "true" | "false"),
                "integer" => bare.parse::<i64>().is_ok(),
                _ => bare.parse::<f64>().is_ok_and(f64::is_finite),
            };
            fits.then(|| format!("write {bare}"))
        }
        (Value::String(text), "object") => match text.split_once(':') {
            Some((key, rest)) if plain.is_some() && !rest.is_empty() && is_word(key) => {
                Some(format!("put a space behind the colon: `{}: {}`", clip(key), clip(rest.trim_start())))
            }
            _ if fields.is_empty() => Some("write `key: value` on a line of its own".to_owned()),
            _ => Some(format!("write a mapping, with {}", fields.join(", "))),
        },
        (Value::String(text), "array") if !text.contains('\n') => Some(format!("write a list: [{}]", clip(text))),
        (Value::Object(_), "array") => Some("write a list: begin each item with `- `".to_owned()),
        (Value::Array(_), "object") => Some("this is one mapping, not a list: remove the `- `".to_owned()),
        (Value::Array(items), "string") => match &items[..] {
            [Value::String(one)] if !one.contains('\n') => Some(format!("write the text alone: {}", clip(one))),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the text looks like the name of a field or label.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A name that is allowed and looks like this one.
pub(crate) fn valid_name(name: &str) -> Option<String> {
    let mapped: String = name
        .trim()
        .chars()
        .take(253)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mapped = mapped.trim_matches(['-', '.']).to_owned();
    let is_right = name.is_ascii() && mapped != name && mapped.parse::<ResourceName>().is_ok();
    is_right.then_some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_other_names() {
        let of_file = ["path", "content", "contentEncoding", "mode", "user", "group"];
        assert_eq!(meant("paht", &of_file), Some("path"));
        assert_eq!(meant("permissions", &of_file), Some("mode"));
        assert_eq!(meant("encoding", &of_file), Some("contentEncoding"));
        assert_eq!(meant("branch", &["path", "repository", "targetRevision"]), Some("targetRevision"));
        assert_eq!(meant("type", &["name", "appType"]), Some("appType"));
        assert_eq!(meant("colour", &of_file), None);
    }

    #[test]
    fn a_name_that_is_nearly_right_is_told_right() {
        assert_eq!(valid_name("Kiosks_1").as_deref(), Some("kiosks-1"));
        assert_eq!(valid_name("my shop ").as_deref(), Some("my-shop"));
        for none in ["", "kiosks", "---", "Ä"] {
            assert_eq!(valid_name(none), None, "{none}");
        }
    }
}
