//! What a forge is told of commits by the real service, over real Git: in order, at least once, whatever stops in between.
//! The forge's API is its documented contract (`fleet_test::forge_host`).

use std::time::Duration;

use fleet_test::forge_host::{Failure, Flavor, ForgeHost};
use fleet_test::git_server::GitServer;
use fleet_test::{GitRepo, TestDatabase};

use crate::commits::FILES;
use crate::harness::{Database, Installation, eventually};
use crate::holds::{digest, fleet, wait_held};

const TOKEN: &str = "a-token-that-must-not-show";

/// A Git host over HTTPS with one repository, and a forge's API that is told of it.
pub(crate) struct World {
    pub(crate) there: Installation,
    pub(crate) repo: GitRepo,
    root: tempfile::TempDir,
    pub(crate) forge: ForgeHost,
    _server: GitServer,
}

impl World {
    pub(crate) fn start(flavor: Flavor, files: &[(&str, &str)]) -> Self {
        Self::start_sources(flavor, files, "revision: main}")
    }

    /// With more said of the source, and of others of the repository at `{url}`: see `Installation::source_rest`.
    pub(crate) fn start_sources(flavor: Flavor, files: &[(&str, &str)], rest: &str) -> Self {
        let repo = GitRepo::init();
        for (path, content) in files {
            repo.write(path, content);
        }
        repo.commit("first");
        let root = tempfile::Builder::new().prefix("shorebase-git").tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(root.path().join("acme")).unwrap();
        repo.git(&["clone", "--quiet", "--bare", ".", root.path().join("acme/fleet.git").to_str().unwrap()]);
        let server = GitServer::start(root.path(), None).unwrap();
        let forge = ForgeHost::start(flavor, TOKEN);
        let url = server.https_url("acme/fleet.git");
        let (ca, token) = (root.path().join("ca.pem"), root.path().join("token"));
        std::fs::write(&ca, server.ca_pem()).unwrap();
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let kind = match flavor {
            Flavor::GitHub => "github",
            Flavor::GitLab => "gitlab",
            Flavor::Gitea => "gitea",
        };
        let prefix = url.strip_suffix("acme/fleet.git").unwrap();
        let settings = format!(
            "{{pollInterval: 500ms, credentials: [{{urlPrefix: '{prefix}', caFile: '{ca}'}}]}}\nforges:\n\
             - {{type: {kind}, urlPrefix: '{prefix}', apiUrl: '{api}', tokenFile: '{token}', planComments: true, targetUrl: 'https://fleet.test/{{source}}/{{commit}}'}}",
            ca = ca.display(),
            api = forge.api_url(),
            token = token.display(),
        );
        let database = Database::Own(TestDatabase::create());
        let rest = rest.replace("{url}", &url);
        let there = Installation::start_sources(GitRepo::init(), &url, &rest, database, &settings);
        let world = Self { there, repo, root, forge, _server: server };
        world.there.wait_applied(&world.repo.head());
        world
    }

    pub(crate) fn push(&self) -> String {
        let commit = self.repo.commit("change");
        self.publish("main");
        commit
    }

    /// Brings a reference to the host: `main`, `topic:refs/pull/5/head`.
    pub(crate) fn publish(&self, reference: &str) {
        let bare = self.root.path().join("acme/fleet.git");
        self.repo.git(&["push", "--quiet", "--force", bare.to_str().unwrap(), reference]);
    }

    /// Waits until people see this beside a commit.
    pub(crate) fn wait_shown(&self, commit: &str, context: &str, state: &str, part: &str) {
        eventually(&format!("{context} of {commit} to be {state} with {part:?}: {:?}", self.forge.statuses()), || {
            let shown = self.forge.shown(commit);
            let (found, description) = shown.get(context)?;
            (found == state && description.contains(part)).then_some(())
        });
    }

    /// All that was said of a commit, in order: context and state.
    fn told(&self, commit: &str) -> Vec<(String, String)> {
        let statuses = self.forge.statuses().into_iter().filter(|status| status.commit == commit);
        statuses.map(|status| (status.context.trim_start_matches("shorebase/").to_owned(), status.state)).collect()
    }

