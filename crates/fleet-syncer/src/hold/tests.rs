//! What holds a commit and what lets it through, against a real database.

use fleet_model::SyncRules;

use crate::apply::Outcome;
use crate::planning::tests::{ORG, World};
use crate::tombstones::tests::{Repo, SYNC, child, fleet, policy};
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
