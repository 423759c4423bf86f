//! Whatever is changed in a signed commit, nobody signed the result; and no bytes make anything panic.

use std::sync::OnceLock;

use fleet_trust::{AllowedSigners, Certificates, SignedCommit};
use proptest::prelude::*;

use crate::signing::{Gpg, commit_signed, openpgp_set, public, raw, repo, ssh_key, ssh_set, we_say};

/// A commit signed with an SSH key and its line, one signed with an OpenPGP key and its key.
fn samples() -> &'static [(Vec<u8>, fleet_model::SignerSet); 2] {
    static SAMPLES: OnceLock<[(Vec<u8>, fleet_model::SignerSet); 2]> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let (repo, gpg) = (repo(), Gpg::new());
        let key = ssh_key(repo.scratch(), "a", &["ed25519"]);
        let by_ssh = commit_signed(&repo, key.to_str().unwrap(), "signed");
        let print = gpg.key("20251201T000000", "alice", "sign", "1y");
        let by_openpgp = gpg.commit(&repo, "20260101T000000", &print, "signed");
        [
            (raw(&repo, &by_ssh), ssh_set(&format!("a@b {}", public(&key)))),
            (raw(&repo, &by_openpgp), openpgp_set(&gpg.export(&print))),
        ]
    })
}

/// What a signature covers, and the bytes of the signature itself without their armour.
fn meaning(raw: &[u8]) -> Option<Vec<u8>> {
    SignedCommit::parse(raw).ok().map(|commit| commit.payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_commit_is_nobodys(which in 0..2_usize, at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let (bytes, set) = &samples()[which];
        prop_assert!(we_say(set.clone(), bytes).rules[0].is_ok());
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        let verdict = we_say(set.clone(), &changed);
        // Armour may be written in several ways, and what is not in the payload is not signed; what is signed never changes.
        prop_assert!(verdict.rules[0].is_err() || meaning(&changed) == meaning(bytes), "a changed commit is signed");
    }

    #[test]
    fn a_commit_cut_short_or_with_bytes_put_in_is_nobodys(
        which in 0..2_usize, at in any::<prop::sample::Index>(), more in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let (bytes, set) = &samples()[which];
        let at = at.index(bytes.len());
        let mut changed = bytes[..at].to_vec();
        changed.extend_from_slice(&more);
        if changed.len() % 2 == 0 {
            changed.extend_from_slice(&bytes[at..]);
        }
        let verdict = we_say(set.clone(), &changed);
        prop_assert!(verdict.rules[0].is_err() || meaning(&changed) == meaning(bytes));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let (signers, errors) = AllowedSigners::parse(&text);
        prop_assert!(signers.is_empty() || errors.len() < text.lines().count());
        let _ = signers.verify(&bytes, &format!("-----BEGIN SSH SIGNATURE-----\n{text}"), 0);
        let _ = Certificates::parse(&format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}\n-----END PGP PUBLIC KEY BLOCK-----"));
        let (_, set) = &samples()[1];
        let keys = Certificates::parse(set.openpgp.as_deref().unwrap()).unwrap();
        let armoured = format!("-----BEGIN PGP SIGNATURE-----\n\n{text}\n-----END PGP SIGNATURE-----\n");
        prop_assert!(keys.verify(&bytes, &armoured, 0).is_err());
    }
}
