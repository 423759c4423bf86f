//! Which commits of a range would wait, as the service goes over it part by part.

use std::collections::BTreeMap;
use std::convert::Infallible;

use fleet_model::{CommitId, SignerSet, SyncTrust, TrustEffect, TrustRule};
use fleet_test::GitRepo;
use fleet_trust::{Candidates, DenialKind, Examined, NewCommit, Range, Violation, in_sentences, remedy};

use crate::signing::{commit_signed, public, raw, repo, ssh_key};

/// Commits of a real repository: the letter `s` is one that is signed, `u` one by nobody.
struct World {
    repo: GitRepo,
    signers: SignerSet,
    /// Oldest first.
    commits: Vec<String>,
}

fn world(commits: &str) -> World {
    let repo = repo();
    let key = ssh_key(repo.scratch(), "anna", &["ed25519"]);
    let base = repo.commit("base");
    let one = |(at, letter): (usize, char)| match letter {
        's' => commit_signed(&repo, key.to_str().unwrap(), &format!("commit {at}, signed")),
        _ => repo.commit(&format!("commit {at}, by nobody")),
    };
    let commits: Vec<String> = std::iter::once(base).chain(commits.chars().enumerate().map(one)).collect();
    let ssh = Some(format!("anna@example.com {}", public(&key)));
    World { repo, signers: SignerSet { name: "people".to_owned(), ssh, openpgp: None }, commits }
}

impl World {
    fn candidates(&self) -> Candidates {
        let id = |at: usize| -> CommitId { self.commits[at].parse().unwrap() };
        let one = |at: usize| NewCommit {
            id: id(at),
            first_parent: Some(id(at - 1)),
            subject: self.repo.git(&["log", "-1", "--format=%s", &self.commits[at]]),
            raw: Some(raw(&self.repo, &self.commits[at])),
        };
        let commits = (1..self.commits.len()).rev().map(one).collect();
        Candidates { commits, before: Some(raw(&self.repo, &self.commits[0])), ..Candidates::default() }
    }

    fn examined(&self, rule: TrustRule, candidates: Candidates) -> Examined {
        let rule = TrustRule { signed_by: vec!["people".to_owned()], ..rule };
        Examined::new(vec![SyncTrust { signers: vec![self.signers.clone()], rules: vec![rule] }], candidates)
    }

    /// A range in which each commit changes these paths.
    fn range(&self, rule: TrustRule, paths: &[&str]) -> Range {
        let ids = self.commits.iter().skip(1).map(|commit| commit.parse().unwrap());
        let changed: BTreeMap<CommitId, Vec<String>> =
            ids.zip(paths.iter().map(|path| vec![(*path).to_owned()])).collect();
        self.examined(rule, self.candidates()).finish(&changed)
    }
}

fn on_paths(paths: &[&str]) -> TrustRule {
    TrustRule { paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()), ..TrustRule::default() }
}

fn on_effect(effect: TrustEffect) -> TrustRule {
    TrustRule { effects: Some(vec![effect]), ..TrustRule::default() }
}

/// What waits when each commit by itself does `own[at]`, and a part does what its commits do; the parts that were asked for.
fn held(range: &Range, own: &[Option<TrustEffect>]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut asked = Vec::new();
    let found = range.held(|from, to| {
        asked.push((from, to));
        Ok::<_, Infallible>(Some(own[from..to].iter().copied().flatten().collect()))
    });
    (found.unwrap().iter().map(|one| one.at).collect(), asked)
}

#[test]
fn what_is_before_the_first_unsigned_commit_is_applied_and_later_signatures_vouch_for_themselves() {
    let world = world("susus");
    let range = world.range(TrustRule::default(), &[]);
    assert_eq!((range.acceptable(), held(&range, &[None; 5]).0), (1, vec![1, 3]));
    let violations = range.violations(5, &[]);
    assert_eq!(violations[0].kind, DenialKind::Unsigned);
    assert_eq!(violations[0].kind.code(), "UnsignedCommit");
    assert_eq!(violations[0].signed_by, ["people"]);
    assert!(
        violations[0]
            .sentence
            .ends_with("(commit 1, by nobody) breaks the rule for every commit (signed by people): it is not signed")
    );
    assert!(range.signer().is_some_and(|who| who.starts_with("anna@example.com (SHA256:")));
    assert!(range.violations(1, &[]).is_empty());
}

