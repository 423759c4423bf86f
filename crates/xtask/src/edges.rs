//! Which crate may depend on which. A new edge is a change of the design and is written down here first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// For each crate of the workspace, the crates of the workspace that it may use.
const ALLOWED: [(&str, &[&str]); 22] = [
    // L0: vocabulary.
    ("fleet-model", &[]),
    ("fleet-runtime", &[]),
    // L1: decisions.
    ("fleet-fmt", &[]),
    ("fleet-render", &["fleet-model"]),
    ("fleet-lint", &["fleet-model", "fleet-render", "fleet-trust"]),
    ("fleet-rollout", &["fleet-model"]),
    ("fleet-trust", &["fleet-model"]),
    // L2: adapters.
    ("fleet-git", &["fleet-model", "fleet-runtime"]),
    ("fleet-fetch", &[]),
    ("fleet-forge", &["fleet-model", "fleet-runtime"]),
    ("fleet-store", &["fleet-model", "fleet-runtime"]),
    ("fleet-pki", &["fleet-model", "fleet-runtime"]),
    ("fleet-http", &["fleet-model", "fleet-runtime"]),
    // L3: services.
    (
        "fleet-syncer",
        &[
            "fleet-fetch",
            "fleet-forge",
            "fleet-git",
            "fleet-lint",
            "fleet-model",
            "fleet-pki",
            "fleet-render",
            "fleet-rollout",
            "fleet-runtime",
            "fleet-store",
            "fleet-trust",
        ],
    ),
    ("fleet-agent-api", &["fleet-http", "fleet-model", "fleet-pki", "fleet-runtime", "fleet-store"]),
    ("fleet-user-api", &["fleet-http", "fleet-model", "fleet-pki", "fleet-runtime", "fleet-store"]),
    ("fleet-agent", &["fleet-model", "fleet-pki", "fleet-runtime"]),
    // L4: programs.
    (
        "fleetd",
        &[
            "fleet-agent-api",
            "fleet-fetch",
            "fleet-forge",
            "fleet-git",
            "fleet-http",
            "fleet-lint",
            "fleet-model",
            "fleet-pki",
            "fleet-runtime",
            "fleet-store",
            "fleet-syncer",
            "fleet-user-api",
        ],
    ),
    (
        "fleetctl",
        &[
            "fleet-fmt",
            "fleet-git",
            "fleet-lint",
            "fleet-model",
            "fleet-pki",
            "fleet-render",
            "fleet-runtime",
            "fleet-trust",
        ],
    ),
    // For development.
    ("fleet-test", &["fleet-model"]),
    ("fleet-fuzz", &["fleet-fmt", "fleet-lint", "fleet-model", "fleet-render", "fleet-trust"]),
    ("xtask", &["fleet-test"]),
];

/// More edges that tests of a crate may have. All may use `fleet-test`.
const ALLOWED_IN_TESTS: [(&str, &str); 6] = [
    ("fleetctl", "fleet-http"),
    ("fleetctl", "fleet-store"),
    ("fleetctl", "fleet-user-api"),
    ("fleetd", "fleet-agent"),
    ("fleet-agent-api", "fleet-agent"),
    ("fleet-http", "fleet-pki"),
];

/// Each outside world has one crate: (library, crates that may use it, crates whose tests may).
const OUTSIDE: [(&str, &[&str], &[&str]); 10] = [
    ("gix", &["fleet-git"], &[]),
    ("sqlx", &["fleet-store"], &[]),
    ("jiff-sqlx", &["fleet-store"], &[]),
    ("rcgen", &["fleet-pki", "fleet-test"], &["fleet-http"]),
    ("x509-parser", &["fleet-pki"], &["fleet-http"]),
    ("granit-parser", &["fleet-fmt", "fleet-lint", "fleetd"], &[]),
    ("libfuzzer-sys", &["fleet-fuzz"], &[]),
    ("pretty_yaml", &["fleet-fmt"], &[]),
    ("pgp", &["fleet-trust"], &[]),
    ("ssh-key", &["fleet-trust"], &[]),
];

