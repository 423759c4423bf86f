//! TLS configurations of the servers and of their clients. The cryptography is aws-lc-rs, chosen here and not by a
//! process-wide default.
//!
//! **Resumption.** A resumed session skips the verification of the client's certificate: neither its chain nor its
//! expiry is looked at again. Therefore every configuration has its own ticket keys, so that a new configuration (a
//! changed authority, say) makes all old tickets void and every client does a full handshake; and therefore the agent
//! interface must look at [`PeerIdentity::not_after`](crate::PeerIdentity::not_after) and at revocation for every
//! request, not for every connection. The peer's certificate itself is part of the ticket, so the identity of a
//! resumed session is still the verified one. Tickets are stateless: no server-side cache, nothing to share between
//! replicas; a ticket of another replica costs a full handshake.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::{CertificateError, ServerCertificate, certificates_from_pem};

/// Sessions a client keeps for resumption; it talks to one or two servers.
const CLIENT_SESSIONS: usize = 8;

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificates of the authority cannot be read.
    #[error("the certificate authority's certificates cannot be used")]
    Authority(#[source] CertificateError),
    /// An authority certificate cannot be trusted.
    #[error("an authority certificate cannot be used: {reason}")]
    Anchor {
        /// What the TLS library said.
        reason: String,
    },
    /// The client's certificate chain cannot be read.
    #[error("the client certificate cannot be used")]
    ClientCertificate(#[source] CertificateError),
    /// The client's key cannot be read.
    #[error("the client key is no readable private key: expected one PEM section PRIVATE KEY or EC PRIVATE KEY")]
    ClientKey,
    /// The TLS library refused.
    #[error("cannot build the TLS configuration: {reason}")]
    Tls {
        /// What the library said.
        reason: String,
    },
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls { reason: error.to_string() }
    }
}

/// The time by which certificates are verified in handshakes.
#[derive(Debug, Clone)]
pub struct TlsTime(Arc<dyn TimeProvider>);

impl TlsTime {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(DefaultTimeProvider))
    }

    /// A clock of the caller: a service's, a test's, or that of a device whose system clock cannot be trusted. It is
    /// asked in every handshake; times before 1970 make handshakes fail.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(FunctionTime(now)))
    }
}

struct FunctionTime<F>(F);

impl<F> fmt::Debug for FunctionTime<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionTime")
    }
}

impl<F: Fn() -> Timestamp + Send + Sync> TimeProvider for FunctionTime<F> {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// What a client presents: certificate chain and key.
#[derive(Clone)]
pub struct ClientIdentity {
    chain_pem: String,
    key_pem: Zeroizing<String>,
}

impl ClientIdentity {
    /// From PEM texts: the chain with the client's own certificate first, and its key (PKCS#8, SEC1 or PKCS#1).
    /// Nothing is checked before [`client_config`].
    pub fn new(chain_pem: String, key_pem: Zeroizing<String>) -> Self {
        Self { chain_pem, key_pem }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(redacted)")
    }
}

/// The configuration of the agent interface: TLS 1.3 only, a client certificate required and its chain verified
/// against `client_roots` (see [`crate::CertificateAuthority::client_ca_roots`]), ALPN `h2` and `http/1.1`.
///
/// # Errors
/// [`TlsError`] for unusable roots, or none.
pub fn agent_server_config(
    server: &ServerCertificate,
    client_roots: &[CertificateDer<'static>],
    time: &TlsTime,
) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = root_store(client_roots)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::Anchor { reason: error.to_string() })?;
    let builder = ServerConfig::builder_with_details(provider(), Arc::clone(&time.0))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier);
    let resolver = SingleCertAndKey::from(Arc::clone(&server.certified));
    finish_server(builder.with_cert_resolver(Arc::new(resolver)))
}

/// The configuration of the user interface: TLS 1.2 and 1.3, no client certificates, ALPN `h2` and `http/1.1`.
///
/// # Errors
/// [`TlsError::Tls`].
pub fn user_server_config(server: &ServerCertificate, time: &TlsTime) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let builder = ServerConfig::builder_with_details(provider(), Arc::clone(&time.0))
        .with_protocol_versions(versions)?
        .with_no_client_auth();
    let resolver = SingleCertAndKey::from(Arc::clone(&server.certified));
    finish_server(builder.with_cert_resolver(Arc::new(resolver)))
}

/// A client's configuration: TLS 1.3 only, servers verified against the certificates of `ca_pem` and no others,
/// `identity` presented if given, ALPN `h2` and `http/1.1`.
///
/// # Errors
/// [`TlsError`] for unusable authority certificates, or a certificate and key that do not belong together.
pub fn client_config(
    ca_pem: &str,
    identity: Option<&ClientIdentity>,
    time: &TlsTime,
) -> Result<ClientConfig, TlsError> {
    let roots = root_store(&certificates_from_pem(ca_pem).map_err(TlsError::Authority)?)?;
    let builder = ClientConfig::builder_with_details(provider(), Arc::clone(&time.0))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates_from_pem(&identity.chain_pem).map_err(TlsError::ClientCertificate)?;
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|_| TlsError::ClientKey)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS);
    config.alpn_protocols = alpn();
    Ok(config)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn root_store(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| TlsError::Anchor { reason: error.to_string() })?;
    }
    Ok(roots)
}

fn finish_server(mut config: ServerConfig) -> Result<Arc<ServerConfig>, TlsError> {
    config.alpn_protocols = alpn();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // Every ticket carries the client's chain; one is enough for a client that keeps its connection.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
