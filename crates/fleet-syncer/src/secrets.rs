//! Secrets that manifests take. Each is read once in a while, however many fleets use it. What leaves this module carries a
//! seal: a digest with the installation's key, which stands for the content in all that people see.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use fleet_fetch::{SecretBytes, SecretProvider};
use fleet_model::Digest;
use fleet_render::{PinnedFile, PinnedTree, Seal, tree_digest};
use fleet_store::{Store, StoreError, installation_key};
use tokio::sync::{Mutex, OnceCell};
use tracing::{info, warn};

use crate::errand::{self, Errand};

/// How old what was read may be when a commit is built: one read serves all fleets of the commit.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
/// How long one read may take. Directories may lie on a network.
const PATIENCE: Duration = Duration::from_secs(30);
/// The permission bits of the files.
const MODE: u32 = 0o644;

/// Where secrets come from.
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// The store that they are read from.
    pub provider: Arc<SecretProvider>,
    /// The namespaces that manifests may name; empty: all that the store lets the service read.
    pub namespaces: BTreeSet<String>,
    /// How often a secret is read.
    pub poll_interval: Duration,
}

/// Why there is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The service's configuration does not allow it.
    Refused(String),
    /// It cannot be read now.
    Away(String),
}

impl Unread {
    fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Away(reason) => reason,
        }
    }
}

/// What is known of one secret.
#[derive(Debug, Default)]
struct Known {
    read_at: Option<Instant>,
    /// As it was read last, also when the newest try failed.
    tree: Option<PinnedTree>,
    error: Option<String>,
}

