//! Which repository a URL means, however it is written: HTTPS, SSH, the short SSH form, with or without `.git`, user or
//! port. Two repositories that are taken for one cost a poll that finds nothing, so what is in doubt is the same.

use percent_encoding::percent_decode_str;

/// The longest URL that is looked at.
const MAX_URL: usize = 2_048;

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repository {
    /// In lower case, without port; empty for a path on the service's own disk.
    host: String,
    /// In lower case, except for paths on the disk.
    path: Vec<String>,
}

impl Repository {
    /// The repository at a URL; `None` when the text is none.
    pub(crate) fn at(url: &str) -> Option<Self> {
        let url = url.trim();
        if url.is_empty() || url.len() > MAX_URL || url.chars().any(char::is_control) {
            return None;
        }
        let (host, path) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let (authority, path) = rest.split_once('/')?;
                if scheme.eq_ignore_ascii_case("file") { (String::new(), path) } else { (host_of(authority)?, path) }
            }
            None if url.starts_with('/') => (String::new(), url),
            None => {
                let (authority, path) = split_short_form(url)?;
                (host_of(authority)?, path)
            }
        };
        let path = segments(path, host.is_empty())?;
        let (host, path) = one_form(host, path);
        (!path.is_empty()).then_some(Self { host, path })
    }

    /// Whether its path ends with `project/name`, as a host says that does not tell its URLs.
    pub(crate) fn ends_with(&self, project: &str, name: &str) -> bool {
        match self.path.as_slice() {
            [.., before, last] => before.eq_ignore_ascii_case(project) && last.eq_ignore_ascii_case(name),
            [] | [_] => false,
        }
    }
}

/// `[user@]host:path`, where the colon comes before any slash, and an address with colons is in brackets.
fn split_short_form(url: &str) -> Option<(&str, &str)> {
    let (authority, path) = match url.find("]:") {
        Some(at) => (&url[..=at], &url[at + 2..]),
        None => url.split_once(':')?,
    };
    (!authority.contains('/')).then_some((authority, path))
}

/// The host of `[user[:password]@]host[:port]`.
fn host_of(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let host = host.trim_end_matches('.').to_lowercase();
    (!host.is_empty()).then_some(host)
}

fn segments(path: &str, keep_case: bool) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        let decoded = percent_decode_str(segment).decode_utf8().ok()?;
        if decoded == ".." || decoded.contains(['/', '\0']) {
            return None;
        }
        segments.push(if keep_case { decoded.into_owned() } else { decoded.to_lowercase() });
    }
    if let Some(last) = segments.last_mut()
        && let Some(short) = last.strip_suffix(".git")
        && !short.is_empty()
    {
        *last = short.to_owned();
    }
    Some(segments)
}

/// Hosts that give a repository different paths over HTTPS, over SSH and in the browser.
fn one_form(host: String, path: Vec<String>) -> (String, Vec<String>) {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    if let Some(found) = azure(&host, &parts) {
        return ("dev.azure.com".to_owned(), owned(&found));
    }
    match parts.as_slice() {
        // Bitbucket Server and Data Center: HTTPS, and the pages in the browser.
        ["scm", project, name] if !host.is_empty() => {
            let short = owned(&[project, name]);
            (host, short)
        }
        ["projects", project, "repos", name] | ["projects", project, "repos", name, "browse"] if !host.is_empty() => {
            let short = owned(&[project, name]);
            (host, short)
        }
        _ => (host, path),
    }
}

