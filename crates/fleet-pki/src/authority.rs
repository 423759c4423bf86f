//! The built-in certificate authority: a root, below it one signer for clients and one for servers.
//!
//! On disk, in the given directory: `ca/` with `root`, `client-signer` and `server-signer`, each `.crt` and `.key`
//! (PEM, 0600). `ca/` comes into being by one rename of a complete directory, so it is whole or absent, and nothing
//! ever replaces it. `root.key` is needed only to make signers: once `ca/` exists it may be kept elsewhere.
//!
//! Both signers may sign end certificates only (path length 0), and each for one purpose only (extended key usage).
//! Clients are verified against the client signer alone, so nothing else below the root can be a client.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{Issuer, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::facts::{self, CertificateError, CertificateFacts};
use crate::files::{self, FileError};
use crate::key::{KeyError, SigningKeyPair};
use crate::{IssueError, certificates_from_pem};

mod create;

/// How long before its end, in seconds, a certificate of the authority is reported: a year.
const EXPIRY_NOTICE_SECONDS: i64 = 365 * 86_400;

const ROOT: &str = "root";
const CLIENT_SIGNER: &str = "client-signer";
const SERVER_SIGNER: &str = "server-signer";
const DIRECTORY: &str = "ca";

/// Why there is no certificate authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file or directory cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the authority is gone.
    #[error(
        "the certificate authority is incomplete: {} is missing. Restore it from a backup; \
         to begin anew (every device must then enrol again) remove its directory",
        path.display()
    )]
    Incomplete {
        /// The missing file.
        path: PathBuf,
    },
    /// A certificate of the authority cannot be used.
    #[error("the certificate {} cannot be used: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A key of the authority cannot be used.
    #[error("the key {} cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// A key does not belong to its certificate.
    #[error("the key {} does not belong to the certificate beside it", path.display())]
    KeyMismatch {
        /// The file of the key.
        path: PathBuf,
    },
    /// The certificates could not be made.
    #[error("cannot create the certificate authority")]
    Create(#[from] IssueError),
}

/// Something about a usable authority that its operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaWarning {
    /// Others than the owner may read a private key or the directory.
    OpenToOthers {
        /// The file or directory.
        path: PathBuf,
    },
    /// A certificate of the authority ends within a year, or has ended.
    Expires {
        /// The file.
        path: PathBuf,
        /// When.
        not_after: Timestamp,
    },
}

impl std::fmt::Display for CaWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OpenToOthers { path } => {
                write!(f, "{} can be read by others; set mode 0600 for files and 0700 for directories", path.display())
            }
            Self::Expires { path, not_after } => {
                write!(f, "the authority's certificate {} ends at {not_after}; plan its replacement", path.display())
            }
        }
    }
}

/// One signer with its key.
pub(crate) struct Signer {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) not_after: Timestamp,
    pub(crate) issuer: Issuer<'static, SigningKeyPair>,
}

/// The built-in certificate authority.
pub struct CertificateAuthority {
    root_pem: String,
    root_der: CertificateDer<'static>,
    client_signer: Signer,
    server_signer: Signer,
    warnings: Vec<CaWarning>,
}

impl CertificateAuthority {
    /// Loads the authority of `dir`, or makes one if there is none.
    ///
    /// Several processes may do so at once: one makes it, the others load the same. What a crash left unfinished is
    /// removed. An authority that is there is never changed; one that is incomplete or damaged is an error.
    ///
    /// # Errors
    /// [`CaError`], naming the file.
    pub fn load_or_create(dir: &Path, now: Timestamp) -> Result<Self, CaError> {
        let place = dir.join(DIRECTORY);
        if !place.is_dir() {
            files::create_private_dir(dir)?;
            create::create(dir, &place, now)?;
        }
        Self::load(&place, now)
    }

