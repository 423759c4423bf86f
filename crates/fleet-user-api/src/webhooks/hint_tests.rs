//! Bodies as the hosts send them, cut down to what is read and a little of what is not.

use axum::http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn read(pairs: &[(&str, &str)], body: &Value) -> Hint {
    Hint::read(&headers(pairs), body.to_string().as_bytes()).unwrap()
}

fn source(url: &str, revision: &str) -> SourcePlace {
    SourcePlace { name: "s".to_owned(), url: url.to_owned(), revision: revision.to_owned() }
}

#[track_caller]
fn concerns(hint: &Hint, url: &str, revision: &str) -> bool {
    match hint {
        Hint::Change(change) => change.concerns(&source(url, revision)),
        Hint::Ping | Hint::Other(_) => panic!("{hint:?} is no change"),
    }
}

fn github(name: &str) -> Value {
    json!({
        "ref": name, "before": "1".repeat(40), "after": "2".repeat(40), "created": false, "deleted": false,
        "repository": {
            "id": 1, "full_name": "Octo/fleet", "html_url": "https://github.com/Octo/fleet",
            "url": "https://api.github.com/repos/Octo/fleet", "git_url": "git://github.com/Octo/fleet.git",
            "ssh_url": "git@github.com:Octo/fleet.git", "clone_url": "https://github.com/Octo/fleet.git",
        },
        "pusher": {"name": "octo"}, "commits": [{"id": "2".repeat(40), "url": "https://github.com/evil/other"}],
    })
}

#[test]
fn every_host_names_repository_and_branch_in_its_own_way() {
    let gitea = json!({
        "ref": "refs/heads/main",
        "repository": {"html_url": "http://gitea.example:3000/ops/fleet", "ssh_url": "ssh://git@gitea.example:2222/ops/fleet.git",
            "clone_url": "http://gitea.example:3000/ops/fleet.git"},
    });
    let gitlab = json!({
        "object_kind": "push", "ref": "refs/heads/main",
        "project": {"web_url": "https://gitlab.example/a/b/fleet", "git_ssh_url": "git@gitlab.example:a/b/fleet.git",
            "git_http_url": "https://gitlab.example/a/b/fleet.git"},
        "repository": {"url": "git@gitlab.example:a/b/fleet.git"},
    });
    let system = json!({
        "event_name": "repository_update", "refs": ["refs/heads/main"],
        "changes": [{"before": "1", "after": "2", "ref": "refs/heads/main"}],
        "project": {"git_http_url": "https://gitlab.example/a/b/fleet.git"},
    });
    let cloud = json!({
        "push": {"changes": [{"new": {"type": "branch", "name": "main"}, "old": {"type": "branch", "name": "main"}}]},
        "repository": {"full_name": "team/fleet", "links": {"html": {"href": "https://bitbucket.org/team/fleet"},
            "self": {"href": "https://api.bitbucket.org/2.0/repositories/team/fleet"}}},
    });
    let center = json!({
        "eventKey": "repo:refs_changed",
        "repository": {"slug": "fleet", "project": {"key": "OPS"}},
        "changes": [{"ref": {"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"}, "type": "UPDATE"}],
    });
    let azure = json!({
        "eventType": "git.push",
        "resource": {"refUpdates": [{"name": "refs/heads/main"}],
            "repository": {"url": "https://dev.azure.com/org/_apis/git/repositories/4bc14d40",
                "remoteUrl": "https://dev.azure.com/org/Ops/_git/fleet"}},
    });
    let generic = json!({"url": "https://git.example/fleet.git", "ref": "main"});
    let push = github("refs/heads/main");
    for (event, body, urls) in [
        (("x-github-event", "push"), &push, &["https://github.com/octo/fleet", "git@github.com:octo/fleet.git"][..]),
        (
            ("x-gitea-event", "push"),
            &gitea,
            &["http://gitea.example:3000/ops/fleet.git", "git@gitea.example:ops/fleet"],
        ),
        (("x-forgejo-event", "push"), &gitea, &["ssh://git@gitea.example:2222/ops/fleet.git"]),
        (
            ("x-gitlab-event", "Push Hook"),
            &gitlab,
            &["https://gitlab.example/a/b/fleet", "git@gitlab.example:a/b/fleet"],
        ),
        (("x-gitlab-event", "System Hook"), &system, &["https://gitlab.example/a/b/fleet"]),
        (
            ("x-event-key", "repo:push"),
            &cloud,
            &["https://bitbucket.org/team/fleet.git", "git@bitbucket.org:team/fleet.git"],
        ),
        (
            ("x-event-key", "repo:refs_changed"),
            &center,
            &[
                "https://bb.example/scm/ops/fleet.git",
                "ssh://git@bb.example:7999/ops/fleet.git",
                "https://x/bb/scm/ops/fleet",
            ],
        ),
        (
            ("x-none", "x"),
            &azure,
            &["https://dev.azure.com/org/Ops/_git/fleet", "git@ssh.dev.azure.com:v3/org/Ops/fleet"],
        ),
        (("x-none", "x"), &generic, &["https://git.example/fleet"]),
    ] {
        let hint = read(&[event], body);
        for url in urls {
            assert!(concerns(&hint, url, "main"), "{event:?} {url}");
            assert!(concerns(&hint, url, "refs/heads/main"), "{event:?} {url}");
            assert!(!concerns(&hint, url, "release"), "{event:?} {url}");
            assert!(!concerns(&hint, url, &"2".repeat(40)), "a commit does not move");
            assert!(!concerns(&hint, &format!("{url}2"), "main"), "{event:?} {url}");
        }
        assert!(!concerns(&hint, "https://github.com/evil/other", "main"));
    }
}

