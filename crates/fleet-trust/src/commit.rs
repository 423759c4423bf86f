//! The bytes of a commit: what was signed, the signature, and when.

/// A commit larger than this is not looked at, in bytes.
pub(crate) const MAX_COMMIT: usize = 1 << 20;

/// A commit taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCommit {
    /// What the signature is over: the commit without its signature headers.
    pub payload: Vec<u8>,
    /// The signature, if there is one.
    pub signature: Option<Signature>,
    /// When it was committed, as the committer says, in seconds since 1970.
    pub committed_at: i64,
}

/// The text of a signature, by its first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Made with an SSH key.
    Ssh(String),
    /// Made with an OpenPGP key.
    OpenPgp(String),
    /// Anything else, such as S/MIME: nobody here can verify it.
    Other,
}

/// Bytes that are no commit that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It is larger than 1 MiB.
    #[error("the commit is larger than 1 MiB")]
    TooLarge,
    /// It names no committer, or no time that can be read.
    #[error("the commit says no time that can be read")]
    NoTime,
    /// It has two signatures, and which one counts is not defined.
    #[error("the commit has two signatures")]
    TwoSignatures,
}

impl SignedCommit {
    /// Takes the bytes of a commit object (without Git's `commit <size>` header) apart, as Git does: every header whose name
    /// begins with `gpgsig` is left out of the payload, and the one named `gpgsig` is the signature.
    ///
    /// # Errors
    /// [`CommitError`]. Git reads two `gpgsig` headers as one; here they are refused.
    pub fn parse(raw: &[u8]) -> Result<Self, CommitError> {
        if raw.len() > MAX_COMMIT {
            return Err(CommitError::TooLarge);
        }
        let mut payload = Vec::with_capacity(raw.len());
        let mut signature: Option<Vec<u8>> = None;
        let mut committed_at = None;
        let mut inside = Inside::Elsewhere;
        let mut rest = raw;
        while !rest.is_empty() {
            if rest.starts_with(b"\n") {
                payload.extend_from_slice(rest);
                break;
            }
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, next) = rest.split_at(end);
            rest = next;
            inside = match (line.strip_prefix(b" "), inside) {
                (Some(more), Inside::Signature) => {
                    signature.get_or_insert_default().extend_from_slice(more);
                    Inside::Signature
                }
                (Some(_), Inside::OtherSignature) => Inside::OtherSignature,
                (Some(_), Inside::Elsewhere) => {
                    payload.extend_from_slice(line);
                    Inside::Elsewhere
                }
                (None, _) => match line.strip_prefix(b"gpgsig ") {
                    Some(_) if signature.is_some() => return Err(CommitError::TwoSignatures),
                    Some(first) => {
                        signature = Some(first.to_vec());
                        Inside::Signature
                    }
                    None if line.starts_with(b"gpgsig") => Inside::OtherSignature,
                    None => {
                        if let Some(who) = line.strip_prefix(b"committer ")
                            && committed_at.is_none()
                        {
                            committed_at = time(who);
                        }
                        payload.extend_from_slice(line);
                        Inside::Elsewhere
                    }
                },
            };
        }
        let signature = signature.map(|bytes| Signature::of(&bytes));
        Ok(Self { payload, signature, committed_at: committed_at.ok_or(CommitError::NoTime)? })
    }
}

/// What the line before belongs to.
#[derive(Debug, Clone, Copy)]
enum Inside {
    Signature,
    OtherSignature,
    Elsewhere,
}

impl Signature {
    fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Other };
        match text {
            text if text.starts_with("-----BEGIN SSH SIGNATURE-----") => Self::Ssh(text.to_owned()),
            text if text.starts_with("-----BEGIN PGP SIGNATURE-----") => Self::OpenPgp(text.to_owned()),
            _ => Self::Other,
        }
    }
}

/// `Name <mail> 1767225600 +0100`
fn time(who: &[u8]) -> Option<i64> {
    let after = who.iter().rposition(|byte| *byte == b'>')? + 1;
    let text = std::str::from_utf8(&who[after..]).ok()?;
    let seconds: i64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (seconds >= 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "tree 1\nparent 2\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1767225600 +0100\n\nhello\n gpgsig no\n";

    #[test]
    fn the_payload_is_the_commit_without_its_signature() {
        let plain = SignedCommit::parse(PLAIN.as_bytes()).unwrap();
        assert_eq!((plain.payload.as_slice(), plain.committed_at), (PLAIN.as_bytes(), 1_767_225_600));
        assert_eq!(plain.signature, None);
        let header =
            "gpgsig -----BEGIN SSH SIGNATURE-----\n abc\n \n -----END SSH SIGNATURE-----\ngpgsig-sha256 x\n y\n";
        let signed = PLAIN.replacen("\n\n", &format!("\n{header}\n"), 1);
        let signed = SignedCommit::parse(signed.as_bytes()).unwrap();
        assert_eq!(signed.payload, plain.payload);
        let text = "-----BEGIN SSH SIGNATURE-----\nabc\n\n-----END SSH SIGNATURE-----\n";
        assert_eq!(signed.signature, Some(Signature::Ssh(text.to_owned())));
    }

    #[test]
    fn two_signatures_and_a_missing_time_are_refused() {
        let twice = PLAIN.replacen("\n\n", "\ngpgsig a\ngpgsig b\n\n", 1);
        assert_eq!(SignedCommit::parse(twice.as_bytes()), Err(CommitError::TwoSignatures));
        for bad in
            ["", "tree 1\n\ncommitter C <c@d> 1 +0000\n", "committer C <c@d> x +0\n", "committer C <c@d> -1 +0\n"]
        {
            assert_eq!(SignedCommit::parse(bad.as_bytes()), Err(CommitError::NoTime), "{bad:?}");
        }
        assert_eq!(SignedCommit::parse(&vec![b'x'; MAX_COMMIT + 1]), Err(CommitError::TooLarge));
    }
}
