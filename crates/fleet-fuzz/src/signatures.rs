//! Commits and their signatures: bytes that anybody who can push chooses.

use fleet_model::{SignerSet, SyncTrust, TrustRule};
use fleet_trust::{AllowedSigners, Certificates, Policy, SignedCommit, Subject};

use crate::text;

/// Two parts with a line `%%` between them: keys, and a commit. Keys that can be read are printed the same twice, what is
/// signed is a part of the commit, and nobody whose key is not there has signed it.
pub(crate) fn signature(data: &[u8]) {
    let text = text(data);
    let (keys, commit) = text.split_once("\n%%\n").unwrap_or((&text, &text));
    let (signers, errors) = AllowedSigners::parse(keys);
    assert!(
        errors.iter().all(|error| error.line >= 1 && error.line <= keys.lines().count()),
        "an error without a line"
    );
    let parsed = SignedCommit::parse(commit.as_bytes());
    if let Ok(parsed) = &parsed {
        assert!(parsed.payload.len() <= commit.len(), "more was signed than there is");
    }
    let certificates = Certificates::parse(keys);
    let set = SignerSet { name: "a".to_owned(), ssh: Some(keys.to_owned()), openpgp: Some(keys.to_owned()) };
    let rule = TrustRule { signed_by: vec!["a".to_owned()], ..TrustRule::default() };
    let policy = Policy::new(&[SyncTrust { signers: vec![set], rules: vec![rule] }]);
    let id = "0".repeat(40).parse().expect("forty digits are a commit id");
    let judged = policy.judge(Subject { id: &id, raw: Some(commit.as_bytes()), parent_committed_at: None });
    let nobody = signers.is_empty() && certificates.is_err();
    assert!(!(nobody && judged.rules[0].is_ok()), "signed by nobody");
    assert!(!(parsed.is_err() && judged.rules[0].is_ok()), "what is no commit is signed");
}