#[test]
fn a_rule_about_paths_covers_the_commits_that_change_them() {
    let world = world("uuu");
    let rule = on_paths(&["prod/**"]);
    let paths = ["a", "prod/x", "b"];
    let range = world.range(rule.clone(), &paths);
    assert_eq!((range.acceptable(), held(&range, &[None; 3]).0), (1, vec![1]));
    assert_eq!(world.examined(rule.clone(), world.candidates()).open().len(), 3);
    // What is not known to be harmless is not.
    assert_eq!(world.examined(rule.clone(), world.candidates()).finish(&BTreeMap::new()).acceptable(), 0);
    for change in
        [Candidates { is_first: true, ..world.candidates() }, Candidates { detached: true, ..world.candidates() }]
    {
        let examined = world.examined(rule.clone(), change);
        assert_eq!(examined.open(), []);
        assert_eq!(examined.finish(&BTreeMap::new()).acceptable(), 0);
    }
    let too_long = world.examined(rule, Candidates { too_long: true, ..world.candidates() });
    let too_long = too_long.finish(&BTreeMap::new());
    assert!(too_long.violations(0, &[])[0].commit.is_none() && too_long.acceptable() == 0);
    assert!(remedy(&too_long.violations(0, &[]), "base", 2).is_empty());
}

#[test]
fn a_rule_about_effects_is_asked_part_by_part() {
    use TrustEffect::{OsImage, RemoveFleet};
    let removes = Some(RemoveFleet);
    // Who removed has signed, and what is on top by nobody removes nothing.
    let range = world("su").range(on_effect(RemoveFleet), &[]);
    assert_eq!(held(&range, &[removes, None]), (vec![], vec![(0, 2), (0, 1), (1, 2)]));
    // What is before the removal goes first, and then all that is left waits with it.
    let range = world("uuu").range(on_effect(RemoveFleet), &[]);
    let (waiting, asked) = held(&range, &[None, removes, None]);
    assert_eq!(waiting, [1, 2]);
    assert_eq!(asked.first(), Some(&(0, 3)));
    assert!(asked.contains(&(0, 1)) && asked.last() == Some(&(1, 3)), "{asked:?}");
    // Another effect is nobody's business.
    assert_eq!(held(&range, &[Some(OsImage), None, None]), (vec![], vec![(0, 3)]));
    // A part with errors cannot be applied: all of it waits.
    let found = range.held(|from, to| Ok::<_, Infallible>(((from, to) == (0, 3)).then(|| vec![RemoveFleet])));
    assert_eq!(found.unwrap().len(), 3);
    // An error is an error.
    assert_eq!(range.held(|_, _| Err("no")).unwrap_err(), "no");
}

#[test]
fn the_commit_that_a_host_makes_is_covered_by_what_all_of_it_changes() {
    let range = world("s").range(on_paths(&["prod/**"]), &["a"]);
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<String>>();
    assert!(range.covering(Some(&paths(&["a", "b"])), &[]).is_empty());
    assert_eq!(range.covering(Some(&paths(&["a", "prod/x"])), &[]), ["the rule for prod/** (signed by people)"]);
    assert_eq!(range.covering(None, &[]).len(), 1, "what cannot be told counts");
    let range = world("s").range(on_effect(TrustEffect::OsImage), &["a"]);
    assert_eq!(range.covering(None, &[]).len(), 0);
    assert_eq!(range.covering(None, &[TrustEffect::OsImage]).len(), 1);
}

#[test]
fn what_to_do_is_a_command_for_the_newest_commit_or_for_all_since_the_base() {
    let newest = world("su").range(TrustRule::default(), &[]);
    let violations = newest.violations(2, &[]);
    assert_eq!(remedy(&violations, "main", 1)[0], "sign again, with a key of people: git commit --amend --no-edit -S");
    let earlier = world("us").range(TrustRule::default(), &[]).violations(2, &[]);
    assert!(remedy(&earlier, "main", 1)[0].ends_with("git rebase --force-rebase --rebase-merges -S main"));
    let many: Vec<Violation> = std::iter::repeat_n(violations[0].clone(), 11).collect();
    let told = in_sentences(many.iter().map(|one| one.sentence.as_str()));
    assert_eq!((told.len(), told[10].as_str()), (12, "more commits break rules than are named here"));
    assert!(in_sentences([].into_iter()).is_empty());
}
