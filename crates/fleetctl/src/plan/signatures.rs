//! Which commits of a change lack a signature that rules ask for: those in force before the change, never those that it brings.
//! The service judges with the same code when it has the commits.

use std::collections::BTreeMap;

use fleet_git::GitErrorKind;
use fleet_git::local::LocalRepository;
use fleet_lint::has_errors;
use fleet_model::{CommitId, SyncTrust, TrustEffect};
use fleet_render::plan::{self, Inventory, Plan, State, Target};
use fleet_trust::{Candidates, Examined, MAX_COMMITS, NewCommit, Violation, remedy};
use serde_json::{Value, json};

use super::range::Range;
use super::text::count;
use crate::tree::Tree;
use crate::tree::clones::Clones;
use crate::tree::place::Place;
use crate::tree::state;

/// What the Git host makes of a pull request.
pub(super) const MERGES: &str =
    "a merge or squash that the Git host makes is another commit with its own signature, and is judged when it lands";

/// What is said of signatures.
#[derive(Debug)]
pub(super) enum Signatures {
    /// No rule asks for any.
    NotAsked,
    /// Why they are not judged.
    NotJudged(String),
    /// They are.
    Judged(Judged),
}

/// The commits of a change, judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// How many there are.
    commits: usize,
    /// Who signed the newest one.
    signer: Option<String>,
    /// What the service would hold.
    held: Vec<Violation>,
    /// What to do about that.
    fix: Vec<String>,
    /// What people should know to read it.
    pub(super) remarks: Vec<String>,
}

/// What is judged.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) place: &'a Place,
    pub(super) clones: &'a Clones,
    pub(super) range: &'a Range,
    /// The commit that the change is a merge of, which only tries how it would land.
    pub(super) proposal: Option<&'a CommitId>,
    /// The rules in force before the change.
    pub(super) asked: &'a [SyncTrust],
    /// Why there may be other rules.
    pub(super) unclear: Option<String>,
    /// The files before the change.
    pub(super) base: Option<&'a Tree>,
    pub(super) current: &'a State,
    pub(super) incoming: &'a State,
    pub(super) inventory: &'a Inventory,
    /// The plan of the whole change.
    pub(super) plan: &'a Plan,
}

/// Judges the commits of the change.
///
/// # Errors
/// Commits that the clone does not have, with what to fetch.
pub(super) fn judge(question: &Question<'_>) -> anyhow::Result<Signatures> {
    if question.asked.is_empty() {
        return Ok(question.unclear.clone().map_or(Signatures::NotAsked, Signatures::NotJudged));
    }
    let head = question.range.head.as_ref();
    let Some(tip) = question.proposal.or(head.map(|head| &head.id)) else {
        let why = "the checkout as it lies there is no commit; commit and name it: BASE..HEAD";
        return Ok(Signatures::NotJudged(why.to_owned()));
    };
    let base = &question.range.base.id;
    let repo = question.place.repository()?;
    let mut candidates = read(repo, base, tip)?;
    let mut remarks: Vec<String> = question.unclear.iter().cloned().collect();
    // What a proposal lacks of the base, it does not take back when it is merged.
    candidates.detached &= question.proposal.is_none();
    if let Some(head) = head
        && candidates.detached
    {
        remarks.push(format!(
            "{} does not follow {} along first parents, so each commit counts as one that changes every file; {}...{} \
             compares with where they parted",
            question.range.head_name(),
            question.range.base,
            question.range.base.name(),
            head.name(),
        ));
    }
    let examined = Examined::new(question.asked.to_vec(), candidates);
    let mut changed = BTreeMap::new();
    for (parent, commit) in examined.open() {
        match repo.changed_paths(&parent, &commit) {
            Ok(paths) => drop(changed.insert(commit, paths)),
            // What cannot be told counts as covered.
            Err(error) if [GitErrorKind::TooLarge, GitErrorKind::NotUtf8Path].contains(&error.kind) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let judged = examined.finish(&changed);
    let ids: Vec<CommitId> = judged.commits().iter().map(|commit| commit.id.clone()).collect();
    let mut parts = Parts { question, ids: &ids, known: BTreeMap::new() };
    let held = judged.held(|from, to| parts.effects(from, to))?;
    let fix = remedy(&held, base.short(), ids.len().saturating_sub(1));
    Ok(Signatures::Judged(Judged {
        commits: ids.len(),
        signer: judged.signer().map(str::to_owned),
        held,
        fix,
        remarks,
    }))
}

/// The commits from `base` to `head` along first parents, as the service reads them.
fn read(repo: &LocalRepository, base: &CommitId, head: &CommitId) -> anyhow::Result<Candidates> {
    let mut history = repo.history(Some(base), head, MAX_COMMITS)?;
    let too_long = !history.complete;
    // A commit that the base came from: nothing is new, and all of it is another state.
    let goes_back = history.commits.is_empty() && base != head;
    if goes_back {
        history = repo.history(None, head, 1)?;
    }
    let commits: Vec<NewCommit> = history
        .commits
        .into_iter()
        .map(|one| NewCommit { id: one.id, first_parent: one.first_parent, subject: one.subject, raw: one.raw })
        .collect();
    let oldest = commits.last().and_then(|oldest| oldest.first_parent.as_ref());
    let before = match oldest {
        Some(parent) => repo.history(None, parent, 1)?.commits.into_iter().next().and_then(|commit| commit.raw),
        None => None,
    };
    let detached = goes_back || !commits.is_empty() && oldest != Some(base);
    Ok(Candidates { commits, before, too_long, is_first: false, detached })
}

/// Plans of parts of the change.
struct Parts<'a> {
    question: &'a Question<'a>,
    ids: &'a [CommitId],
    /// Desired state after so many commits; none where it has errors.
    known: BTreeMap<usize, Option<State>>,
}

impl Parts<'_> {
    fn effects(&mut self, from: usize, to: usize) -> anyhow::Result<Option<Vec<TrustEffect>>> {
        let Question { plan, inventory, current, incoming, .. } = *self.question;
        if (from, to) == (0, self.ids.len()) || self.question.proposal.is_some() {
            return Ok(Some(plan.effects(&plan.radius)));
        }
        for at in [from, to] {
            if at > 0 && at < self.ids.len() && !self.known.contains_key(&at) {
                let state = self.build(&self.ids[at - 1])?;
                self.known.insert(at, state);
            }
        }
        let state = |at: usize| match at {
            0 => Some(current),
            at if at == self.ids.len() => Some(incoming),
            at => self.known.get(&at).and_then(Option::as_ref),
        };
        let (Some(before), Some(after)) = (state(from), state(to)) else { return Ok(None) };
        let part = plan::plan(before, after, inventory);
        Ok(Some(part.effects(&part.radius)))
    }

    fn build(&self, commit: &CommitId) -> anyhow::Result<Option<State>> {
        let Question { place, clones, base, current, .. } = *self.question;
        let Ok(tree) = place.load_commit(commit, base) else { return Ok(None) };
        let config = base.and_then(|tree| tree.lint_config.as_deref());
        let mut built = state::build(&tree, config, clones, &Vec::new());
        if has_errors(&built.findings) {
            return Ok(None);
        }
        // Fleets of other sources, as the service said.
        let elsewhere = current.fleets.iter().filter(|(_, fleet)| matches!(fleet.target, Target::Elsewhere));
        for (name, fleet) in elsewhere {
            built.state.fleets.entry(name.clone()).or_insert_with(|| fleet.clone());
        }
        Ok(Some(built.state))
    }
}

