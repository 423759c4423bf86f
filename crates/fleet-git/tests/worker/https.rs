//! A real Git host: `git http-backend` with basic authentication and a private CA.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use fleet_git::{GitErrorKind, Remote, RemoteAuth, Secret};
use fleet_test::git_server::GitServer;
use fleet_test::{Fault, GitRepo, TcpFaultProxy};

use crate::support::{Place, id, impatient_pool, pool};

const USER: &str = "syncer";
const PASSWORD: &str = "correct horse";

struct Host {
    server: GitServer,
    repo: GitRepo,
    bare: GitRepo,
}

impl Host {
    fn start(credentials: bool) -> Self {
        let repo = GitRepo::init();
        repo.write("fleets/a.yaml", "a: 1\n").commit("one");
        let bare = repo.bare_clone();
        let server = GitServer::start(bare.scratch(), credentials.then_some((USER, PASSWORD))).unwrap();
        Self { server, repo, bare }
    }

    fn remote(&self, auth: RemoteAuth) -> Remote {
        let mut remote = Remote::anonymous(self.server.https_url("bare.git"));
        remote.https.ca_pem = Some(self.server.ca_pem().to_owned());
        remote.https.auth = auth;
        remote
    }
}

fn basic(password: &str) -> RemoteAuth {
    RemoteAuth::Basic { username: USER.to_owned(), password: Secret::new(password) }
}

#[tokio::test]
async fn a_private_ca_and_a_password_let_the_worker_in() {
    let host = Host::start(true);
    let (pool, place) = (pool(), Place::new());
    let remote = host.remote(basic(PASSWORD));
    let first = id(&host.repo.head());
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, first);
    let second = id(&host.repo.write("fleets/b.yaml", "b: 1\n").commit("two"));
    host.repo.push(&host.bare, "main", false);
    let outcome = pool.fetch(&place.mirror(), &remote, "main", Some(&first)).await.unwrap();
    assert_eq!((&outcome.commit, outcome.forced), (&second, false));
    assert_eq!(pool.diff(&place.mirror(), &first, &second, "fleets").await.unwrap().len(), 1);

    let mut trusting = remote.clone();
    trusting.https.ca_pem = None;
    trusting.https.skip_verify = true;
    assert_eq!(pool.observe(&trusting, "main").await.unwrap(), second);
}

#[tokio::test]
async fn a_host_without_protocol_version_2_is_read_too() {
    let host = Host::start(false);
    let (pool, place) = (pool(), Place::new());
    host.repo.git(&["tag", "-a", "-m", "annotated", "v1.0"]);
    host.repo.git(&["push", "--quiet", &host.bare.url(), "v1.0"]);
    let mut remote = host.remote(RemoteAuth::Anonymous);
    remote.url = host.server.old_protocol_url("bare.git");
    let first = id(&host.repo.head());
    for revision in ["HEAD", "main", "v1.0"] {
        assert_eq!(pool.observe(&remote, revision).await.unwrap(), first, "{revision}");
    }
    assert_eq!(pool.observe(&remote, "nothing").await.unwrap_err().kind, GitErrorKind::RefMissing);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, first);
    let second = id(&host.repo.write("fleets/b.yaml", "b: 1\n").commit("two"));
    host.repo.push(&host.bare, "main", false);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", Some(&first)).await.unwrap().commit, second);
}

#[tokio::test]
async fn refused_credentials_are_named_as_such_and_never_shown() {
    let host = Host::start(true);
    let pool = pool();
    let bearer = RemoteAuth::Bearer { token: Secret::new("tok-3n") };
    for (auth, says) in [
        (RemoteAuth::Anonymous, "none are configured"),
        (basic("hunter2"), "user name and password"),
        (bearer, "token"),
    ] {
        let error = pool.observe(&host.remote(auth), "main").await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::AuthFailed, "{error}");
        assert!(error.message.contains(says) && error.message.contains("localhost"), "{error}");
        assert!(!error.message.contains("hunter2") && !error.message.contains("tok-3n"), "{error}");
    }
    let broken = RemoteAuth::Bearer { token: Secret::new("two\r\nlines") };
    assert_eq!(pool.observe(&host.remote(broken), "main").await.unwrap_err().kind, GitErrorKind::AuthFailed);
    let mut plain = Remote::anonymous(host.server.http_url("bare.git"));
    plain.https.auth = basic(PASSWORD);
    assert_eq!(pool.observe(&plain, "main").await.unwrap_err().kind, GitErrorKind::UnsupportedScheme);
}

#[tokio::test]
async fn an_unknown_ca_and_a_missing_repository_say_what_to_do() {
    let host = Host::start(false);
    let pool = pool();
    let mut remote = host.remote(RemoteAuth::Anonymous);
    assert!(pool.observe(&remote, "main").await.is_ok());
    remote.https.ca_pem = None;
    let error = pool.observe(&remote, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable);
    assert!(error.message.contains("set caFile"), "{error}");
    remote.https.ca_pem = Some("no certificate".to_owned());
    assert!(pool.observe(&remote, "main").await.unwrap_err().message.contains("CA"));

    let missing = Remote::anonymous(host.server.http_url("other.git"));
    let error = pool.observe(&missing, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable);
    assert!(error.message.contains("404"), "{error}");
    let tls_on_plain = Remote::anonymous(host.server.http_url("bare.git").replace("http://", "https://"));
    assert_eq!(pool.observe(&tls_on_plain, "main").await.unwrap_err().kind, GitErrorKind::HostUnreachable);
}

