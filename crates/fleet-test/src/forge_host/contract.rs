//! What the documentation of each forge says about a request.

use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{Flavor, OURSELVES, Posted, Pull, Reply, SetStatus, State, message, reply};

/// A request.
pub(super) struct Call<'a> {
    pub(super) flavor: Flavor,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// Answers a request; one that the documentation does not have is noted.
pub(super) fn carry_out(state: &mut State, call: &Call<'_>, body: &[u8]) -> Reply {
    if let Err(problem) = headers(call, body) {
        return violation(state, call, &problem);
    }
    if !is_let_in(state, call) {
        return message(401, "Bad credentials");
    }
    let (path, query) = call.target.split_once('?').unwrap_or((call.target, ""));
    let below = match call.flavor {
        Flavor::GitHub => Some(path),
        Flavor::GitLab => path.strip_prefix("/api/v4"),
        Flavor::Gitea => path.strip_prefix("/api/v1"),
    };
    let Some(below) = below else { return violation(state, call, "not below the API's root") };
    let query: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap_or(Value::Null) };
    let segments: Vec<&str> = below.trim_start_matches('/').split('/').collect();
    match (call.flavor, call.method, segments.as_slice()) {
        (_, "GET", ["user"]) if query.is_empty() => match state.has_user {
            true => reply(200, json!({"id": OURSELVES, "login": "fleet-bot", "username": "fleet-bot"})),
            false => message(403, "Resource not accessible by integration"),
        },
        (Flavor::GitHub | Flavor::Gitea, method, ["repos", owner, name, rest @ ..]) => {
            let repository = format!("{owner}/{name}");
            match (method, rest) {
                _ if !state.repositories.contains(&repository) => message(404, "Not Found"),
                ("POST", ["statuses", commit]) => status(state, call, &repository, commit, &body),
                ("GET", ["pulls"]) => pulls(state, call, &query),
                ("GET", ["issues", number, "comments"]) => comments(state, call, number, &query),
                ("POST", ["issues", number, "comments"]) => post(state, call, number, &body),
                ("PATCH", ["issues", "comments", id]) => edit(state, call, None, id, &body),
                (_, _) => violation(state, call, "no such method and path"),
            }
        }
        (Flavor::GitLab, method, ["projects", id, rest @ ..]) => {
            let repository = id.replace("%2F", "/");
            match (method, rest) {
                _ if !state.repositories.contains(&repository) => message(404, "404 Project Not Found"),
                ("POST", ["statuses", commit]) => status(state, call, &repository, commit, &body),
                ("GET", ["merge_requests"]) => pulls(state, call, &query),
                ("GET", ["merge_requests", number, "notes"]) => comments(state, call, number, &query),
                ("POST", ["merge_requests", number, "notes"]) => post(state, call, number, &body),
                ("PUT", ["merge_requests", number, "notes", id]) => edit(state, call, Some(number), id, &body),
                (_, _) => violation(state, call, "no such method and path"),
            }
        }
        (_, _, _) => violation(state, call, "no such method and path"),
    }
}

fn violation(state: &mut State, call: &Call<'_>, problem: &str) -> Reply {
    let told = format!("{} {}: {problem}", call.method, call.target);
    state.violations.push(told.clone());
    message(400, &told)
}

fn header<'a>(call: &'a Call<'_>, name: &str) -> Option<&'a str> {
    call.headers.get(name).and_then(|value| value.to_str().ok())
}

fn headers(call: &Call<'_>, body: &[u8]) -> Result<(), String> {
    if header(call, "user-agent").is_none_or(str::is_empty) {
        return Err("no User-Agent".to_owned());
    }
    if !body.is_empty() {
        if header(call, "content-type") != Some("application/json") {
            return Err("a body that is not application/json".to_owned());
        }
        serde_json::from_slice::<Map<String, Value>>(body).map_err(|error| format!("the body: {error}"))?;
    }
    if call.flavor == Flavor::GitHub
        && (header(call, "accept") != Some("application/vnd.github+json")
            || header(call, "x-github-api-version") != Some("2022-11-28"))
    {
        return Err("not the documented Accept and X-GitHub-Api-Version".to_owned());
    }
    Ok(())
}

