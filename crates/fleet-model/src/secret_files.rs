//! Files with secret contents in a rendered document: they stand in a provider of their own, so that whoever shows a
//! document knows what to leave out.

use serde_json::Value;

/// Stands for the Repository where files come from a secret.
pub const SECRET_REPOSITORY: &str = "Secret";
/// How the name of that provider begins. What follows is not to be shown either: it keeps the document's digest, which is
/// shown, from telling which of some guesses the contents are.
pub const SECRET_FILES_PREFIX: &str = "secret-";
/// What is shown in place of a secret content.
pub const MASK: &str = "*****";

/// Whether the text of a rendered document may hold secret contents. `false` is sure.
pub fn may_hold_secret_files(document: &[u8]) -> bool {
    // As the renderer writes it; quotes in texts have a backslash before them.
    let sign = format!("\"name\":\"{SECRET_FILES_PREFIX}");
    document.windows(sign.len()).any(|window| window == sign.as_bytes())
}

/// Puts a mask in place of all secret contents of a rendered document, and of what its digest is kept safe with.
pub fn mask_secret_files(document: &mut Value) {
    let Some(providers) = document.get_mut("config").and_then(Value::as_array_mut) else { return };
    for provider in providers {
        let name = provider.get("name").and_then(Value::as_str).unwrap_or_default();
        if !name.starts_with(SECRET_FILES_PREFIX) {
            continue;
        }
        provider["name"] = "secret".into();
        for file in provider.get_mut("inline").and_then(Value::as_array_mut).into_iter().flatten() {
            file["content"] = MASK.into();
            file["contentEncoding"] = "plain".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secret_contents_are_masked_and_others_are_not() {
        let file = |content: &str| json!({"content": content, "contentEncoding": "base64", "path": "/a"});
        let mut document = json!({"config": [
            {"inline": [file("open")], "name": ""},
            {"inline": [file("aHVudGVyMg=="), file("two")], "name": "secret-0123"}
        ], "os": {"image": "q/a:1"}});
        assert!(may_hold_secret_files(document.to_string().as_bytes()));
        mask_secret_files(&mut document);
        let text = document.to_string();
        assert!(!may_hold_secret_files(text.as_bytes()) && text.contains("open") && text.contains("q/a:1"), "{text}");
        for gone in ["aHVudGVyMg", "two", "0123"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        let quoted = json!({"config": [{"inline": [file("\"name\":\"secret-")], "name": ""}]});
        assert!(!may_hold_secret_files(quoted.to_string().as_bytes()));
    }
}
