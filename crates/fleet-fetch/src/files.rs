//! Secrets as files: `DIR/<namespace>/<name>/<key>`, as a Kubernetes volume or a person lays them out.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::error::{FetchError, FetchErrorKind};
use crate::names::{check_secret_key, check_secret_name, check_secret_namespace};
use crate::secret::SecretBytes;
use crate::secrets::MAX_SECRET_BYTES;

/// Entries of one secret's directory that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Looks at a secret that changes under the reader.
const MAX_LOOKS: usize = 20;
/// The link that a Kubernetes volume switches to bring a new version of all keys at once.
const DATA: &str = "..data";

type Secret = BTreeMap<String, SecretBytes>;

/// Secrets below a directory. Files are read at every use, so that a new version needs no restart.
///
/// Links are followed in one case: `..data`, which Kubernetes volumes have, to a directory beside it. Every other link is an
/// error, so nothing outside of the directory is ever read.
#[derive(Debug, Clone)]
pub struct FilesSecrets {
    directory: PathBuf,
}

/// Why one look did not give a secret.
enum Miss {
    /// It changed meanwhile.
    Moved,
    Failed(FetchError),
}

impl From<FetchError> for Miss {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

/// A secret's directory, opened.
struct Place<'a> {
    shown: &'a str,
    fd: OwnedFd,
}

impl FilesSecrets {
    /// Secrets below `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// All keys of one secret, of one version.
    ///
    /// # Errors
    /// `NotFound`, `Denied` by the file system, `TooLarge`, `Invalid` for names, links and what is no file.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Secret, FetchError> {
        check_secret_namespace(namespace)?;
        check_secret_name(name)?;
        let (directory, namespace, name) = (self.directory.clone(), namespace.to_owned(), name.to_owned());
        let read = tokio::task::spawn_blocking(move || read(&directory, &namespace, &name)).await;
        read.map_err(|_| FetchError::new(FetchErrorKind::Other, "the reader of secrets ended early"))?
    }
}

/// All keys of the one secret that a directory holds, of one version, as [`FilesSecrets`] reads it. Blocks.
///
/// # Errors
/// As [`FilesSecrets::read`].
pub fn read_secret_directory(directory: &Path) -> Result<Secret, FetchError> {
    read_place(&directory.display().to_string(), || openat(CWD, directory, FOLLOWING, Mode::empty()))
}

const FOLLOWING: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const HERE: OFlags = FOLLOWING.union(OFlags::NOFOLLOW);

fn read(directory: &Path, namespace: &str, name: &str) -> Result<Secret, FetchError> {
    let shown = directory.join(namespace).join(name).display().to_string();
    read_place(&shown, || {
        let root = openat(CWD, directory, FOLLOWING, Mode::empty())?;
        let namespace = openat(&root, namespace, HERE, Mode::empty())?;
        openat(&namespace, name, HERE, Mode::empty())
    })
}

fn read_place(shown: &str, open: impl Fn() -> rustix::io::Result<OwnedFd>) -> Result<Secret, FetchError> {
    for _ in 0..MAX_LOOKS {
        let fd = open().map_err(|errno| failed(shown, "", errno))?;
        match (Place { shown, fd }).look() {
            Ok(secret) => return Ok(secret),
            Err(Miss::Failed(error)) => return Err(error),
            Err(Miss::Moved) => std::thread::yield_now(),
        }
    }
    let message = format!("cannot read the secret {shown}: it changes all the time");
    Err(FetchError::new(FetchErrorKind::Other, message))
}