    fn load(place: &Path, now: Timestamp) -> Result<Self, CaError> {
        let mut warnings = Vec::new();
        if files::is_open_to_others(place) {
            warnings.push(CaWarning::OpenToOthers { path: place.to_owned() });
        }
        let root_path = place.join(format!("{ROOT}.crt"));
        let (root_pem, root_der) = load_certificate(&root_path)?;
        let mut note_end = |path: &Path, facts: &CertificateFacts| {
            if facts.not_after.as_second() - now.as_second() < EXPIRY_NOTICE_SECONDS {
                warnings.push(CaWarning::Expires { path: path.to_owned(), not_after: facts.not_after });
            }
        };
        note_end(&root_path, &ca_facts(&root_path, &root_der, &root_der)?);
        let mut signer = |name: &str| {
            let path = place.join(format!("{name}.crt"));
            let (pem, der) = load_certificate(&path)?;
            let facts = ca_facts(&path, &der, &root_der)?;
            note_end(&path, &facts);
            load_signer(&place.join(format!("{name}.key")), pem, der, facts)
        };
        let (client_signer, server_signer) = (signer(CLIENT_SIGNER)?, signer(SERVER_SIGNER)?);
        for name in [ROOT, CLIENT_SIGNER, SERVER_SIGNER] {
            let path = place.join(format!("{name}.key"));
            if files::is_open_to_others(&path) {
                warnings.push(CaWarning::OpenToOthers { path });
            }
        }
        Ok(Self { root_pem, root_der, client_signer, server_signer, warnings })
    }

    /// The root certificate (PEM): what a client needs to verify the servers.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The root and the client signer (PEM, in this order): what agents get as their certificate authority.
    pub fn ca_bundle_pem(&self) -> String {
        format!("{}{}", self.root_pem, self.client_signer.pem)
    }

    /// The certificates that client certificates are verified against: the client signer, and not the root.
    pub fn client_ca_roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.client_signer.der.clone()]
    }

    /// The root certificate in DER.
    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root_der
    }

    /// What the operator should know: to be logged at the start.
    pub fn warnings(&self) -> &[CaWarning] {
        &self.warnings
    }

    pub(crate) fn client_signer(&self) -> &Signer {
        &self.client_signer
    }

    pub(crate) fn server_signer(&self) -> &Signer {
        &self.server_signer
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("root", &fleet_model::Digest::of(&self.root_der))
            .field("not_after", &self.client_signer.not_after)
            .finish_non_exhaustive()
    }
}

fn read_part(path: &Path) -> Result<Zeroizing<String>, CaError> {
    files::read_text(path).map_err(|error| {
        if error.is_not_found() { CaError::Incomplete { path: path.to_owned() } } else { CaError::File(error) }
    })
}

fn load_certificate(path: &Path) -> Result<(String, CertificateDer<'static>), CaError> {
    let text = read_part(path)?.to_string();
    let refuse = |problem: String| CaError::Certificate { path: path.to_owned(), problem };
    let mut certificates = certificates_from_pem(&text).map_err(|error| refuse(error.to_string()))?;
    match (certificates.pop(), certificates.is_empty()) {
        (Some(certificate), true) => Ok((text, certificate)),
        _ => Err(refuse("expected exactly one certificate".to_owned())),
    }
}

/// The facts of a certificate that is an authority signed by `root`.
fn ca_facts(path: &Path, der: &[u8], root: &[u8]) -> Result<CertificateFacts, CaError> {
    let check = || -> Result<CertificateFacts, String> {
        let said = |error: CertificateError| error.to_string();
        let certificate = facts::parse(der).map_err(said)?;
        let root = facts::parse(root).map_err(said)?;
        if !certificate.is_ca() {
            return Err("it is not that of a certificate authority".to_owned());
        }
        certificate.verify_signature(Some(root.public_key())).map_err(|_| "the root did not sign it".to_owned())?;
        CertificateFacts::of(&certificate, der).map_err(said)
    };
    check().map_err(|problem| CaError::Certificate { path: path.to_owned(), problem })
}

fn load_signer(
    key_path: &Path,
    pem: String,
    der: CertificateDer<'static>,
    facts: CertificateFacts,
) -> Result<Signer, CaError> {
    let text = read_part(key_path)?;
    let key = SigningKeyPair::from_pem(&text).map_err(|source| CaError::Key { path: key_path.to_owned(), source })?;
    let key_name = crate::device_name_from_point(key.der_bytes()).ok();
    if key_name.is_none() || key_name != facts.key_name {
        return Err(CaError::KeyMismatch { path: key_path.to_owned() });
    }
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(IssueError::from)?;
    Ok(Signer { pem, der, not_after: facts.not_after, issuer })
}
