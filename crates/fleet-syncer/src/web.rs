//! Files of web servers that manifests take. Each is asked for once in a while, however many fleets use it, and only
//! what changed is sent; while a server is away, what was read last stays in use, also after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fleet_fetch::{Fetched, HttpFetcher, HttpPlace, Validators};
use fleet_model::Digest;
use fleet_store::{HttpFile, Store, StoreError, Ts, http_file, record_http_file};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::SyncerConfig;

/// A file as it was read last.
#[derive(Debug, Clone)]
pub(crate) struct WebFile {
    pub(crate) content: Arc<[u8]>,
    pub(crate) digest: Digest,
}

/// What is known of one URL.
#[derive(Debug, Default)]
struct Known {
    /// Whether the database was asked.
    read: bool,
    validators: Validators,
    file: Option<WebFile>,
    error: Option<String>,
    /// Not before then is the server asked again.
    next: Option<Instant>,
}

/// All files of web servers that manifests name.
#[derive(Debug)]
pub(crate) struct WebFiles {
    config: Arc<SyncerConfig>,
    store: Store,
    clock: Arc<dyn fleet_runtime::Clock>,
    fetcher: HttpFetcher,
    /// By URL and credential. The lock of one is held while its server is asked.
    known: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// The URL of a file: that of the Repository with a suffix, which devices' labels may be part of. It cannot lead to another
/// host, nor out of the Repository's directory.
///
/// # Errors
/// A sentence.
pub(crate) fn file_url(base: &str, suffix: &str) -> Result<String, String> {
    let host_ends = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if !host_ends && !suffix.is_empty() && !suffix.starts_with(['/', '?']) {
        return Err(format!(
            "suffix {suffix:?} must start with '/' or '?', because the Repository's URL ends in its host"
        ));
    }
    let path = suffix.split(['?', '#']).next().unwrap_or_default();
    let part_is_up = |part: &str| part.to_ascii_lowercase().replace("%2e", ".") == "..";
    if path.split(['/', '\\']).any(part_is_up) || base.ends_with('.') && path.starts_with('.') {
        return Err(format!("suffix {suffix:?} leads out of the Repository's URL"));
    }
    if suffix.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("suffix {suffix:?} holds spaces or control characters"));
    }
    Ok(format!("{base}{suffix}"))
}

impl WebFiles {
    pub(crate) fn new(config: Arc<SyncerConfig>, store: Store, clock: Arc<dyn fleet_runtime::Clock>) -> Self {
        let fetcher = HttpFetcher::new().with_environment_proxies();
        Self { config, store, clock, fetcher, known: Mutex::default() }
    }

    /// Somebody else may have read and applied files since: what this process read last is not the last word.
    pub(crate) async fn forget(&self) {
        self.known.lock().await.clear();
    }

