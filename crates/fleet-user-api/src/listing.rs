//! What all lists have in common: parameters, pages and the envelope.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleet_http::ApiError;
use fleet_model::{API_VERSION, ListMeta, OrgId, ResourceList};
use fleet_store::read_filter::{Field, ListQuery, Page};
use serde::{Deserialize, Serialize};

use crate::selector::{parse_field_selector, parse_label_selector};

/// The largest page, and the default.
const MAX_LIMIT: u16 = 1000;
/// No token is longer.
const MAX_TOKEN: usize = 1024;

/// The query parameters of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request(format!("query parameters: {error}")))?;
        let params = Self(params);
        params.check_org()?;
        Ok(params)
    }
}

/// Where a page begins: after this item.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Continue {
    v: u8,
    after: String,
}

impl Params {
    /// A parameter; absent when it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A yes-or-no parameter.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::bad_request(format!("{name} must be true or false"))),
        }
    }

    fn check_org(&self) -> Result<(), ApiError> {
        match self.get("org_id") {
            None => Ok(()),
            Some(id) if id == OrgId::DEFAULT.to_string() => Ok(()),
            Some(_) => {
                Err(ApiError::not_found(format!("there is no such organization; the only one is {}", OrgId::DEFAULT)))
            }
        }
    }

    /// The list that is asked for, over `fields`. Without `labels`, the kind has none and a label selector is refused.
    pub(crate) fn list(&self, fields: &[Field], labels: bool) -> Result<ListQuery, ApiError> {
        let selector = |name: &str, error: &dyn std::fmt::Display| ApiError::bad_request(format!("{name}: {error}"));
        let labels = match self.get("labelSelector") {
            Some(_) if !labels => {
                return Err(ApiError::bad_request("labelSelector: resources of this kind have no labels"));
            }
            Some(text) => parse_label_selector(text).map_err(|error| selector("labelSelector", &error))?,
            None => Vec::new(),
        };
        let fields = match self.get("fieldSelector") {
            Some(text) => parse_field_selector(text, fields).map_err(|error| selector("fieldSelector", &error))?,
            None => Vec::new(),
        };
        Ok(ListQuery { labels, fields, after: self.after()?, limit: self.limit()? })
    }

    fn limit(&self) -> Result<u16, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(MAX_LIMIT) };
        match text.parse::<u16>() {
            Ok(0) => Ok(MAX_LIMIT),
            Ok(limit) if limit <= MAX_LIMIT => Ok(limit),
            _ => {
                Err(ApiError::bad_request(format!("limit must be a whole number from 0 (the default) to {MAX_LIMIT}")))
            }
        }
    }

    /// What the page before ended with.
    pub(crate) fn after(&self) -> Result<Option<String>, ApiError> {
        let Some(token) = self.get("continue") else { return Ok(None) };
        let bad =
            || ApiError::bad_request("continue: this is not a token that a list here gave out; begin again without it");
        if token.len() > MAX_TOKEN {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let token: Continue = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if token.v == 1 && !token.after.contains('\0') { Ok(Some(token.after)) } else { Err(bad()) }
    }
}

/// The token for the page after the item `after`.
pub(crate) fn continue_token(after: &str) -> String {
    let token = serde_json::json!({"v": 1, "after": after});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// The envelope of a page. `remaining` is how many items follow it, when known.
pub(crate) fn envelope<T>(kind: &str, items: Vec<T>, next: Option<&str>, remaining: Option<i64>) -> ResourceList<T> {
    ResourceList {
        api_version: API_VERSION.to_owned(),
        kind: format!("{kind}List"),
        metadata: ListMeta { continue_token: next.map(continue_token), remaining_item_count: remaining },
        items,
    }
}

/// The name that the next page begins after, when there is one.
pub(crate) fn next_after<T>(page: &Page<T>, name: impl Fn(&T) -> &str) -> Option<String> {
    if page.more { page.items.last().map(|item| name(item).to_owned()) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    proptest! {
        #[test]
        fn tokens_survive_their_text_form(name in "[^\\x00]{0,60}") {
            prop_assert_eq!(params(&[("continue", &continue_token(&name))]).after().unwrap(), Some(name));
        }

        #[test]
        fn no_token_makes_it_panic(text in "\\PC{0,60}") {
            let _ = params(&[("continue", &text)]).after();
        }
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(params(&[("limit", "0")]).limit().unwrap(), 1000);
        assert_eq!(params(&[("limit", "7")]).limit().unwrap(), 7);
        for bad in ["1001", "-1", "x", "1e3"] {
            assert!(params(&[("limit", bad)]).limit().is_err(), "{bad}");
        }
    }
}