impl Place<'_> {
    fn look(&self) -> Result<Secret, Miss> {
        let Some(version) = self.version()? else { return self.keys_twice() };
        let inner = match openat(&self.fd, version.as_str(), HERE, Mode::empty()) {
            Ok(fd) => Place { shown: self.shown, fd },
            Err(Errno::NOENT) => return Err(Miss::Moved),
            Err(errno) => return Err(failed(self.shown, DATA, errno).into()),
        };
        let keys = inner.keys();
        // Old versions are removed behind the switch: what was read is whole only if it is still the version.
        if self.version()?.as_ref() != Some(&version) {
            return Err(Miss::Moved);
        }
        keys.map(|(keys, _)| keys)
    }

    /// Where `..data` leads to, if there is one.
    fn version(&self) -> Result<Option<String>, FetchError> {
        match readlinkat(&self.fd, DATA, Vec::new()) {
            Ok(target) => {
                let target = target.into_string().unwrap_or_default();
                if target.is_empty() || target == "." || target == ".." || target.contains('/') {
                    return Err(self.invalid(DATA, "leads out of the secret's directory"));
                }
                Ok(Some(target))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Err(self.invalid(DATA, "is not a link")),
            Err(errno) => Err(failed(self.shown, DATA, errno)),
        }
    }

    /// Plain files have no switch, so two looks must show the same files.
    fn keys_twice(&self) -> Result<Secret, Miss> {
        let (keys, marks) = self.keys()?;
        let (_, again) = self.keys()?;
        if marks == again && self.version()?.is_none() { Ok(keys) } else { Err(Miss::Moved) }
    }

    /// The keys in this directory, and marks of their files that change when they do.
    fn keys(&self) -> Result<(Secret, Vec<Mark>), Miss> {
        let entries = Dir::read_from(&self.fd).map_err(|errno| failed(self.shown, "", errno))?;
        let (mut keys, mut marks, mut total) = (Secret::new(), Vec::new(), 0_usize);
        for (seen, entry) in entries.enumerate() {
            if seen >= MAX_ENTRIES {
                return Err(self.too_large().into());
            }
            let entry = entry.map_err(|errno| failed(self.shown, "", errno))?;
            let name = entry.file_name().to_string_lossy();
            if name.starts_with("..") || name == "." {
                continue;
            }
            check_secret_key(&name)?;
            let (value, mark) = self.value(&name, MAX_SECRET_BYTES.saturating_sub(total))?;
            total += value.len();
            marks.push(mark);
            keys.insert(name.into_owned(), value);
        }
        marks.sort();
        Ok((keys, marks))
    }

    fn value(&self, key: &str, limit: usize) -> Result<(SecretBytes, Mark), Miss> {
        // Not blocking: nobody may ever write to what is a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match openat(&self.fd, key, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Miss::Moved),
            Err(Errno::LOOP) => return Err(self.invalid(key, "is a link; only ..data may be one").into()),
            Err(errno) => return Err(failed(self.shown, key, errno).into()),
        };
        let stat = fstat(&fd).map_err(|errno| failed(self.shown, key, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.invalid(key, "is not a file").into());
        }
        let mut bytes = Zeroizing::new(Vec::new());
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = std::fs::File::from(fd).take(most).read_to_end(&mut bytes);
        read.map_err(|error| failed(self.shown, key, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        if bytes.len() > limit {
            return Err(self.too_large().into());
        }
        let mark =
            Mark(key.to_owned(), format!("{:?}", (stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec)));
        Ok((SecretBytes::from(bytes), mark))
    }

    fn invalid(&self, key: &str, why: &str) -> FetchError {
        FetchError::invalid(format!("cannot read the secret {}: {key} {why}", self.shown))
    }

    fn too_large(&self) -> FetchError {
        let message = format!("the secret {} is larger than {MAX_SECRET_BYTES} bytes", self.shown);
        FetchError::new(FetchErrorKind::TooLarge, message)
    }
}

/// What changes when a file does: its key, and inode, size and time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Mark(String, String);

fn failed(shown: &str, key: &str, errno: Errno) -> FetchError {
    let place = if key.is_empty() { shown.to_owned() } else { format!("{shown}/{key}") };
    match errno {
        Errno::NOENT => FetchError::new(FetchErrorKind::NotFound, format!("there is no secret {place}")),
        Errno::ACCESS | Errno::PERM => FetchError::new(
            FetchErrorKind::Denied,
            format!("the service may not read the secret {place}; change its owner or its mode"),
        ),
        Errno::LOOP | Errno::NOTDIR => FetchError::invalid(format!(
            "cannot read the secret {place}: a link or a file is where a directory must be"
        )),
        errno => FetchError::new(
            FetchErrorKind::Other,
            format!("cannot read the secret {place}: {}", std::io::Error::from(errno)),
        ),
    }
}
