//! Database errors as answers.

use fleet_http::ApiError;
use fleet_store::StoreError;

/// A failed read or write: 503 when trying again later may help, 500 otherwise.
pub(crate) fn store_failure(error: StoreError) -> ApiError {
    if error.is_unavailable() || error.is_retryable() {
        ApiError::unavailable("the service's database is away; try again later", 10).with_source(error)
    } else {
        ApiError::internal(error)
    }
}

/// The parameter of a path.
pub(crate) fn path_name(
    path: Result<axum::extract::Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<String, ApiError> {
    match path {
        Ok(axum::extract::Path(name)) => Ok(name),
        Err(_) => Err(ApiError::bad_request("the name in the path is not valid UTF-8")),
    }
}

/// Refuses a body of another kind or version.
pub(crate) fn check_kind(api_version: &str, kind: &str, wanted: &str) -> Result<(), ApiError> {
    if !matches!(api_version, "" | "v1beta1" | fleet_model::API_VERSION) {
        let shown: String = api_version.chars().take(80).collect();
        let message = format!("apiVersion {shown:?} is not spoken here: use {}", fleet_model::API_VERSION);
        return Err(ApiError::bad_request(message));
    }
    if kind != wanted {
        let shown: String = kind.chars().take(80).collect();
        return Err(ApiError::bad_request(format!("kind is {shown:?} where {wanted} was expected")));
    }
    Ok(())
}

/// Whether JSON text holds a NUL character, which the database cannot store.
pub(crate) fn has_nul(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_nul() {
        assert!(has_nul("{\"a\":\"\\u0000\"}"));
        assert!(has_nul("[\"\\\\\\u0000\"]"));
        assert!(!has_nul("[\"\\\\u0000\"]"));
        assert!(!has_nul("\\"));
    }

    proptest::proptest! {
        #[test]
        fn nul_is_found_exactly_when_a_string_holds_it(text: String, nul: bool) {
            let text = if nul { format!("{text}\0") } else { text };
            let json = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(has_nul(&json), text.contains('\0'));
        }
    }
}
