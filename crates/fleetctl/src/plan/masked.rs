//! Credentials in contents are never shown: plans are read by more people than repositories, and comments stay for ever.
//! What lint calls a credential is replaced by what it is and a part of its digest, so that a new one is seen as a change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::Digest;
use serde_json::Value;

/// How a private key ends.
const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "PRIVATE KEY-----";
/// So many digits tell two credentials apart, and tell nothing of either.
const DIGITS: usize = 8;

/// The text without its credentials.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (what, range) in fleet_lint::credentials(text) {
        if range.start < done {
            continue;
        }
        let end = if text[range.clone()].starts_with(KEY_BEGIN) { end_of_key(text, range.end) } else { range.end };
        out.push_str(&text[done..range.start]);
        let digest = Digest::of(&text.as_bytes()[range.start..end]).hex();
        out.push_str(&format!("[{what}, not shown: {}]", &digest[..DIGITS]));
        done = end;
    }
    out.push_str(&text[done..]);
    out
}

/// Where a private key ends whose first line ends at `begin`; without a last line the rest is taken to belong to it.
fn end_of_key(text: &str, begin: usize) -> usize {
    let rest = &text[begin..];
    let last = rest.find("-----END ").and_then(|at| rest[at..].find(KEY_END).map(|length| at + length + KEY_END.len()));
    begin + last.unwrap_or(rest.len())
}

/// The value without the credentials in its texts. A content in base64 that holds one is shown as the text that it is.
pub(super) fn value(value: &Value) -> Value {
    match value {
        Value::String(one) => Value::String(text(one)),
        Value::Array(items) => Value::Array(items.iter().map(self::value).collect()),
        Value::Object(fields) => {
            let is_encoded = fields.get("contentEncoding").and_then(Value::as_str) == Some("base64");
            let of = |(name, field): (&String, &Value)| {
                let decoded = field.as_str().filter(|_| is_encoded && name == "content").and_then(decoded);
                let shown = match decoded {
                    Some(content) if fleet_lint::credentials(&content).next().is_some() => {
                        Value::String(text(&content))
                    }
                    Some(_) | None => self::value(field),
                };
                (name.clone(), shown)
            };
            Value::Object(fields.iter().map(of).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn decoded(content: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(content).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(body: &str) -> String {
        format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n")
    }

    #[test]
    fn credentials_are_replaced_and_the_text_around_them_stays() {
        let token = format!("ghp_{}", "a1".repeat(18));
        let shown = text(&format!("a\n{}b={token}\nc\n", key("SECRETBODY")));
        assert!(!shown.contains("SECRETBODY") && !shown.contains(&token) && !shown.contains("KEY-----"), "{shown}");
        assert!(shown.starts_with("a\n[a private key, not shown: ") && shown.ends_with("]\nc\n"), "{shown}");
        assert!(shown.contains("\nb=[a token of GitHub, not shown: "), "{shown}");
        assert_eq!(text("nothing\n"), "nothing\n");
    }

    #[test]
    fn another_key_is_another_text() {
        assert_ne!(text(&key("one")), text(&key("two")));
        assert_eq!(text(&key("one")), text(&key("one")));
    }

    #[test]
    fn a_key_without_an_end_hides_the_rest() {
        let shown = text("x\n-----BEGIN PRIVATE KEY-----\nSECRETBODY\nmore");
        assert!(shown.starts_with("x\n[a private key") && shown.ends_with(']'), "{shown}");
    }

    #[test]
    fn settings_and_encoded_contents_are_looked_into() {
        let encoded = STANDARD.encode(key("SECRETBODY"));
        let application = json!({
            "envVars": {"KEY": key("SECRETBODY")},
            "inline": [{"path": "a", "contentEncoding": "base64", "content": encoded}, {"path": "b", "content": "YQ=="}],
        });
        let shown = value(&application).to_string();
        assert!(!shown.contains("SECRETBODY") && !shown.contains(&encoded), "{shown}");
        assert_eq!(shown.matches("a private key, not shown").count(), 2, "{shown}");
        assert!(shown.contains("YQ=="), "{shown}");
    }
}
