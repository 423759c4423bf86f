//! Where the agent keeps things, below its root.

use crate::path::FilePath;

/// The directory of the agent's state, mode 0700.
pub(crate) const STATE_DIR: &str = "/var/lib/fleet-agent";
/// The directory of its configuration.
pub(crate) const CONFIG_DIR: &str = "/etc/fleet-agent";
/// The configuration file, unless another one is named.
pub const DEFAULT_CONFIG: &str = "/etc/fleet-agent/config.yaml";
/// Drop-ins; the only part of the configuration directory that a document may manage.
pub(crate) const DROP_IN_DIR: &str = "/etc/fleet-agent/conf.d";

pub(crate) fn state_file() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/state.json")
}

/// Contents of managed files, named by their digest.
pub(crate) fn store_dir() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/store")
}

/// Contents of files that were there before they were managed, named by their digest.
pub(crate) fn saved_dir() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/saved")
}

pub(crate) fn key_file() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/certs/agent.key")
}

pub(crate) fn certificate_file() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/certs/agent.crt")
}

pub(crate) fn lock_file() -> FilePath {
    FilePath::own("/var/lib/fleet-agent/lock")
}

pub(crate) fn banner_file() -> FilePath {
    FilePath::own("/etc/issue.d/fleet-agent-banner.issue")
}

/// The directory of the agent's own that `path` lies in, if a document must not manage it.
pub(crate) fn reserved_directory(path: &FilePath) -> Option<&'static str> {
    if path.is_within(STATE_DIR) {
        Some(STATE_DIR)
    } else if path.is_within(CONFIG_DIR) && !(path.is_within(DROP_IN_DIR) && path.as_str() != DROP_IN_DIR) {
        Some(CONFIG_DIR)
    } else {
        None
    }
}