#[tokio::test]
async fn an_unchanged_poll_stays_small_whatever_the_number_of_references() {
    let host = Host::start(false);
    let head = host.repo.head();
    let mut packed = format!("# pack-refs with: peeled fully-peeled sorted \n{head} refs/heads/main\n");
    for number in 0..2_000 {
        packed.push_str(&format!("{head} refs/heads/other/{number:05}\n"));
    }
    std::fs::write(host.bare.path().join("packed-refs"), packed).unwrap();
    let upstream = ([127, 0, 0, 1], host.server.http_port()).into();
    let proxy = TcpFaultProxy::start(upstream).await.unwrap();
    let remote = Remote::anonymous(format!("http://{}/bare.git", proxy.address()));
    let pool = pool();
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), id(&host.repo.head()));
    let (up, down) = (proxy.bytes_to_upstream(), proxy.bytes_to_client());
    eprintln!("unchanged poll over HTTP: {up} bytes up, {down} bytes down");
    assert!(up + down <= 1_024, "{up} bytes up and {down} bytes down");
    for _ in 0..3 {
        assert_eq!(pool.observe(&remote, "main").await.unwrap(), id(&host.repo.head()));
    }
    assert_eq!(proxy.connections(), 1, "the connection is kept between polls");
    assert_eq!((proxy.bytes_to_upstream(), proxy.bytes_to_client()), (4 * up, 4 * down));
}

#[tokio::test]
async fn a_broken_connection_is_reported_and_the_next_fetch_works() {
    let host = Host::start(false);
    for number in 0..50 {
        host.repo
            .write(&format!("n/{number}"), format!("{:?}", std::collections::hash_map::RandomState::new()).repeat(40));
    }
    let head = id(&host.repo.commit("more"));
    host.repo.push(&host.bare, "main", false);
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], host.server.http_port()).into()).await.unwrap();
    let remote = Remote::anonymous(format!("http://{}/bare.git", proxy.address()));
    let impatient = impatient_pool(Duration::from_secs(2), Duration::from_secs(20));
    let (pool, place) = (pool(), Place::new());
    for (fault, pool, kind) in [
        (Fault::Reset, &pool, GitErrorKind::HostUnreachable),
        (Fault::CutAfter(400), &pool, GitErrorKind::HostUnreachable),
        (Fault::CutAfter(2_500), &pool, GitErrorKind::HostUnreachable),
        (Fault::Stall, &impatient, GitErrorKind::DeadlineExceeded),
    ] {
        proxy.set(fault);
        let error = pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        proxy.set(Fault::None);
    }
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, head);
}

/// Gives every connection the same answer, for as long as the test runs.
fn canned_always(head: String) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let (mut seen, mut portion) = (Vec::new(), [0; 1024]);
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                match socket.read(&mut portion) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => seen.extend_from_slice(&portion[..count]),
                }
            }
            // A client may have gone; the next one counts.
            let _ = socket.write_all(head.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn statuses_of_a_host_become_kinds() {
    for (status, kind) in [
        ("429 Too Many Requests", GitErrorKind::RateLimited),
        ("403 Forbidden", GitErrorKind::AuthFailed),
        ("503 Service Unavailable", GitErrorKind::HostUnreachable),
        ("200 OK", GitErrorKind::HostUnreachable),
    ] {
        let port = canned_always(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        let error =
            pool().observe(&Remote::anonymous(format!("http://127.0.0.1:{port}/x.git")), "main").await.unwrap_err();
        assert_eq!(error.kind, kind, "{status}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let (first, second) = (Host::start(true), Host::start(true));
    // Both take the same password: a client that passed it on would be let in.
    let mut remote = first.remote(basic(PASSWORD));
    remote.url = first.server.redirecting_url(&second.server, "bare.git");
    remote.https.ca_pem = Some(format!("{}{}", first.server.ca_pem(), second.server.ca_pem()));
    let pool = pool();
    let error = pool.observe(&remote, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::AuthFailed, "{error}");
    assert!(error.message.contains("redirects to"), "{error}");
    remote.https.auth = RemoteAuth::Bearer { token: Secret::new("tok-3n") };
    let error = pool.observe(&remote, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    assert!(error.message.contains("redirect"), "{error}");

    let open = Host::start(false);
    remote.url = first.server.redirecting_url(&open.server, "bare.git");
    remote.https.ca_pem = Some(format!("{}{}", first.server.ca_pem(), open.server.ca_pem()));
    remote.https.auth = basic(PASSWORD);
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), id(&open.repo.head()), "a redirect by itself is fine");
}
