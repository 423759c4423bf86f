//! The three APIs against their documented contracts, and what becomes of everything that can go wrong.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that does not work")]

use std::time::{Duration, Instant};

use fleet_forge::{
    Commented, Forge, ForgeErrorKind, ForgeKind, ForgeSettings, RepositoryPath, Status, StatusState, comment_mark,
};
use fleet_model::CommitId;
use fleet_test::forge_host::{Failure, Flavor, ForgeHost, OURSELVES};

const TOKEN: &str = "glpat-secret-of-the-test";
const URL: &str = "https://git.test/acme/fleet.git";
const KINDS: [(ForgeKind, Flavor); 3] =
    [(ForgeKind::GitHub, Flavor::GitHub), (ForgeKind::GitLab, Flavor::GitLab), (ForgeKind::Gitea, Flavor::Gitea)];

struct World {
    host: ForgeHost,
    forge: Forge,
    repository: RepositoryPath,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn start(kind: ForgeKind, flavor: Flavor) -> Self {
        let host = ForgeHost::start(flavor, TOKEN);
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let settings = ForgeSettings {
            kind,
            url_prefix: "https://git.test/".to_owned(),
            api_url: host.api_url(),
            token_file,
            ca_pem: None,
        };
        let forge = Forge::new(settings).unwrap();
        let repository = forge.repository(URL).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { host, forge, repository, directory, runtime }
    }

    fn set(&self, state: StatusState, description: &str) -> Result<(), (ForgeErrorKind, String)> {
        let commit = commit(1);
        let target_url = Some("https://fleet.test/c");
        let status = Status { commit: &commit, context: "shorebase/lint", state, description, target_url };
        let result = self.runtime.block_on(self.forge.set_status(&self.repository, &status));
        result.map_err(|error| {
            assert!(!format!("{error:?} {:?}", self.forge).contains(TOKEN), "{error:?}");
            (error.kind, error.message)
        })
    }

    fn comment(&self, body: &str) -> Commented {
        let mark = comment_mark("main");
        let body = format!("{mark}\n{body}");
        self.runtime.block_on(self.forge.put_comment(&self.repository, 5, &mark, &body)).unwrap()
    }
}

