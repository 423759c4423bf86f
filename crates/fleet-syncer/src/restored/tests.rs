//! Desired state made again from durable facts, against a real database.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_fetch::{FilesSecrets, SecretProvider};
use fleet_model::{CommitId, Kind};
use fleet_store::ObjectOwner;

use crate::apply::ApplyError;
use crate::desired::Desired;
use crate::planning::tests::{Files, ORG, World, device_name};
use crate::secrets::{Secrets, SecretsConfig};

fn id(n: u64) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn fleet(name: &str, config: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{role: {name}}}}}\n  \
         template:\n    spec:\n      config:\n        - name: door\n          {config}\n"
    )
}

fn inline(name: &str) -> String {
    fleet(name, "inline: [{path: /etc/x, content: x}]")
}

fn secret(mount: &str) -> String {
    fleet("doors", &format!("secretRef: {{namespace: ops, name: door, mountPath: {mount}}}"))
}

fn files(all: &[&str]) -> Files {
    all.iter().enumerate().map(|(n, content)| (format!("{n}.yaml"), (*content).to_owned())).collect()
}

/// A world that reads the secret ops/door from a directory.
async fn world_with_secret(directory: &Path) -> World {
    write(directory, "1");
    let mut world = World::new().await;
    let config = SecretsConfig {
        provider: Arc::new(SecretProvider::Files(FilesSecrets::new(directory))),
        namespaces: BTreeSet::new(),
        poll_interval: Duration::ZERO,
    };
    world.secrets = Secrets::new(Some(config), world.store.clone());
    world
}

fn write(directory: &Path, content: &str) {
    std::fs::create_dir_all(directory.join("ops/door")).unwrap();
    std::fs::write(directory.join("ops/door/pin"), content).unwrap();
}

async fn drop_desired_state(world: &World, sources: &[&str]) {
    // All connections at once: whatever was read with one before has let go of its tables.
    let begin = async || world.store.begin().await.unwrap();
    drop((begin().await, begin().await, begin().await));
    world.sql("drop schema desired cascade");
    world.store.migrate().await.unwrap();
    for source in sources {
        world.source(source).await;
    }
}

/// The fleet's revision, and why it has none.
fn told(desired: &Desired) -> (Option<&str>, Option<&str>) {
    (desired.fleets[0].revision.as_deref(), desired.fleets[0].problem.as_deref())
}

#[tokio::test]
async fn what_has_no_history_comes_back_only_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let world = world_with_secret(directory.path()).await;
    let source = world.source("main").await;
    let doors = files(&[&secret("/etc/door")]);
    let desired = world.desired("main", &id(1), &doors).await;
    let revision = desired.fleets[0].revision.clone().unwrap();
    world.apply(&source, None, &id(1), &desired).await;
    let pins = || world.sql("select source, owner, revision, inputs from source_pins");
    let noted = pins();
    assert!(noted.starts_with(&format!("main|doors|{revision}|")), "{noted}");

    drop_desired_state(&world, &["main"]).await;
    let again = world.desired_again("main", &id(1), &doors).await;
    assert_eq!(told(&again), (Some(revision.as_str()), None));

    // Other contents, no contents, another fleet by that name: it waits with a reason, and what is known stays known.
    write(directory.path(), "2");
    let again = world.desired_again("main", &id(1), &doors).await;
    let (none, problem) = told(&again);
    let problem = problem.unwrap();
    assert!(none.is_none() && problem.starts_with("the secret ops/door has other contents by now"), "{problem}");
    world.apply(&source, None, &id(1), &again).await;
    assert_eq!(pins(), noted);
    std::fs::remove_file(directory.path().join("ops/door/pin")).unwrap();
    let again = world.desired_again("main", &id(1), &doors).await;
    assert!(told(&again).0.is_none() && told(&again).1.unwrap().contains("ops/door"), "{:?}", told(&again));
    write(directory.path(), "1");
    let again = world.desired_again("main", &id(1), &files(&[&secret("/etc/gate")])).await;
    let problem = told(&again).1.unwrap();
    assert!(problem.starts_with(&format!("revision {revision} of doors, which was in force, ")), "{problem}");
    let again = world.desired_again("other", &id(1), &doors).await;
    assert_eq!(told(&again), (None, Some("what doors had of door is not known")));
    // Dropped again while it waited: the contents that were in force are back by now, and so is the revision.
    drop_desired_state(&world, &["main"]).await;
    let again = world.desired_again("main", &id(1), &doors).await;
    assert_eq!(told(&again), (Some(revision.as_str()), None));
    world.apply(&source, None, &id(1), &again).await;

    // A newer commit has what is there now, and one without content from elsewhere leaves nothing behind.
    write(directory.path(), "2");
    let newer = world.desired("main", &id(2), &doors).await;
    world.apply(&source, Some(&id(1)), &id(2), &newer).await;
    assert_ne!(pins(), noted);
    let plain = world.desired("main", &id(3), &files(&[&inline("doors")])).await;
    world.apply(&source, Some(&id(2)), &id(3), &plain).await;
    assert_eq!(pins(), "");
}

