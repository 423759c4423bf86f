//! One mirror and one poll for all who use a repository, a limit for the disk, and hosts that ask to be left alone.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_test::git_server::GitServer;
use fleet_test::{GitRepo, TestDatabase};

use crate::harness::{DEADLINE, Database, Installation, eventually};
use crate::repositories::{host, repository};

const TEAMS: usize = 10;

fn team_file(team: usize, number: usize) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: team-{team}\n  annotations:\n    round: \"{number}\"\n\
         spec:\n  selector:\n    matchLabels: {{team: \"{team}\"}}\n  template:\n    spec:\n      config:\n      - name: a\n        inline:\n        \
         - path: /etc/round\n          content: \"{number}\"\n"
    )
}

#[test]
fn ten_sources_of_one_repository_cost_its_host_what_one_costs() {
    let shared = GitRepo::init();
    for team in 0..TEAMS {
        shared.write(&format!("team-{team}/fleet.yaml"), team_file(team, 1));
    }
    shared.commit("ten teams");
    let (root, server, settings) = host(&shared);
    let mut manifests = vec![("repositories.yaml".to_owned(), repository("shared", &server.https_url("shared.git")))];
    for team in 0..TEAMS {
        let sync = format!(
            "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: team-{team}\nspec:\n  repository: shared\n  \
             targetRevision: main\n  path: /team-{team}\n"
        );
        manifests.push((format!("sync-{team}.yaml"), sync));
    }
    let files: Vec<(&str, &str)> = manifests.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let applied = |commit: &str| {
        let sql = format!("select count(*) from desired.sources where applied_commit = '{commit}'");
        eventually("all teams to be applied", || (there.sql(&sql) == TEAMS.to_string()).then_some(()));
    };
    applied(&shared.head());
    let mirrors = || {
        let entries = std::fs::read_dir(there.data_dir().join("mirrors")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("repository-") && !name.ends_with(".guard")).count()
    };
    assert_eq!(mirrors(), 2, "one for the service's own source, one for all teams");

    // One source asks once in 0.8 to 1.2 s. The last ones may still begin.
    let (before, began) = (server.requests().len(), Instant::now());
    let asked = eventually("ten seconds and some requests", || {
        let asked = server.requests().len() - before;
        (asked >= 5 && began.elapsed() >= Duration::from_secs(10)).then_some(asked)
    });
    let most = began.elapsed().as_millis() / 800 + 3;
    assert!(asked as u128 <= most, "{asked} requests in {:?}", began.elapsed());

    let fetches = |server: &GitServer| server.requests().iter().filter(|line| line.contains("info/refs")).count();
    let before = fetches(&server);
    for team in 0..TEAMS {
        shared.write(&format!("team-{team}/fleet.yaml"), team_file(team, 2));
    }
    let second = shared.commit("the second round");
    shared.git(&["push", "--quiet", root.path().join("shared.git").to_str().unwrap(), "main"]);
    applied(&second);
    assert_eq!(fetches(&server) - before, 1, "{:?}", server.requests());
    let metrics = there.http_get("/metrics").unwrap();
    assert!(
        metrics.lines().any(|line| line.starts_with("fleetd_syncer_mirrors_bytes ") || line.contains("mirrors_bytes ")),
        "{metrics}"
    );
}

