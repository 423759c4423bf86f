//! The cheapest question to a Git host over HTTP: where do these references point?
//!
//! Protocol version 2 is stateless, so the one request that asks needs no greeting before it. The connection is kept for
//! the next question of the same kind. Whatever is not exactly the expected answer sends the caller back to the whole
//! conversation ([`Session`](super::session::Session)), which also words every error; a host that does not understand the
//! question is not asked it again by this worker. One that fails at it is asked in the long way next time (`pool/ways.rs`).

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use fleet_model::CommitId;
use sha2::Digest as _;

use super::Timeouts;
use super::classify;
use super::session::{ClientSettings, agent, header_safe};
use crate::error::GitError;
use crate::remote::{Remote, RemoteAuth};
use crate::secret::Secret;

/// A tag, its peeled target and nothing else fit many times.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// Clients that are kept; each holds idle connections.
const MAX_CLIENTS: usize = 16;

type Key = [u8; 32];

#[derive(Default)]
struct Known {
    clients: HashMap<Key, reqwest::blocking::Client>,
    /// URLs of hosts that do not answer the question.
    unfit: HashSet<String>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What the quick question gave.
pub(super) enum Quick {
    /// The commit that the first existing name points at, tags peeled.
    Commit(CommitId),
    /// Ask in the long way.
    AskProperly,
}

/// Asks where `names` point.
///
/// # Errors
/// When the settings of `remote` cannot be used at all, or the host asks for patience (429, 5xx).
pub(super) fn ask(remote: &Remote, names: &[String], timeouts: Timeouts) -> Result<Quick, GitError> {
    let url = remote.url.split(['?', '#']).next().unwrap_or_default();
    if url.len() < remote.url.len() || lock().unfit.contains(url) {
        return Ok(Quick::AskProperly);
    }
    let client = client(remote, timeouts)?;
    let mut request = client
        .post(format!("{}/git-upload-pack", url.trim_end_matches('/')))
        .header("Content-Type", "application/x-git-upload-pack-request")
        .header("Git-Protocol", "version=2")
        .body(question(names));
    match &remote.https.auth {
        RemoteAuth::Anonymous => {}
        RemoteAuth::Basic { username, password } => request = request.basic_auth(username, Some(password.expose())),
        RemoteAuth::Bearer { token } => request = request.bearer_auth(header_safe(token.expose(), "token")?),
    }
    // Failures of the network are worded by the long way, which meets them as well.
    let Ok(answer) = request.send() else { return Ok(Quick::AskProperly) };
    let status = answer.status();
    if status == reqwest::StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        // Asking again at once would make it worse.
        let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let only_quick = status.is_server_error() && wait.is_none();
        return Err(GitError { only_quick, ..classify::answered(status.as_u16(), &remote.display_url(), wait) });
    }
    let is_answer = answer
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-git-upload-pack-result"));
    let mut body = Vec::new();
    let is_whole = answer.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut body).is_ok_and(|n| n as u64 <= MAX_ANSWER_BYTES);
    match parse(&body, names).filter(|_| status.is_success() && is_answer && is_whole) {
        Some(commit) => Ok(Quick::Commit(commit)),
        None => {
            // Refused credentials and the like may be otherwise next time; an answer of another shape will not.
            if status.is_success() && !is_answer {
                let mut known = lock();
                if known.unfit.len() >= 1_000 {
                    known.unfit.clear();
                }
                known.unfit.insert(url.to_owned());
            }
            Ok(Quick::AskProperly)
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client for these settings. Connections are shared by requests with the very same settings only.
fn client(remote: &Remote, timeouts: Timeouts) -> Result<reqwest::blocking::Client, GitError> {
    let key = key_of(remote, timeouts);
    if let Some(client) = lock().clients.get(&key) {
        return Ok(client.clone());
    }
    let builder = reqwest::blocking::Client::builder()
        .user_agent(agent().1.unwrap_or_default())
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(std::time::Duration::from_secs(90))
        .pool_max_idle_per_host(2);
    let client = ClientSettings::of(remote, timeouts)?.apply(builder).build().map_err(|error| {
        GitError::other(format!("cannot make an HTTP client for {}: {error}", remote.display_url()))
    })?;
    let mut known = lock();
    if known.clients.len() >= MAX_CLIENTS {
        known.clients.clear();
    }
    known.clients.insert(key, client.clone());
    Ok(client)
}

/// A digest of everything that the connection depends on, so that no secret stays in memory for this.
fn key_of(remote: &Remote, timeouts: Timeouts) -> Key {
    let https = &remote.https;
    let mut hash = sha2::Sha256::new();
    let (user, secret) = match &https.auth {
        RemoteAuth::Anonymous => ("", ""),
        RemoteAuth::Basic { username, password } => (username.as_str(), password.expose()),
        RemoteAuth::Bearer { token } => ("\0bearer", token.expose()),
    };
    let authority: String = remote.url.split('/').take(3).collect::<Vec<_>>().join("/");
    let (ca, proxy) = (https.ca_pem.as_deref().unwrap_or_default(), https.proxy.as_deref().unwrap_or_default());
    let proxy_password = https.proxy_password.as_ref().map(Secret::expose).unwrap_or_default();
    let (certificate, key) = match &https.client_certificate {
        Some(pair) => (pair.certificate_pem.as_str(), pair.key_pem.expose()),
        None => ("", ""),
    };
    let skip = if https.skip_verify { "skip" } else { "" };
    for part in [authority.as_str(), user, secret, ca, proxy, proxy_password, certificate, key, skip] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(format!("{timeouts:?}").as_bytes());
    hash.finalize().into()
}

/// `ls-refs` for these names, in pkt-lines (gitprotocol-v2).
fn question(names: &[String]) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    let mut line = |text: &str| body.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
    line("command=ls-refs");
    body.extend_from_slice(b"0001");
    let mut line = |text: &str| body.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
    line("peel");
    for name in names {
        line(&format!("ref-prefix {name}"));
    }
    body.extend_from_slice(b"0000");
    body
}

/// The commit in an answer; `None` when it is not a whole and well-formed one, or has none of the names.
fn parse(mut body: &[u8], names: &[String]) -> Option<CommitId> {
    let mut found: HashMap<&str, &str> = HashMap::new();
    loop {
        let (length, rest) = body.split_at_checked(4)?;
        if !length.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
        if length == 0 {
            // Nothing may follow the flush.
            return if rest.is_empty() {
                names.iter().find_map(|name| found.get(name.as_str()))?.parse().ok()
            } else {
                None
            };
        }
        let (line, rest) = rest.split_at_checked(length.checked_sub(4)?)?;
        body = rest;
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.strip_suffix('\n').unwrap_or(line).split(' ');
        let (id, name) = (words.next()?, words.next()?);
        let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
        found.insert(name, peeled.unwrap_or(id));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn names() -> Vec<String> {
        vec!["refs/heads/main".to_owned(), "refs/tags/main".to_owned()]
    }

    fn answer(lines: &[&str]) -> Vec<u8> {
        let mut body = Vec::new();
        for line in lines {
            body.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes());
        }
        body.extend_from_slice(b"0000");
        body
    }

    #[test]
    fn the_question_is_what_the_protocol_says() {
        let text = String::from_utf8(question(&names())).unwrap();
        assert_eq!(
            text,
            "0014command=ls-refs\n00010009peel\n001fref-prefix refs/heads/main\n001eref-prefix refs/tags/main\n0000"
        );
    }

    #[test]
    fn branches_come_before_tags_and_tags_are_peeled() {
        let branch = format!("{ONE} refs/heads/main");
        let longer = format!("{TWO} refs/heads/main-2");
        let tag = format!("{ONE} refs/tags/main peeled:{TWO}");
        let commit = |lines: &[&str]| parse(&answer(lines), &names()).map(|id| id.to_string());
        assert_eq!(commit(&[&longer, &tag, &branch]).as_deref(), Some(ONE));
        assert_eq!(commit(&[&tag]).as_deref(), Some(TWO));
        assert_eq!(commit(&[&longer]), None);
        assert_eq!(commit(&[]), None);
    }

    #[test]
    fn an_answer_that_is_cut_or_goes_on_is_none() {
        let whole = answer(&[&format!("{ONE} refs/heads/main")]);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], &names()), None, "cut at {end}");
        }
        assert_eq!(parse(&[&whole[..], b"x"].concat(), &names()), None);
        assert_eq!(parse(b"0009ERR x", &names()), None);
        assert_eq!(parse("+004".as_bytes(), &names()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f ]{0,60}") {
            let _ = parse(&bytes, &names());
            let _ = parse(text.as_bytes(), &names());
        }
    }
}
