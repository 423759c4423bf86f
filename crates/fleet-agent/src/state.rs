//! What the agent remembers: one checksummed document, replaced in one motion. This is its only writer.

use std::io;

use fleet_model::{Digest, RenderedVersion};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::disk::{self, Disk};
use crate::failure::Failure;
use crate::path::FilePath;
use crate::paths;

/// The most failed contents that are remembered; the oldest are forgotten first.
const MAX_BLOCKED: usize = 64;
/// A larger state file was not written by an agent.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// What was at a path before the agent managed it, to be put back when the path leaves the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Original {
    /// Nothing.
    Absent,
    /// A file; its contents are kept under the digest.
    File {
        /// Digest of the contents.
        digest: Digest,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it pointed.
        target: String,
    },
}

/// A file that the agent manages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedFile {
    /// Where.
    pub path: FilePath,
    /// Digest of the contents, which are kept under it.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner: a name or a number.
    pub user: String,
    /// Group: a name or a number.
    pub group: String,
    /// What it took the place of.
    pub original: Original,
}

/// A version and its files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Release {
    /// The version; 0 for none.
    pub version: RenderedVersion,
    /// Digest of the specification; none with version 0.
    pub digest: Option<Digest>,
    /// The files, in order of their paths.
    pub files: Vec<ManagedFile>,
}

/// The newest version that the agent decided on: carried out, or refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// The version; 0 for none.
    pub version: RenderedVersion,
    /// Digest of the specification; none with version 0.
    pub digest: Option<Digest>,
}

/// Where the agent is between two releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The device is at the current release.
    #[default]
    Settled,
    /// The device is somewhere between the current release and `target`, on the way to `target`.
    Applying {
        /// Where it goes.
        target: Release,
    },
    /// The device is somewhere between the current release and `target`, on the way back.
    RollingBack {
        /// Where it came from.
        target: Release,
        /// Why.
        failure: Failure,
    },
}

/// Contents that failed and are not tried again by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Digest of the specification.
    pub digest: Digest,
    /// The version it came under.
    pub version: RenderedVersion,
    /// Why it failed.
    pub failure: Failure,
}

/// How often contents have been tried without coming to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Digest of the specification.
    pub digest: Digest,
    /// Attempts begun.
    pub count: u32,
}

/// Everything the agent remembers about its specification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The last release that was applied whole.
    pub current: Release,
    /// The newest version that was decided on.
    pub desired: Desired,
    /// Between the two.
    pub stage: Stage,
    /// Attempts at contents that have not come to an end.
    pub attempts: Option<Attempts>,
    /// Contents that failed.
    pub blocked: Vec<Blocked>,
    /// Why the newest version offered is not the current one.
    pub failure: Option<Failure>,
}

impl State {
    /// Why these contents failed before, if they did.
    pub fn blocked(&self, digest: &Digest) -> Option<&Blocked> {
        self.blocked.iter().find(|b| b.digest == *digest)
    }

    /// Remembers that contents failed.
    pub(crate) fn block(&mut self, digest: Digest, version: RenderedVersion, failure: Failure) {
        self.blocked.retain(|b| b.digest != digest);
        self.blocked.push(Blocked { digest, version, failure });
        let surplus = self.blocked.len().saturating_sub(MAX_BLOCKED);
        self.blocked.drain(..surplus);
    }
}

#[derive(Serialize)]
struct Written<'a> {
    checksum: Digest,
    state: &'a RawValue,
}

#[derive(Deserialize)]
struct Read {
    checksum: Digest,
    state: Box<RawValue>,
}

/// What was found on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// No state: a first start.
    Fresh,
    /// The state.
    State(Box<State>),
    /// A file that is damaged; it says how.
    Damaged(String),
}

/// Reads the state. Damage is told, not an error: the caller goes on from nothing.
pub(crate) fn load(disk: &dyn Disk) -> io::Result<Loaded> {
    let Some(bytes) = disk.read(&paths::state_file(), MAX_STATE_BYTES)? else { return Ok(Loaded::Fresh) };
    let read: Read = match serde_json::from_slice(&bytes) {
        Ok(read) => read,
        Err(error) => return Ok(Loaded::Damaged(error.to_string())),
    };
    if Digest::of(read.state.get().as_bytes()) != read.checksum {
        return Ok(Loaded::Damaged("its checksum does not match".to_owned()));
    }
    match serde_json::from_str(read.state.get()) {
        Ok(state) => Ok(Loaded::State(Box::new(state))),
        Err(error) => Ok(Loaded::Damaged(error.to_string())),
    }
}

/// Replaces the state in one motion, durably.
pub(crate) fn save(disk: &dyn Disk, state: &State) -> io::Result<()> {
    let raw = serde_json::value::to_raw_value(state).map_err(io::Error::other)?;
    let written = Written { checksum: Digest::of(raw.get().as_bytes()), state: &raw };
    let mut bytes = serde_json::to_vec(&written).map_err(io::Error::other)?;
    bytes.push(b'\n');
    disk::replace(disk, &paths::state_file(), &bytes, 0o600, 0o700)
}

/// Moves a damaged state aside, so that somebody can look at it.
pub(crate) fn set_aside(disk: &dyn Disk) -> io::Result<()> {
    let state = paths::state_file();
    disk.rename(&state, &FilePath::own(&format!("{state}.damaged")))?;
    disk.sync_dir(state.parent().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn state_survives_and_damage_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        assert_eq!(load(&disk).unwrap(), Loaded::Fresh);
        let mut state = State::default();
        state.desired.version = RenderedVersion::try_from(4).unwrap();
        save(&disk, &state).unwrap();
        assert_eq!(load(&disk).unwrap(), Loaded::State(Box::new(state)));
        let file = root.path().join("var/lib/fleet-agent/state.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"4\"", "\"5\"")).unwrap();
        assert!(matches!(load(&disk).unwrap(), Loaded::Damaged(why) if why.contains("checksum")));
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert!(matches!(load(&disk).unwrap(), Loaded::Damaged(_)));
        set_aside(&disk).unwrap();
        assert_eq!(load(&disk).unwrap(), Loaded::Fresh);
    }

    #[test]
    fn the_blocklist_is_bounded() {
        let mut state = State::default();
        let failure = || Failure::new(crate::failure::Phase::Preparing, crate::failure::Component::Config, "x", "y");
        for number in 0..200_u8 {
            state.block(Digest::of(&[number]), RenderedVersion::ZERO, failure());
        }
        assert_eq!(state.blocked.len(), MAX_BLOCKED);
        assert!(state.blocked(&Digest::of(&[199])).is_some() && state.blocked(&Digest::of(&[0])).is_none());
    }
}
