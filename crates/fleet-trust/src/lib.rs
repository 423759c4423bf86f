//! Who signed a commit, and whether a policy's rules ask for more.
//!
//! Pure: bytes in, verdicts out. Nothing here reads a clock, a file or a key ring, or starts a program: a commit is
//! judged by its own bytes, by the keys in the policy, and by the time its committer wrote into it. The verdicts are those
//! of `git verify-commit` with the same keys, or stricter; where, is said at the functions.
#![forbid(unsafe_code)]

mod commit;
mod openpgp;
mod range;
mod rules;
mod ssh;

pub use commit::{CommitError, Signature, SignedCommit};
pub use openpgp::{Certificates, CertificatesError};
pub use range::{Candidates, Examined, JudgedCommit, MAX_COMMITS, NewCommit, Range, Violation, in_sentences, remedy};
pub use rules::{Denial, DenialKind, Judged, Policy, RuleView, Subject, glob};
pub use ssh::{AllowedSigners, LineError};
