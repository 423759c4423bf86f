//! Who is at the other end of a connection.

use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fleet_runtime::CancellationToken;
use rustls::pki_types::CertificateDer;

/// The connection that a request came over; an extension of every request. Cheap to clone.
#[derive(Clone)]
pub struct PeerConnection(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    resumed: bool,
    closing: CancellationToken,
    identity: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl PeerConnection {
    /// A connection from `addr`. `certificate` is the client's own, already checked against its chain; `closing` is
    /// cancelled when the server wants to end.
    pub fn new(
        addr: SocketAddr,
        certificate: Option<CertificateDer<'static>>,
        resumed: bool,
        closing: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { addr, certificate, resumed, closing, identity: OnceLock::new() }))
    }

    /// The client's address.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The client's certificate, when TLS asked for one and checked its chain.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.certificate.as_ref()
    }

    /// Whether the TLS session was resumed: the chain was checked when the session began, not now.
    pub fn resumed(&self) -> bool {
        self.0.resumed
    }

    /// Completes when the server wants to end: whoever holds a request answers it now.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// What `read` makes of the connection's certificate, worked out once a connection. A connection keeps one such
    /// value: asking for another type works it out anew each time.
    pub fn identity<T, F>(&self, read: F) -> Arc<T>
    where
        T: Any + Send + Sync,
        F: Fn(Option<&CertificateDer<'static>>) -> T,
    {
        let kept = self.0.identity.get_or_init(|| Arc::new(read(self.certificate())));
        Arc::clone(kept).downcast::<T>().unwrap_or_else(|_| Arc::new(read(self.certificate())))
    }
}

impl std::fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerConnection")
            .field("addr", &self.0.addr)
            .field("certificate", &self.0.certificate.is_some())
            .field("resumed", &self.0.resumed)
            .finish_non_exhaustive()
    }
}

/// A request that did not come through [`crate::serve`] has no peer: it comes from nobody, without a certificate.
impl<S: Sync> FromRequestParts<S> for PeerConnection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| {
            let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
            Self::new(nobody, None, false, CancellationToken::new())
        }))
    }
}
