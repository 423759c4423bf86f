//! The body of every error answer.

use serde::{Deserialize, Serialize};

/// An error as both HTTP interfaces answer it: `{apiVersion, kind: "Status", status: "Failure", code, reason, message}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusBody {
    /// Always `flightctl.io/v1beta1`.
    pub api_version: String,
    /// Always `Status`.
    pub kind: String,
    /// `Failure` or `Success`.
    pub status: String,
    /// The HTTP status code.
    pub code: u16,
    /// The HTTP reason phrase, such as `Not Found`.
    pub reason: String,
    /// One sentence that names the thing, the place and, where there is one, the fix.
    pub message: String,
}

impl StatusBody {
    /// A failure with an HTTP code and its reason phrase.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            api_version: crate::API_VERSION.to_owned(),
            kind: "Status".to_owned(),
            status: "Failure".to_owned(),
            code,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}
