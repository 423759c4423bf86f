//! Reads `forges`: which Git hosts are told what becomes of commits.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use fleet_forge::{Forge, ForgeKind, ForgeSettings, ForgeSettingsError};
use fleet_syncer::ForgeConfig;

use super::fields::Fields;
use super::read::read_secret;

/// Reads the list.
pub(super) fn read_forges(root: &mut Fields, beside: &Path) -> Vec<ForgeConfig> {
    let mut prefixes = BTreeSet::new();
    root.sections("forges").into_iter().filter_map(|item| read_forge(item, beside, &mut prefixes)).collect()
}

fn read_forge(mut item: Fields, beside: &Path, prefixes: &mut BTreeSet<String>) -> Option<ForgeConfig> {
    let kind = item.required_text("type");
    let kind = (!kind.is_empty()).then(|| kind.parse::<ForgeKind>().map_err(|error| (kind, error)));
    if let Some(Err((kind, error))) = &kind {
        item.problem("type", format_args!("{kind:?} {error}"));
    }
    let kind = kind.and_then(Result::ok);
    let url_prefix = item.required_text("urlPrefix");
    let is_whole = match url_prefix.split_once("://") {
        // Without the slash, `https://host` would also be the beginning of `https://host.elsewhere`.
        Some(("https" | "ssh", rest)) => rest.contains('/'),
        Some(_) => false,
        None => url_prefix.split_once('@').is_some_and(|(user, rest)| !user.is_empty() && rest.contains(':')),
    };
    if !url_prefix.is_empty() {
        if !is_whole {
            item.problem(
                "urlPrefix",
                "must name a host and go on behind it: https://host/, ssh://user@host/ or user@host: (a prefix of the sources' URLs)",
            );
        }
        if !prefixes.insert(url_prefix.clone()) {
            item.problem("urlPrefix", format_args!("{url_prefix:?} is used by another forge"));
        }
    }
    let given = item.text("apiUrl");
    let api_url = kind.map(|kind| ForgeSettings::api_url(kind, &url_prefix, given.as_deref()));
    let api_url = match api_url {
        Some(Ok(url)) => Some(url),
        Some(Err(error)) => {
            let key = if error == ForgeSettingsError::NoHost { "urlPrefix" } else { "apiUrl" };
            // An empty prefix is told already.
            if !url_prefix.is_empty() {
                item.problem(key, error);
            }
            None
        }
        None => None,
    };
    let token = item.required_text("tokenFile");
    let token_file = beside.join(&token);
    // Read again whenever it is used; here only to say at once when it is not there.
    let has_token = !token.is_empty() && read_secret(&item, "tokenFile", &token_file).is_some();
    let ca = item.text("caFile");
    let ca_pem = ca.as_ref().and_then(|file| read_secret(&item, "caFile", &beside.join(file)));
    let commit_statuses = item.flag("commitStatuses").unwrap_or(true);
    let plan_comments = item.flag("planComments").unwrap_or(false);
    let target_url = item.text("targetUrl");
    if let Some(url) = &target_url {
        let rest = url.replace("{source}", "").replace("{commit}", "").replace("{context}", "");
        if !url.starts_with("https://") && !url.starts_with("http://") {
            item.problem("targetUrl", format_args!("{url:?} does not start with https:// or http://"));
        }
        if rest.contains(['{', '}']) {
            item.problem("targetUrl", "knows {source}, {commit} and {context}, and holds other braces");
        }
    }
    let settings =
        kind.zip(api_url).map(|(kind, api_url)| ForgeSettings { kind, url_prefix, api_url, token_file, ca_pem });
    let forge = settings.and_then(|settings| Forge::new(settings).map_err(|error| item.problem("caFile", error)).ok());
    item.finish();
    Some(ForgeConfig { forge: Arc::new(forge.filter(|_| has_token)?), commit_statuses, plan_comments, target_url })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn read(text: &str, beside: &Path) -> (Vec<ForgeConfig>, Vec<String>) {
        let problems = Rc::new(RefCell::new(Vec::new()));
        let mut root = Fields::new("", serde_yaml::from_str(text).unwrap(), &problems);
        let forges = read_forges(&mut root, beside);
        root.finish();
        let found = problems.borrow().clone();
        (forges, found)
    }

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "geheim\n").unwrap();
        directory
    }

    #[test]
    fn forges_are_read_and_their_tokens_stay_in_their_files() {
        let there = directory();
        let (forges, problems) = read(
            "forges:\n- {type: github, urlPrefix: 'https://github.com/acme/', tokenFile: token}\n\
             - {type: gitea, urlPrefix: 'git@git.acme.test:', tokenFile: token, commitStatuses: false, planComments: true, targetUrl: 'https://x/{source}/{commit}#{context}'}\n",
            there.path(),
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(forges[0].forge.settings().api_url, "https://api.github.com");
        assert_eq!(forges[1].forge.settings().api_url, "https://git.acme.test/api/v1");
        assert_eq!((forges[0].commit_statuses, forges[1].commit_statuses), (true, false));
        assert_eq!((forges[0].plan_comments, forges[1].plan_comments), (false, true));
        assert!(!format!("{forges:?}").contains("geheim"));
    }

    #[test]
    fn all_that_is_wrong_with_forges_is_told_at_once() {
        let there = directory();
        let (forges, problems) = read(
            "forges:\n- {type: cvs, urlPrefix: 'https://a.test', tokenFile: token}\n\
             - {type: gitlab, urlPrefix: 'https://a.test/', apiUrl: 'http://a.test/api/v4', tokenFile: nothing}\n\
             - {type: gitlab, urlPrefix: 'https://a.test/', token: inline, targetUrl: 'x/{branch}'}\n\
             - {type: gitea, urlPrefix: 'https://b.test/', tokenFile: token, caFile: token, commitStatuses: 'yes'}\n- {}\n",
            there.path(),
        );
        assert!(forges.is_empty());
        for wanted in [
            "forges[0].type: \"cvs\" is not one of github, gitlab, gitea",
            "forges[0].urlPrefix: must name a host and go on behind it",
            "forges[1].apiUrl: \"http://a.test/api/v4\" does not start with https://",
            "forges[1].tokenFile: cannot read",
            "forges[2].urlPrefix: \"https://a.test/\" is used by another forge",
            "forges[2].tokenFile: is missing",
            "forges[2].token: unknown key",
            "forges[2].targetUrl: \"x/{branch}\" does not start with",
            "forges[2].targetUrl: knows {source}, {commit} and {context}",
            "forges[3].caFile: holds no PEM certificates",
            "forges[3].commitStatuses: expected true or false",
            "forges[4].type: is missing",
            "forges[4].urlPrefix: is missing",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(wanted)), "{wanted} is not in {problems:#?}");
        }
        assert!(!problems.iter().any(|problem| problem.contains("geheim")), "{problems:#?}");
    }
}
