//! HTTP clients, one for each way to connect, so that connections are kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::tls::Version;
use reqwest::{Certificate, Client, Identity, Proxy};
use sha2::Digest as _;
use zeroize::Zeroizing;

use super::FetchLimits;
use crate::error::FetchError;
use crate::place::HttpPlace;

/// Clients that are kept; each holds idle connections.
const MAX_CLIENTS: usize = 32;

type Key = [u8; 32];

/// Whom a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The origin that the place names.
    Origin,
    /// Another one, by a redirect: no credentials, and its certificate is verified.
    Elsewhere,
}

/// Clients by everything that a connection depends on.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) use_environment_proxies: bool,
    known: Mutex<HashMap<Key, Client>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("use_environment_proxies", &self.use_environment_proxies)
            .finish_non_exhaustive()
    }
}

impl Clients {
    pub(super) fn get(&self, place: &HttpPlace, reach: Reach, limits: FetchLimits) -> Result<Client, FetchError> {
        let key = key_of(place, reach);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known().get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(place, reach, limits)?;
        let mut known = known();
        if known.len() >= MAX_CLIENTS {
            known.clear();
        }
        known.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, place: &HttpPlace, reach: Reach, limits: FetchLimits) -> Result<Client, FetchError> {
        let options = &place.options;
        let mut builder = Client::builder()
            .user_agent(concat!("shorebase/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_version_min(Version::TLS_1_2)
            .connect_timeout(limits.connect)
            .read_timeout(limits.no_progress)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(2);
        if let Some(pem) = &options.ca_pem {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
            if certificates.is_empty() {
                return Err(place.unfit("there is no PEM certificate in its CA"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let (Reach::Origin, Some(identity)) = (reach, &options.client_identity) {
            let mut pem = Zeroizing::new(identity.certificate_pem.clone().into_bytes());
            pem.push(b'\n');
            pem.extend_from_slice(identity.key_pem.expose());
            let identity = Identity::from_pem(&pem)
                .map_err(|_| place.unfit("its client certificate or the key to it is not PEM, or one is missing"))?;
            builder = builder.identity(identity);
        }
        if reach == Reach::Origin && options.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(url) = &options.proxy {
            let is_http = url.starts_with("http://") || url.starts_with("https://");
            let proxy = Proxy::all(url).ok().filter(|_| is_http);
            let proxy = proxy.ok_or_else(|| place.unfit("its proxy is not a URL such as http://proxy.example:3128"))?;
            builder = builder.no_proxy().proxy(proxy);
        } else if !self.use_environment_proxies {
            builder = builder.no_proxy();
        }
        // Its words could quote parts of what it was given.
        builder.build().map_err(|_| {
            place.unfit(
                "its CA or client certificate cannot be used; a client certificate and its key must belong together",
            )
        })
    }
}

/// A digest of everything that the connection depends on, so that no secret stays in memory for this.
fn key_of(place: &HttpPlace, reach: Reach) -> Key {
    let options = &place.options;
    let mut hash = sha2::Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(options.ca_pem.as_ref().map(String::as_bytes));
    part(options.proxy.as_ref().map(String::as_bytes));
    let identity = options.client_identity.as_ref().filter(|_| reach == Reach::Origin);
    part(identity.map(|identity| identity.certificate_pem.as_bytes()));
    part(identity.map(|identity| identity.key_pem.expose()));
    part((options.skip_verify && reach == Reach::Origin).then_some(b"skip"));
    hash.finalize().into()
}