#[test]
fn what_lies_outside_of_a_sources_path_does_not_matter_to_it() {
    let shared = GitRepo::init();
    let fleet = |content: &str| {
        format!("{}      - name: b\n        gitRef: {{repository: ., path: {content}}}\n", team_file(0, 1))
    };
    let not_utf8 = |directory: &str| {
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
        std::fs::write(shared.path().join(directory).join(name), "x").unwrap();
    };
    shared
        .write("team/fleet.yaml", fleet("/common"))
        .write("common/motd", "one")
        .write("elsewhere/bad.yaml", "kind: [");
    not_utf8("elsewhere");
    let first = shared.commit("a team and much else");
    let (root, server, settings) = host(&shared);
    let sync = "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: team\nspec:\n  repository: shared\n  \
                targetRevision: main\n  path: /team\n";
    let repositories = repository("shared", &server.https_url("shared.git"));
    let files = [("repositories.yaml", repositories.as_str()), ("sync.yaml", sync)];
    let there = Installation::start_with(&files, Database::Own(TestDatabase::create()), &settings);
    let applied = |commit: &str, content: &str| {
        let sql = format!(
            "select count(*) from desired.sources where name = 'team' and applied_commit = '{commit}' \
             and exists (select 1 from desired.blobs where content = '{content}')"
        );
        eventually("the team to be applied", || (there.sql(&sql) == "1").then_some(()));
    };
    applied(&first, "one");
    let push = |message: &str| {
        let commit = shared.commit(message);
        shared.git(&["push", "--quiet", root.path().join("shared.git").to_str().unwrap(), "main"]);
        commit
    };
    shared.write("common/motd", "two").write("elsewhere/more.yaml", "kind: [");
    applied(&push("content below a place that is taken from"), "two");
    shared.write("team/fleet.yaml", fleet("/other")).write("other/motd", "three");
    not_utf8("common");
    applied(&push("content elsewhere, and what was taken before is spoiled"), "three");
    not_utf8("other");
    let spoiled = push("what is taken is spoiled");
    let refused = format!("select count(*) from desired.commits where commit_id = '{spoiled}' and verdict = 'Refused'");
    eventually("the team's commit to be refused", || (there.sql(&refused) == "1").then_some(()));
}

#[test]
fn mirrors_above_the_limit_go_and_come_back_when_they_are_needed() {
    let shared = GitRepo::init();
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed;
        (0..1_500_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    shared.write("big", noise(7)).write("fleets/fleet.yaml", team_file(0, 1));
    shared.commit("large");
    let (root, server, settings) = host(&shared);
    let settings = settings.replacen('{', "{mirrors: {maxBytes: 1Mi}, ", 1);
    let there = Installation::start_at(
        GitRepo::init(),
        &server.https_url("shared.git"),
        Database::Own(TestDatabase::create()),
        &settings,
    );
    there.wait_applied(&shared.head());
    let size = || -> u64 {
        let output =
            std::process::Command::new("du").arg("-sk").arg(there.data_dir().join("mirrors")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    eventually("the mirror to be evicted", || (size() < 1_024).then_some(()));
    let fleets = there.sql("select count(*) from desired.fleets");
    assert_eq!(fleets, "1", "what is applied does not need the mirror");
    eventually("the eviction to be counted", || {
        let metrics = there.http_get("/metrics")?;
        let line = metrics.lines().find(|line| line.contains("mirror_evictions_total") && !line.starts_with('#'))?;
        (!line.ends_with(" 0")).then_some(())
    });
    shared.write("fleets/fleet.yaml", team_file(0, 2));
    let second = shared.commit("after the eviction");
    shared.git(&["push", "--quiet", root.path().join("shared.git").to_str().unwrap(), "main"]);
    there.wait_applied(&second);
}

#[test]
fn a_host_that_asks_to_be_left_alone_is_left_alone_even_when_somebody_is_impatient() {
    const WAIT: Duration = Duration::from_secs(8);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/fleet.git", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
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
            noted.lock().unwrap().push(Instant::now());
            let answer = format!(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                WAIT.as_secs()
            );
            // A client that went away counts all the same.
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    let settings = "{pollInterval: 500ms}";
    let there = Installation::start_at(GitRepo::init(), &url, Database::Own(TestDatabase::create()), settings);
    let reason = |there: &Installation| {
        let source = there.object("sources", "main")?;
        source["status"]["conditions"].as_array()?.iter().any(|c| c["reason"] == "RateLimited").then_some(())
    };
    eventually("the first answer", || reason(&there));
    // Until it was asked again, after somebody was impatient in between.
    let (began, mut impatient) = (Instant::now(), 0);
    let asked = || asked.lock().unwrap().clone();
    while asked().len() < 2 || impatient == 0 {
        assert!(began.elapsed() < DEADLINE, "never asked again");
        let before = asked().len();
        // Ends with an error, since the source is not in order.
        let _ = there.fleetctl(&["sync", "main", "--timeout", "1s"]);
        impatient += usize::from(asked().len() == before);
    }
    for pair in asked().windows(2) {
        assert!(pair[1] - pair[0] >= WAIT, "asked again after {:?}", pair[1] - pair[0]);
    }
}
