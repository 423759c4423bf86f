//! Which paths and owners a file on a device may have, and how paths in a repository are written.

use std::fmt;

/// Where no configuration may write, and everything below: the agents' own state.
const FORBIDDEN_TREES: [&str; 5] = [
    "/var/lib/flightctl",
    "/usr/lib/flightctl",
    "/etc/flightctl/certs",
    "/var/lib/fleet-agent",
    "/etc/fleet-agent/certs",
];
/// Single files of the same sort.
const FORBIDDEN_FILES: [&str; 3] =
    ["/etc/flightctl/config.yaml", "/etc/flightctl/config.yml", "/etc/fleet-agent/config.yaml"];
/// Longest path, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// A path that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {path:?} {reason}")]
pub struct PathProblem {
    /// `device path` or `repository path`.
    what: &'static str,
    /// The path, cut after 200 characters.
    pub path: String,
    /// What is wrong with it.
    pub reason: PathReason,
}

impl PathProblem {
    fn device(path: &str, reason: PathReason) -> Self {
        Self { what: "device path", path: path.chars().take(200).collect(), reason }
    }

    pub(super) fn repository(path: &str, reason: PathReason) -> Self {
        Self { what: "repository path", path: path.chars().take(200).collect(), reason }
    }
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathReason {
    /// It does not start with `/`.
    NotAbsolute,
    /// It has `.`, `..`, an empty part or a `/` at the end.
    NotClean,
    /// It is `/`, which is no file.
    Root,
    /// It has a `:`.
    Colon,
    /// It has a control character.
    Control,
    /// It is longer than 4096 bytes.
    TooLong,
    /// It lies at or below this path, which belongs to the agent.
    Forbidden(&'static str),
    /// It has a `..` part.
    Parent,
    /// It occurs twice.
    Twice,
    /// Its permission bits are not 0 to 0o7777.
    Mode(u32),
}

impl fmt::Display for PathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("is not absolute; start it with '/'"),
            Self::NotClean => f.write_str("is not clean; remove '.', '..', repeated '/' and a '/' at the end"),
            Self::Root => f.write_str("is a directory; name a file"),
            Self::Colon => f.write_str("has a ':', which is not allowed"),
            Self::Control => f.write_str("has a control character"),
            Self::TooLong => write!(f, "is longer than {MAX_PATH_BYTES} bytes"),
            Self::Forbidden(place) => write!(f, "lies at or below {place}, which belongs to the device's agent"),
            Self::Parent => f.write_str("has a '..' part; it must stay inside the repository"),
            Self::Twice => f.write_str("occurs twice"),
            Self::Mode(mode) => write!(f, "has permission bits {mode:#o}, which are not 0 to 0o7777"),
        }
    }
}

/// Checks the path of a file on a device: absolute, clean, without `:` and control characters, at most 4096 bytes, and
/// not among the agents' own files.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_device_path(path: &str) -> Result<(), PathProblem> {
    let problem = |reason| Err(PathProblem::device(path, reason));
    if path.len() > MAX_PATH_BYTES {
        return problem(PathReason::TooLong);
    }
    let Some(relative) = path.strip_prefix('/') else { return problem(PathReason::NotAbsolute) };
    if relative.is_empty() {
        return problem(PathReason::Root);
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return problem(PathReason::NotClean);
    }
    if path.contains(':') {
        return problem(PathReason::Colon);
    }
    if path.chars().any(char::is_control) {
        return problem(PathReason::Control);
    }
    let below = |tree: &str| path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match FORBIDDEN_TREES.into_iter().chain(FORBIDDEN_FILES).find(|tree| below(tree)) {
        Some(tree) => problem(PathReason::Forbidden(tree)),
        None => Ok(()),
    }
}

/// A user or group that no device could have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "owner {0:?} is neither a name (at most 32 of letters, digits, '_' and '-', not starting with '-') nor an id below 4294967295 other than 65535"
)]
pub struct OwnerProblem(pub String);

/// Checks the user or group of a file: a name `[a-zA-Z0-9_][a-zA-Z0-9_-]*[$]?` of at most 32 characters, or a numeric id.
///
/// # Errors
/// [`OwnerProblem`] with the text.
pub fn check_owner(owner: &str) -> Result<(), OwnerProblem> {
    let ok = if !owner.is_empty() && owner.bytes().all(|b| b.is_ascii_digit()) {
        owner.parse::<u32>().is_ok_and(|id| id != u32::MAX && id != 65_535)
    } else {
        let name = owner.strip_suffix('$').unwrap_or(owner);
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        owner.len() <= 32 && name.bytes().next().is_some_and(word) && name.bytes().all(|b| word(b) || b == b'-')
    };
    if ok { Ok(()) } else { Err(OwnerProblem(owner.chars().take(80).collect())) }
}

