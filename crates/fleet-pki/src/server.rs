//! The certificate a server presents: one of an operator's files, or one the built-in authority issues and keeps
//! fresh.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::SanType;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::facts::{self, CertificateError, CertificateFacts};
use crate::files::{self, FileError};
use crate::issue::server_names;
use crate::{CertificateAuthority, IssueError, Lifetime, certificates_from_pem, tls};

/// Life of a certificate that the built-in authority issues to a server.
pub const SERVER_LIFETIME: Lifetime = Lifetime::days(90);

/// Name of the file that holds an issued certificate, its chain and its key.
const FILE: &str = "server.pem";

/// Why a server has no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerCertificateError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificates of a file cannot be read.
    #[error("the server certificate {} cannot be used", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: CertificateError,
    },
    /// A file holds no private key that can be read.
    #[error("{} holds no readable private key: expected one unencrypted PEM section PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit together, or the key is of a kind TLS cannot use.
    #[error("the key {} cannot be used with the certificate: {reason}. Is it the key of the *first* certificate?", path.display())]
    Pair {
        /// The file of the key.
        path: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// No certificate could be issued.
    #[error("cannot issue a server certificate")]
    Issue(#[from] IssueError),
}

/// A server's certificate chain and key, ready for TLS.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    pub(crate) certified: Arc<CertifiedKey>,
    facts: CertificateFacts,
}

impl ServerCertificate {
    /// Loads an operator's files: the chain (PEM, the server's own certificate first) and its key (PEM). Both may be
    /// the same file.
    ///
    /// # Errors
    /// [`ServerCertificateError`], naming the file and the fix. An expired certificate is not an error here; see
    /// [`Self::facts`].
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, ServerCertificateError> {
        let chain_text = files::read_text(chain)?;
        let key_text = files::read_text(key)?;
        if files::is_open_to_others(key) {
            tracing::warn!(file = %key.display(), "The server's key can be read by others; set its mode to 0600");
        }
        Self::from_pem(&chain_text, chain, &key_text, key)
    }

    /// The certificate kept in `dir` if it is still good for `names`, otherwise a new one of the built-in authority
    /// with [`SERVER_LIFETIME`], which replaces it.
    ///
    /// Good means: issued by this authority, for exactly these names, valid, with at least a third of its life left.
    /// To be asked again at [`Self::renew_at`].
    ///
    /// # Errors
    /// [`ServerCertificateError`].
    pub fn load_or_issue(
        dir: &Path,
        ca: &CertificateAuthority,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, ServerCertificateError> {
        let wanted: HashSet<SanType> = server_names(names)?.into_iter().collect();
        let path = dir.join(FILE);
        match files::read_text(&path) {
            Ok(text) => match Self::from_pem(&text, &path, &text, &path) {
                Ok(kept) => match kept.unfit(ca, &wanted, now) {
                    None => return Ok(kept),
                    Some(reason) => tracing::info!(reason, "Replacing the server certificate"),
                },
                Err(error) => tracing::warn!(%error, "Replacing an unusable server certificate"),
            },
            Err(error) if error.is_not_found() => files::create_private_dir(dir)?,
            Err(error) => return Err(error.into()),
        }
        let issued = ca.issue_server(names, now, SERVER_LIFETIME)?;
        let text = Zeroizing::new(format!("{}{}", issued.key_pem.as_str(), issued.chain_pem));
        files::replace_secret(&path, text.as_bytes())?;
        Self::from_pem(&text, &path, &text, &path)
    }

    /// What the server's own certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// When a third of the certificate's life is left: the time to replace it.
    pub fn renew_at(&self) -> Timestamp {
        let (start, end) = (self.facts.not_before.as_second(), self.facts.not_after.as_second());
        Timestamp::from_second(end - (end - start) / 3).unwrap_or(self.facts.not_after)
    }

    fn from_pem(chain: &str, chain_path: &Path, key: &str, key_path: &Path) -> Result<Self, ServerCertificateError> {
        let refuse = |source| ServerCertificateError::Certificate { path: chain_path.to_owned(), source };
        let chain = certificates_from_pem(chain).map_err(refuse)?;
        let facts = chain.first().ok_or(CertificateError::Missing).and_then(|own| CertificateFacts::from_der(own));
        let facts = facts.map_err(refuse)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| ServerCertificateError::Key { path: key_path.to_owned() })?;
        let certified = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|error| ServerCertificateError::Pair { path: key_path.to_owned(), reason: error.to_string() })?;
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// Why the certificate should be replaced, if it should.
    fn unfit(&self, ca: &CertificateAuthority, wanted: &HashSet<SanType>, now: Timestamp) -> Option<&'static str> {
        let [own, issuer] = self.certified.cert.as_slice() else { return Some("its chain is not ours") };
        if issuer != &ca.server_signer().der {
            return Some("another authority issued it");
        }
        if names_of(own).as_ref() != Some(wanted) {
            return Some("the names changed");
        }
        if !self.facts.is_valid_at(now) {
            return Some("it is not valid now");
        }
        (now >= self.renew_at()).then_some("less than a third of its life is left")
    }
}

/// The DNS names and addresses of a certificate; `None` if it has others, or none.
fn names_of(der: &[u8]) -> Option<HashSet<SanType>> {
    let certificate = facts::parse(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let read = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            return Some(SanType::DnsName((*name).try_into().ok()?));
        }
        let GeneralName::IPAddress(bytes) = name else { return None };
        let address = match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            _ => return None,
        };
        Some(SanType::IpAddress(address))
    };
    names.value.general_names.iter().map(read).collect()
}
