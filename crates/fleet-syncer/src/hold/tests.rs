//! What holds a commit and what lets it through, against a real database.

use fleet_model::{Digest, SyncRules};
use fleet_store::{HoldDecided, HoldDecision, SourceDefinition, Ts, decide_hold};

use crate::apply::Outcome;
use crate::planning::tests::{ORG, World, device_name};
use crate::tombstones::tests::{Repo, SYNC, child, fleet, id, policy};
use crate::trust;

async fn rules(world: &World, source: &str) -> SyncRules {
    let mut transaction = world.store.begin().await.unwrap();
    trust::rules(&mut transaction, ORG, source).await.unwrap()
}

fn held(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Held(_))
}

const LOOSE: &str = "limits:\n    removedFleets:\n      percent: 100\n  forcedPush: Follow\n  deletionGracePeriod: 0s";

#[tokio::test]
async fn a_policy_in_another_source_takes_no_guard_away() {
    let world = World::new().await;
    let (mut main, mut team) = (Repo::new(&world, "main").await, Repo::new(&world, "peer").await);
    let all = ["a", "b", "c", "d"].map(|name| fleet(name, name, "one"));
    let own = policy("own", "limits:\n    removedFleets:\n      count: 2");
    let main_files = [
        ("a.yaml", all[0].as_str()),
        ("own.yaml", &own),
        ("b.yaml", &all[1]),
        ("c.yaml", &all[2]),
        ("d.yaml", &all[3]),
    ];
    main.commit(1, &main_files).await;
    let before = rules(&world, "main").await;
    let foreign = policy("foreign", &format!("sources: [main]\n  {LOOSE}"));
    team.commit(10, &[("p.yaml", &foreign)]).await;
    let after = rules(&world, "main").await;
    let hour = std::time::Duration::from_secs(3_600);
    let told = |rules: &SyncRules| (rules.limits(4, 100), rules.forced_push(), rules.deletion_grace_or(hour));
    assert_eq!(told(&after), told(&before));
    assert!(held(&main.guarded(2, &main_files[..2]).await), "three of four fleets");
    assert_eq!(world.sql("select count(*) from desired.fleets"), "4");
}

#[tokio::test]
async fn a_policy_counts_in_full_where_it_brings_the_source_in() {
    let world = World::new().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    let sync = SYNC.replace("name: team", "name: sub");
    let loose = policy("loose", &format!("sources: [team, sub]\n  {LOOSE}"));
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC), ("p.yaml", &loose)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    let mut sub = child();
    (sub.name, sub.origin) = ("sub".to_owned(), "ResourceSync/sub".to_owned());
    let sideways = policy("sideways", &format!("sources: [main, team]\n  {LOOSE}"));
    team.with_children(10, &[("a.yaml", &a), ("s.yaml", &sync)], std::slice::from_ref(&sub)).await;
    let mut sub = Repo { world: &world, definition: sub, at: None };
    sub.commit(20, &[("p.yaml", &sideways)]).await;
    let percent = async |source: &str| rules(&world, source).await.limits(10, 10).removed_fleets.percent;
    assert_eq!((percent("team").await, percent("sub").await), (100, 100), "also further down");
    assert_eq!(percent("main").await, 5, "and never upwards");
    assert_eq!(rules(&world, "main").await.forced_push(), fleet_model::ForcedPush::Hold);
    // Whoever is brought in by nobody is nobody's.
    main.commit(2, &[("b.yaml", &b), ("s.yaml", SYNC)]).await;
    assert_eq!((percent("team").await, percent("sub").await), (5, 5));
}

/// The plan that an approval would have to name.
fn asked(world: &World) -> Digest {
    let all = world.sql("select encode(digest, 'hex') from source_holds where source = 'main'");
    format!("sha256:{all}").parse().unwrap()
}

async fn approve(world: &World, digest: Digest) {
    let mut transaction = world.store.begin().await.unwrap();
    let decision =
        HoldDecision { digest, approved: true, by: "user:ann".to_owned(), reason: "looked at it".to_owned() };
    let now = Ts::from(jiff::Timestamp::UNIX_EPOCH);
    let decided = decide_hold(&mut transaction, ORG, "main", Some(&id(2)), &decision, now).await.unwrap();
    assert_eq!(decided, HoldDecided::Recorded);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn an_approval_is_for_what_goes_along_too() {
    let world = World::new().await;
    world.enroll(&device_name(1), &[("role", "a")]).await;
    let mut main = Repo::new(&world, "main").await;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| fleet(name, name, "one"));
    main.with_children(1, &[("b.yaml", &b), ("c.yaml", &c), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    let sub = SourceDefinition { name: "sub".to_owned(), origin: "ResourceSync/sub".to_owned(), ..child() };
    let sync = SYNC.replace("name: team", "name: sub");
    team.with_children(10, &[("a.yaml", &a), ("s.yaml", &sync)], std::slice::from_ref(&sub)).await;
    let mut sub = Repo { world: &world, definition: sub, at: None };
    sub.commit(20, &[("d.yaml", &d)]).await;

    let goes = [("b.yaml", b.as_str())];
    assert!(held(&main.guarded(2, &goes).await));
    let told = world.sql("select array_to_string(sentences, '; ') from source_holds");
    assert!(told.contains("gives up source team with 1 fleet and 1 device"), "{told}");
    assert!(told.contains("gives up source sub with 1 fleet and 0 devices"), "{told}");
    let first = asked(&world);
    assert!(held(&main.guarded(2, &goes).await));
    assert_eq!(asked(&world), first, "nothing changed");
    // The same numbers, another content: whoever approved did not see that.
    approve(&world, first).await;
    team.commit(11, &[("a.yaml", &fleet("a", "a", "two")), ("s.yaml", &sync)]).await;
    assert!(held(&main.guarded(2, &goes).await));
    let second = asked(&world);
    assert_ne!(second, first);
    assert_eq!(world.sql("select reason from source_holds"), "PlanStale");
    // Also one source further down, and the devices.
    sub.commit(21, &[("d.yaml", &fleet("d", "d", "two"))]).await;
    assert!(held(&main.guarded(2, &goes).await));
    let third = asked(&world);
    assert_ne!(third, second);
    world.enroll(&device_name(2), &[("role", "d")]).await;
    world.sql("update devices set dirty = true");
    world.pass().await;
    assert!(held(&main.guarded(2, &goes).await));
    let last = asked(&world);
    assert_ne!(last, third);
    approve(&world, last).await;
    let applied = main.guarded(2, &goes).await;
    assert!(matches!(applied, Outcome::Applied(_)), "{applied:?}");
    let stored =
        world.sql("select encode(digest, 'hex') from desired.plans where source = 'main' and commit_id like '%2'");
    assert_eq!(format!("sha256:{stored}").parse::<Digest>().unwrap(), last, "what was approved is what is told");
    assert_eq!(world.sql("select name from desired.sources"), "main");
}