/// Organisation, project and repository of Azure DevOps.
fn azure<'a>(host: &'a str, path: &[&'a str]) -> Option<[&'a str; 3]> {
    let organisation = host.strip_suffix(".visualstudio.com");
    match (host, organisation, path) {
        ("ssh.dev.azure.com" | "vs-ssh.visualstudio.com", _, ["v3", organisation, project, name]) => {
            Some([organisation, project, name])
        }
        ("dev.azure.com", _, [organisation, project, "_git", name]) => Some([organisation, project, name]),
        // A repository that is named like its project.
        ("dev.azure.com", _, [organisation, "_git", name]) => Some([organisation, name, name]),
        (_, Some(organisation), ["defaultcollection", project, "_git", name] | [project, "_git", name]) => {
            Some([organisation, project, name])
        }
        (_, Some(organisation), ["_git", name]) => Some([organisation, name, name]),
        (_, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_ways_to_write_one_repository_are_one() {
        for forms in [
            &[
                "https://git.example.com/team/fleet.git",
                "https://git.example.com/team/fleet",
                "https://Git.Example.COM/team/fleet/",
                "https://user:pw@git.example.com:3000/team/fleet.git",
                "http://git.example.com//team/./fleet",
                "ssh://git@git.example.com:2222/team/fleet.git",
                "ssh://git.example.com./team/fleet",
                "git@git.example.com:team/fleet.git",
                "git.example.com:/team/fleet",
                "git://git.example.com/team/fleet",
                " https://git.example.com/Team/Fleet?x=y#z ",
                "https://git.example.com/te%61m/fleet",
            ][..],
            &["https://[2001:db8::1]:8443/a/b", "ssh://git@[2001:DB8::1]/a/b.git", "git@[2001:db8::1]:a/b"],
            &[
                "https://bb.example.com/scm/FLT/devices.git",
                "ssh://git@bb.example.com:7999/flt/devices.git",
                "https://bb.example.com/projects/FLT/repos/devices/browse",
            ],
            &[
                "https://dev.azure.com/org/My%20Project/_git/fleet",
                "https://org@dev.azure.com/org/My%20Project/_git/fleet",
                "git@ssh.dev.azure.com:v3/org/My%20Project/fleet",
                "https://org.visualstudio.com/DefaultCollection/My%20Project/_git/fleet",
                "org@vs-ssh.visualstudio.com:v3/org/my project/fleet",
            ],
            &["https://dev.azure.com/org/_git/fleet", "https://org.visualstudio.com/_git/fleet"],
            &["file:///srv/git/fleet.git", "/srv/git/fleet", "/srv//git/fleet.git/"],
        ] {
            let first = Repository::at(forms[0]).unwrap();
            for form in forms {
                assert_eq!(Repository::at(form).as_ref(), Some(&first), "{form}");
            }
        }
    }

    #[test]
    fn different_repositories_stay_different() {
        let all = [
            "https://git.example.com/team/fleet",
            "https://git.example.com/team/fleet2",
            "https://git.example.com/team2/fleet",
            "https://git.example.com/group/team/fleet",
            "https://git.example.org/team/fleet",
            "https://git.example.com.evil.example/team/fleet",
            "https://git.example.com/team/fleet.git.git",
            "/team/fleet",
            "/Team/fleet",
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(Repository::at(one).unwrap(), Repository::at(other).unwrap(), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_url_is_no_repository() {
        let long = format!("https://h/{}", "a".repeat(MAX_URL));
        for text in [
            "",
            " ",
            "fleet",
            "https://",
            "https://host",
            "https:///a/b",
            "https://host/",
            "https://h/a/../b",
            "https://h/%2e%2e/b",
            "https://h/a%2Fb",
            "https://h/%ff",
            "a/b:c",
            "https://h/a\nb",
            "[::1:a",
            &long,
        ] {
            assert_eq!(Repository::at(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), other in "[a-z@:/\\[\\]%.2fF_-]{0,40}") {
            Repository::at(&text);
            if let Some(found) = Repository::at(&other) {
                prop_assert!(!found.path.is_empty());
            }
        }

        #[test]
        fn the_form_of_the_url_does_not_matter(
            host in "[a-z]{1,8}(\\.[a-z]{2,5}){1,2}",
            path in proptest::collection::vec("[a-zA-Z0-9_~-]{1,8}", 2..5),
            user in "[a-z]{0,5}",
            port in 1_u16..,
            git in any::<bool>(),
        ) {
            prop_assume!(!host.ends_with("visualstudio.com") && path[0] != "scm");
            let path = path.join("/");
            let end = if git { ".git" } else { "" };
            let at = if user.is_empty() { String::new() } else { format!("{user}@") };
            let plain = Repository::at(&format!("https://{host}/{path}")).unwrap();
            for form in [
                format!("https://{at}{host}:{port}/{path}{end}"),
                format!("ssh://{at}{}:{port}/{path}{end}/", host.to_uppercase()),
                format!("{at}{host}:{path}{end}"),
                format!("git@{host}:/{}{end}", path.to_uppercase()),
            ] {
                prop_assert_eq!(Repository::at(&form), Some(plain.clone()), "{}", form);
            }
            let other = Repository::at(&format!("https://{host}/{path}x"));
            prop_assert_ne!(other, Some(plain));
        }
    }
}
