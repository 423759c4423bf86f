//! Host, port and user of a URL, in a form that no program can take for one of its options.

/// `[user@]host[:port]` of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) user: Option<String>,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

/// A repository behind an SSH server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshTarget {
    pub(crate) authority: Authority,
    /// As the server's shell gets it, before quoting: `/srv/a.git`, `a.git` or `~user/a.git`.
    pub(crate) path: String,
}

impl Authority {
    /// The authority before the first `/` of `rest`, which is a URL without its scheme, and the path from there.
    pub(crate) fn parse(rest: &str) -> Option<(Self, &str)> {
        let (authority, path) = rest.split_at(rest.find('/')?);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (address, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
            }
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, Some("")),
            },
        };
        let port = match port? {
            "" => None,
            digits => Some(digits.parse::<u16>().ok().filter(|port| *port != 0)?),
        };
        let user = match user {
            Some(user) => Some(user).filter(|user| is_plain(user, b"._-")).map(str::to_owned).map(Some)?,
            None => None,
        };
        is_plain(host, b"._-:").then(|| (Self { user, host: host.to_owned(), port }, path))
    }
}

impl SshTarget {
    /// From what stands behind `ssh://`.
    pub(crate) fn of_url(rest: &str) -> Option<Self> {
        let (authority, path) = Authority::parse(rest)?;
        // `ssh://host/~user/a` means the user's home.
        let path = path.strip_prefix('/').filter(|path| path.starts_with('~')).unwrap_or(path);
        (path.len() > 1).then(|| Self { authority, path: path.to_owned() })
    }

    /// From `[user@]host:path`.
    pub(crate) fn of_short_form(text: &str) -> Option<Self> {
        let (before, path) = text.split_once(':')?;
        if before.contains('/') || path.is_empty() || path.starts_with(['-', ':']) || path.starts_with("//") {
            return None;
        }
        let (authority, _) = Authority::parse(&format!("{before}/"))?;
        // `user:password@host:path` is no path of a host named `user`.
        let is_clear = authority.user.is_some() || !path.contains('@');
        is_clear.then(|| Self { authority, path: path.to_owned() })
    }
}

/// Letters, digits and `more`, not beginning with `-`.
fn is_plain(text: &str, more: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Option<SshTarget> {
        let authority = Authority { user: user.map(str::to_owned), host: host.to_owned(), port };
        Some(SshTarget { authority, path: path.to_owned() })
    }

    #[test]
    fn urls_and_the_short_form_name_the_same_things() {
        assert_eq!(SshTarget::of_url("git@h.example/a/b.git"), target(Some("git"), "h.example", None, "/a/b.git"));
        assert_eq!(SshTarget::of_url("h:2222/a"), target(None, "h", Some(2222), "/a"));
        assert_eq!(SshTarget::of_url("[::1]:22/a"), target(None, "::1", Some(22), "/a"));
        assert_eq!(SshTarget::of_url("git@h/~me/a"), target(Some("git"), "h", None, "~me/a"));
        assert_eq!(SshTarget::of_short_form("git@h:a/b.git"), target(Some("git"), "h", None, "a/b.git"));
        assert_eq!(SshTarget::of_short_form("git@h:/srv/a"), target(Some("git"), "h", None, "/srv/a"));
        assert_eq!(SshTarget::of_short_form("h:a"), target(None, "h", None, "a"));
    }

    #[test]
    fn nothing_that_a_program_could_take_for_an_option_gets_through() {
        for bad in [
            "-oProxyCommand=id/a",
            "u@-oX/a",
            "-u@h/a",
            "u:p@h/a",
            "h:0/a",
            "h:x/a",
            "h/",
            "[::1/a",
            "[x]/a",
            "h x/a",
            "h",
        ] {
            assert_eq!(SshTarget::of_url(bad), None, "{bad}");
        }
        for bad in [
            "ext::sh -c id",
            "u@h:-a",
            "u@-h:a",
            "-u@h:a",
            "u@h:",
            "u@h",
            "u@h:22:a/../-x@",
            "https://u@h:a",
            "u@h://a",
        ] {
            let found = SshTarget::of_short_form(bad);
            assert!(
                found.as_ref().is_none_or(|t| !t.path.starts_with('-') && t.authority.host == "h"),
                "{bad}: {found:?}"
            );
        }
    }
}
