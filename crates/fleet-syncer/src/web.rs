//! Files of web servers that manifests take. Each is asked for once in a while, however many fleets use it, and only
//! what changed is sent; while a server is away, what was read last stays in use, also after a restart.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_fetch::{Fetched, HttpFetcher, HttpPlace, Validators};
use fleet_model::Digest;
use fleet_runtime::CancellationToken;
use fleet_store::{HttpFile, Lease, Store, StoreError, Ts, forget_http_files, http_file, record_http_file};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::SyncerConfig;
use crate::errand::{Errand, origin};
use crate::term::Term;

/// How often it is looked for files that no manifest names any more, and how long nobody asked for those.
const TIDY: Duration = Duration::from_secs(600);
const UNUSED_FOR: Duration = Duration::from_secs(24 * 3_600);

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
    known: StdMutex<HashMap<String, Arc<Mutex<Known>>>>,
    /// What each source asked for when it was looked at last; others are not kept.
    named: StdMutex<HashMap<String, HashSet<String>>>,
    /// Notes are written under it.
    term: Term,
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
        Self {
            config,
            store,
            clock,
            fetcher,
            known: StdMutex::default(),
            named: StdMutex::default(),
            term: Term::default(),
        }
    }

    /// From now on this lease counts. Somebody else may have read and applied files since: what this process read last is
    /// not the last word.
    pub(crate) fn begins(&self, lease: &Lease) {
        self.term.begins(lease);
        lock(&self.known).clear();
        lock(&self.named).clear();
    }

    /// A source was looked at, and asked for these files and no others. What no source names is not kept in memory; what was
    /// noted of it lies in the database.
    pub(crate) fn names(&self, source: &str, files: HashSet<String>) {
        let mut named = lock(&self.named);
        match files.is_empty() {
            true => drop(named.remove(source)),
            false => drop(named.insert(source.to_owned(), files)),
        }
        let is_named = |file: &String| named.values().any(|files| files.contains(file));
        // Somebody may be asking for one for the first time.
        lock(&self.known).retain(|file, slot| Arc::strong_count(slot) > 1 || is_named(file));
    }

    /// Removes what was noted of files that no manifest names any more, until `term` ends.
    pub(crate) async fn tend(&self, term: CancellationToken) {
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(TIDY) => {}
            }
            if let Err(error) = self.tidy().await {
                warn!(%error, "Cannot remove what was noted of files that no manifest names any more; trying again");
            }
        }
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let named: Vec<String> = lock(&self.named).values().flatten().cloned().collect();
        let before = Ts::from(self.clock.now() - UNUSED_FOR);
        let mut transaction = self.term.begin(&self.store).await?;
        let gone = forget_http_files(&mut transaction, self.config.org, &named, before).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        if gone > 0 {
            info!(files = gone, "Forgot files of web servers that no manifest names any more");
        }
        Ok(())
    }

    /// The file as the server gives it, or as it was read last: when that is not long ago, or the server is away or was
    /// silent in this look.
    ///
    /// # Errors
    /// A sentence, when there is nothing to fall back to.
    pub(crate) async fn get(&self, url: &str, credential: Option<&str>, errand: &Errand) -> Result<WebFile, String> {
        // Who names a credential sees no more than who does not, nor the other way round. A URL has no space.
        let key = credential.map_or_else(|| url.to_owned(), |name| format!("{url} {name}"));
        errand.asked_for(&key);
        let slot = Arc::clone(lock(&self.known).entry(key.clone()).or_default());
        let mut known = slot.lock().await;
        if !known.read {
            self.recall(&key, &mut known).await.map_err(|error| format!("the database cannot be read: {error}"))?;
        }
        let (host, began) = (origin(url, credential), Instant::now());
        let is_due = known.next.is_none_or(|next| began >= next);
        match errand.silent(&host) {
            Some(error) if is_due => known.error = Some(error),
            None if is_due => {
                self.ask((url, credential), &key, &mut known).await;
                let interval = self.config.http_poll_interval;
                known.next = Some(Instant::now() + interval.mul_f64(0.8) + spread(url, interval));
                if let Some(error) = &known.error {
                    errand.note(&host, began, error);
                }
            }
            Some(_) | None => {}
        }
        match (&known.file, &known.error) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err("it was not read yet".to_owned()),
        }
    }

    /// Whether the file has other contents than these by now. A server that is away changed nothing.
    pub(crate) async fn moved(&self, (url, credential): (&str, Option<&str>), digest: &str, errand: &Errand) -> bool {
        self.get(url, credential, errand).await.is_ok_and(|file| file.digest.hex() != digest)
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
            let mut transaction = self.term.begin(&self.store).await?;
            record_http_file(&mut transaction, self.config.org, key, &row, at).await?;
            transaction.commit().await.map_err(StoreError::from)
        };
        if let Err(error) = written.await {
            warn!(url = shown, %error, "Cannot note the state of a file");
        }
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Up to 0.4 of the interval, another part for each URL: servers are not asked for everything at once.
fn spread(url: &str, interval: std::time::Duration) -> std::time::Duration {
    let part = f64::from(Digest::of(url.as_bytes()).as_bytes()[0]) / 255.0;
    interval.mul_f64(0.4 * part)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use fleet_fetch::FetchLimits;
    use proptest::prelude::*;

    use super::*;
    use crate::planning::tests::World;

    /// A web server that gives each path its own name as contents, until it falls silent.
    struct Server {
        url: String,
        is_silent: Arc<AtomicBool>,
        connections: Arc<AtomicUsize>,
    }

    impl Server {
        fn start() -> Self {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let (is_silent, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let (silent, count) = (Arc::clone(&is_silent), Arc::clone(&connections));
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    if silent.load(Ordering::SeqCst) {
                        held.push(stream);
                        continue;
                    }
                    let mut request = [0; 4096];
                    let read = stream.read(&mut request).unwrap();
                    let line = String::from_utf8_lossy(&request[..read]).into_owned();
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let head = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nConnection: close";
                    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{path}", path.len()).unwrap();
                }
            });
            Self { url, is_silent, connections }
        }

        fn file(&self, name: &str) -> String {
            format!("{}{name}", self.url)
        }
    }

    fn web(world: &World, interval: Duration) -> WebFiles {
        let config = SyncerConfig { http_poll_interval: interval, ..SyncerConfig::for_tests() };
        let mut web = WebFiles::new(Arc::new(config), world.store.clone(), Arc::new(fleet_runtime::SystemClock));
        let no_progress = Duration::from_millis(1_500);
        web.fetcher =
            HttpFetcher::with_limits(FetchLimits { connect: no_progress, no_progress, ..FetchLimits::default() });
        web.begins(&world.lease);
        web
    }

    #[tokio::test]
    async fn files_of_a_server_that_never_answers_cost_one_deadline_and_stay_what_they_were() {
        let world = World::new().await;
        let (server, web) = (Server::start(), web(&world, Duration::ZERO));
        let known = server.file("known");
        assert_eq!(&web.get(&known, None, &Errand::default()).await.unwrap().content[..], b"/known");
        server.is_silent.store(true, Ordering::SeqCst);
        let (errand, began) = (Errand::default(), Instant::now());
        let before = server.connections.load(Ordering::SeqCst);
        let mut errors = HashSet::new();
        for n in 0..40 {
            errors.insert(web.get(&server.file(&n.to_string()), None, &errand).await.map(|_| ()).unwrap_err());
        }
        assert_eq!(&web.get(&known, None, &errand).await.unwrap().content[..], b"/known");
        assert!(!web.moved((&known, None), &Digest::of(b"/known").hex(), &errand).await);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(server.connections.load(Ordering::SeqCst), before + 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(errand.files().len(), 41);
        // The next look asks again.
        server.is_silent.store(false, Ordering::SeqCst);
        let errand = Errand::default();
        assert_eq!(&web.get(&server.file("7"), None, &errand).await.unwrap().content[..], b"/7");
    }

    #[tokio::test]
    async fn what_no_source_names_is_not_kept_in_memory_and_after_a_day_not_in_the_database() {
        let world = World::new().await;
        let (server, web) = (Server::start(), web(&world, Duration::from_secs(600)));
        let look = async |source: &str, files: &[&str]| {
            let errand = Errand::default();
            for file in files {
                assert!(web.get(&server.file(file), None, &errand).await.is_ok());
            }
            web.names(source, errand.files());
        };
        let kept = || {
            let mut kept: Vec<String> = lock(&web.known).keys().map(|url| url.replace(&server.url, "")).collect();
            kept.sort();
            kept
        };
        let rows = || world.sql("select count(*) from desired.http_files").trim().to_owned();
        look("one", &["a", "b"]).await;
        look("two", &["b", "c"]).await;
        assert_eq!(kept(), ["a", "b", "c"]);
        look("one", &["b"]).await;
        assert_eq!((kept(), rows()), (vec!["b".to_owned(), "c".to_owned()], "3".to_owned()));
        web.tidy().await.unwrap();
        assert_eq!(rows(), "3", "it may be named again soon");
        world.sql("update desired.http_files set last_polled_at = now() - interval '25 hours'");
        web.tidy().await.unwrap();
        assert_eq!(rows(), "2", "those that are named stay, however long nobody asked");
        // Its source is gone.
        web.names("two", HashSet::new());
        assert_eq!(kept(), ["b"]);

        world.sql("update leases set token = token + 1, holder = 'another'");
        assert!(matches!(web.tidy().await, Err(StoreError::Fenced { .. })));
        look("three", &["d"]).await;
        assert_eq!(rows(), "2", "a former holder notes nothing");
    }

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
