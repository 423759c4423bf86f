//! What the agent remembers: one checksummed document, replaced in one motion. This is its only writer.

use std::io;

use fleet_model::{Digest, RenderedVersion};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::warn;

use crate::disk::{self, Disk};
use crate::failure::{Component, Failure, Phase};
use crate::path::FilePath;
use crate::paths;

/// The most failed contents that are remembered; the oldest are forgotten first.
const MAX_BLOCKED: usize = 64;
/// A larger state file was not written by an agent.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// The version of this agent, as it is noted with blocked contents.
pub(crate) const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");
/// So many damaged states are kept whole; of older ones, only the saved originals.
const MAX_DAMAGED: usize = 3;
const DAMAGED_PREFIX: &str = "damaged-";

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
    /// Version of the agent that says so; empty when it was not noted.
    #[serde(default)]
    pub agent: String,
}

impl Blocked {
    /// Whether it no longer counts: another version of the agent refused the document before anything was touched, and
    /// this one may know how to carry it out.
    pub(crate) fn is_outdated(&self) -> bool {
        let refused = match self.failure.component {
            Component::Os | Component::Applications | Component::UpdatePolicy | Component::Lifecycle => true,
            Component::Config | Component::Resources | Component::Systemd | Component::State => {
                self.failure.reason.contains("not supported by this agent")
                    || self.failure.reason.contains("is not an inline provider")
            }
        };
        refused && self.failure.phase == Phase::Preparing && self.agent != AGENT_VERSION
    }
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
    /// Files of a release that failed, which could not be taken away; what they took the place of is still to be put
    /// back. None of them is a file of the current release.
    #[serde(default)]
    pub leftovers: Vec<ManagedFile>,
}

impl State {
    /// Why these contents failed before, if they did.
    pub fn blocked(&self, digest: &Digest) -> Option<&Blocked> {
        self.blocked.iter().find(|b| b.digest == *digest && !b.is_outdated())
    }

    /// Remembers that contents failed.
    pub(crate) fn block(&mut self, digest: Digest, version: RenderedVersion, failure: Failure) {
        self.blocked.retain(|b| b.digest != digest);
        self.blocked.push(Blocked { digest, version, failure, agent: AGENT_VERSION.to_owned() });
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

/// Moves a damaged state aside, together with the contents that only it refers to, so that somebody can look at it.
/// The state goes last: whenever the power goes before that, all of it is done again. Saved originals are never deleted.
pub(crate) fn set_aside(disk: &dyn Disk) -> io::Result<FilePath> {
    let home = FilePath::own(paths::STATE_DIR);
    let number_of = |name: &str| name.strip_prefix(DAMAGED_PREFIX).and_then(|number| number.parse::<u64>().ok());
    let mut numbers: Vec<u64> = disk.list(&home)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    let aside = home.join(&format!("{DAMAGED_PREFIX}{next}"));
    disk.create_dirs(&aside, 0o700)?;
    for directory in [paths::store_dir(), paths::saved_dir()] {
        if disk.stat(&directory)?.is_some() {
            disk.rename(&directory, &aside.join(directory.name()))?;
        }
    }
    disk.sync_dir(Some(&aside))?;
    disk.sync_dir(Some(&home))?;
    let state = paths::state_file();
    disk.rename(&state, &aside.join(state.name()))?;
    disk.sync_dir(Some(&aside))?;
    disk.sync_dir(Some(&home))?;
    let surplus = numbers.len().saturating_add(1).saturating_sub(MAX_DAMAGED);
    for number in numbers.iter().take(surplus) {
        let old = home.join(&format!("{DAMAGED_PREFIX}{number}"));
        if let Err(error) = shed(disk, &old) {
            warn!(directory = %old, %error, "A damaged state of long ago could not be removed");
        }
    }
    Ok(aside)
}

/// Removes a damaged state but for the saved originals.
fn shed(disk: &dyn Disk, old: &FilePath) -> io::Result<()> {
    let store = old.join(paths::store_dir().name());
    for name in disk.list(&store)? {
        disk.remove(&store.join(&name))?;
    }
    disk.remove_dir(&store)?;
    disk.remove(&old.join(paths::state_file().name()))?;
    if disk.list(old)?.is_empty() {
        disk.remove_dir(old)?;
    }
    Ok(())
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
    fn three_damaged_states_are_kept_whole_and_every_saved_original() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        for round in 1..=5_u8 {
            for file in [paths::state_file(), paths::store_dir().join("a"), paths::saved_dir().join("b")] {
                disk::replace(&disk, &file, &[round], 0o600, 0o700).unwrap();
            }
            assert_eq!(set_aside(&disk).unwrap().name(), format!("damaged-{round}"));
        }
        for round in 1..=5_u8 {
            let aside = root.path().join(format!("var/lib/fleet-agent/damaged-{round}"));
            assert_eq!(std::fs::read(aside.join("saved/b")).unwrap(), [round]);
            assert_eq!(aside.join("state.json").exists(), round > 2, "{round}");
            assert_eq!(aside.join("store/a").exists(), round > 2, "{round}");
        }
    }

    #[test]
    fn a_state_from_before_is_still_read() {
        let mut state = State::default();
        state.block(Digest::of(b"x"), RenderedVersion::ZERO, Failure::new(Phase::Preparing, Component::Os, "os", "no"));
        let mut value = serde_json::to_value(&state).unwrap();
        value.as_object_mut().unwrap().remove("leftovers").unwrap();
        value["blocked"][0].as_object_mut().unwrap().remove("agent").unwrap();
        let read: State = serde_json::from_value(value).unwrap();
        assert_eq!((read.blocked[0].agent.as_str(), read.leftovers.len()), ("", 0));
        assert!(read.blocked(&Digest::of(b"x")).is_none() && state.blocked(&Digest::of(b"x")).is_some());
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
