//! Reads `webhooks`: who may announce that repositories changed.

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;

use fleet_model::ResourceName;
use fleet_user_api::{Webhook, WebhookProvider, WebhookSecret};

use super::fields::Fields;
use super::read::read_secret;

/// Reads the list. `environment` looks a variable up.
pub(super) fn read_webhooks(
    root: &mut Fields,
    beside: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Vec<Webhook> {
    let mut names = BTreeSet::new();
    let items = root.sections("webhooks").into_iter();
    items.filter_map(|item| read_webhook(item, beside, environment, &mut names)).collect()
}

fn read_webhook(
    mut item: Fields,
    beside: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    names: &mut BTreeSet<String>,
) -> Option<Webhook> {
    let name = item.required_text("name");
    if !name.is_empty() {
        if let Err(error) = ResourceName::from_str(&name) {
            item.problem("name", error);
        }
        if !names.insert(name.clone()) {
            item.problem("name", format_args!("{name:?} is used by another webhook"));
        }
    }
    let kind = item.required_text("provider");
    let provider = (!kind.is_empty()).then(|| kind.parse::<WebhookProvider>());
    if let Some(Err(error)) = &provider {
        item.problem("provider", format_args!("{kind:?} {error}"));
    }
    let provider = provider.and_then(Result::ok);
    let secret = read_hook_secret(&mut item, beside, environment);
    let url_prefix = item.text("urlPrefix");
    let header = item.text("header");
    if let Some(header) = &header {
        if !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            item.problem("header", format_args!("{header:?} is no header's name"));
        }
        if provider.is_some_and(|kind| !matches!(kind, WebhookProvider::Azure | WebhookProvider::Generic)) {
            item.problem("header", "belongs to the providers azure and generic; this one's header is known");
        }
    }
    item.finish();
    // Header names are compared in lower case.
    let header = header.map(|header| header.to_ascii_lowercase());
    Some(Webhook { name, provider: provider?, secret: secret?, url_prefix, header })
}

fn read_hook_secret(
    item: &mut Fields,
    beside: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<WebhookSecret> {
    let (key, text) = match (item.text("secretFile"), item.text("secretEnv")) {
        (Some(_), Some(_)) => {
            item.problem("secretEnv", "secretFile is given too; use one of them");
            return None;
        }
        (None, None) => {
            item.problem(
                "secretFile",
                "is missing; or name an environment variable with secretEnv. There is no default",
            );
            return None;
        }
        (Some(file), None) => ("secretFile", read_secret(item, "secretFile", &beside.join(file))?),
        (None, Some(variable)) => match environment(&variable) {
            Some(text) if !text.is_empty() => ("secretEnv", text),
            Some(_) | None => {
                item.problem("secretEnv", format_args!("the environment variable {variable} is not set"));
                return None;
            }
        },
    };
    WebhookSecret::new(text).map_err(|error| item.problem(key, error)).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn read(text: &str) -> (Vec<Webhook>, Vec<String>) {
        let problems = Rc::new(RefCell::new(Vec::new()));
        let environment = |name: &str| match name {
            "HOOK" => Some("geheim-geheim-geheim".to_owned()),
            "SHORT" => Some("geheim".to_owned()),
            _ => None,
        };
        let mut root = Fields::new("", serde_yaml::from_str(text).unwrap(), &problems);
        let hooks = read_webhooks(&mut root, Path::new("/nowhere"), &environment);
        root.finish();
        let found = problems.borrow().clone();
        (hooks, found)
    }

    #[test]
    fn hooks_are_read_with_their_secrets() {
        let (hooks, problems) = read(
            "webhooks:\n- {name: hub, provider: github, secretEnv: HOOK, urlPrefix: 'https://github.com/acme/'}\n\
             - {name: other, provider: generic, secretEnv: HOOK, header: X-Signature}\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((hooks[0].name.as_str(), hooks[0].provider), ("hub", WebhookProvider::GitHub));
        assert_eq!(hooks[0].url_prefix.as_deref(), Some("https://github.com/acme/"));
        assert_eq!(hooks[1].header.as_deref(), Some("x-signature"));
        assert!(!format!("{hooks:?}").contains("geheim"));
    }

    #[test]
    fn all_that_is_wrong_with_hooks_is_told_at_once() {
        let (hooks, problems) = read(
            "webhooks:\n- {name: A b, provider: cvs, secretEnv: NONE}\n- {name: c, provider: github, header: X-Y, secretEnv: SHORT}\n\
             - {name: c, provider: azure, secretFile: x, secretEnv: HOOK, header: 'a b'}\n- {secret: inline}\n- {name: d, provider: gitea, secretFile: nothing}\n",
        );
        assert!(hooks.is_empty());
        for wanted in [
            "webhooks[0].name:",
            "webhooks[0].provider: \"cvs\" is not one of github",
            "webhooks[0].secretEnv: the environment variable NONE is not set",
            "webhooks[1].header: belongs to the providers azure and generic",
            "webhooks[1].secretEnv: the secret is shorter than 16 bytes",
            "webhooks[2].name: \"c\" is used by another webhook",
            "webhooks[2].secretEnv: secretFile is given too",
            "webhooks[2].header: \"a b\" is no header's name",
            "webhooks[3].name: is missing",
            "webhooks[3].provider: is missing",
            "webhooks[3].secretFile: is missing",
            "webhooks[3].secret: unknown key",
            "webhooks[4].secretFile: cannot read /nowhere/nothing",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(wanted)), "{wanted} is not in {problems:#?}");
        }
        assert!(!problems.iter().any(|problem| problem.contains("geheim")), "{problems:#?}");
    }
}
