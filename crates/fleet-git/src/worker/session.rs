//! A conversation with a Git host: transport, handshake, references.

use std::sync::{Arc, Mutex};

use fleet_model::CommitId;
use gix::protocol::handshake::Ref;
use gix::protocol::ls_refs::RefPrefixes;
use gix::protocol::transport::client::blocking_io::{Transport, connect, http};
use gix::protocol::transport::{Protocol, Service};
use gix::protocol::{Handshake, LsRefsCommand};
use zeroize::Zeroizing;

use super::Timeouts;
use super::activity::Activity;
use super::classify::{self, Where};
use super::quick::{self, Quick};
use super::ssh::{self, Sharing};
use super::upload_pack::UploadPack;
use crate::error::{GitError, GitErrorKind};
use crate::remote::{Location, Remote, RemoteAuth, redact_url};
use crate::revision::Revision;
use crate::secret::Secret;

/// An open conversation.
pub(super) struct Session {
    pub(super) transport: Box<dyn Transport + Send>,
    pub(super) handshake: Handshake,
    url: String,
    // After `transport`, so that the pipe closes before the process is killed.
    upload_pack: Option<UploadPack>,
}

/// How we introduce ourselves in the protocol.
pub(super) fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(concat!("shorebase/", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// The commit that `revision` points at on the host; with `long_way` without the quick question.
pub(super) fn observe(
    remote: &Remote,
    revision: &str,
    long_way: bool,
    timeouts: Timeouts,
    activity: &Activity,
) -> Result<CommitId, GitError> {
    let revision = Revision::parse(revision)?;
    let location = remote.location()?;
    let names = match revision {
        Revision::Commit(id) => return Ok(id),
        Revision::Refs(names) => names,
    };
    if location == Location::Http
        && !long_way
        && let Quick::Commit(commit) = quick::ask(remote, &names, timeouts)?
    {
        return Ok(commit);
    }
    let id = match ask(Sharing::Questions, remote, &names, timeouts, activity) {
        Err(Unanswered::Stale(_)) => ask(Sharing::Never, remote, &names, timeouts, activity),
        result => result,
    };
    let id = id.map_err(Unanswered::into_error)?;
    id.to_string().parse().map_err(|error| GitError::other(format!("{error}")))
}

/// One question.
fn ask(
    sharing: Sharing,
    remote: &Remote,
    names: &[String],
    timeouts: Timeouts,
    activity: &Activity,
) -> Result<gix::ObjectId, Unanswered> {
    let mut session = Session::open_for(sharing, remote, timeouts, activity)?;
    let id = session.resolve(names, activity)?;
    session.close();
    Ok(id)
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// The connection that was to be shared is of no use.
    Stale(GitError),
    Failed(GitError),
}

impl Unanswered {
    pub(super) fn into_error(self) -> GitError {
        let (Self::Stale(error) | Self::Failed(error)) = self;
        error
    }
}

impl From<GitError> for Unanswered {
    fn from(error: GitError) -> Self {
        Self::Failed(error)
    }
}

impl Session {
    /// Connects and shakes hands.
    pub(super) fn open(remote: &Remote, timeouts: Timeouts, activity: &Activity) -> Result<Self, GitError> {
        Self::open_for(Sharing::Never, remote, timeouts, activity).map_err(Unanswered::into_error)
    }

    fn open_for(
        sharing: Sharing,
        remote: &Remote,
        timeouts: Timeouts,
        activity: &Activity,
    ) -> Result<Self, Unanswered> {
        let url = remote.display_url();
        let (mut transport, mut upload_pack) = match remote.location()? {
            Location::Local(path) => {
                let (upload_pack, transport) = UploadPack::start(&path, activity)?;
                (transport, Some(upload_pack))
            }
            Location::Ssh(target) => {
                let (child, transport) = UploadPack::over_ssh(&target, &remote.ssh, sharing, timeouts, &url, activity)?;
                (transport, Some(child))
            }
            Location::Daemon { host, port, path } => {
                (UploadPack::from_daemon(&host, port, &path, timeouts, activity)?, None)
            }
            Location::Http => (http_transport(remote, timeouts)?, None),
        };
        let mut asked_by = None;
        let result = gix::protocol::handshake(
            &mut transport,
            Service::UploadPack,
            |action| {
                // Ours went with the first request, to the host that they are for; nobody else gets any.
                let asking = action.context().and_then(|context| context.url.clone()).unwrap_or_default();
                asked_by = Some(redact_url(&asking.to_string()));
                Ok(None)
            },
            Vec::new(),
            &mut activity.clone(),
        );
        let handshake = result.map_err(|error| {
            if let Some(asked_by) = &asked_by {
                return Unanswered::Failed(classify::credentials_refused(remote, asked_by));
            }
            unanswered(classify::network(&error, &url, Where::Handshake), &url, upload_pack.as_mut())
        })?;
        Ok(Self { transport, handshake, url, upload_pack })
    }

    /// The commit (tags peeled) of the first of `names` that exists on the host.
    ///
    /// With protocol version 2 only these names are asked for, whatever the number of references.
    pub(super) fn resolve(&mut self, names: &[String], activity: &Activity) -> Result<gix::ObjectId, Unanswered> {
        let refs = match (self.handshake.server_protocol_version, self.handshake.refs.take()) {
            (Protocol::V0 | Protocol::V1, refs) => refs.unwrap_or_default(),
            (Protocol::V2, _) => {
                let mut prefixes = RefPrefixes::new();
                prefixes.extend(names.iter().map(|name| name.as_str().into()));
                LsRefsCommand::new(Some(prefixes), &self.handshake.capabilities, agent())
                    .invoke_blocking(&mut self.transport, &mut activity.clone(), false)
                    .map_err(|error| {
                        let error = classify::network(&error, &self.url, Where::ListRefs);
                        unanswered(error, &self.url, self.upload_pack.as_mut())
                    })?
            }
        };
        names.iter().find_map(|name| refs.iter().find_map(|found| target(found, name))).ok_or_else(|| {
            GitError::new(GitErrorKind::RefMissing, format!("{} has no {}", self.url, names.join(" and no "))).into()
        })
    }

    /// What went wrong while a pack was received.
    pub(super) fn receive_error(&mut self, error: &gix::Error) -> GitError {
        with_last_words(classify::network(error, &self.url, Where::Receive), &self.url, self.upload_pack.as_mut()).0
    }

    /// Says goodbye, which lets a local `git upload-pack` end by itself.
    pub(super) fn close(mut self) {
        // The answer is complete; a host that is gone already does not change it.
        let _ = gix::protocol::indicate_end_of_interaction(&mut self.transport, false);
    }
}

/// What a question failed with. The connection that it was asked over is not joined again then, unless the server refused
/// it by name, which it would do over any other.
fn unanswered(error: GitError, url: &str, mut upload_pack: Option<&mut UploadPack>) -> Unanswered {
    let (error, is_known) = with_last_words(error, url, upload_pack.as_deref_mut());
    if !is_known && upload_pack.is_some_and(|child| child.give_up_connection()) {
        return Unanswered::Stale(error);
    }
    Unanswered::Failed(error)
}

/// The error with what the child said at its end, and whether that is something known.
fn with_last_words(error: GitError, url: &str, upload_pack: Option<&mut UploadPack>) -> (GitError, bool) {
    let is_ssh = upload_pack.as_ref().is_some_and(|child| child.is_ssh());
    let words = upload_pack.map(UploadPack::last_words).unwrap_or_default();
    if words.is_empty() {
        return (error, false);
    }
    if is_ssh
        && !ssh::shared::are_own(&words)
        && let Some(known) = ssh::verdict(&words, url)
    {
        return (known, true);
    }
    let kind = if error.kind == GitErrorKind::Other { GitErrorKind::HostUnreachable } else { error.kind };
    let words: String = words.chars().filter(|c| !c.is_control() || *c == '\n').take(400).collect();
    (GitError::new(kind, format!("{}; git says: {}", error.message, words.replace('\n', " "))), false)
}

fn target(found: &Ref, name: &str) -> Option<gix::ObjectId> {
    let (full_name, target, peeled) = found.unpack();
    if full_name == name { peeled.or(target).map(ToOwned::to_owned) } else { None }
}

fn http_transport(remote: &Remote, timeouts: Timeouts) -> Result<Box<dyn Transport + Send>, GitError> {
    let url = remote.display_url();
    let settings = Arc::new(ClientSettings::of(remote, timeouts)?);
    let options = http::Options {
        extra_headers: match &remote.https.auth {
            RemoteAuth::Bearer { token } => {
                vec![format!("Authorization: Bearer {}", header_safe(token.expose(), "token")?)]
            }
            RemoteAuth::Anonymous | RemoteAuth::Basic { .. } => Vec::new(),
        },
        // One redirect of the first request is followed; gix forgets the identity when it leads to another authority.
        // It knows nothing of client certificates, which belong to their host alone.
        follow_redirects: match &remote.https.client_certificate {
            None => http::options::FollowRedirects::Initial,
            Some(_) => http::options::FollowRedirects::None,
        },
        backend: Some(Arc::new(Mutex::new(http::reqwest::Options {
            configure_client: Some(Box::new(move |builder| Ok(settings.apply(builder)))),
            configure_request: None,
        }))),
        ..http::Options::default()
    };
    let mut transport = connect::connect(
        remote.url.as_str(),
        connect::Options { version: Protocol::V2, ..connect::Options::default() },
    )
    .map_err(|error| classify::network(&error, &url, Where::Handshake))?;
    transport.configure(&options).map_err(|error| classify::network(&error, &url, Where::Handshake))?;
    if let RemoteAuth::Basic { username, password } = &remote.https.auth {
        let identity = gix::sec::identity::Account {
            username: username.clone(),
            password: password.expose().to_owned(),
            oauth_refresh_token: None,
        };
        transport
            .set_identity(identity)
            .map_err(|error| GitError::other(format!("cannot use the credentials for {url}: {error}")))?;
    }
    Ok(transport)
}

pub(super) fn header_safe<'a>(text: &'a str, what: &str) -> Result<&'a str, GitError> {
    if text.is_empty() || text.bytes().any(|b| !(0x21..=0x7e).contains(&b)) {
        return Err(GitError::new(
            GitErrorKind::AuthFailed,
            format!("the {what} is empty or holds spaces, line breaks or other characters that a header cannot carry"),
        ));
    }
    Ok(text)
}