#[tokio::test]
async fn a_source_that_is_back_first_takes_nothing_that_another_defines() {
    let world = World::new().await;
    let (main, team) = (world.source("main").await, world.source("team").await);
    let (a, b, c, d) = (inline("a"), inline("b"), inline("c"), inline("d"));
    let desired = world.desired("main", &id(1), &files(&[&a])).await;
    world.apply(&main, None, &id(1), &desired).await;
    let desired = world.desired("team", &id(10), &files(&[&b, &c])).await;
    world.apply(&team, None, &id(10), &desired).await;
    // One object moves, and what a commit has no more is free at once.
    let desired = world.desired("team", &id(11), &files(&[&b])).await;
    world.apply(&team, Some(&id(10)), &id(11), &desired).await;
    let owners = || world.sql("select name, source from object_owners order by name").replace('\n', ", ");
    assert_eq!(owners(), "a|main, b|team");
    drop_desired_state(&world, &["main", "team"]).await;

    let desired = world.desired_again("main", &id(1), &files(&[&a])).await;
    world.apply(&main, None, &id(1), &desired).await;
    let desired = world.desired("main", &id(2), &files(&[&a, &b, &c])).await;
    let refused = world.try_apply(&main, Some(&id(1)), &id(2), &desired).await;
    let Err(ApplyError::OwnedByAbsent(owned)) = refused else { panic!("{refused:?}") };
    let b_of_team = ObjectOwner { kind: Kind::Fleet, name: "b".to_owned(), source: "team".to_owned() };
    assert_eq!(owned, [b_of_team]);
    // What nobody defines goes ahead, however long the other is away.
    let desired = world.desired("main", &id(3), &files(&[&a, &c, &d])).await;
    world.apply(&main, Some(&id(1)), &id(3), &desired).await;
    assert_eq!(owners(), "a|main, b|team, c|main, d|main");

    // The other is back, finds that what it wants newly is taken, and has what it had.
    let desired = world.desired_again("team", &id(11), &files(&[&b])).await;
    world.apply(&team, None, &id(11), &desired).await;
    let desired = world.desired("team", &id(12), &files(&[&b, &c])).await;
    let refused = world.try_apply(&team, Some(&id(11)), &id(12), &desired).await;
    assert!(matches!(refused, Err(ApplyError::DefinedElsewhere(_))), "{refused:?}");
    let desired = world.desired("main", &id(4), &files(&[&a, &b])).await;
    let refused = world.try_apply(&main, Some(&id(3)), &id(4), &desired).await;
    assert!(matches!(refused, Err(ApplyError::DefinedElsewhere(_))), "{refused:?}");
}

#[tokio::test]
async fn names_of_a_source_that_is_given_up_are_free() {
    let world = World::new().await;
    let (main, team) = (world.source("main").await, world.source("team").await);
    let (a, b) = (inline("a"), inline("b"));
    for (source, commit, content) in [(&main, 1, &a), (&team, 10, &b)] {
        let desired = world.desired(&source.name, &id(commit), &files(&[content])).await;
        world.apply(source, None, &id(commit), &desired).await;
    }
    drop_desired_state(&world, &["main"]).await;
    let mut transaction = world.store.begin().await.unwrap();
    let configured = ["main".to_owned()];
    fleet_store::forget_positions_except(&mut transaction, ORG, &configured).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(world.sql("select name, source from object_owners"), "a|main");
    let desired = world.desired("main", &id(2), &files(&[&a, &b])).await;
    world.apply(&main, None, &id(2), &desired).await;
    assert_eq!(world.sql("select name, source from object_owners order by name"), "a|main\nb|main");
}

#[tokio::test]
async fn an_installation_that_runs_already_learns_what_is_in_force_and_who_defines_what() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = world_with_secret(directory.path()).await;
    world.grace = Duration::from_secs(60);
    let source = world.source("main").await;
    let device = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata: {{name: {}}}\nspec:\n  config:\n    - name: own\n      \
         secretRef: {{namespace: ops, name: door, mountPath: /etc/own}}\n",
        device_name(1)
    );
    let desired =
        world.desired("main", &id(1), &files(&[&secret("/etc/door"), &inline("a"), &inline("b"), &device])).await;
    world.apply(&source, None, &id(1), &desired).await;
    let desired = world.desired("main", &id(2), &files(&[&secret("/etc/door"), &inline("a"), &device])).await;
    world.apply(&source, Some(&id(1)), &id(2), &desired).await;
    let known = || {
        let pins = world.sql("select source, owner, revision, inputs from source_pins order by owner");
        (pins, world.sql("select org_id, kind, name, source from object_owners order by kind, name"))
    };
    let before = known();
    assert_eq!((before.0.lines().count(), before.1.lines().count()), (2, 3), "{before:#?}");
    world.sql("drop table source_pins, object_owners; delete from _sqlx_migrations where version = 11");
    world.store.migrate().await.unwrap();
    assert_eq!(known(), before);
    // Damaged desired state is no reason not to start.
    world.sql("drop table source_pins, object_owners, desired.fleets; delete from _sqlx_migrations where version = 11");
    world.store.migrate().await.unwrap();
    assert_eq!(known(), (String::new(), String::new()));
}