#[test]
fn branches_tags_and_short_names_are_matched() {
    let url = "https://github.com/octo/fleet";
    for (name, revision, follows) in [
        ("refs/heads/main", "HEAD", true),
        ("refs/heads/a/b", "a/b", true),
        ("refs/heads/a/b", "b", false),
        ("refs/tags/v1", "v1", true),
        ("refs/tags/v1", "refs/heads/v1", false),
        ("refs/tags/v1", "refs/tags/v1", true),
        ("v1", "refs/tags/v1", true),
        ("main", "main", true),
        ("main2", "main", false),
    ] {
        assert_eq!(concerns(&read(&[], &github(name)), url, revision), follows, "{name} {revision}");
    }
    let mut without = github("");
    without.as_object_mut().unwrap().remove("ref");
    assert!(concerns(&read(&[], &without), url, "anything"), "which ref changed is not known");
}

#[test]
fn a_ref_that_is_gone_wakes_those_who_follow_it() {
    let mut body = github("refs/heads/main");
    body["deleted"] = true.into();
    body["after"] = "0".repeat(40).into();
    let hint = read(&[("x-github-event", "push")], &body);
    assert!(concerns(&hint, "https://github.com/octo/fleet", "main"));
    assert!(!concerns(&hint, "https://github.com/octo/fleet", "release"));
    let cloud = json!({
        "push": {"changes": [{"new": null, "old": {"type": "branch", "name": "gone"}}]},
        "repository": {"links": {"html": {"href": "https://bitbucket.org/team/fleet"}}},
    });
    let hint = read(&[("x-event-key", "repo:push")], &cloud);
    assert!(concerns(&hint, "https://bitbucket.org/team/fleet", "gone"));
    assert!(!concerns(&hint, "https://bitbucket.org/team/fleet", "main"));
}

#[test]
fn pings_and_other_events_wake_nobody() {
    for (header, value) in [("x-github-event", "ping"), ("x-event-key", "diagnostics:ping")] {
        assert_eq!(Hint::read(&headers(&[(header, value)]), b"whatever"), Ok(Hint::Ping));
    }
    for (header, value) in [("x-github-event", "issues"), ("x-gitlab-event", "Note Hook"), ("x-event-key", "pr:opened")]
    {
        assert_eq!(read(&[(header, value)], &github("refs/heads/main")), Hint::Other(NO_PUSH));
    }
    assert_eq!(read(&[], &json!({"eventType": "workitem.created"})), Hint::Other(NO_PUSH));
    for odd in [json!({}), json!([]), json!(null), json!({"ref": 7}), json!({"repository": {"clone_url": ["x"]}})] {
        assert!(matches!(read(&[("x-github-event", "push")], &odd), Hint::Other(_)), "{odd}");
    }
}

