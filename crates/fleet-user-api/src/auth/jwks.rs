//! A provider's keys, kept: fetched again when they grow old or a token names an unknown key, but never more often than
//! every 30 s; kept in use while the provider is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fleet_runtime::{Clock, ErrorChain};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::config::{KeyLocation, OidcConfig, is_safe_url};
use super::keys::{KeySet, VerificationKey};
use super::{AuthConfigError, AuthError};

/// Keys older than this are fetched again, in seconds.
const FRESH: i64 = 15 * 60;
/// Keys older than this are not used any more, in seconds.
const USABLE: i64 = 24 * 60 * 60;
/// The least time between two attempts to fetch, in seconds.
const MIN_INTERVAL: i64 = 30;
/// The same while there are no keys at all.
const MIN_INTERVAL_EMPTY: i64 = 2;
/// One answer may take so long, and have so many bytes.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_DOCUMENT: usize = 256 * 1024;

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct KeyCache {
    issuer: String,
    place: Place,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<Fetched>,
    /// The last attempt; held while one is under way.
    attempt: Mutex<Option<Timestamp>>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Url(reqwest::Client, String),
    Discovery(reqwest::Client, String),
}

#[derive(Debug)]
struct Fetched {
    keys: KeySet,
    at: Timestamp,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("cannot fetch {0}")]
    Http(String, #[source] reqwest::Error),
    #[error("{0} answered {1}")]
    Status(String, u16),
    #[error("{0}: {1}")]
    Document(String, &'static str),
}

impl KeyCache {
    pub(super) fn new(provider: &OidcConfig, clock: Arc<dyn Clock>) -> Result<Self, AuthConfigError> {
        let place = match &provider.keys {
            KeyLocation::File(path) => Place::File(path.clone()),
            KeyLocation::Url(url) => Place::Url(client(provider)?, url.clone()),
            KeyLocation::Discovery => {
                let base = provider.issuer.trim_end_matches('/');
                Place::Discovery(client(provider)?, format!("{base}/.well-known/openid-configuration"))
            }
        };
        let issuer = provider.issuer.clone();
        Ok(Self { issuer, place, clock, current: ArcSwapOption::empty(), attempt: Mutex::new(None) })
    }

    /// The key of this id.
    pub(super) async fn find(&self, id: &str) -> Result<Arc<VerificationKey>, AuthError> {
        if let Some((key, age)) = self.known(id) {
            if age >= FRESH
                && let Ok(mut attempt) = self.attempt.try_lock()
            {
                self.refresh(&mut attempt).await;
                return self.known(id).map(|(key, _)| key).ok_or(AuthError::UnknownKey);
            }
            return Ok(key);
        }
        // Everybody with an unknown key waits for the one attempt that is under way.
        let mut attempt = self.attempt.lock().await;
        if self.known(id).is_none() {
            self.refresh(&mut attempt).await;
        }
        match self.known(id) {
            Some((key, _)) => Ok(key),
            None if self.usable().is_some() => Err(AuthError::UnknownKey),
            None => Err(AuthError::KeysUnavailable),
        }
    }

    fn usable(&self) -> Option<(Arc<Fetched>, i64)> {
        let current = self.current.load_full()?;
        let age = self.clock.now().as_second() - current.at.as_second();
        (age < USABLE).then_some((current, age))
    }

    fn known(&self, id: &str) -> Option<(Arc<VerificationKey>, i64)> {
        let (current, age) = self.usable()?;
        Some((current.keys.get(id)?, age))
    }

    async fn refresh(&self, attempt: &mut Option<Timestamp>) {
        let now = self.clock.now();
        let least = if self.usable().is_some() { MIN_INTERVAL } else { MIN_INTERVAL_EMPTY };
        if attempt.is_some_and(|last| (0..least).contains(&(now.as_second() - last.as_second()))) {
            return;
        }
        *attempt = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                info!(issuer = self.issuer, "Read the identity provider's keys");
                self.current.store(Some(Arc::new(Fetched { keys, at: now })));
            }
            Err(error) => {
                warn!(issuer = self.issuer, error = %ErrorChain(&error), "Cannot read the identity provider's keys");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let (place, bytes) = match &self.place {
            Place::File(path) => {
                let read = tokio::fs::read(path).await.map_err(|source| FetchError::File(path.clone(), source))?;
                (path.display().to_string(), read)
            }
            Place::Url(client, url) => (url.clone(), get(client, url).await?),
            Place::Discovery(client, url) => {
                let url = self.discover(client, url).await?;
                let bytes = get(client, &url).await?;
                (url, bytes)
            }
        };
        KeySet::parse(&bytes).map_err(|problem| FetchError::Document(place, problem))
    }

    async fn discover(&self, client: &reqwest::Client, url: &str) -> Result<String, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let bad = |problem| FetchError::Document(url.to_owned(), problem);
        let document: Document =
            serde_json::from_slice(&get(client, url).await?).map_err(|_| bad("it is not a discovery document"))?;
        if document.issuer != self.issuer {
            return Err(bad("it names another issuer than the configured one"));
        }
        if !is_safe_url(&document.jwks_uri) {
            return Err(bad("its jwks_uri is not an https:// URL"));
        }
        Ok(document.jwks_uri)
    }
}

fn client(provider: &OidcConfig) -> Result<reqwest::Client, AuthConfigError> {
    let bad = |problem: String| AuthConfigError::new(&provider.issuer, problem);
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("shorebase/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &provider.ca_file {
        let pem =
            std::fs::read(path).map_err(|error| bad(format!("cannot read caFile {}: {error}", path.display())))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| bad(format!("caFile {} holds no PEM certificates: {error}", path.display())))?;
        if certificates.is_empty() {
            return Err(bad(format!("caFile {} holds no PEM certificates", path.display())));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| bad(format!("cannot make an HTTP client: {error}")))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let failed = |source: reqwest::Error| FetchError::Http(url.to_owned(), source.without_url());
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(url.to_owned(), response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_DOCUMENT {
            return Err(FetchError::Document(url.to_owned(), "it is larger than 256 KiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
