//! What one repository needs to be reached and others must not get: client certificates and proxies.

use fleet_git::{ClientCertificate, GitErrorKind, Remote, RemoteAuth, Secret};
use fleet_test::git_server::GitServer;
use fleet_test::{ConnectProxy, GitRepo};

use crate::support::{Place, id, pool};

struct Host {
    server: GitServer,
    repo: GitRepo,
    _bare: GitRepo,
}

impl Host {
    fn start() -> Self {
        let repo = GitRepo::init();
        repo.write("fleets/a.yaml", "a: 1\n").commit("one");
        let bare = repo.bare_clone();
        let server = GitServer::start(bare.scratch(), None).unwrap();
        Self { server, repo, _bare: bare }
    }

    fn remote(&self, url: String) -> Remote {
        let mut remote = Remote::anonymous(url);
        remote.https.ca_pem = Some(self.server.ca_pem().to_owned());
        remote
    }
}

fn pair((certificate, key): (&str, &str)) -> Option<ClientCertificate> {
    Some(ClientCertificate { certificate_pem: certificate.to_owned(), key_pem: Secret::new(key) })
}

#[tokio::test]
async fn a_client_certificate_lets_the_worker_in() {
    let host = Host::start();
    let (pool, place) = (pool(), Place::new());
    let mut remote = host.remote(host.server.client_url("bare.git"));
    let refused = pool.observe(&remote, "main").await.unwrap_err();
    assert!(refused.message.contains("client certificate"), "{refused}");
    remote.https.client_certificate = pair(host.server.client_pem());
    let head = id(&host.repo.head());
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), head);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, head);
    remote.https.client_certificate = pair(host.server.stranger_pem());
    assert!(pool.observe(&remote, "main").await.is_err(), "a connection of before may not serve another certificate");
    remote.https.client_certificate = None;
    assert!(pool.observe(&remote, "main").await.is_err(), "nor none");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_no_other_host() {
    let host = Host::start();
    let mut remote = host.remote(host.server.redirecting_to_client_url("bare.git"));
    remote.https.client_certificate = pair(host.server.client_pem());
    // Followed, the redirect would lead to the repository.
    let error = pool().observe(&remote, "main").await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_none_is_an_error_without_the_key_in_it() {
    let host = Host::start();
    let pool = pool();
    let mut remote = host.remote(host.server.client_url("bare.git"));
    let (certificate, key) = host.server.client_pem();
    let other = host.server.stranger_pem().1;
    let broken = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
    for bad in [(certificate, ""), ("", key), (certificate, other), (certificate, broken), ("hunter2\0", "hunter2")] {
        remote.https.client_certificate = pair(bad);
        let error = pool.observe(&remote, "main").await.unwrap_err();
        assert!(!error.message.contains("hunter2") && !error.message.contains("BEGIN"), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_of_one_repository_carries_it_and_nothing_else() {
    let host = Host::start();
    let (pool, place) = (pool(), Place::new());
    // user:p@ss/w%rd#?: as RFC 7617 writes it.
    let proxy = ConnectProxy::start(Some("Basic dXNlcjpwQHNzL3clcmQjPzo=")).await.unwrap();
    let direct = host.remote(host.server.https_url("bare.git"));
    let mut remote = direct.clone();
    remote.https.proxy = Some(format!("http://user@{}", proxy.address()));
    remote.https.proxy_password = Some(Secret::new("p@ss/w%rd#?:"));
    let head = id(&host.repo.head());
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), head);
    let authority = host.server.https_url("").split('/').nth(2).unwrap().to_owned();
    assert_eq!(proxy.opened(), [authority.as_str()], "one question, one tunnel");
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, head);
    let opened = proxy.opened();
    assert!(opened.len() > 1 && opened.iter().all(|target| *target == authority), "{opened:?}");
    assert_eq!(pool.observe(&direct, "main").await.unwrap(), head);
    assert_eq!(proxy.opened().len(), opened.len(), "another repository does not use it");
    assert!(proxy.refused().is_empty());
}

#[tokio::test]
async fn without_its_proxy_a_repository_is_not_reached_and_no_secret_is_told() {
    let host = Host::start();
    let pool = pool();
    let proxy = ConnectProxy::start(Some("Basic dTpvdGhlcg==")).await.unwrap();
    let mut remote = host.remote(host.server.https_url("bare.git"));
    remote.https.auth = RemoteAuth::Bearer { token: Secret::new("hunter2") };
    let address = proxy.address();
    let injecting = format!("http://u@{address}\r\nX-Evil: hunter2");
    for (url, password) in [
        (format!("http://u@{address}"), Some("hunter2\r\nX-Evil: yes")),
        (format!("http://{address}"), None),
        (injecting, None),
        (format!("socks5://u@{address}"), Some("hunter2")),
        ("file:///etc".to_owned(), None),
        ("nonsense".to_owned(), None),
        ("http://127.0.0.1:1".to_owned(), Some("hunter2")),
    ] {
        remote.https.proxy = Some(url.clone());
        remote.https.proxy_password = password.map(Secret::new);
        let error = pool.observe(&remote, "main").await.unwrap_err();
        assert!(!error.message.contains("hunter2") && !format!("{remote:?}").contains("hunter2"), "{error} {remote:?}");
    }
    assert!(proxy.opened().is_empty());
    assert!(proxy.refused().iter().all(|line| line.starts_with("CONNECT localhost:")), "{:?}", proxy.refused());
}
