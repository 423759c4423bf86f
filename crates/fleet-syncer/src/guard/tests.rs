//! The guard's decisions.

use fleet_model::{PolicyPlace, SyncPolicySpec};

use super::*;

fn id(digit: &str) -> CommitId {
    digit.repeat(40).parse().unwrap()
}

struct Plan {
    digest: Digest,
    radius: Radius,
}

fn plan(digest: &str, fleets_removed: usize) -> Plan {
    Plan {
        digest: Digest::of(digest.as_bytes()),
        radius: Radius { objects_before: 9, objects_removed: 2, fleets_before: 3, fleets_removed, ..Radius::default() },
    }
}

fn rules(json: &str) -> SyncRules {
    let policy: SyncPolicySpec = serde_json::from_str(json).unwrap();
    SyncRules::of_source(Some("s"), [(PolicyPlace::Own, &policy)])
}

fn held(commit: &CommitId, decision: Option<(&str, bool)>) -> HoldRow {
    let decision = decision.map(|(digest, approved)| HoldDecision {
        digest: Digest::of(digest.as_bytes()),
        approved,
        by: "user:ann".to_owned(),
        reason: String::new(),
    });
    let sentences = vec!["as before".to_owned()];
    HoldRow { commit: commit.clone(), digest: Digest::of(b"x"), reason: "BlastRadius".to_owned(), sentences, decision }
}

fn ask(plan: &Plan, rules: &SyncRules, rewritten: Option<&Rewritten>, stored: Option<&HoldRow>) -> Judgement {
    let (digest, radius) = (plan.digest, &plan.radius);
    judge(Question {
        commit: &id("2"),
        base: Some(&id("1")),
        digest,
        radius,
        along: &[],
        rules,
        rewritten,
        unrestored: None,
        violations: &[],
        stored,
    })
}

fn hold(judgement: Judgement) -> Hold {
    match judgement {
        Judgement::Hold(hold) => hold,
        Judgement::Apply { .. } => panic!("it is applied"),
    }
}

fn goes_ahead(judgement: Judgement) -> bool {
    matches!(judgement, Judgement::Apply { .. })
}

