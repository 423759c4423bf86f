//! Whose signature a commit needs before it is applied. The keys are public, so they stand in the policy as they are.

use serde::{Deserialize, Serialize};

/// Which commits must be signed, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncTrust {
    /// Signers by the name of their set. The names are known to the rules of this policy alone.
    pub signers: Vec<SignerSet>,
    /// A commit needs a signature for every rule that covers it.
    pub rules: Vec<TrustRule>,
}

/// Keys whose owners are trusted alike; at least one of `ssh` and `openpgp` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerSet {
    /// The name that rules use.
    pub name: String,
    /// Lines of an OpenSSH `allowed_signers` file: names, options (`namespaces`, `valid-after`, `valid-before`), and a key.
    /// Times without a `Z` are UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// Armoured OpenPGP public keys, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openpgp: Option<String>,
}

/// Whose signature some commits need. Without `paths` and `effects` a rule covers every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRule {
    /// Patterns of paths from the root of the repository: the rule covers a commit that changes one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// What a plan does: the rule covers every commit that is part of such a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<TrustEffect>>,
    /// The sets of signers; a valid signature by one signer of one of them is enough.
    pub signed_by: Vec<String>,
}

/// Something that a plan does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TrustEffect {
    /// A SyncPolicy is added, changed or removed.
    SyncPolicy,
    /// A Repository or a ResourceSync is added, changed or removed.
    Sources,
    /// An EnrollmentPolicy is added, changed or removed.
    Enrollment,
    /// A fleet is removed.
    RemoveFleet,
    /// A device gets another operating-system image.
    OsImage,
    /// Applications of a device change.
    Applications,
    /// A device gets another document, another fleet or none.
    AnyDevice,
}

impl TrustEffect {
    /// As it is written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyncPolicy => "SyncPolicy",
            Self::Sources => "Sources",
            Self::Enrollment => "Enrollment",
            Self::RemoveFleet => "RemoveFleet",
            Self::OsImage => "OsImage",
            Self::Applications => "Applications",
            Self::AnyDevice => "AnyDevice",
        }
    }
}

impl TrustRule {
    /// Whether the rule covers commits whatever they change.
    pub fn covers_everything(&self) -> bool {
        self.paths.is_none() && self.effects.is_none()
    }
}
