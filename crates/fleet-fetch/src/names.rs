//! Names of secrets, as Kubernetes writes them. They become parts of paths, so nothing else gets through.

use crate::error::FetchError;

/// Checks the name of a namespace: a DNS label (RFC 1123), at most 63 characters.
///
/// # Errors
/// `Invalid`, with the rule.
pub fn check_secret_namespace(namespace: &str) -> Result<(), FetchError> {
    if is_label(namespace) {
        return Ok(());
    }
    Err(FetchError::invalid(format!(
        "{namespace:.70?} is no name of a namespace: 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
    )))
}

/// Checks the name of a secret: DNS labels joined by dots (RFC 1123), at most 253 characters.
///
/// # Errors
/// `Invalid`, with the rule.
pub fn check_secret_name(name: &str) -> Result<(), FetchError> {
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(FetchError::invalid(format!(
        "{name:.260?} is no name of a secret: 1 to 253 of a-z, 0-9, - and ., with a letter or digit at both ends of each part"
    )))
}

/// Checks a key of a secret: 1 to 253 of letters, digits, `-`, `_` and `.`; neither `.` nor anything with `..` in front.
///
/// # Errors
/// `Invalid`, with the rule.
pub fn check_secret_key(key: &str) -> Result<(), FetchError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let has_fitting_length = (1..=253).contains(&key.len());
    if has_fitting_length && key.bytes().all(fits) && key != "." && !key.starts_with("..") {
        return Ok(());
    }
    Err(FetchError::invalid(format!(
        "{key:.260?} is no key of a secret: 1 to 253 of letters, digits, -, _ and ., and not .. in front"
    )))
}

fn is_label(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    text.len() <= 63 && is_plain(first) && is_plain(last) && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["a", "team-1", "0"] {
            assert!(check_secret_namespace(good).is_ok() && check_secret_name(good).is_ok(), "{good}");
        }
        assert!(check_secret_name("a.b-c.d").is_ok() && check_secret_namespace("a.b").is_err());
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "a..b", ".a", "a.", "-a", "a-", "A", "a/b", "a_b", "ä", "a\0", "../a", &long] {
            assert!(check_secret_namespace(bad).is_err() && check_secret_name(bad).is_err(), "{bad:?}");
        }
        for good in ["tls.crt", ".dockerconfigjson", "A_b-1", "a..b"] {
            assert!(check_secret_key(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..data", "a/b", "a b", "a\n", "ä", &"a".repeat(254)] {
            assert!(check_secret_key(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_one_component_of_a_path(text in "(\\PC{0,12}|[-._a-z0-9/]{0,12})") {
            let passes = check_secret_namespace(&text).is_ok() || check_secret_name(&text).is_ok() || check_secret_key(&text).is_ok();
            if passes {
                let parts: Vec<_> = std::path::Path::new(&text).components().collect();
                prop_assert_eq!(parts, [std::path::Component::Normal(text.as_ref())]);
            }
        }

        #[test]
        fn what_kubernetes_accepts_passes(
            label in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?",
            more in proptest::collection::vec("[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", 0..4),
            key in "[a-zA-Z0-9_][-._a-zA-Z0-9]{0,40}",
        ) {
            prop_assert!(check_secret_namespace(&label).is_ok());
            let name = std::iter::once(label).chain(more).collect::<Vec<_>>().join(".");
            prop_assert!(check_secret_name(&name).is_ok());
            prop_assert!(check_secret_key(&key).is_ok());
        }
    }
}
