//! Several sources of one repository at one forge: each has contexts of its own beside a commit, and keeps them.

use std::collections::BTreeMap;

use fleet_test::forge_host::Flavor;

use crate::harness::eventually;
use crate::holds::{enroll, fleet, owned};
use crate::outbox::World;

const TWO: &str = "revision: main, path: gates}\n- {name: two, url: '{url}', revision: main, path: tills}";

/// The contexts beside a commit with their states.
fn states(world: &World, commit: &str) -> BTreeMap<String, String> {
    let shown = world.forge.shown(commit).into_iter();
    shown.map(|(context, (state, _))| (context.trim_start_matches("shorebase/").to_owned(), state)).collect()
}

fn all(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(context, state)| ((*context).to_owned(), (*state).to_owned())).collect()
}

fn wait_states(world: &World, commit: &str, wanted: &[(&str, &str)]) {
    eventually(&format!("{wanted:?} at {commit}, not {:?}", states(world, commit)), || {
        (states(world, commit) == all(wanted)).then_some(())
    });
}

#[test]
fn two_sources_of_one_repository_do_not_overwrite_each_other_and_one_goes_on_when_the_other_is_gone() {
    let (gates, tills) = (fleet("gates", "one"), fleet("tills", "one"));
    let files = [("gates/gates.yaml", gates.as_str()), ("tills/tills.yaml", tills.as_str())];
    let mut world = World::start_sources(Flavor::GitHub, &files, TWO);
    let first = world.repo.head();
    let good = |source: &str| -> Vec<(String, &'static str)> {
        ["lint", "plan", "apply", "rollout"].map(|context| (format!("{context} ({source})"), "success")).to_vec()
    };
    let both: Vec<(String, &str)> = good("main").into_iter().chain(good("two")).collect();
    let both: Vec<(&str, &str)> = both.iter().map(|(context, state)| (context.as_str(), *state)).collect();
    wait_states(&world, &first, &both);

    // One of them refuses a commit that the other one applies.
    world.repo.write("tills/tills.yaml", "kind: Fleet\n");
    let second = world.push();
    let mut half: Vec<(&str, &str)> = both[..4].to_vec();
    half.push(("lint (two)", "failure"));
    wait_states(&world, &second, &half);
    world.wait_shown(&second, "shorebase/lint (two)", "failure", "tills/tills.yaml:1");

    // After a kill nothing is told under another name; a device that is away keeps a rollout open.
    enroll(&world.there, "device0000000000000a", "gates");
    eventually("the device to get its document", || (owned(&world.there) == "gates 1").then_some(()));
    world.repo.write("tills/tills.yaml", fleet("tills", "two")).write("gates/gates.yaml", fleet("gates", "two"));
    let third = world.push();
    let open = ("rollout (main)", "pending");
    let mut waits: Vec<(&str, &str)> = both.clone();
    waits.retain(|(context, _)| *context != open.0);
    waits.push(open);
    wait_states(&world, &third, &waits);
    world.there.kill_service();
    world.there.start_service();
    world.there.wait_applied(&third);
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    assert_eq!((states(&world, &third), states(&world, &second)), (all(&waits), all(&half)));

    // One source is given up: what the other one left open is closed where it was opened.
    world.there.stop_service();
    world.there.source_rest = "revision: main, path: gates}".to_owned();
    world.there.start_service();
    eventually("the source to be gone", || world.there.is_gone("sources", "two").then_some(()));
    world.repo.write("gates/gates.yaml", fleet("gates", "three"));
    let fourth = world.push();
    world.there.wait_applied(&fourth);
    wait_states(
        &world,
        &fourth,
        &[("lint", "success"), ("plan", "success"), ("apply", "success"), ("rollout", "pending")],
    );
    waits.retain(|(context, _)| *context != open.0);
    waits.push(("rollout (main)", "error"));
    wait_states(&world, &third, &waits);
    eventually("nothing to wait", || (world.waiting() == "0").then_some(()));
    world.keeps_its_secret();
}