/// What the HTTP client needs beyond gix' own settings.
pub(super) struct ClientSettings {
    certificates: Option<Vec<reqwest::Certificate>>,
    identity: Option<reqwest::Identity>,
    proxy: Option<reqwest::Proxy>,
    skip_verify: bool,
    timeouts: Timeouts,
}

impl ClientSettings {
    pub(super) fn of(remote: &Remote, timeouts: Timeouts) -> Result<Self, GitError> {
        let bad = |what: &str, why: String| {
            GitError::other(format!("cannot use the {what} of {}: {why}", remote.display_url()))
        };
        let certificates = match &remote.https.ca_pem {
            Some(pem) => {
                let found = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                    .map_err(|error| bad("CA", error.to_string()))?;
                if found.is_empty() {
                    return Err(bad("CA", "there is no PEM certificate in it".to_owned()));
                }
                Some(found)
            }
            None => None,
        };
        let proxy = match &remote.https.proxy {
            Some(url) => Some(
                proxy(url, remote.https.proxy_password.as_ref())
                    .ok_or_else(|| bad("proxy", "it is not a URL such as http://proxy.example:3128".to_owned()))?,
            ),
            None => None,
        };
        let identity = match &remote.https.client_certificate {
            Some(pair) => {
                let pem = Zeroizing::new(format!("{}\n{}", pair.certificate_pem, pair.key_pem.expose()));
                // Its words could quote parts of the key.
                let read = reqwest::Identity::from_pem(pem.as_bytes()).map_err(|_| {
                    bad("client certificate", "it or the key to it is not PEM, or one is missing".to_owned())
                })?;
                Some(read)
            }
            None => None,
        };
        Ok(Self { certificates, identity, proxy, skip_verify: remote.https.skip_verify, timeouts })
    }

    pub(super) fn apply(&self, builder: reqwest::blocking::ClientBuilder) -> reqwest::blocking::ClientBuilder {
        let mut builder = builder.connect_timeout(self.timeouts.connect).timeout(self.timeouts.no_progress);
        if let Some(certificates) = &self.certificates {
            builder = builder.tls_certs_only(certificates.iter().cloned());
        }
        if self.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        match &self.proxy {
            Some(proxy) => builder.no_proxy().proxy(proxy.clone()),
            None => builder,
        }
    }
}

/// A proxy for all requests; `None` when `url` is not one of `http` or `https` with a host.
fn proxy(url: &str, password: Option<&Secret>) -> Option<reqwest::Proxy> {
    let mut url = reqwest::Url::parse(url).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if let Some(password) = password {
        // Escapes what has a meaning in URLs; reqwest undoes that for the header.
        url.set_password(Some(password.expose())).ok()?;
    }
    reqwest::Proxy::all(url).ok()
}