#[test]
fn forms_hold_json_in_their_payload() {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("x", "y")
        .append_pair("payload", &github("refs/heads/main").to_string())
        .finish();
    let form = headers(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")]);
    assert!(concerns(&Hint::read(&form, body.as_bytes()).unwrap(), "https://github.com/octo/fleet", "main"));
    let problem = Hint::read(&form, b"a=b").unwrap_err();
    assert!(problem.contains("payload"), "{problem}");
    assert!(Hint::read(&headers(&[]), body.as_bytes()).unwrap_err().contains("not JSON"));
}

#[test]
fn more_refs_than_anybody_pushes_are_any_ref() {
    let updates: Vec<Value> = (0..5_000).map(|n| json!({"name": format!("refs/heads/{n}")})).collect();
    let body = json!({"resource": {"refUpdates": updates, "repository": {"remoteUrl": "https://git.example/x/fleet"}}});
    assert!(concerns(&read(&[], &body), "https://git.example/x/fleet", "main"));
}

#[test]
fn deep_and_giant_bodies_are_refused_or_read() {
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert!(Hint::read(&headers(&[]), deep.as_bytes()).is_err());
    let mut giant = github("refs/heads/main");
    giant["commits"] = Value::Array(vec![json!({"message": "x".repeat(1_000)}); 1_000]);
    assert!(concerns(&read(&[], &giant), "https://github.com/octo/fleet", "main"));
}

/// Any JSON whose keys are those that are looked at.
fn odd_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("https://git.example/a/b.git")),
        Just(Value::from("refs/heads/main")),
    ];
    let key = proptest::sample::select(
        [
            "ref",
            "repository",
            "project",
            "links",
            "clone",
            "href",
            "html",
            "self",
            "push",
            "changes",
            "new",
            "old",
            "name",
            "resource",
            "refUpdates",
            "remoteUrl",
            "url",
            "clone_url",
            "key",
            "slug",
            "eventType",
        ]
        .as_slice(),
    );
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(body in any::<Vec<u8>>(), text in "\\PC{0,200}", form in any::<bool>()) {
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let headers = headers(&[("content-type", kind)]);
        let _ = Hint::read(&headers, &body);
        let _ = Hint::read(&headers, text.as_bytes());
        let _ = Hint::read(&headers, format!("payload={text}").as_bytes());
    }

    #[test]
    fn no_json_makes_it_panic(body in odd_json(), url in "\\PC{0,30}", revision in "\\PC{0,20}") {
        if let Hint::Change(change) = Hint::read(&headers(&[]), body.to_string().as_bytes()).unwrap() {
            change.concerns(&source(&url, &revision));
            change.concerns(&source("https://git.example/a/b", "main"));
        }
    }
}

#[test]
fn a_pull_request_wakes_the_sources_of_the_branch_that_it_is_for() {
    let source = |revision: &str| SourcePlace {
        name: "main".to_owned(),
        url: "https://git.test/acme/fleet.git".to_owned(),
        revision: revision.to_owned(),
    };
    let hub = json!({
        "action": "synchronize",
        "number": 5,
        "pull_request": {"head": {"ref": "topic", "sha": "1"}, "base": {"ref": "main"}},
        "repository": {"clone_url": "https://git.test/acme/fleet.git"},
    });
    let lab = json!({
        "object_kind": "merge_request",
        "project": {"git_http_url": "https://git.test/acme/fleet.git"},
        "object_attributes": {"iid": 5, "target_branch": "main", "source_branch": "topic"},
    });
    for (header, event, body) in [
        ("x-github-event", "pull_request", &hub),
        ("x-gitea-event", "pull_request", &hub),
        ("x-forgejo-event", "pull_request_sync", &hub),
        ("x-gitlab-event", "Merge Request Hook", &lab),
    ] {
        let Hint::Change(change) = read(&[(header, event)], body) else { panic!("{event} is a hint") };
        assert!(change.concerns(&source("main")) && !change.concerns(&source("topic")), "{event}");
    }
}