/// What must not be anywhere below a crate.
const NEVER_BELOW: [(&str, &[&str]); 8] = [
    ("fleet-model", PURE),
    ("fleet-fmt", PURE),
    ("fleet-render", PURE),
    ("fleet-lint", PURE),
    ("fleet-rollout", PURE),
    ("fleet-trust", PURE),
    ("fleet-agent", &["axum", "gix", "sqlx", "sqlx-core"]),
    ("fleetctl", &["fleet-store", "sqlx", "sqlx-core"]),
];
const PURE: &[&str] = &["tokio", "reqwest", "sqlx-core"];
/// One TLS provider and no system library for it: in no build at all.
const NEVER: [&str; 3] = ["native-tls", "openssl-sys", "ring"];

/// The dependency graph as cargo resolves it for this machine.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let host = host(root)?;
    let args = ["metadata", "--format-version=1", "--locked", "--filter-platform", &host];
    let output = crate::cargo().args(args).output().context("running cargo metadata")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")
}

fn host(root: &Path) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("-vV").current_dir(root).output().context("running rustc")?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc names no host")
}

/// Libraries that must not be built and are. Asks `cargo tree`, because the metadata holds optional dependencies too that
/// no feature switches on.
pub(crate) fn check_built() -> Result<Vec<String>> {
    let args = ["tree", "--workspace", "--locked", "--edges=normal,build", "--prefix=none", "--format={p}"];
    let output = crate::cargo().args(args).output().context("running cargo tree")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo tree failed: {}", said.trim());
    let built = String::from_utf8_lossy(&output.stdout);
    let built: BTreeSet<&str> = built.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(built.contains("tokio"), "cargo tree lists no dependencies");
    let found = NEVER.iter().filter(|name| built.contains(**name));
    Ok(found.map(|name| format!("{name} must not be built; `cargo tree -i {name}` says who asks for it")).collect())
}

/// Every edge that is not allowed, one sentence each.
pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let graph = Graph::read(metadata);
    let mut findings = Vec::new();
    for member in &graph.members {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == member) else {
            findings.push(format!("{member}: a new crate; say in crates/xtask/src/edges.rs what it may use"));
            continue;
        };
        for (used, in_tests_only) in graph.direct.get(member).into_iter().flatten() {
            findings.extend(edge_finding(&graph, member, allowed, used, *in_tests_only));
        }
        let below = graph.below(member);
        let banned = NEVER_BELOW.iter().filter(|(name, _)| name == member).flat_map(|(_, banned)| banned.iter());
        for name in banned.filter(|name| below.contains_key(**name)) {
            findings.push(format!("{member}: {name} must not be below it, but is: {}", way(&below, name)));
        }
    }
    findings
}

fn edge_finding(graph: &Graph, member: &str, allowed: &[&str], used: &str, in_tests_only: bool) -> Option<String> {
    if graph.members.contains(used) {
        let in_tests = used == "fleet-test" || ALLOWED_IN_TESTS.contains(&(member, used));
        let is_allowed = allowed.contains(&used) || (in_tests_only && in_tests);
        return (!is_allowed).then(|| format!("{member}: must not use {used}; see crates/xtask/src/edges.rs"));
    }
    let (_, users, test_users) = OUTSIDE.iter().find(|(name, _, _)| *name == used)?;
    let is_allowed = users.contains(&member) || (in_tests_only && test_users.contains(&member));
    (!is_allowed).then(|| format!("{member}: only {} may use {used}", users.join(" and ")))
}

/// `a <- b <- c`: how `name` came to be below a crate.
fn way(below: &BTreeMap<String, String>, name: &str) -> String {
    let mut way = vec![name];
    let mut at = name;
    while let Some(user) = below.get(at)
        && way.len() < 50
    {
        way.push(user);
        at = user;
    }
    way.join(" <- ")
}

