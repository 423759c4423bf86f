//! What `fleetctl plan` says of signatures, on real repositories with commits that real keys signed.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use fleet_runtime::SystemClock;
use fleet_test::GitRepo;
use fleetctl::{Io, Terminal};
use serde_json::Value;

const EVERY: &str = "      - signedBy: [platform]\n";

fn plan(repo: &GitRepo, args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let all = ["fleetctl", "plan", "--root", repo.path().to_str().unwrap()].into_iter().chain(args.iter().copied());
    let code = fleetctl::run(all.map(OsString::from), &mut io);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn json(repo: &GitRepo, args: &[&str]) -> Value {
    let (code, out, err) = plan(repo, &[args, &["-o", "json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// The commits that would be held, by the first line of their message, with the word for why.
fn held(repo: &GitRepo, range: &str) -> Vec<(String, String)> {
    let report = json(repo, &[range]);
    assert_eq!(report["signatures"]["judged"], true, "{report:#}");
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let all = report["signatures"]["held"].as_array().unwrap().iter();
    all.map(|one| (text(one, "subject"), text(one, "code"))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(subject, code)| ((*subject).to_owned(), (*code).to_owned())).collect()
}

struct Key {
    file: PathBuf,
    public: String,
}

fn key(repo: &GitRepo, name: &str) -> Key {
    let file = repo.scratch().join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-C", name, "-f"]).arg(&file).output();
    assert!(made.unwrap().status.success());
    let text = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    Key { file, public: text.split(' ').take(2).collect::<Vec<_>>().join(" ") }
}

/// Has Git sign with this key when it is told to sign.
fn with_key(repo: &GitRepo, key: &Key) {
    repo.git(&["config", "gpg.format", "ssh"]);
    repo.git(&["config", "user.signingKey", key.file.to_str().unwrap()]);
}

fn signed(repo: &GitRepo, message: &str) -> String {
    repo.git(&["add", "--all"]);
    repo.git(&["commit", "--quiet", "--allow-empty", "-S", "-m", message]);
    repo.head()
}

fn policy(who: &str, rules: &str) -> String {
    format!(
        "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: trust\nspec:\n  trust:\n    signers:\n      - name: platform\n        \
         ssh: |\n          {who}\n    rules:\n{rules}"
    )
}

fn fleet(name: &str, role: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels: {{role: {role}}}\n  \
         template:\n    spec:\n      config:\n        - name: inline\n          inline:\n            - path: /etc/role\n              content: {role}\n"
    )
}

/// A repository with two fleets and a policy on `main`; somebody whom it trusts works on the branch `change`.
fn start(rules: &str) -> (GitRepo, Key) {
    let repo = GitRepo::init();
    let key = key(&repo, "anna");
    repo.write("fleets/gates.yaml", fleet("gates", "gate")).write("fleets/doors.yaml", fleet("doors", "door"));
    repo.write("policies/trust.yaml", policy(&format!("anna@example.com {}", key.public), rules));
    repo.commit("the base, by nobody");
    with_key(&repo, &key);
    repo.branch("change");
    (repo, key)
}

#[test]
fn a_commit_nobody_signed_is_named_and_what_is_said_to_do_helps() {
    let (repo, _) = start(EVERY);
    repo.write("fleets/tills.yaml", fleet("tills", "till"));
    signed(&repo, "tills, signed");
    repo.write("fleets/gates.yaml", fleet("gates", "gate2"));
    repo.commit("gates, by nobody");
    repo.write("README.md", "words");
    signed(&repo, "words, signed");
    assert_eq!(held(&repo, "main..change"), pairs(&[("gates, by nobody", "UnsignedCommit")]));
    let (code, out, _) = plan(&repo, &["main..change"]);
    assert_eq!(code, 0, "only --fail-on-limits fails");
    assert!(out.contains("wait for a person: 1 of 3 commits lacks a signature that a rule asks for"), "{out}");
    assert!(out.contains("breaks the rule for every commit (signed by platform): it is not signed"), "{out}");
    assert!(out.contains("note: a merge or squash that the Git host makes is another commit"), "{out}");
    assert_eq!(plan(&repo, &["main..change", "--fail-on-limits"]).0, 1);
    let (_, markdown, _) = plan(&repo, &["main..change", "-o", "markdown"]);
    assert!(markdown.contains("### Signatures\n\n`the change would have to wait"), "{markdown}");
    assert!(markdown.contains("- **UnsignedCommit**: `commit "), "{markdown}");

    // What it says is what is run.
    let digest = json(&repo, &["main..change"])["plan"]["digest"].clone();
    let report = json(&repo, &["main..change"]);
    let fix = report["signatures"]["fix"][0].as_str().unwrap();
    let command = fix.strip_prefix("sign again, with a key of platform: git ").unwrap();
    repo.git(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(held(&repo, "main..change"), []);
    let (code, out, _) = plan(&repo, &["main..change", "--fail-on-limits"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains(
            "all 3 commits have every signature that a rule asks for; the newest is signed by anna@example.com"
        ),
        "{out}"
    );
    assert_eq!(json(&repo, &["main..change"])["plan"]["digest"], digest, "signatures are no part of the plan");

    repo.write("README.md", "more words");
    repo.commit("by nobody");
    let report = json(&repo, &["main..change"]);
    let fix = report["signatures"]["fix"][0].as_str().unwrap();
    assert_eq!(fix, "sign again, with a key of platform: git commit --amend --no-edit -S");
    repo.git(&["commit", "--amend", "--no-edit", "-S", "--quiet"]);
    assert_eq!(held(&repo, "main..change"), []);
}

#[test]
fn a_change_cannot_grant_itself_trust() {
    let (repo, anna) = start(EVERY);
    let mallory = key(&repo, "mallory");
    with_key(&repo, &mallory);
    repo.write("policies/trust.yaml", policy(&format!("mallory@example.com {}", mallory.public), EVERY));
    signed(&repo, "mallory is trusted");
    assert_eq!(held(&repo, "main..change"), pairs(&[("mallory is trusted", "UntrustedSigner")]));
    repo.remove("policies/trust.yaml");
    repo.commit("no rules any more");
    repo.write("README.md", "x");
    signed(&repo, "by mallory");
    let all = [
        ("mallory is trusted", "UntrustedSigner"),
        ("no rules any more", "UnsignedCommit"),
        ("by mallory", "UntrustedSigner"),
    ];
    assert_eq!(held(&repo, "main..change"), pairs(&all));
    // Once the base has no rules, nothing is asked for.
    with_key(&repo, &anna);
    let report = json(&repo, &["HEAD~1..HEAD"]);
    assert_eq!((&report["signatures"]["asked"], &report["signatures"]["judged"]), (&false.into(), &false.into()));
    let (_, out, _) = plan(&repo, &["HEAD~1..HEAD"]);
    assert!(!out.contains("Signatures"), "{out}");
}

#[test]
fn rules_by_path_and_by_effect_name_what_the_service_would_hold() {
    let rules = "      - paths: [\"fleets/prod/**\"]\n        effects: [RemoveFleet, SyncPolicy]\n        signedBy: [platform]\n";
    let (repo, _) = start(rules);
    repo.write("fleets/tills.yaml", fleet("tills", "till"));
    repo.commit("elsewhere, by nobody");
    assert_eq!(held(&repo, "main..change"), []);
    repo.write("fleets/prod/pumps.yaml", fleet("pumps", "pump"));
    repo.commit("pumps, by nobody");
    let (_, out, _) = plan(&repo, &["main..change"]);
    assert_eq!(held(&repo, "main..change"), pairs(&[("pumps, by nobody", "UnsignedCommit")]));
    assert!(out.contains("the rule for fleets/prod/**, RemoveFleet, SyncPolicy (signed by platform)"), "{out}");
    repo.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    // The one before the removal would be applied by itself.
    repo.remove("fleets/gates.yaml");
    repo.commit("no gates, by nobody");
    assert_eq!(held(&repo, "main..change"), pairs(&[("no gates, by nobody", "UnsignedCommit")]));
    let report = json(&repo, &["main..change"]);
    assert_eq!(report["signatures"]["held"][0]["effect"], "RemoveFleet");
    // Who removes has signed; what nobody signed comes after it and by itself removes nothing.
    repo.git(&["commit", "--quiet", "--amend", "--no-edit", "-S"]);
    repo.write("README.md", "words");
    repo.commit("words, by nobody");
    assert_eq!(held(&repo, "main..change"), []);
    // In one go with an error in between there are no parts.
    repo.write("fleets/tills.yaml", "kind: Flete\n");
    repo.commit("broken, by nobody");
    repo.write("fleets/tills.yaml", fleet("tills", "till")).remove("fleets/doors.yaml");
    repo.commit("no doors, by nobody");
    let last = pairs(&[("broken, by nobody", "UnsignedCommit"), ("no doors, by nobody", "UnsignedCommit")]);
    assert_eq!(held(&repo, "HEAD~2..HEAD"), last);
}

#[test]
fn what_is_not_committed_is_not_judged() {
    let (repo, _) = start(EVERY);
    repo.write("fleets/gates.yaml", fleet("gates", "gate2"));
    let report = json(&repo, &["main.."]);
    assert_eq!((&report["signatures"]["asked"], &report["signatures"]["judged"]), (&true.into(), &false.into()));
    let (code, out, _) = plan(&repo, &["main..", "--fail-on-limits"]);
    assert!(code == 0 && out.contains("not judged: the checkout as it lies there is no commit"), "{out}");
    let (_, out, _) = plan(&repo, &["main..", "-o", "markdown"]);
    assert!(out.contains("> Signatures are not judged: `the checkout"), "{out}");
}

#[test]
fn a_policy_that_names_sources_counts_for_them() {
    let (repo, key) = start(EVERY);
    repo.switch("main");
    let named = policy(&format!("anna@example.com {}", key.public), EVERY)
        .replace("  trust:\n", "  sources: [main]\n  trust:\n");
    repo.write("policies/trust.yaml", named);
    repo.commit("of main");
    repo.git(&["checkout", "--quiet", "-B", "change"]);
    repo.write("README.md", "x");
    repo.commit("by nobody");
    let (_, out, _) = plan(&repo, &["main..change"]);
    assert!(out.contains("not judged: a SyncPolicy asks for signatures in sources that it names"), "{out}");
    let report = json(&repo, &["main..change", "--source", "main"]);
    assert_eq!(report["signatures"]["held"][0]["code"], "UnsignedCommit");
    let report = json(&repo, &["main..change", "--source", "other"]);
    assert_eq!(report["signatures"]["asked"], false);
}

#[test]
fn a_merge_vouches_for_what_it_merges_and_a_branch_that_is_behind_says_so() {
    let rules = "      - paths: [\"fleets/**\"]\n        signedBy: [platform]\n";
    let (repo, _) = start(rules);
    repo.write("fleets/gates.yaml", fleet("gates", "gate2"));
    repo.commit("gates, by nobody");
    repo.git(&["switch", "--quiet", "-c", "landing", "main"]);
    repo.git(&["merge", "--quiet", "--no-ff", "-S", "-m", "merge, signed", "change"]);
    assert_eq!(held(&repo, "main..landing"), []);
    assert_eq!(json(&repo, &["main..landing"])["signatures"]["commits"], 1);

    repo.git(&["switch", "--quiet", "-c", "side", "main"]);
    repo.write("README.md", "words");
    repo.commit("words, by nobody");
    assert_eq!(held(&repo, "main..side"), []);
    repo.switch("main").write("fleets/tills.yaml", fleet("tills", "till"));
    signed(&repo, "tills, signed");
    assert_eq!(held(&repo, "main...side"), []);
    let (_, out, _) = plan(&repo, &["main..side"]);
    assert!(
        out.contains("words, by nobody") && out.contains("does not follow main") && out.contains("main...side"),
        "{out}"
    );
}

#[test]
fn a_clone_without_the_commits_says_what_to_fetch() {
    let (repo, _) = start(EVERY);
    for number in 0..4 {
        repo.write("README.md", format!("{number}"));
        signed(&repo, &format!("commit {number}"));
    }
    let base = repo.git(&["rev-parse", "HEAD~3"]);
    let clone = GitRepo::init();
    let url = format!("file://{}", repo.path().display());
    clone.git(&["fetch", "--quiet", "--depth=2", &url, "change"]);
    clone.git(&["checkout", "--quiet", "FETCH_HEAD"]);
    clone.git(&["fetch", "--quiet", "--depth=1", &url, "main:base"]);
    let (code, _, err) = plan(&clone, &["base..HEAD"]);
    assert!(code == 2 && err.contains("fetch-depth: 0"), "{code} {err}");
    let (code, _, err) = plan(&clone, &[&format!("{base}..HEAD")]);
    assert!(code == 2 && err.contains("fetch-depth: 0"), "{code} {err}");
}

#[test]
fn a_merge_that_only_tries_is_judged_by_the_commits_that_it_tries() {
    let (repo, _) = start("      - paths: [\"fleets/**\"]\n        signedBy: [platform]\n");
    repo.write("fleets/tills.yaml", fleet("tills", "till"));
    signed(&repo, "tills, signed");
    repo.write("README.md", "words");
    repo.commit("words, by nobody");
    repo.switch("main").write("fleets/lifts.yaml", fleet("lifts", "lift"));
    signed(&repo, "lifts, signed");
    // As CI checks a pull request out: merged by nobody, and no more history than that.
    repo.git(&["switch", "--quiet", "--detach", "main"]);
    repo.git(&["merge", "--quiet", "--no-ff", "-m", "a try", "change"]);
    assert_eq!(held(&repo, "HEAD^1..HEAD"), pairs(&[("a try", "UnsignedCommit")]));
    let report = json(&repo, &["HEAD^1..HEAD", "--proposal", "HEAD^2"]);
    assert_eq!((&report["signatures"]["commits"], &report["signatures"]["held"]), (&2.into(), &serde_json::json!([])));
    assert!(!report["plan"]["objects"].to_string().contains("lifts"), "{report:#}");
    let shallow = repo.scratch().join("shallow");
    let url = format!("file://{}", repo.path().display());
    let tip = repo.head();
    repo.git(&["branch", "tried"]);
    repo.git(&["clone", "--quiet", "--depth=2", "--branch=tried", &url, shallow.to_str().unwrap()]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let args = ["fleetctl", "plan", "--root", shallow.to_str().unwrap(), "HEAD^1..HEAD", "-o", "json"];
    assert_eq!(fleetctl::run(args.iter().map(OsString::from), &mut io), 0, "{}", String::from_utf8_lossy(&err));
    let report: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(report["signatures"]["held"][0]["commit"], tip);
    repo.switch("change").write("fleets/tills.yaml", fleet("tills", "till2"));
    repo.commit("tills, by nobody");
    let report = json(&repo, &["main..tried", "--proposal", "change"]);
    assert_eq!(report["signatures"]["held"][0]["subject"], "tills, by nobody");
    let (code, _, err) = plan(&repo, &["main..tried", "--proposal", "nowhere"]);
    assert!(code == 2 && err.contains("--proposal") && err.contains("nowhere"), "{err}");
}
