//! `fleetctl init` makes repositories that lint accepts.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use fleet_runtime::SystemClock;
use fleetctl::{Io, Terminal};
use serde_yaml::Value;

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let code = fleetctl::run(std::iter::once("fleetctl").chain(args.iter().copied()).map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn paths(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn a_new_repository_is_clean() {
    for (ci, file) in [("github", ".github/workflows/fleet.yaml"), ("gitlab", ".gitlab-ci.yml"), ("none", "README.md")]
    {
        for name in ["shops", "on", "2024", "a.b-c"] {
            let dir = tempfile::tempdir().unwrap();
            let repo = dir.path().join("new/fleets");
            let shown = repo.to_str().unwrap();
            let (code, out, err) = run(&["init", "--name", name, "--ci", ci, shown]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            assert!(out.contains(&format!("1. cd {shown}")) && out.contains("git init"), "{out}");
            assert!(repo.join(file).exists(), "{file}");
            let (code, out, err) = run(&["lint", shown]);
            assert!(code == 0 && out.contains("no findings") && err.is_empty(), "{name}: {out}{err}");
            let (code, out, err) = run(&["fmt", "--check", shown]);
            assert_eq!((code, out.as_str()), (0, ""), "{err}");
            let mut all = BTreeSet::new();
            paths(&repo, &repo, &mut all);
            for path in &all {
                let text = fs::read_to_string(repo.join(path)).unwrap();
                assert!(!text.contains("@NAME@") && !text.contains("@SCALAR@"), "{path}");
                assert!(text.ends_with('\n'), "{path}");
            }
            let hook = fs::metadata(repo.join(".githooks/pre-commit")).unwrap();
            assert_eq!(hook.permissions().mode() & 0o777, 0o755);
        }
    }
}

#[test]
fn the_directory_gives_the_name() {
    let dir = tempfile::tempdir().unwrap();
    for (given, name) in [("My Shops_2", "my-shops-2"), ("__", "fleet"), ("Ünder", "nder")] {
        let repo = dir.path().join(given);
        let (code, _, err) = run(&["init", repo.to_str().unwrap()]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(repo.join(format!("fleets/{name}.yaml")).exists(), "{given}");
    }
    assert_eq!(run(&["init", "--name", "No Name", dir.path().join("x").to_str().unwrap()]).0, 2);
}

#[test]
fn what_is_in_the_way_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().to_str().unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join("README.md"), "mine\n").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine\n").unwrap();
    let (code, out, err) = run(&["init", shown]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("not empty: README.md, notes.txt;") && err.contains("--force"), "{err}");
    assert_eq!(fs::read_to_string(dir.path().join("README.md")).unwrap(), "mine\n");
    let (code, out, _) = run(&["init", "--force", "--name", "pos", shown]);
    assert!(code == 0 && !out.contains("git init"), "{out}");
    assert!(fs::read_to_string(dir.path().join("README.md")).unwrap().starts_with("# pos\n"));
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "mine\n");
    fs::remove_file(dir.path().join("README.md")).unwrap();
    fs::remove_dir_all(dir.path().join("fleets")).unwrap();
}

#[test]
fn a_git_directory_alone_is_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    let (code, out, err) = run(&["init", "--name", "pos", dir.path().to_str().unwrap()]);
    assert!(code == 0 && !out.contains("git init"), "{out}{err}");
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn example(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-fleet-repo").join(path)
}

#[test]
fn the_example_repository_has_the_same_checks() {
    let dir = tempfile::tempdir().unwrap();
    for ci in ["github", "gitlab"] {
        let (code, _, err) = run(&["init", "--force", "--ci", ci, dir.path().to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
    }
    for path in [".github/workflows/fleet.yaml", ".gitlab-ci.yml", ".pre-commit-config.yaml", ".githooks/pre-commit"] {
        let (new, old) =
            (fs::read_to_string(dir.path().join(path)).unwrap(), fs::read_to_string(example(path)).unwrap());
        assert!(new == old, "copy crates/fleetctl/src/init/repo/{path} to example-fleet-repo/{path}");
    }
}

/// Every command line of `fleetctl` in a text, without redirections.
fn fleetctl_calls(text: &str) -> Vec<Vec<String>> {
    let calls = text.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ").trim_start_matches("run: ").trim_start_matches("entry: ");
        let call = line.strip_prefix("fleetctl ")?.split(['>', '|', '#']).next()?;
        Some(call.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
    });
    calls.collect()
}

#[test]
fn the_checks_call_commands_that_exist() {
    let mut seen = 0;
    for path in [".github/workflows/fleet.yaml", ".gitlab-ci.yml", ".pre-commit-config.yaml", ".githooks/pre-commit"] {
        for call in fleetctl_calls(&fs::read_to_string(example(path)).unwrap()) {
            let args: Vec<&str> = call.iter().map(String::as_str).chain(["--help"]).collect();
            let help = run(&args);
            assert_eq!(help.0, 0, "{path}: fleetctl {call:?}: {}", help.2);
            // `--help` ends the reading of arguments: the options are looked up by name.
            let words: Vec<&String> = call.iter().skip(1).collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "-o") {
                assert!(
                    help.1.contains(&format!("- {}:", pair[1])) || help.1.contains(pair[1].as_str()),
                    "{path}: {call:?}"
                );
            }
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.1.contains(option.as_str()), "{path}: {call:?}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} calls");
}

#[test]
fn the_workflow_is_sound_and_has_no_more_rights_than_it_needs() {
    let workflow = yaml(&example(".github/workflows/fleet.yaml"));
    assert_eq!(workflow["permissions"], Value::Mapping(serde_yaml::Mapping::new()), "no right by default");
    // YAML 1.2 reads `on` as text; GitHub does, too.
    let triggers = workflow["on"].as_mapping().unwrap();
    assert!(triggers.contains_key("pull_request") && !triggers.contains_key("pull_request_target"));
    let jobs = workflow["jobs"].as_mapping().unwrap();
    for (name, job) in jobs {
        let name = name.as_str().unwrap();
        assert!(job["runs-on"].is_string(), "{name}");
        if let Some(needed) = job.get("needs") {
            assert!(jobs.contains_key(needed), "{name}");
        }
        let writes = job["permissions"].as_mapping().unwrap().values().any(|right| right == "write");
        let steps = job["steps"].as_sequence().unwrap();
        let checks_out =
            steps.iter().any(|step| step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@")));
        assert!(!(writes && checks_out), "{name} writes and runs code of the pull request");
        if writes {
            assert!(
                job["if"].as_str().unwrap().contains("head.repo.full_name == github.repository"),
                "{name} leaves out forks"
            );
        }
        for step in steps {
            assert!(step.get("run").is_some() != step.get("uses").is_some(), "{name}: {step:?}");
            let script = step["run"].as_str().unwrap_or_default();
            assert!(!script.contains("${{"), "{name}: values come in through the environment, not into the script");
            let checked = Command::new("bash").args(["-n", "-c", script]).status().unwrap();
            assert!(checked.success(), "{name}: {script}");
        }
    }
    let gitlab = yaml(&example(".gitlab-ci.yml"));
    for job in ["lint", "plan"] {
        for line in gitlab[job]["script"].as_sequence().unwrap() {
            assert!(
                Command::new("bash").args(["-n", "-c", line.as_str().unwrap()]).status().unwrap().success(),
                "{line:?}"
            );
        }
    }
    let hooks = yaml(&example(".pre-commit-config.yaml"));
    let hooks = hooks["repos"][0]["hooks"].as_sequence().unwrap().clone();
    assert!(hooks.iter().all(|hook| hook["entry"].as_str().unwrap().starts_with("fleetctl ")));
}