struct Graph {
    members: BTreeSet<String>,
    /// Crate of the workspace to what its manifest names, and whether that is for tests only.
    direct: BTreeMap<String, BTreeMap<String, bool>>,
    /// Package id to (name, ids of what it is built with; tests left out).
    nodes: BTreeMap<String, (String, Vec<String>)>,
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let member_ids: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
        let mut direct = BTreeMap::new();
        for package in list(&metadata["packages"]).iter().filter(|p| member_ids.contains(&text(&p["id"]))) {
            let mut used: BTreeMap<String, bool> = BTreeMap::new();
            for dependency in list(&package["dependencies"]) {
                let in_tests_only = dependency["kind"] == "dev";
                *used.entry(text(&dependency["name"])).or_insert(true) &= in_tests_only;
            }
            direct.insert(text(&package["name"]), used);
        }
        let mut nodes = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let built_with = list(&node["deps"]);
            let built_with = built_with.iter().filter(|d| list(&d["dep_kinds"]).iter().any(|k| k["kind"] != "dev"));
            let name = names.get(&text(&node["id"])).cloned().unwrap_or_default();
            nodes.insert(text(&node["id"]), (name, built_with.map(|d| text(&d["pkg"])).collect()));
        }
        let members = member_ids.iter().filter_map(|id| names.get(id).cloned()).collect();
        Self { members, direct, nodes }
    }

    /// Names of all packages below a crate, each with the name of one that uses it.
    fn below(&self, member: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let top = self.nodes.iter().find(|(_, (name, _))| name == member && self.members.contains(name));
        let mut open: Vec<&String> = top.map(|(id, _)| id).into_iter().collect();
        let mut seen: BTreeSet<&String> = open.iter().copied().collect();
        while let Some((name, used)) = open.pop().and_then(|id| self.nodes.get(id)) {
            for id in used {
                if let Some((used_name, _)) = self.nodes.get(id)
                    && seen.insert(id)
                {
                    found.insert(used_name.clone(), name.clone());
                    open.push(id);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn crates_use_only_what_they_may() {
        let findings = check(&metadata(crate::root()).unwrap());
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn there_is_one_tls_provider() {
        let findings = check_built().unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    /// Metadata of a workspace: (crate, what it uses). Names that are no crate here are outside libraries.
    fn workspace(crates: &[(&str, &[(&str, bool)])]) -> Value {
        let dependency =
            |(name, dev): &(&str, bool)| json!({"name": name, "kind": if *dev { json!("dev") } else { Value::Null }});
        let packages: Vec<Value> = crates
            .iter()
            .map(|(name, used)| {
                json!({"id": name, "name": name, "dependencies": used.iter().map(dependency).collect::<Vec<_>>()})
            })
            .collect();
        let dep = |(name, dev): &(&str, bool)| json!({"pkg": name, "dep_kinds": [{"kind": if *dev { json!("dev") } else { Value::Null }}]});
        let nodes: Vec<Value> = crates
            .iter()
            .map(|(name, used)| json!({"id": name, "deps": used.iter().map(dep).collect::<Vec<_>>()}))
            .collect();
        let members: Vec<&str> =
            crates.iter().map(|(name, _)| *name).filter(|name| name.starts_with("fleet") || *name == "new").collect();
        json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}})
    }

    #[test]
    fn an_edge_upwards_is_found_unless_it_is_an_allowed_test_edge() {
        let graph = workspace(&[
            ("fleet-model", &[("fleet-runtime", false), ("fleet-test", true)]),
            ("fleet-runtime", &[]),
            ("fleet-test", &[]),
        ]);
        assert_eq!(check(&graph), ["fleet-model: must not use fleet-runtime; see crates/xtask/src/edges.rs"]);
    }

    #[test]
    fn outside_libraries_have_one_user() {
        let graph = workspace(&[("fleet-git", &[("gix", false)]), ("fleet-store", &[("gix", true)]), ("gix", &[])]);
        assert_eq!(check(&graph), ["fleet-store: only fleet-git may use gix"]);
    }

    #[test]
    fn a_forbidden_library_deep_below_is_found_with_its_way() {
        let graph = workspace(&[
            ("fleet-agent", &[("web", false), ("testing", true)]),
            ("web", &[("axum", false)]),
            ("axum", &[]),
            ("testing", &[("sqlx", false)]),
            ("sqlx", &[]),
        ]);
        assert_eq!(check(&graph), ["fleet-agent: axum must not be below it, but is: axum <- web <- fleet-agent"]);
    }

    #[test]
    fn a_new_crate_must_be_listed() {
        assert_eq!(check(&workspace(&[("new", &[])])).len(), 1);
    }
}