fn is_let_in(state: &State, call: &Call<'_>) -> bool {
    let (name, wanted) = match call.flavor {
        Flavor::GitHub => ("authorization", format!("Bearer {}", state.token)),
        Flavor::GitLab => ("private-token", state.token.clone()),
        Flavor::Gitea => ("authorization", format!("token {}", state.token)),
    };
    header(call, name) == Some(&wanted)
}

fn unknown_field<'a>(body: &'a Value, known: &[&str]) -> Option<&'a str> {
    let fields = body.as_object()?;
    fields.keys().map(String::as_str).find(|key| !known.contains(key))
}

fn status(state: &mut State, call: &Call<'_>, repository: &str, commit: &str, body: &Value) -> Reply {
    if commit.len() != 40 || !commit.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return violation(state, call, "no commit id of 40 digits");
    }
    let known: &[&str] = match call.flavor {
        Flavor::GitHub | Flavor::Gitea => &["state", "target_url", "description", "context"],
        Flavor::GitLab => &["state", "target_url", "description", "context", "name", "ref", "coverage", "pipeline_id"],
    };
    if let Some(field) = unknown_field(body, known) {
        return violation(state, call, &format!("unknown field {field}"));
    }
    let states: &[&str] = match call.flavor {
        Flavor::GitHub => &["error", "failure", "pending", "success"],
        Flavor::Gitea => &["error", "failure", "pending", "success", "warning"],
        Flavor::GitLab => &["pending", "running", "success", "failed", "canceled", "skipped"],
    };
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some(word) = text("state").filter(|word| states.contains(&word.as_str())) else {
        return violation(state, call, &format!("state {:?} is none of {states:?}", body.get("state")));
    };
    let description = text("description").unwrap_or_default();
    let most = if call.flavor == Flavor::GitLab { 255 } else { 140 };
    if description.chars().count() > most {
        return violation(state, call, "the description is too long");
    }
    let target_url = text("target_url");
    if target_url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return violation(state, call, "target_url is no URL");
    }
    if state.unknown_commits.iter().any(|unknown| unknown == commit) {
        return match call.flavor {
            Flavor::GitHub => message(422, &format!("No commit found for SHA: {commit}")),
            Flavor::GitLab => message(404, "404 Commit Not Found"),
            Flavor::Gitea => message(404, "object does not exist"),
        };
    }
    let context = text("context").unwrap_or_else(|| "default".to_owned());
    let is_same = |old: &&SetStatus| (old.commit.as_str(), &old.context) == (commit, &context);
    let before = state.statuses.iter().rev().find(is_same);
    let is_running = |word: &str| matches!(word, "pending" | "running");
    if call.flavor == Flavor::GitLab && before.is_some_and(|old| old.state == word && is_running(&word)) {
        let text = format!("Cannot transition status via :enqueue from :{word} (Reason(s): Status cannot transition)");
        return message(400, &text);
    }
    let repository = repository.to_owned();
    let set =
        SetStatus { repository, commit: commit.to_owned(), context, state: word.clone(), description, target_url };
    state.statuses.push(set);
    reply(201, json!({"id": state.statuses.len(), "state": word, "status": word}))
}

/// One page, and a `Link` header when there are more.
fn page(call: &Call<'_>, query: &[(&str, &str)], items: Vec<Value>, least_page: usize) -> Reply {
    let number = |name: &str| query.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok());
    let per_page: usize = number(if call.flavor == Flavor::Gitea { "limit" } else { "per_page" }).unwrap_or(least_page);
    let most = if call.flavor == Flavor::Gitea { 50 } else { 100 };
    let (page, per_page): (usize, usize) = (number("page").unwrap_or(1).max(1), per_page.clamp(1, most));
    let from = (page - 1) * per_page;
    let is_more = items.len() > from + per_page;
    let mut reply = reply(200, Value::Array(items.into_iter().skip(from).take(per_page).collect()));
    if is_more {
        let link =
            format!("<http://other.test/?page={}>; rel=\"next\", <http://other.test/?page=99>; rel=\"last\"", page + 1);
        reply.headers.push(("link", link));
    }
    reply
}