    /// What was sent about a commit in one context.
    fn sent(&self, commit: &str, context: &str) -> usize {
        let all = self.forge.statuses();
        all.iter().filter(|status| status.commit == commit && status.context == context).count()
    }

    pub(crate) fn waiting(&self) -> String {
        self.there.sql("select count(*) from outbox where sent_at is null").trim().to_owned()
    }

    pub(crate) fn keeps_its_secret(&self) {
        assert!(!self.there.service_log().contains(TOKEN));
        assert_eq!(
            self.there.sql(&format!("select count(*) from outbox where outbox::text like '%{TOKEN}%'")).trim(),
            "0"
        );
        assert_eq!(
            self.there.sql(&format!("select count(*) from events where events::text like '%{TOKEN}%'")).trim(),
            "0"
        );
    }
}

fn owned(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(context, state)| ((*context).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn a_commit_is_told_from_lint_to_the_last_device_in_order_and_a_refused_one_with_its_first_finding() {
    let world = World::start(Flavor::GitHub, FILES);
    let mut kiosk = world.there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    world.wait_shown(&world.repo.head(), "shorebase/rollout", "success", "");
    // The device is not quicker than what is told of it.
    kiosk.stop();
    world.repo.write("config/kiosk/etc/motd", "second\n");
    let commit = world.push();
    world.wait_shown(&commit, "shorebase/rollout", "pending", "");
    kiosk.start();
    kiosk.wait_file("/etc/motd", "second\n");
    world.wait_shown(&commit, "shorebase/rollout", "success", "1/1 device");
    let mut told = world.told(&commit);
    let pending = ("rollout".to_owned(), "pending".to_owned());
    assert_eq!(told.iter().position(|one| *one == pending), Some(3), "{told:?}");
    told.retain(|one| *one != pending);
    assert_eq!(told, owned(&[("lint", "success"), ("plan", "success"), ("apply", "success"), ("rollout", "success")]));
    let shown = world.forge.shown(&commit);
    assert_eq!(shown["shorebase/lint"].1, "no findings");
    assert!(shown["shorebase/plan"].1.contains("1 device gets another document"), "{shown:?}");
    let link = format!("https://fleet.test/main/{commit}");
    assert!(world.forge.statuses().iter().any(|status| status.target_url.as_deref() == Some(link.as_str())));

    world.repo.write("fleets/kiosk.yaml", "apiVersion: flightctl.io/v1beta1\nkind: Flete\nmetadata: {name: ü}\n");
    let bad = world.push();
    world.wait_shown(&bad, "shorebase/lint", "failure", "fleets/kiosk.yaml:2");
    assert_eq!(world.told(&bad), owned(&[("lint", "failure")]));
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    world.keeps_its_secret();
}

#[test]
fn a_held_commit_is_told_as_held_and_then_as_approved() {
    let (gates, tills) = (fleet("gates", "gate"), fleet("tills", "till"));
    let mut files = FILES.to_vec();
    files.extend([("fleets/gates.yaml", gates.as_str()), ("fleets/tills.yaml", tills.as_str())]);
    let world = World::start(Flavor::GitLab, &files);
    world.repo.remove("fleets/gates.yaml").remove("fleets/tills.yaml");
    let commit = world.push();
    let source = wait_held(&world.there, &commit);
    world.wait_shown(&commit, "shorebase/plan", "pending", "removes 2 of 3 fleets");
    assert_eq!(world.told(&commit), owned(&[("lint", "success"), ("plan", "pending")]));
    let plan = digest(&source);
    world.there.fleetctl_ok(&["source", "approve", "main", "--plan", &plan]);
    world.there.wait_applied(&commit);
    world.wait_shown(&commit, "shorebase/plan", "success", "approved by user:tester");
    world.wait_shown(&commit, "shorebase/rollout", "success", "");
    let told = world.told(&commit);
    let at = |context: &str, state: &str| told.iter().rposition(|one| *one == (context.to_owned(), state.to_owned()));
    assert!(
        at("plan", "pending") < at("plan", "success") && at("plan", "success") < at("apply", "success"),
        "{told:?}"
    );

    // Another one is rejected, and a third takes its place.
    world.repo.write("fleets/gates.yaml", &gates).write("fleets/tills.yaml", &tills);
    let back = world.push();
    world.there.wait_applied(&back);
    world.repo.remove("fleets/gates.yaml").remove("fleets/tills.yaml");
    let rejected = world.push();
    let source = wait_held(&world.there, &rejected);
    world.there.fleetctl_ok(&["source", "reject", "main", "--plan", &digest(&source), "--reason", "nicht heute"]);
    world.wait_shown(&rejected, "shorebase/plan", "failed", "rejected by user:tester: nicht heute");
    world.keeps_its_secret();
}

#[test]
fn what_was_sent_when_the_service_was_killed_is_sent_again_and_nothing_is_lost() {
    let mut world = World::start(Flavor::Gitea, FILES);
    world.wait_shown(&world.repo.head(), "shorebase/rollout", "success", "");
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    // The forge takes the first status, and the service dies before it hears of that.
    world.forge.fail_statuses([Failure::Late(Duration::from_secs(30))]);
    world.repo.write("config/kiosk/etc/motd", "second\n");
    let commit = world.push();
    eventually("the first status", || (world.sent(&commit, "shorebase/lint") == 1).then_some(()));
    assert_eq!(world.told(&commit).len(), 1);
    world.there.kill_service();
    world.there.start_service();
    world.wait_shown(&commit, "shorebase/rollout", "success", "no devices");
    assert_eq!(world.sent(&commit, "shorebase/lint"), 2, "at least once");
    for context in ["shorebase/plan", "shorebase/apply"] {
        assert_eq!(world.sent(&commit, context), 1, "{context}");
    }
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    let all = world.forge.statuses();
    world.there.stop_service();
    world.there.start_service();
    world.repo.write("config/kiosk/etc/motd", "third\n");
    let next = world.push();
    world.wait_shown(&next, "shorebase/rollout", "success", "no devices");
    let told: Vec<_> = world.forge.statuses().into_iter().filter(|status| status.commit != next).collect();
    assert_eq!(told, all, "what was told is not told again");
    world.keeps_its_secret();
}

#[test]
fn a_forge_that_was_away_hears_only_what_holds_one_thing_at_a_time() {
    let mut world = World::start(Flavor::GitHub, FILES);
    world.wait_shown(&world.repo.head(), "shorebase/rollout", "success", "");
    world.forge.away(Some(Failure::Answer(502, Vec::new(), "Bad Gateway".to_owned())));
    let posts = || world.forge.requests().iter().filter(|(_, request)| request.starts_with("POST")).count();
    let before = posts();
    let mut commits = Vec::new();
    for round in 0..4 {
        world.repo.write("config/kiosk/etc/motd", format!("round {round}\n"));
        let commit = world.push();
        world.there.wait_applied(&commit);
        commits.push(commit);
    }
    // Long enough for many tries, were there no backoff.
    std::thread::sleep(Duration::from_secs(6));
    let tries = posts() - before;
    assert!((1..=12).contains(&tries), "{tries} tries while the forge was away");
    assert_eq!(world.told(&commits[3]), []);
    world.there.kill_service();
    world.there.start_service();
    world.forge.away(None);
    world.wait_shown(&commits[3], "shorebase/rollout", "success", "no devices");
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    let news: Vec<_> = world.forge.statuses().into_iter().filter(|status| commits.contains(&status.commit)).collect();
    for commit in &commits {
        for context in ["shorebase/lint", "shorebase/plan", "shorebase/apply"] {
            assert_eq!(world.sent(commit, context), 1, "only the newest state of {context}");
        }
    }
    // In each context the commits come in the order in which they were applied.
    let applied: Vec<&str> =
        news.iter().filter(|s| s.context == "shorebase/apply").map(|s| s.commit.as_str()).collect();
    assert_eq!(applied, commits.iter().map(String::as_str).collect::<Vec<_>>());
    world.keeps_its_secret();
}

#[test]
fn a_pull_request_gets_its_plan_as_one_comment_and_changes_nothing() {
    let world = World::start(Flavor::GitHub, FILES);
    let kiosk = world.there.start_device("kiosk-1");
    kiosk.wait_file("/etc/motd", "first\n");
    let applied = world.repo.head();
    let bare = world.root.path().join("acme/fleet.git");
    let propose = |number: u64, path: &str, content: &str| {
        world.repo.git(&["checkout", "--quiet", "-B", "topic", &applied]);
        world.repo.write(path, content);
        let head = world.repo.commit("a proposal of @somebody");
        let to = format!("topic:refs/pull/{number}/head");
        world.repo.git(&["push", "--quiet", "--force", bare.to_str().unwrap(), &to]);
        world.forge.put_pull(number, &head, "main");
        world.there.fleetctl_ok(&["sync", "main"]);
        head
    };
    let comment = |number: u64, part: &str| {
        eventually(&format!("a comment on {number} with {part:?}"), || {
            let comments = world.forge.comments(number);
            assert!(comments.len() <= 1, "{comments:?}");
            comments.first().map(|one| one.body.clone()).filter(|body| body.contains(part))
        })
    };
    let head = propose(5, "config/kiosk/etc/motd", "second\n");
    let told = comment(5, "1 device gets another document");
    assert!(told.starts_with("<!-- shorebase:plan:main -->\n"), "{told}");
    assert!(told.contains(&head[..12]) && told.contains("which is in force"), "{told}");
    world.wait_shown(&head, "shorebase/lint", "success", "no findings");
    world.wait_shown(&head, "shorebase/plan", "success", "1 device gets another document");

    // Another commit of the same pull request, and a stranger's repository that nobody asked for.
    let trap = ForgeHost::start(Flavor::GitHub, "nobody");
    let trapped = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Repository\nmetadata: {{name: far}}\nspec: {{type: git, url: '{}/far.git'}}\n---\n{}",
        trap.api_url(),
        fleet("gates", "gate").replace(
            "- name: inline\n          inline:\n            - path: /etc/role\n              content: gate\n",
            "- name: far\n          gitRef: {repository: far, targetRevision: main, path: /x}\n",
        ),
    );
    let head = propose(5, "fleets/far.yaml", &trapped);
    comment(5, &head[..12]);
    world.wait_shown(&head, "shorebase/plan", "success", "");
    assert_eq!(trap.requests().len(), 0, "nothing of other hosts is read for a pull request");

    let head = propose(6, "fleets/kiosk.yaml", "kind: Flete\n");
    let told = comment(6, "would be refused");
    assert!(told.contains("fleets/kiosk.yaml:1"), "{told}");
    world.wait_shown(&head, "shorebase/lint", "failure", "fleets/kiosk.yaml:1");
    world.wait_shown(&head, "shorebase/plan", "failure", "would be refused");

    let source = world.there.object("sources", "main").unwrap();
    assert_eq!(source["status"]["appliedCommit"], applied.as_str());
    assert_eq!(kiosk.file("/etc/motd").as_deref(), Some("first\n"));

    // Their mirror goes with the last one, and comes back with the next.
    let mirrors = || {
        let names = std::fs::read_dir(world.there.data_dir().join("mirrors")).unwrap();
        let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.starts_with("pulls-") && !name.contains('.')).count()
    };
    assert_eq!(mirrors(), 1);
    world.forge.close_pull(5);
    world.forge.close_pull(6);
    world.there.fleetctl_ok(&["sync", "main"]);
    eventually("the mirror of pull requests to be gone", || (mirrors() == 0).then_some(()));
    let head = propose(7, "config/kiosk/etc/motd", "third\n");
    comment(7, &head[..12]);
    assert_eq!(mirrors(), 1);
    world.keeps_its_secret();
}