/// A repository path relative to the root, without `.` parts, repeated and outer slashes. The root itself is empty.
///
/// # Errors
/// A `..` part, a control character, or more than 4096 bytes.
pub(super) fn normalise(path: &str) -> Result<String, PathProblem> {
    let problem = |reason| Err(PathProblem::repository(path, reason));
    if path.len() > MAX_PATH_BYTES {
        return problem(PathReason::TooLong);
    }
    if path.chars().any(char::is_control) {
        return problem(PathReason::Control);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return problem(PathReason::Parent);
    }
    Ok(parts.join("/"))
}

/// The part of a `gitRef` path that must be pinned: for a path without placeholders the path itself (a file or a
/// directory), else the directory before the first placeholder. Relative to the repository's root; empty for the root.
///
/// Everything that the path can select for any device lies at or below the result.
///
/// # Errors
/// A `..` part, a control character, or more than 4096 bytes.
pub fn literal_prefix(path: &str) -> Result<String, PathProblem> {
    match path.find("{{") {
        None => normalise(path),
        Some(open) => {
            let directory = path[..open].rfind('/').map_or("", |slash| &path[..slash]);
            normalise(directory)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(path: &str) -> Option<PathReason> {
        check_device_path(path).err().map(|problem| problem.reason)
    }

    #[test]
    fn only_clean_absolute_paths_outside_the_agents_files_pass() {
        for good in [
            "/etc/motd",
            "/etc/flightctl/hooks.d/a.yaml",
            "/var/lib/flightctl-x",
            "/etc/fleet-agent/config.yaml.d",
            "/a b",
        ] {
            assert_eq!(reason(good), None, "{good}");
        }
        for (bad, expected) in [
            ("", PathReason::NotAbsolute),
            ("etc/motd", PathReason::NotAbsolute),
            ("/", PathReason::Root),
            ("//etc", PathReason::NotClean),
            ("/etc/", PathReason::NotClean),
            ("/etc/./a", PathReason::NotClean),
            ("/etc/../var/lib/flightctl/x", PathReason::NotClean),
            ("/etc/a:b", PathReason::Colon),
            ("/etc/a\n", PathReason::Control),
            ("/var/lib/flightctl", PathReason::Forbidden("/var/lib/flightctl")),
            ("/var/lib/flightctl/x", PathReason::Forbidden("/var/lib/flightctl")),
            ("/usr/lib/flightctl/x", PathReason::Forbidden("/usr/lib/flightctl")),
            ("/etc/flightctl/certs/x", PathReason::Forbidden("/etc/flightctl/certs")),
            ("/etc/flightctl/config.yaml", PathReason::Forbidden("/etc/flightctl/config.yaml")),
            ("/etc/flightctl/config.yml", PathReason::Forbidden("/etc/flightctl/config.yml")),
            ("/var/lib/fleet-agent/x", PathReason::Forbidden("/var/lib/fleet-agent")),
            ("/etc/fleet-agent/certs", PathReason::Forbidden("/etc/fleet-agent/certs")),
            ("/etc/fleet-agent/config.yaml", PathReason::Forbidden("/etc/fleet-agent/config.yaml")),
        ] {
            assert_eq!(reason(bad), Some(expected), "{bad}");
        }
        assert_eq!(reason(&format!("/{}", "a".repeat(4096))), Some(PathReason::TooLong));
    }

    #[test]
    fn owners_are_names_or_ids() {
        for good in ["root", "_x", "a-b", "samba$", "0", "1000", "4294967294", "1a", &"a".repeat(32)] {
            assert!(check_owner(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "$", "a$b", "a b", "a:b", "65535", "4294967295", "99999999999", "ä", &"a".repeat(33)] {
            assert!(check_owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_prefix_ends_before_the_first_placeholder() {
        for (path, prefix) in [
            ("/deploy/etc/", "deploy/etc"),
            ("./deploy//motd", "deploy/motd"),
            ("/", ""),
            (".", ""),
            ("sites/{{ .metadata.labels.site }}/etc", "sites"),
            ("sites/site-{{ .metadata.labels.site }}", "sites"),
            ("site-{{ .metadata.labels.site }}", ""),
            ("{{ .metadata.name }}", ""),
        ] {
            assert_eq!(literal_prefix(path).unwrap(), prefix, "{path}");
        }
        for bad in ["../x", "a/../../x", "a/../{{ .metadata.name }}", "a\0b"] {
            assert!(literal_prefix(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_device_path_that_passes_has_no_way_up(path in "[/.a:]{0,12}") {
            if check_device_path(&path).is_ok() {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
            }
        }

        #[test]
        fn a_normalised_path_stays_as_it_is(path in "[/.a{}]{0,16}") {
            if let Ok(once) = normalise(&path) {
                prop_assert_eq!(normalise(&once), Ok(once.clone()));
                prop_assert!(!once.starts_with('/'));
            }
        }
    }
}