fn pulls(state: &mut State, call: &Call<'_>, query: &[(&str, &str)]) -> Reply {
    let known: &[&str] = match call.flavor {
        Flavor::GitHub => &["state", "head", "base", "sort", "direction", "per_page", "page"],
        Flavor::GitLab => &["state", "target_branch", "order_by", "sort", "per_page", "page"],
        Flavor::Gitea => &["state", "sort", "milestone", "labels", "page", "limit"],
    };
    let open = if call.flavor == Flavor::GitLab { "opened" } else { "open" };
    if query.iter().any(|(key, value)| !known.contains(key) || (*key == "state" && *value != open)) {
        return violation(state, call, "a query that is not documented");
    }
    let base = query.iter().find(|(key, _)| matches!(*key, "base" | "target_branch")).map(|(_, value)| *value);
    let matching = state.pulls.iter().filter(|pull| base.is_none_or(|base| base.replace("%2F", "/") == pull.base));
    let show = |pull: &Pull| match call.flavor {
        Flavor::GitHub | Flavor::Gitea => {
            json!({"number": pull.number, "state": "open", "head": {"sha": pull.head, "ref": "topic"}, "base": {"ref": pull.base}})
        }
        Flavor::GitLab => json!({"iid": pull.number, "state": "opened", "sha": pull.head, "target_branch": pull.base}),
    };
    let items = matching.map(show).collect();
    page(call, query, items, 30)
}

fn comments(state: &mut State, call: &Call<'_>, number: &str, query: &[(&str, &str)]) -> Reply {
    let Some(found) = number.parse().ok().and_then(|number: u64| state.comments.get(&number)) else {
        return message(404, "Not Found");
    };
    let show = |posted: &Posted| {
        let who = json!({"id": posted.author, "login": "somebody"});
        let key = if call.flavor == Flavor::GitLab { "author" } else { "user" };
        json!({"id": posted.id, key: who, "body": posted.body})
    };
    let items: Vec<Value> = found.iter().map(show).collect();
    match call.flavor {
        // Gitea gives all comments of an issue at once.
        Flavor::Gitea => reply(200, Value::Array(items)),
        Flavor::GitHub | Flavor::GitLab => page(call, query, items, 30),
    }
}

fn text(state: &mut State, call: &Call<'_>, body: &Value) -> Result<String, Reply> {
    let text = body.get("body").and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= 65_536);
    match (text, unknown_field(body, &["body"])) {
        (Some(text), None) => Ok(text.to_owned()),
        (_, _) => Err(violation(state, call, "not the one field `body` with a text of bounded size")),
    }
}

fn post(state: &mut State, call: &Call<'_>, number: &str, body: &Value) -> Reply {
    let body = match text(state, call, body) {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    state.next_id += 1;
    let id = state.next_id;
    match number.parse().ok().and_then(|number: u64| state.comments.get_mut(&number)) {
        Some(comments) => comments.push(Posted { id, author: OURSELVES, body }),
        None => return message(404, "Not Found"),
    }
    reply(201, json!({"id": id}))
}

fn edit(state: &mut State, call: &Call<'_>, number: Option<&str>, id: &str, body: &Value) -> Reply {
    let body = match text(state, call, body) {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let id: u64 = id.parse().unwrap_or(0);
    let number: Option<u64> = number.and_then(|number| number.parse().ok());
    let all = state.comments.iter_mut().filter(|(of, _)| number.is_none_or(|number| **of == number));
    match all.flat_map(|(_, comments)| comments).find(|posted| posted.id == id) {
        None => message(404, "Not Found"),
        Some(posted) if posted.author != OURSELVES => message(403, "Must have admin rights"),
        Some(posted) => {
            posted.body = body;
            reply(200, json!({"id": id}))
        }
    }
}
