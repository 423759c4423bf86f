//! Files of keys and certificates: bounded reads, writes that are whole or absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No key or certificate file is larger.
const MAX_FILE: u64 = 1 << 20;

/// What could not be done with which file or directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The text of a file of at most 1 MiB; wiped from memory when dropped.
pub(crate) fn read_text(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let mut text = Zeroizing::new(String::new());
    let mut read = || {
        let mut file = File::open(path)?.take(MAX_FILE + 1);
        file.read_to_string(&mut text)?;
        if file.limit() == 0 { Err(io::Error::other("it is larger than 1 MiB")) } else { Ok(()) }
    };
    read().map_err(|source| FileError::new("read", path, source))?;
    Ok(text)
}

/// Whether others than the owner may read the file. A file that cannot be looked at counts as closed.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Makes a directory and its parents, 0700 where they are new.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError::new("create directory", path, source))
}

/// Writes a new file with `mode` to disk; fails if it exists.
pub(crate) fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(|source| FileError::new("write", path, source))
}

/// Puts a file with mode 0600 in place in one motion: a crash leaves the old file or the new one, whole.
pub(crate) fn replace_secret(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let refuse = |problem| FileError::new("write", path, io::Error::other(problem));
    let name = path.file_name().ok_or_else(|| refuse("the path names no file"))?;
    let random = crate::random_bytes::<8>().map_err(|_| refuse("the system has no random numbers"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", data_encoding::HEXLOWER.encode(&random)));
    let beside = path.with_file_name(beside);
    let renamed = write_new(&beside, contents, 0o600)
        .and_then(|()| fs::rename(&beside, path).map_err(|source| FileError::new("replace", path, source)));
    if renamed.is_err() {
        // The first error is the one to tell; the file beside is private and without effect.
        let _ = fs::remove_file(&beside);
    }
    renamed?;
    sync_dir(parent(path))
}

/// Makes the directory's entries durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| FileError::new("sync directory", path, source))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_private_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        replace_secret(&path, b"one").unwrap();
        replace_secret(&path, b"two").unwrap();
        assert_eq!(read_text(&path).unwrap().as_str(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!is_open_to_others(&path));
    }

    #[test]
    fn a_huge_file_is_refused_and_a_missing_one_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(!read_text(&path).unwrap_err().is_not_found());
        assert!(read_text(&dir.path().join("absent")).unwrap_err().is_not_found());
    }
}