#[test]
fn what_exceeds_a_limit_waits_and_says_why() {
    let none = SyncRules::default();
    assert!(goes_ahead(ask(&plan("x", 1), &none, None, None)));
    let hold = hold(ask(&plan("x", 2), &none, None, None));
    assert_eq!((hold.reason, hold.is_news), (HoldReason::BlastRadius, true));
    assert_eq!(hold.sentences, ["removes 2 of 3 fleets; removedFleets allows 1"]);
    let loose = rules(r#"{"limits":{"removedFleets":{"count":2}}}"#);
    assert!(goes_ahead(ask(&plan("x", 2), &loose, None, None)));
}

#[test]
fn what_goes_along_is_told_when_that_is_too_much() {
    let (none, along) = (SyncRules::default(), ["gives up source shops".to_owned()]);
    let ask = |plan: &Plan| {
        let (commit, digest, radius) = (&id("2"), plan.digest, &plan.radius);
        judge(Question {
            commit,
            base: None,
            digest,
            radius,
            along: &along,
            rules: &none,
            rewritten: None,
            unrestored: None,
            violations: &[],
            stored: None,
        })
    };
    assert!(goes_ahead(ask(&plan("x", 1))));
    assert_eq!(hold(ask(&plan("x", 2))).sentences[1], "gives up source shops");
}

#[test]
fn the_first_sync_is_exempt() {
    let mut first = plan("x", 0);
    first.radius = Radius { devices_before: 100, devices_changed_without_rollout: 100, ..Radius::default() };
    assert!(goes_ahead(ask(&first, &SyncRules::default(), None, None)));
    // Unless the commit was held already: then its plan cannot be trusted to be all it changes.
    let before = held(&id("2"), None);
    let hold = hold(ask(&first, &SyncRules::default(), None, Some(&before)));
    assert_eq!((hold.reason, hold.sentences), (HoldReason::BlastRadius, before.sentences));
}

#[test]
fn an_approval_is_good_for_its_commit_and_its_plan_only() {
    let (none, wide) = (SyncRules::default(), plan("x", 2));
    let approved = held(&id("2"), Some(("x", true)));
    let Judgement::Apply { approved: Some(by), .. } = ask(&wide, &none, None, Some(&approved)) else {
        panic!("it is approved");
    };
    assert_eq!(by.by, "user:ann");
    let other = hold(ask(&plan("y", 2), &none, None, Some(&approved)));
    assert_eq!((other.reason, other.is_news, other.outdated.is_some()), (HoldReason::PlanStale, false, true));
    assert_eq!(other.sentences.len(), 2);
    let mut stale = held(&id("2"), None);
    stale.reason = "PlanStale".to_owned();
    let again = hold(ask(&plan("y", 2), &none, None, Some(&stale)));
    assert_eq!((again.reason, again.outdated), (HoldReason::PlanStale, None), "until somebody looks at it");
    let of_another = hold(ask(&wide, &none, None, Some(&held(&id("3"), Some(("x", true))))));
    assert_eq!((of_another.reason, of_another.is_news), (HoldReason::BlastRadius, true));
    assert!(goes_ahead(ask(&plan("y", 1), &none, None, Some(&approved))), "the plan itself decides");
}

#[test]
fn a_rejected_commit_waits_for_a_newer_one() {
    let none = SyncRules::default();
    let rejected = held(&id("2"), Some(("x", false)));
    for plan in [plan("x", 2), plan("y", 2), plan("y", 0)] {
        let hold = hold(ask(&plan, &none, None, Some(&rejected)));
        assert_eq!((hold.reason, hold.is_news), (HoldReason::Rejected, false));
    }
    assert!(goes_ahead(ask(&plan("y", 0), &none, None, Some(&held(&id("3"), Some(("x", false)))))));
    // The commit in force, looked at again because something else moved: only that plan was rejected.
    let commit = id("2");
    let again = |plan: &Plan| {
        judge(Question {
            commit: &commit,
            base: Some(&commit),
            digest: plan.digest,
            radius: &plan.radius,
            along: &[],
            rules: &none,
            rewritten: None,
            unrestored: None,
            violations: &[],
            stored: Some(&rejected),
        })
    };
    assert_eq!(hold(again(&plan("x", 2))).reason, HoldReason::Rejected);
    assert_eq!(hold(again(&plan("y", 2))).reason, HoldReason::BlastRadius);
    assert!(goes_ahead(again(&plan("y", 0))));
}

#[test]
fn a_rewritten_history_waits_unless_the_policy_says_to_follow() {
    let lost = |n: usize| {
        let one = |n: usize| CommitSubject { id: id("a"), subject: format!("no {n}") };
        Rewritten { base: id("1"), lost: Some((0..n).map(one).collect()) }
    };
    let few = hold(ask(&plan("x", 0), &SyncRules::default(), Some(&lost(2)), None));
    assert_eq!(few.reason, HoldReason::NonFastForward);
    assert_eq!(few.sentences[1..], ["loses aaaaaaaaaaaa no 0", "loses aaaaaaaaaaaa no 1"]);
    let many = hold(ask(&plan("x", 2), &SyncRules::default(), Some(&lost(MAX_LOST + 1)), None));
    assert_eq!(many.sentences.len(), 1 + MAX_LOST + 2, "what happened, ten commits, that there are more, the limit");
    let unknown = Rewritten { base: id("1"), lost: None };
    assert!(hold(ask(&plan("x", 0), &SyncRules::default(), Some(&unknown), None)).sentences[1].contains("not known"));
    let follow = rules(r#"{"forcedPush":"Follow"}"#);
    assert_eq!(ask(&plan("x", 0), &follow, Some(&lost(1)), None), Judgement::Apply { approved: None, follows: true });
    assert_eq!(hold(ask(&plan("x", 2), &follow, Some(&lost(1)), None)).reason, HoldReason::BlastRadius);
}

#[test]
fn a_missing_signature_holds_until_the_plan_is_approved() {
    let (small, rules) = (plan("x", 0), SyncRules::default());
    let violations =
        [Violation { at: 0, reason: HoldReason::UnsignedCommit, sentence: "commit 2 breaks a rule".to_owned() }];
    let ask = |stored: Option<&HoldRow>| {
        let (commit, radius) = (&id("2"), &small.radius);
        judge(Question {
            commit,
            base: Some(&id("1")),
            digest: small.digest,
            radius,
            along: &[],
            rules: &rules,
            rewritten: None,
            unrestored: None,
            violations: &violations,
            stored,
        })
    };
    let found = hold(ask(None));
    assert_eq!((found.reason, found.sentences[0].as_str()), (HoldReason::UnsignedCommit, "commit 2 breaks a rule"));
    assert!(found.sentences[1].contains("approved"), "{:?}", found.sentences);
    let approved = held(&id("2"), Some(("x", true)));
    assert!(goes_ahead(ask(Some(&approved))));
    let another = held(&id("2"), Some(("y", true)));
    assert_eq!(hold(ask(Some(&another))).reason, HoldReason::PlanStale);
    let elsewhere = held(&id("3"), Some(("x", true)));
    assert_eq!(hold(ask(Some(&elsewhere))).reason, HoldReason::UnsignedCommit, "an approval is for one commit");
}

#[test]
fn a_commit_whose_reach_nobody_can_tell_waits_for_a_person() {
    let (commit, lost, none) = (id("2"), id("1"), SyncRules::default());
    let ask = |plan: &Plan, stored: Option<&HoldRow>| {
        judge(Question {
            commit: &commit,
            base: None,
            digest: plan.digest,
            radius: &plan.radius,
            along: &[],
            rules: &none,
            rewritten: None,
            unrestored: Some(&lost),
            violations: &[],
            stored,
        })
    };
    let mut unknown = plan("x", 0);
    unknown.radius = Radius::default();
    let told = hold(ask(&unknown, None));
    assert_eq!((told.reason, told.sentences.len()), (HoldReason::BlastRadius, 1));
    assert!(told.sentences[0].starts_with("commit 111111111111, which was in force"), "{:?}", told.sentences);
    assert!(goes_ahead(ask(&unknown, Some(&held(&commit, Some(("x", true)))))), "a person knows");
}
