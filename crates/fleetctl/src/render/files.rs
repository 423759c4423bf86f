//! Files as they would lie on a device: `DIR/<device>/root/etc/motd`, with `files.txt` (mode, owner, size, digest and path
//! of each) and `spec.yaml` (everything that is no file) beside `root`.
//!
//! Each device is written into a fresh directory that only this program knows, and then renamed: nothing that lies below
//! the target is ever followed or written into.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use fleet_model::Digest;

use super::{Document, octal, other_parts};
use crate::Io;
use crate::output::{count, one_line};

/// What shows that a directory was made here.
const LIST: &str = "files.txt";

/// The directory that devices are written into.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    devices: usize,
    files: usize,
}

impl Target {
    /// Makes the directory.
    ///
    /// # Errors
    /// When it cannot be made, or holds something and `force` is not given.
    pub(super) fn open(directory: &Path, force: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make the directory {}", directory.display()))?;
        let failed = || format!("cannot read {}", directory.display());
        let directory = fs::canonicalize(directory).with_context(failed)?;
        if !force && fs::read_dir(&directory).with_context(failed)?.next().is_some() {
            bail!("{} is not empty; name another directory, or use --force", directory.display());
        }
        Ok(Self { directory, devices: 0, files: 0 })
    }

    /// Writes the files of one device.
    ///
    /// # Errors
    /// What cannot be written, with its name.
    pub(super) fn write(&mut self, document: &Document, io: &mut Io<'_>) -> anyhow::Result<()> {
        let device = Path::new(&document.device);
        if !matches!(device.components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
            bail!("the device's name {:?} is no name of a directory", document.device);
        }
        let outline = document.outline()?;
        let fresh = tempfile::Builder::new()
            .prefix(".rendering-")
            .tempdir_in(&self.directory)
            .with_context(|| format!("cannot write into {}", self.directory.display()))?;
        let root = fresh.path().join("root");
        fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let mut list =
            format!("# {} files of device {}: mode owner size sha256 path\n", outline.files.len(), document.device);
        for (path, file) in &outline.files {
            let size = file.content.len();
            let digest = if file.secret { "secret".to_owned() } else { Digest::of(&file.content).hex() };
            let (mode, user, group) = (octal(file.mode), one_line(&file.user), one_line(&file.group));
            list.push_str(&format!("{mode} {user}:{group} {size} {digest} {}\n", one_line(path)));
            if file.secret {
                writeln!(io.err, "note: device {}: {path} is secret and not written", one_line(&document.device))?;
                continue;
            }
            write_file(&below(&root, path)?, &file.content, file.mode)?;
            self.files += 1;
        }
        write_file(&fresh.path().join(LIST), list.as_bytes(), 0o644)?;
        let spec = serde_yaml::to_string(&other_parts(&outline)).context("cannot write the specification as YAML")?;
        let header = format!("# digest of the whole document: {}\n", document.rendered.digest.hex());
        write_file(&fresh.path().join("spec.yaml"), format!("{header}{spec}").as_bytes(), 0o644)?;
        let failed = |path: &Path| format!("cannot put {} in its place", path.display());
        fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).with_context(|| failed(fresh.path()))?;
        let place = self.directory.join(device);
        remove_earlier(&place)?;
        let fresh = fresh.keep();
        fs::rename(&fresh, &place).with_context(|| failed(&place))?;
        self.devices += 1;
        Ok(())
    }

    /// Says what was written.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(super) fn end(self, io: &mut Io<'_>) -> anyhow::Result<()> {
        let Self { directory, devices, files } = self;
        let (files, devices) = (count(files, "file"), count(devices, "device"));
        Ok(writeln!(io.out, "wrote {files} of {devices} below {}", directory.display())?)
    }
}

/// Removes what an earlier run wrote for the device, and nothing else.
fn remove_earlier(place: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", place.display())),
        Ok(found) if found.is_dir() && place.join(LIST).is_file() && place.join("root").is_dir() => {
            fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))
        }
        Ok(_) => bail!("{} is in the way and was not made by fleetctl render; remove it", place.display()),
    }
}

/// Where a path of the device lies below `root`.
fn below(root: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let relative = path.strip_prefix('/').filter(|rest| !rest.is_empty());
    let parts = relative.map(|rest| Path::new(rest).components().collect::<Vec<_>>()).unwrap_or_default();
    if parts.is_empty() || !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
        bail!("{path:?} is not an absolute path without `..`");
    }
    Ok(parts.iter().fold(root.to_owned(), |at, part| at.join(part)))
}

/// A new file. Set-user-id and the like stay in the list: here the file belongs to somebody else.
fn write_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(content).with_context(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o777)).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        let root = Path::new("/r");
        assert_eq!(below(root, "/etc/a").unwrap(), Path::new("/r/etc/a"));
        for bad in ["", "/", "etc", "/../x", "/a/../../x", "//x/..", "/a/.."] {
            assert!(below(root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_somebody_else_put_there_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("kiosk");
        assert!(remove_earlier(&place).is_ok());
        fs::create_dir(&place).unwrap();
        assert!(remove_earlier(&place).is_err());
        fs::create_dir(place.join("root")).unwrap();
        fs::write(place.join(LIST), "").unwrap();
        assert!(remove_earlier(&place).is_ok() && !place.exists());
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &place).unwrap();
        assert!(remove_earlier(&place).is_err());
    }
}