    /// The file as the server gives it, or as it was read last: when that is not long ago, or the server is away.
    ///
    /// # Errors
    /// A sentence, when there is nothing to fall back to.
    pub(crate) async fn get(&self, url: &str, credential: Option<&str>) -> Result<WebFile, String> {
        // Who names a credential sees no more than who does not, nor the other way round. A URL has no space.
        let key = credential.map_or_else(|| url.to_owned(), |name| format!("{url} {name}"));
        let slot = {
            let mut known = self.known.lock().await;
            Arc::clone(known.entry(key.clone()).or_default())
        };
        let mut known = slot.lock().await;
        if !known.read {
            self.recall(&key, &mut known).await.map_err(|error| format!("the database cannot be read: {error}"))?;
        }
        if known.next.is_none_or(|next| Instant::now() >= next) {
            self.ask((url, credential), &key, &mut known).await;
            let interval = self.config.http_poll_interval;
            known.next = Some(Instant::now() + interval.mul_f64(0.8) + spread(url, interval));
        }
        match (&known.file, &known.error) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err("it was not read yet".to_owned()),
        }
    }

    /// Whether the file has other contents than these by now. A server that is away changed nothing.
    pub(crate) async fn moved(&self, url: &str, credential: Option<&str>, digest: &str) -> bool {
        self.get(url, credential).await.is_ok_and(|file| file.digest.hex() != digest)
    }

    /// What was known when the service ran last.
    async fn recall(&self, key: &str, known: &mut Known) -> Result<(), StoreError> {
        let mut transaction = self.store.begin().await?;
        known.read = true;
        let Some((row, content)) = http_file(&mut transaction, self.config.org, key).await? else { return Ok(()) };
        known.error = row.error;
        // Without the contents the server must send them again.
        if let (Some(digest), Some(content)) = (row.digest, content) {
            known.validators = Validators { etag: row.etag, last_modified: row.last_modified };
            known.file = Some(WebFile { content: content.into(), digest });
        }
        Ok(())
    }

    async fn ask(&self, (url, credential): (&str, Option<&str>), key: &str, known: &mut Known) {
        let options = match credential {
            None => self.config.http_options(url),
            Some(name) => match self.config.http_options_with(url, name) {
                Ok(options) => options,
                Err(error) => {
                    known.error = Some(error.to_string());
                    return;
                }
            },
        };
        let place = HttpPlace { url: url.to_owned(), options };
        let shown = place.display_url();
        let nothing = Validators::default();
        let asked = if known.file.is_some() { &known.validators } else { &nothing };
        let error_before = known.error.take();
        match self.fetcher.get(&place, asked).await {
            Ok(Fetched::Unchanged) => {}
            Ok(Fetched::Content { bytes, validators }) => {
                let digest = Digest::of(&bytes);
                known.validators = validators;
                if known.file.as_ref().map(|file| file.digest) != Some(digest) {
                    info!(url = shown, bytes = bytes.len(), "A file that manifests refer to is new");
                    known.file = Some(WebFile { content: Arc::from(&bytes[..]), digest });
                }
            }
            Err(error) => {
                let error = error.to_string();
                if error_before.as_ref() != Some(&error) {
                    warn!(
                        url = shown,
                        error, "Cannot read a file that manifests refer to; what was read last stays in use"
                    );
                }
                known.error = Some(error);
            }
        }
        let row = HttpFile {
            etag: known.validators.etag.clone(),
            last_modified: known.validators.last_modified.clone(),
            digest: known.file.as_ref().map(|file| file.digest),
            error: known.error.clone(),
        };
        let at = Ts::from(self.clock.now());
        let written = async {
            let mut transaction = self.store.begin().await?;
            record_http_file(&mut transaction, self.config.org, key, &row, at).await?;
            transaction.commit().await.map_err(StoreError::from)
        };
        if let Err(error) = written.await {
            warn!(url = shown, %error, "Cannot note the state of a file");
        }
    }
}

/// Up to 0.4 of the interval, another part for each URL: servers are not asked for everything at once.
fn spread(url: &str, interval: std::time::Duration) -> std::time::Duration {
    let part = f64::from(Digest::of(url.as_bytes()).as_bytes()[0]) / 255.0;
    interval.mul_f64(0.4 * part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_suffix_stays_below_the_repository() {
        assert_eq!(file_url("https://h/a", "/b?c=..").unwrap(), "https://h/a/b?c=..");
        assert_eq!(file_url("https://h", "").unwrap(), "https://h");
        assert_eq!(file_url("https://h", "?a").unwrap(), "https://h?a");
        for (base, suffix) in [
            ("https://h", ".evil.test/"),
            ("https://h", "@evil.test/"),
            ("https://h", ":1@evil.test/"),
            ("https://h/a/", "../b"),
            ("https://h/a", "/x/%2E%2e/b"),
            ("https://h/a", "/x/.%2e\\b"),
            ("https://h/a/.", "./b"),
            ("https://h/a", "/b c"),
            ("https://h/a", "/b\nHost: x"),
        ] {
            assert!(file_url(base, suffix).is_err(), "{base} {suffix:?}");
        }
    }

    proptest! {
        #[test]
        fn a_suffix_never_leads_to_another_host_or_up(suffix in "[/?#@:.\\\\%2eE a-c]{0,16}", bare in any::<bool>()) {
            let base = if bare { "https://host" } else { "https://host/files/" };
            if let Ok(joined) = file_url(base, &suffix) {
                let parsed = url::Url::parse(&joined).expect("the base is a URL");
                prop_assert_eq!(parsed.host_str(), Some("host"));
                prop_assert!(parsed.username().is_empty() && parsed.password().is_none() && parsed.port().is_none());
                prop_assert!(bare || parsed.path().starts_with("/files"), "{}", parsed);
            }
        }
    }
}