impl Signatures {
    /// Whether the service would hold the change for them.
    pub(super) fn hold(&self) -> bool {
        self.judged().is_some_and(|judged| !judged.held.is_empty())
    }

    pub(super) fn judged(&self) -> Option<&Judged> {
        match self {
            Self::Judged(judged) => Some(judged),
            Self::NotAsked | Self::NotJudged(_) => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        let (asked, why, judged) = match self {
            Self::NotAsked => (false, None, None),
            Self::NotJudged(why) => (true, Some(why), None),
            Self::Judged(judged) => (true, None, Some(judged)),
        };
        let held = judged.map_or(&[][..], |judged| &judged.held).iter().map(|one| {
            json!({
                "commit": one.commit,
                "subject": one.subject,
                "code": one.kind.code(),
                "rule": one.rule,
                "signedBy": one.signed_by,
                "effect": one.effect,
                "why": one.why,
                "sentence": one.sentence,
            })
        });
        json!({
            "asked": asked,
            "judged": judged.is_some(),
            "notJudgedBecause": why,
            "commits": judged.map(|judged| judged.commits),
            "held": held.collect::<Vec<Value>>(),
            "fix": judged.map_or(&[][..], |judged| &judged.fix),
            "remarks": judged.map_or(&[][..], |judged| &judged.remarks),
        })
    }
}

impl Judged {
    /// What came of it, in a sentence without a full stop.
    pub(super) fn summary(&self) -> String {
        if self.held.is_empty() {
            let who = self.signer.as_ref().map(|who| format!("; the newest is signed by {who}")).unwrap_or_default();
            return match self.commits {
                0 => "no commit is new".to_owned(),
                1 => format!("the commit has every signature that a rule asks for{who}"),
                all => format!("all {all} commits have every signature that a rule asks for{who}"),
            };
        }
        let lack = self.held.iter().filter(|one| one.commit.is_some()).count();
        let of = count(self.commits, "commit");
        let verb = if lack == 1 { "lacks" } else { "lack" };
        let many = if lack > MAX_NAMED { format!("more than {MAX_NAMED}") } else { lack.to_string() };
        match lack {
            0 => "the change would have to wait for a person".to_owned(),
            _ => format!(
                "the change would have to wait for a person: {many} of {of} {verb} a signature that a rule asks for"
            ),
        }
    }

    /// Each commit that lacks one: the word for it, and a sentence.
    pub(super) fn held(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.held.iter().take(MAX_NAMED).map(|one| (one.kind.code(), one.sentence.as_str()))
    }

    /// What to do.
    pub(super) fn fix(&self) -> &[String] {
        &self.fix
    }
}

/// So many commits are named.
const MAX_NAMED: usize = 10;