/// All secrets that manifests name.
#[derive(Debug)]
pub(crate) struct Secrets {
    config: Option<SecretsConfig>,
    store: Store,
    key: OnceCell<Key>,
    /// By `<namespace>/<name>`. The lock of one is held while it is read.
    known: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// The installation's key. It does not print.
struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Key {
    /// The seal of one content. The place is part of it, so that equal contents do not show as equal.
    fn seal(&self, place: &str, key: &str, content: &[u8]) -> Seal {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [place.as_bytes(), b"\0", key.as_bytes(), b"\0", content] {
            context.update(part);
        }
        let mut seal = [0; 32];
        seal.copy_from_slice(context.sign().as_ref());
        Seal::new(seal)
    }

    fn tree(
        &self,
        place: &str,
        secret: &std::collections::BTreeMap<String, SecretBytes>,
    ) -> Result<PinnedTree, String> {
        if secret.is_empty() {
            return Err(format!("the secret {place} has no keys"));
        }
        let file = |(key, content): (&String, &SecretBytes)| PinnedFile {
            path: key.clone(),
            mode: MODE,
            seal: Some(self.seal(place, key, content.expose())),
            content: Arc::from(content.expose()),
        };
        PinnedTree::new(secret.iter().map(file).collect()).map_err(|problem| format!("the secret {place}: {problem}"))
    }
}

/// Keys of `before` that `after` lacks, as a sentence: no file goes from devices because a secret shrank.
pub(crate) fn lost_keys(place: &str, before: &PinnedTree, after: &PinnedTree) -> Result<(), String> {
    let has = |key: &str| after.files().iter().any(|file| file.path == key);
    let lost: Vec<&str> = before.files().iter().map(|file| file.path.as_str()).filter(|key| !has(key)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let shown = lost.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    Err(format!(
        "the secret {place} lacks what devices have from it ({shown}); put it back, or refer to a secret by another name"
    ))
}

impl Secrets {
    pub(crate) fn new(config: Option<SecretsConfig>, store: Store) -> Self {
        Self { config, store, key: OnceCell::new(), known: Mutex::default() }
    }

    /// How often secrets are read, where any are.
    pub(crate) fn poll_interval(&self) -> Option<Duration> {
        self.config.as_ref().map(|config| config.poll_interval)
    }

    /// All keys of a secret, read not longer ago than `age`.
    ///
    /// # Errors
    /// Why there is nothing.
    pub(crate) async fn get(
        &self,
        namespace: &str,
        name: &str,
        age: Duration,
        errand: &Errand,
    ) -> Result<PinnedTree, Unread> {
        let place = format!("{namespace}/{name}");
        let Some(config) = &self.config else {
            let fix = "set secrets.directory or secrets.kubernetes in the service's configuration";
            return Err(Unread::Refused(format!("the secret {place} cannot be read: {fix}")));
        };
        if !config.namespaces.is_empty() && !config.namespaces.contains(namespace) {
            let fix = "secrets.namespaces in the service's configuration does not allow its namespace";
            return Err(Unread::Refused(format!("the secret {place} cannot be read: {fix}")));
        }
        let slot = Arc::clone(self.known.lock().await.entry(place.clone()).or_default());
        let mut known = slot.lock().await;
        if known.read_at.is_none_or(|at| at.elapsed() >= age.min(config.poll_interval)) {
            let began = Instant::now();
            match errand.silent(errand::SECRETS) {
                // What was said of it stays: another sentence would be news.
                Some(error) => {
                    known.error.get_or_insert_with(|| format!("the secret {place} was not read: {error}"));
                }
                None => {
                    let read = self.read(config, namespace, name, &place).await;
                    if let Err(error) = &read {
                        errand.note(errand::SECRETS, began, error);
                    }
                    known.note(&place, read);
                }
            }
        }
        match (&known.tree, &known.error) {
            (_, Some(error)) => Err(Unread::Away(error.clone())),
            (Some(tree), None) => Ok(tree.clone()),
            (None, None) => Err(Unread::Away(format!("the secret {place} was not read yet"))),
        }
    }

    /// The digest of a secret as it is by now, or why it cannot be read. A sentence that changes is news, too.
    pub(crate) async fn mark(&self, place: &str, errand: &Errand) -> Result<Digest, String> {
        let (namespace, name) = place.split_once('/').unwrap_or((place, ""));
        let age = self.poll_interval().unwrap_or(FRESH);
        let tree = self.get(namespace, name, age, errand).await;
        tree.map(|tree| tree_digest(&tree)).map_err(|unread| unread.reason().to_owned())
    }

    /// The digest of a secret as it could be read last.
    pub(crate) async fn last_read(&self, place: &str) -> Option<Digest> {
        let slot = Arc::clone(self.known.lock().await.get(place)?);
        let known = slot.lock().await;
        known.tree.as_ref().map(tree_digest)
    }

    async fn read(
        &self,
        config: &SecretsConfig,
        namespace: &str,
        name: &str,
        place: &str,
    ) -> Result<PinnedTree, String> {
        let key = self.key.get_or_try_init(|| self.read_key()).await;
        let key = key.map_err(|error| format!("the key for digests of secrets cannot be had: {error}"))?;
        let read = tokio::time::timeout(PATIENCE, config.provider.read(namespace, name)).await;
        let read = read.map_err(|_| format!("reading the secret {place} took longer than {} s", PATIENCE.as_secs()))?;
        key.tree(place, &read.map_err(|error| error.to_string())?)
    }

    async fn read_key(&self) -> Result<Key, StoreError> {
        let mut fresh = [0; 32];
        rand::fill(&mut fresh).map_err(|_| StoreError::Corrupt {
            what: "the key for digests of secrets",
            reason: "the operating system gives no random numbers".to_owned(),
        })?;
        let mut transaction = self.store.begin().await?;
        let key = installation_key(&mut transaction, &fresh).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Key(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }
}

impl Known {
    /// Takes what a read brought.
    fn note(&mut self, place: &str, read: Result<PinnedTree, String>) {
        self.read_at = Some(Instant::now());
        match read {
            Ok(tree) => {
                if self.error.take().is_some() || self.tree.as_ref().is_none_or(|before| *before != tree) {
                    info!(secret = place, keys = tree.files().len(), "Read a secret that manifests refer to");
                }
                self.tree = Some(tree);
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    warn!(
                        secret = place,
                        error, "Cannot read a secret that manifests refer to; devices keep what they have"
                    );
                }
                self.error = Some(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_fetch::FilesSecrets;
    use fleet_model::CommitId;

    use super::*;
    use crate::desired::Desired;
    use crate::planning::tests::{Files, World};

    fn key(byte: u8) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]))
    }

    fn tree(key: &Key, keys: &[(&str, &str)]) -> PinnedTree {
        let secret = keys.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::from(*value))).collect();
        key.tree("ops/pin", &secret).unwrap()
    }

    #[test]
    fn digests_of_a_secret_need_the_key() {
        let (one, two) = (key(1), key(2));
        let digest = |key: &Key, value: &str| tree_digest(&tree(key, &[("pin", value)]));
        assert_eq!(digest(&one, "1234"), digest(&one, "1234"));
        assert_ne!(digest(&one, "1234"), digest(&one, "1235"));
        assert_ne!(digest(&one, "1234"), digest(&two, "1234"));
        let sealed = tree(&one, &[("a", "same"), ("b", "same")]);
        assert_ne!(sealed.files()[0].seal, sealed.files()[1].seal, "equal contents do not show as equal");
        assert!(sealed.files().iter().all(|file| file.digest() != Digest::of(b"same")));
        assert!(one.tree("ops/pin", &std::collections::BTreeMap::new()).is_err(), "unknown is never empty");
        assert_eq!(format!("{one:?} {:?}", sealed.files()[0].seal), "*** Some(***)");
    }