fn commit(n: u8) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn answers(code: u16, headers: &[(&'static str, &str)], text: &str) -> [Failure; 1] {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    [Failure::Answer(code, headers, text.to_owned())]
}

#[test]
fn every_forge_takes_every_state_in_its_own_words() {
    for (kind, flavor) in KINDS {
        let world = World::start(kind, flavor);
        let long = format!("größer {}", "ä".repeat(200));
        for (state, text) in [
            (StatusState::Pending, "Ünïcode ✓ 日本"),
            (StatusState::Success, long.as_str()),
            (StatusState::Failure, "two\nlines"),
            (StatusState::Error, ""),
        ] {
            world.set(state, text).unwrap();
        }
        let set = world.host.statuses();
        let words: Vec<&str> = set.iter().map(|status| status.state.as_str()).collect();
        match kind {
            ForgeKind::GitLab => assert_eq!(words, ["pending", "success", "failed", "failed"]),
            ForgeKind::GitHub | ForgeKind::Gitea => assert_eq!(words, ["pending", "success", "failure", "error"]),
        }
        assert_eq!((set[0].description.as_str(), set[2].description.as_str()), ("Ünïcode ✓ 日本", "two lines"));
        assert_eq!(set[1].description.chars().count(), 140);
        assert_eq!((set[0].repository.as_str(), set[0].context.as_str()), ("acme/fleet", "shorebase/lint"));
        assert_eq!(set[0].target_url.as_deref(), Some("https://fleet.test/c"));
    }
}

#[test]
fn the_same_state_again_is_no_failure() {
    for (kind, flavor) in KINDS {
        let world = World::start(kind, flavor);
        world.set(StatusState::Pending, "1/40 devices").unwrap();
        world.set(StatusState::Pending, "2/40 devices").unwrap();
        world.set(StatusState::Success, "40/40 devices").unwrap();
        world.set(StatusState::Success, "40/40 devices").unwrap();
        assert_eq!(world.host.statuses().last().unwrap().state, "success");
    }
}

#[test]
fn every_failure_has_its_kind_and_says_what_to_do() {
    for (kind, flavor) in KINDS {
        let world = World::start(kind, flavor);
        let failing = |failures: [Failure; 1]| {
            world.host.fail(failures);
            world.set(StatusState::Success, "x").unwrap_err()
        };
        let file = world.directory.path().join("token").display().to_string();
        let (found, told) = failing(answers(401, &[], &format!("bad token {TOKEN}")));
        assert!(found == ForgeErrorKind::Denied && told.contains(&file) && told.contains("***"), "{told}");
        let (found, told) = failing(answers(403, &[], "insufficient scope"));
        let scope = match kind {
            ForgeKind::GitHub => "repo:status",
            ForgeKind::GitLab => "role Developer",
            ForgeKind::Gitea => "write:repository",
        };
        assert!(found == ForgeErrorKind::Denied && told.contains(scope) && told.contains("insufficient"), "{told}");
        assert_eq!(failing(answers(404, &[], "Not Found")).0, ForgeErrorKind::NotFound);
        let (found, told) = failing(answers(301, &[("location", "https://elsewhere.test/")], ""));
        assert!(found == ForgeErrorKind::NotFound && told.contains("correct the source's URL"), "{told}");
        assert_eq!(failing(answers(422, &[], "Validation Failed")).0, ForgeErrorKind::Invalid);
        assert_eq!(failing(answers(500, &[], "")).0, ForgeErrorKind::Server);
        let limited = |seconds| ForgeErrorKind::RateLimited { retry_after: Duration::from_secs(seconds) };
        assert_eq!(failing(answers(429, &[("retry-after", "17")], "")).0, limited(17));
        assert_eq!(failing(answers(503, &[("retry-after", "5")], "")).0, limited(5));
        assert_eq!(failing(answers(403, &[("retry-after", "9")], "You have exceeded a secondary limit")).0, limited(9));
        let (found, _) = failing(answers(403, &[("x-ratelimit-remaining", "0")], "API rate limit exceeded"));
        assert_eq!(found, limited(60));
        world.set(StatusState::Success, "x").unwrap();
    }
}

#[test]
fn a_host_that_does_not_answer_costs_one_deadline() {
    let world = World::start(ForgeKind::GitHub, Flavor::GitHub);
    world.host.fail([Failure::Late(Duration::from_secs(60))]);
    let started = Instant::now();
    let (found, _) = world.set(StatusState::Success, "x").unwrap_err();
    assert_eq!(found, ForgeErrorKind::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_token_is_read_whenever_it_is_used() {
    let world = World::start(ForgeKind::GitLab, Flavor::GitLab);
    let file = world.directory.path().join("token");
    world.host.rotate("another");
    assert_eq!(world.set(StatusState::Success, "x").unwrap_err().0, ForgeErrorKind::Denied);
    std::fs::write(&file, "another\n").unwrap();
    world.set(StatusState::Success, "x").unwrap();
    std::fs::write(&file, "two\nlines").unwrap();
    assert_eq!(world.set(StatusState::Success, "x").unwrap_err().0, ForgeErrorKind::Denied);
    std::fs::remove_file(&file).unwrap();
    let (found, told) = world.set(StatusState::Success, "x").unwrap_err();
    assert!(found == ForgeErrorKind::Denied && told.contains("cannot read the token file"), "{told}");
}

#[test]
fn open_pull_requests_for_a_branch_are_listed_page_by_page() {
    for (kind, flavor) in KINDS {
        let world = World::start(kind, flavor);
        for number in 1..=120 {
            world.host.put_pull(number, &format!("{number:040x}"), if number % 3 == 0 { "other" } else { "release/1" });
        }
        let pulls = world.runtime.block_on(world.forge.open_pulls(&world.repository, "release/1")).unwrap();
        assert_eq!(pulls.len(), 80, "{kind}");
        assert_eq!((pulls[0].number, &pulls[0].head), (119, &commit(119)));
        assert!(pulls.iter().all(|pull| pull.base == "release/1"));
    }
}

#[test]
fn our_comment_is_kept_up_to_date_and_those_of_others_are_left_alone() {
    for (kind, flavor) in KINDS {
        let world = World::start(kind, flavor);
        world.host.put_pull(5, &"a".repeat(40), "main");
        let mark = comment_mark("main");
        for n in 0..130 {
            world.host.comment(5, 1, &format!("chatter {n}"));
        }
        let stranger = world.host.comment(5, 2, &format!("{mark}\nforged"));
        let other = world.host.comment(5, OURSELVES, &format!("{}\nof another source", comment_mark("other")));
        assert_eq!(world.comment("first"), Commented::Created);
        assert_eq!(world.comment("first"), Commented::Unchanged);
        assert_eq!(world.comment("zweitens ✓"), Commented::Updated);
        let comments = world.host.comments(5);
        assert_eq!(comments.len(), 133, "{kind}");
        let body = |id: u64| comments.iter().find(|comment| comment.id == id).unwrap().body.clone();
        assert!(body(stranger).ends_with("forged") && body(other).ends_with("another source"));
        assert_eq!(comments.last().unwrap().body, format!("{mark}\nzweitens ✓"));
    }
}

#[test]
fn a_token_without_a_user_finds_its_comment_by_what_it_may_change() {
    let world = World::start(ForgeKind::GitHub, Flavor::GitHub);
    world.host.put_pull(5, &"a".repeat(40), "main");
    world.host.without_user();
    world.host.comment(5, 2, &format!("{}\nforged", comment_mark("main")));
    assert_eq!(world.comment("first"), Commented::Created);
    assert_eq!(world.comment("second"), Commented::Updated);
    assert!(world.host.comments(5)[0].body.ends_with("forged"));
}

#[test]
fn a_host_that_is_something_else_is_told() {
    let world = World::start(ForgeKind::Gitea, Flavor::Gitea);
    world.host.fail(answers(200, &[], "hello"));
    let error = world.runtime.block_on(world.forge.open_pulls(&world.repository, "main")).unwrap_err();
    assert!(error.kind == ForgeErrorKind::Server && error.message.contains("apiUrl"), "{error}");
}
