//! Real servers for the other transports: `sshd` with a key and known hosts, and `git daemon`.

use std::net::TcpListener;
use std::time::Duration;

use fleet_git::{GitErrorKind, Remote, Secret};
use fleet_test::ssh_server::{GitDaemon, SshServer};
use fleet_test::{Fault, GitRepo, TcpFaultProxy};

use crate::support::{Place, id, impatient_pool, pool};

pub(crate) fn remote(server: &SshServer, repo: &GitRepo) -> Remote {
    let mut remote = Remote::anonymous(server.url(repo.path()));
    remote.ssh.private_key = Some(Secret::new(server.private_key()));
    remote.ssh.known_hosts = Some(server.known_hosts().to_owned());
    remote
}

#[tokio::test]
async fn a_key_and_known_hosts_let_the_worker_in() {
    let server = SshServer::start().unwrap();
    let repo = GitRepo::init();
    let first = id(&repo.write("a b's!.yaml", "a: 1\n").commit("one"));
    let bare = repo.bare_clone();
    let (pool, place) = (pool(), Place::new());
    let remote = remote(&server, &bare);
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, first);
    let second = id(&repo.write("b.yaml", "b: 1\n").commit("two"));
    repo.push(&bare, "main", false);
    let outcome = pool.fetch(&place.mirror(), &remote, "main", Some(&first)).await.unwrap();
    assert_eq!((&outcome.commit, outcome.forced), (&second, false));
    assert_eq!(pool.diff(&place.mirror(), &first, &second, "").await.unwrap().len(), 1);
    assert_eq!(pool.observe(&remote, "nothing").await.unwrap_err().kind, GitErrorKind::RefMissing);
}

#[tokio::test]
async fn an_encrypted_key_is_opened_with_its_passphrase_only() {
    let server = SshServer::start().unwrap();
    let repo = GitRepo::init();
    let first = id(&repo.write("a.yaml", "a: 1\n").commit("one"));
    let pool = pool();
    let mut remote = remote(&server, &repo);
    remote.ssh.private_key = Some(Secret::new(server.encrypted_key()));
    remote.ssh.passphrase = Some(Secret::new(SshServer::PASSPHRASE));
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    for passphrase in [None, Some("wrong-horse")] {
        remote.ssh.passphrase = passphrase.map(Secret::new);
        let error = pool.observe(&remote, "main").await.unwrap_err();
        assert_eq!(error.kind, GitErrorKind::AuthFailed, "{error}");
        assert!(!error.message.contains("wrong-horse"), "{error}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_named() {
    let server = SshServer::start().unwrap();
    let repo = GitRepo::init();
    repo.write("a.yaml", "a: 1\n").commit("one");
    let pool = pool();
    let good = remote(&server, &repo);

    let mut stranger = good.clone();
    stranger.ssh.private_key = Some(Secret::new(server.stranger_key().unwrap()));
    let error = pool.observe(&stranger, "main").await.unwrap_err();
    assert!(
        error.kind == GitErrorKind::AuthFailed && error.message.contains("did not accept the private key"),
        "{error}"
    );

    let other = SshServer::start().unwrap();
    let mut impostor = good.clone();
    impostor.ssh.known_hosts = Some(good.ssh.known_hosts.clone().unwrap().replace(
        server.known_hosts().split_whitespace().nth(2).unwrap(),
        other.known_hosts().split_whitespace().nth(2).unwrap(),
    ));
    let error = pool.observe(&impostor, "main").await.unwrap_err();
    assert!(error.kind == GitErrorKind::AuthFailed && error.message.contains("host key"), "{error}");
    impostor.ssh.skip_verify = true;
    assert!(pool.observe(&impostor, "main").await.is_ok(), "asked for not to look");

    let mut nobody = good.clone();
    nobody.ssh.private_key = None;
    let error = pool.observe(&nobody, "main").await.unwrap_err();
    assert!(error.message.contains("no private key is configured"), "{error}");

    let mut nowhere = good.clone();
    nowhere.url = server.url(std::path::Path::new("/nowhere/at all.git"));
    let error = pool.observe(&nowhere, "main").await.unwrap_err();
    assert!(error.kind == GitErrorKind::HostUnreachable && error.message.contains("no such repository"), "{error}");
}

#[tokio::test]
async fn no_part_of_a_url_becomes_an_option_or_a_command() {
    let server = SshServer::start().unwrap();
    let repo = GitRepo::init();
    repo.write("a.yaml", "a: 1\n").commit("one");
    let (pool, place) = (pool(), Place::new());
    let trap = place.directory().join("trapped");
    let touch = format!("touch${{IFS}}{}", trap.display());
    let user = server.user();
    for url in [
        format!("ssh://-oProxyCommand={touch}/a"),
        format!("ssh://{user}@-oProxyCommand={touch}/a"),
        format!("-oProxyCommand={touch}:a"),
        format!("ssh://{user}@127.0.0.1:{}/a';{touch};'", server.port()),
        format!("ssh://{user}@127.0.0.1:{}/$({touch})`{touch}`", server.port()),
        format!("ssh://{user}@127.0.0.1:{}/--upload-pack={touch}", server.port()),
    ] {
        let mut remote = remote(&server, &repo);
        remote.url = url.clone();
        let error = pool.observe(&remote, "main").await.unwrap_err();
        assert!(
            [GitErrorKind::UnsupportedScheme, GitErrorKind::HostUnreachable].contains(&error.kind),
            "{url}: {error}"
        );
        assert!(!trap.exists(), "{url} ran a command");
    }
}

#[tokio::test]
async fn a_git_daemon_is_read_and_a_silent_one_costs_one_deadline() {
    let repo = GitRepo::init();
    let first = id(&repo.write("a.yaml", "a: 1\n").commit("one"));
    let bare = repo.bare_clone();
    let daemon = GitDaemon::start(bare.scratch()).unwrap();
    let (pool, place) = (pool(), Place::new());
    let remote = Remote::anonymous(daemon.url("bare.git"));
    assert_eq!(pool.observe(&remote, "main").await.unwrap(), first);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, first);
    let missing = pool.observe(&Remote::anonymous(daemon.url("other.git")), "main").await.unwrap_err();
    assert_eq!(missing.kind, GitErrorKind::HostUnreachable, "{missing}");

    let hole = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let impatient = impatient_pool(Duration::from_millis(700), Duration::from_secs(20));
    let silent = Remote::anonymous(format!("git://127.0.0.1:{}/a", hole.local_addr().unwrap().port()));
    let error = impatient.observe(&silent, "main").await.unwrap_err();
    assert!([GitErrorKind::DeadlineExceeded, GitErrorKind::HostUnreachable].contains(&error.kind), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_error_and_the_next_one_works() {
    let server = SshServer::start().unwrap();
    let repo = GitRepo::init();
    let first = id(&repo.write("a.yaml", "a: 1\n".repeat(20_000)).commit("one"));
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.port()).into()).await.unwrap();
    let (pool, place) = (pool(), Place::new());
    let mut remote = remote(&server, &repo);
    let through = proxy.address().port();
    remote.url = remote.url.replace(&format!(":{}", server.port()), &format!(":{through}"));
    remote.ssh.known_hosts = Some(server.known_hosts().replace(&format!(":{}", server.port()), &format!(":{through}")));
    proxy.set(Fault::CutAfter(3_000));
    let error = pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::HostUnreachable, "{error}");
    proxy.set(Fault::None);
    assert_eq!(pool.fetch(&place.mirror(), &remote, "main", None).await.unwrap().commit, first);
}
