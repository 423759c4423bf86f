//! The parts of the REST APIs of GitHub, GitLab and Gitea that tell of commits and pull requests, as they are documented: no
//! real forge can be installed where these tests run. It is strict: a method, path, header, field, word or size that the
//! documentation does not have is answered with an error *and* fails the test when the host is dropped.
//!
//! Sources: docs.github.com/rest (commits/statuses, pulls, issues/comments, users), docs.gitlab.com/api (commits,
//! merge_requests, notes, users), Gitea's swagger (repoCreateStatus, repoListPullRequests, issue comments, userGetCurrent).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::response::Response;
use serde_json::{Value, json};

mod contract;

/// Which forge it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// GitHub, below `/`.
    GitHub,
    /// GitLab, below `/api/v4`.
    GitLab,
    /// Gitea and Forgejo, below `/api/v1`.
    Gitea,
}

/// A status that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// `owner/name`.
    pub repository: String,
    /// The commit.
    pub commit: String,
    /// What it is about.
    pub context: String,
    /// The forge's word.
    pub state: String,
    /// One line.
    pub description: String,
    /// Where people read more.
    pub target_url: Option<String>,
}

/// A comment of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its id.
    pub id: u64,
    /// The id of its author; ours is [`OURSELVES`].
    pub author: u64,
    /// Its text.
    pub body: String,
}

/// The id of the token's user.
pub const OURSELVES: u64 = 7;

/// An answer in place of the right one.
#[derive(Debug, Clone)]
pub enum Failure {
    /// A status, headers and the field `message`.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The request is carried out, and its answer comes so late that nobody waits for it.
    Late(Duration),
}

#[derive(Debug, Clone)]
struct Pull {
    number: u64,
    head: String,
    base: String,
}

#[derive(Debug, Default)]
struct State {
    token: String,
    repositories: Vec<String>,
    unknown_commits: Vec<String>,
    statuses: Vec<SetStatus>,
    pulls: Vec<Pull>,
    comments: BTreeMap<u64, Vec<Posted>>,
    next_id: u64,
    has_user: bool,
    failures: VecDeque<Failure>,
    status_failures: VecDeque<Failure>,
    away: Option<Failure>,
    requests: Vec<(Instant, String)>,
    violations: Vec<String>,
}

/// A forge on the loopback.
#[derive(Debug)]
pub struct ForgeHost {
    flavor: Flavor,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// There until it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl ForgeHost {
    /// Starts a forge with a repository `acme/fleet` and one token that may do everything there.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(flavor: Flavor, token: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            token: token.to_owned(),
            repositories: vec!["acme/fleet".to_owned()],
            next_id: 100,
            has_user: true,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let router = Router::new().fallback(answer).with_state((flavor, Arc::clone(&state)));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { flavor, address, state, runtime: Some(runtime) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API's URL.
    pub fn api_url(&self) -> String {
        let path = match self.flavor {
            Flavor::GitHub => "",
            Flavor::GitLab => "/api/v4",
            Flavor::Gitea => "/api/v1",
        };
        format!("http://{}{path}", self.address)
    }

    /// Statuses in the order they came.
    pub fn statuses(&self) -> Vec<SetStatus> {
        self.lock().statuses.clone()
    }

    /// What a person sees beside a commit: the newest status of each context.
    pub fn shown(&self, commit: &str) -> BTreeMap<String, (String, String)> {
        let statuses = self.statuses();
        let of = statuses.into_iter().filter(|status| status.commit == commit);
        of.map(|status| (status.context, (status.state, status.description))).collect()
    }

    /// All requests: when, method and path with its query.
    pub fn requests(&self) -> Vec<(Instant, String)> {
        self.lock().requests.clone()
    }

    /// The next requests fail, one each.
    pub fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.lock().failures.extend(failures);
    }

    /// The next requests that set a status fail, one each; others pass.
    pub fn fail_statuses(&self, failures: impl IntoIterator<Item = Failure>) {
        self.lock().status_failures.extend(failures);
    }

    /// All requests fail from now on, until `None`.
    pub fn away(&self, failure: Option<Failure>) {
        self.lock().away = failure;
    }

    /// Accepts another token from now on.
    pub fn rotate(&self, token: &str) {
        token.clone_into(&mut self.lock().token);
    }

    /// The token belongs to no user, as that of a GitHub app.
    pub fn without_user(&self) {
        self.lock().has_user = false;
    }

    /// A commit that it does not have.
    pub fn forget_commit(&self, commit: &str) {
        self.lock().unknown_commits.push(commit.to_owned());
    }

    /// Opens a pull request, or moves one.
    pub fn put_pull(&self, number: u64, head: &str, base: &str) {
        let mut state = self.lock();
        state.pulls.retain(|pull| pull.number != number);
        state.pulls.insert(0, Pull { number, head: head.to_owned(), base: base.to_owned() });
        state.comments.entry(number).or_default();
    }

    /// Closes a pull request.
    pub fn close_pull(&self, number: u64) {
        self.lock().pulls.retain(|pull| pull.number != number);
    }

    /// Somebody comments.
    pub fn comment(&self, number: u64, author: u64, body: &str) -> u64 {
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.comments.entry(number).or_default().push(Posted { id, author, body: body.to_owned() });
        id
    }

    /// Comments of a pull request.
    pub fn comments(&self, number: u64) -> Vec<Posted> {
        self.lock().comments.get(&number).cloned().unwrap_or_default()
    }
}

impl Drop for ForgeHost {
    fn drop(&mut self) {
        // A test may be asynchronous itself: nothing waits here.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let violations = std::mem::take(&mut self.lock().violations);
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "requests that the forge's documentation does not have:\n{violations:#?}");
        }
    }
}

type Context = (Flavor, Arc<Mutex<State>>);

/// What is answered.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

fn reply(status: u16, body: Value) -> Reply {
    Reply { status, headers: Vec::new(), body }
}

fn message(status: u16, text: &str) -> Reply {
    reply(status, json!({"message": text}))
}

async fn answer(Shared((flavor, state)): Shared<Context>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let (failure, late) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push((Instant::now(), format!("{} {target}", parts.method)));
        let sets_status = parts.method == "POST" && target.contains("/statuses/");
        let mut failure = state.failures.pop_front();
        if sets_status && failure.is_none() {
            failure = state.status_failures.pop_front();
        }
        match failure.or_else(|| state.away.clone()) {
            None => (None, None),
            Some(Failure::Late(delay)) => (None, Some(delay)),
            Some(Failure::Answer(status, headers, text)) => {
                (Some(Reply { status, headers, body: json!({"message": text}) }), None)
            }
        }
    };
    let reply = match failure {
        Some(reply) => reply,
        None => {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let call =
                contract::Call { flavor, method: parts.method.as_str(), target: &target, headers: &parts.headers };
            contract::carry_out(&mut state, &call, &bytes)
        }
    };
    if let Some(delay) = late {
        tokio::time::sleep(delay).await;
    }
    let mut response = Response::builder().status(reply.status).header("content-type", "application/json");
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body.to_string())).expect("valid headers")
}