    #[test]
    fn a_secret_that_lost_a_key_or_cannot_be_read_stays_as_it_was() {
        let key = key(1);
        let both = tree(&key, &[("a", "1"), ("b", "1")]);
        let lost = lost_keys("ops/pin", &both, &tree(&key, &[("a", "2"), ("c", "2")])).unwrap_err();
        assert!(lost.contains("(b)"), "{lost}");
        let more = tree(&key, &[("a", "2"), ("b", "2"), ("c", "2")]);
        assert_eq!(lost_keys("ops/pin", &both, &more), Ok(()));
        let mut known = Known::default();
        known.note("ops/pin", Ok(both.clone()));
        known.note("ops/pin", Err("there is no secret ops/pin".to_owned()));
        assert!(known.error.is_some() && known.tree == Some(both));
        known.note("ops/pin", Ok(more.clone()));
        assert!(known.error.is_none() && known.tree == Some(more));
    }

    #[tokio::test]
    async fn where_secrets_keep_a_look_waiting_it_waits_once() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("ops/door")).unwrap();
        std::fs::write(directory.path().join("ops/door/pin"), "1").unwrap();
        let world = World::new().await;
        let config = SecretsConfig {
            provider: Arc::new(SecretProvider::Files(FilesSecrets::new(directory.path()))),
            namespaces: BTreeSet::new(),
            poll_interval: Duration::ZERO,
        };
        let secrets = Secrets::new(Some(config), world.store.clone());
        let get = async |errand: &Errand| {
            let read = secrets.get("ops", "door", FRESH, errand).await;
            read.map(|tree| tree.files().len()).map_err(|unread| unread.reason().to_owned())
        };
        let late = Errand::default();
        late.note_after(errand::SECRETS, PATIENCE, "reading the secret ops/gate took longer than 30 s");
        let told = "the secret ops/door was not read: reading the secret ops/gate took longer than 30 s";
        assert_eq!(get(&late).await, Err(told.to_owned()));
        assert_eq!(get(&Errand::default()).await, Ok(1), "the next look reads it");
        assert_eq!(get(&late).await, Err(told.to_owned()), "what may have changed is not known");
        assert!(secrets.last_read("ops/door").await.is_some());
    }

    fn files_of(mount: &str) -> Files {
        let fleet = format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {{name: doors}}\nspec:\n  selector: {{matchLabels: {{role: door}}}}\n  \
             template:\n    spec:\n      config:\n        - name: door\n          \
             secretRef: {{namespace: ops, name: door, mountPath: {mount}}}\n"
        );
        Files::from([("fleet.yaml".to_owned(), fleet)])
    }

    #[tokio::test]
    async fn a_pull_request_reads_no_secret_and_one_that_is_away_stays_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("ops/door/pin");
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        std::fs::write(&key, "1").unwrap();
        let mut world = World::new().await;
        let config = SecretsConfig {
            provider: Arc::new(SecretProvider::Files(FilesSecrets::new(directory.path()))),
            namespaces: BTreeSet::new(),
            poll_interval: Duration::ZERO,
        };
        world.secrets = Secrets::new(Some(config), world.store.clone());
        let source = world.source("main").await;
        let commit = |n: char| n.to_string().repeat(40).parse::<CommitId>().unwrap();
        let (first, second) = (commit('a'), commit('b'));

        // Nothing is in force: nothing is read for a stranger.
        let stranger = world.desired_of("main", &first, &files_of("/etc/door"), true).await;
        let problem = stranger.fleets[0].problem.as_deref().unwrap();
        assert!(problem.contains("the secret ops/door is read after the merge"), "{problem}");
        assert!(world.secrets.known.lock().await.is_empty() && stranger.blobs.is_empty());

        let desired = world.desired("main", &first, &files_of("/etc/door")).await;
        world.apply(&source, None, &first, &desired).await;
        let pinned = |desired: &Desired| desired.revisions[0].inputs[0].tree;
        let before = pinned(&desired);
        assert!(!desired.trees[&before][0].seal.unwrap().hex().is_empty());

        // What is in force is known without a read; a newer content is not looked at for a stranger.
        std::fs::write(&key, "2").unwrap();
        let stranger = world.desired_of("main", &second, &files_of("/etc/gate"), true).await;
        assert_eq!(pinned(&stranger), before);
        assert!(stranger.unreadable.is_empty());
        assert_ne!(pinned(&world.desired("main", &second, &files_of("/etc/door")).await), before);

        // Away: what is in force stays, and that is told.
        std::fs::remove_file(&key).unwrap();
        let desired = world.desired("main", &second, &files_of("/etc/gate")).await;
        assert_eq!((pinned(&desired), desired.fleets[0].problem.as_deref()), (before, None));
        assert_eq!(desired.unreadable.len(), 1, "{:?}", desired.unreadable);
    }
}
