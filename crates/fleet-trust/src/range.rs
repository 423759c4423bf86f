//! The commits between what is in force and what is new, judged one by one: which of them a rule covers, and which lack the
//! signature that it asks for. Whoever has the repository reads the commits and says which paths they change; what that
//! comes to is decided here, for the service and for plans alike.
//!
//! Judged are the commits along first parents, each by what it changes against its first parent: a merge vouches for what
//! it merges.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_model::{CommitId, SyncTrust, TrustEffect};

use crate::commit::SignedCommit;
use crate::rules::{DenialKind, Judged, Policy, RuleView, Subject};

/// The most commits whose signatures are judged at once.
pub const MAX_COMMITS: usize = 1_000;
/// So many violations are named.
const MAX_TOLD: usize = 10;
/// So many parts of a range are tried before it is said to wait as a whole.
const MAX_TRIES: usize = 64;

/// A commit as a repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// The commit.
    pub id: CommitId,
    /// Its first parent; a root has none.
    pub first_parent: Option<CommitId>,
    /// The first line of its message.
    pub subject: String,
    /// The bytes of the commit object; `None` when it is too large to be looked at.
    pub raw: Option<Vec<u8>>,
}

/// Commits to judge.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Along first parents, newest first.
    pub commits: Vec<NewCommit>,
    /// The bytes of the first parent of the oldest one, which is in force already.
    pub before: Option<Vec<u8>>,
    /// There are more than [`MAX_COMMITS`].
    pub too_long: bool,
    /// Nothing is in force yet: a commit counts as one that changes every file.
    pub is_first: bool,
    /// The commit in force is not where the first parents lead: what is new may take back what is in force. It is one
    /// decision, and each commit counts as one that changes every file.
    pub detached: bool,
}

/// Candidates whose signatures are judged, while it is not known yet what they change.
#[derive(Debug)]
pub struct Examined {
    asked: Arc<Vec<SyncTrust>>,
    policy: Arc<Policy>,
    candidates: Candidates,
    /// Newest first, as the candidates.
    judged: Vec<Judged>,
}

/// The commits between the one in force and the newest one, judged.
#[derive(Debug, Clone)]
pub struct Range {
    asked: Arc<Vec<SyncTrust>>,
    policy: Arc<Policy>,
    commits: Arc<Vec<JudgedCommit>>,
    too_long: bool,
    detached: bool,
}

/// One commit and what each rule says of it.
#[derive(Debug, Clone)]
pub struct JudgedCommit {
    /// The commit.
    pub id: CommitId,
    subject: String,
    judged: Judged,
    /// By rule: whether it covers this commit by what it changes.
    covered: Vec<bool>,
}

/// A commit that lacks a signature which a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its place in the range; 0 is the oldest.
    pub at: usize,
    /// The commit; `None` where there are too many to judge.
    pub commit: Option<CommitId>,
    /// The first line of its message.
    pub subject: String,
    /// Whether there is no signature, or one that does not count.
    pub kind: DenialKind,
    /// The rule for people: `the rule for fleets/prod/** (signed by platform)`.
    pub rule: String,
    /// The sets of signers of whom one signature would do.
    pub signed_by: Vec<String>,
    /// What the plan does, where the rule covers the commit for that alone.
    pub effect: Option<TrustEffect>,
    /// Why the signature is not enough, as a part of a sentence.
    pub why: String,
    /// All of it in one sentence, without a full stop.
    pub sentence: String,
}

impl Examined {
    /// Judges the signatures of all candidates by the rules. Takes processor time: some 0.1 ms for each signature and key.
    pub fn new(asked: Vec<SyncTrust>, candidates: Candidates) -> Self {
        let policy = Policy::new(&asked);
        let mut dates: Vec<Option<i64>> =
            candidates.commits.iter().map(|commit| committed_at(commit.raw.as_deref())).collect();
        // The parent of the oldest one is in force already; how old that is counts too.
        dates.push(committed_at(candidates.before.as_deref()));
        let one = |(at, commit): (usize, &NewCommit)| {
            let parent_committed_at = dates.get(at + 1).copied().flatten();
            policy.judge(Subject { id: &commit.id, raw: commit.raw.as_deref(), parent_committed_at })
        };
        let judged = candidates.commits.iter().enumerate().map(one).collect();
        Self { asked: Arc::new(asked), policy: Arc::new(policy), candidates, judged }
    }

    /// The commits of which it matters what they change, each with its first parent: only where a signature is missing and
    /// a rule is about paths.
    pub fn open(&self) -> Vec<(CommitId, CommitId)> {
        if self.candidates.is_first || self.candidates.detached {
            return Vec::new();
        }
        let asks = |judged: &Judged| {
            self.policy.rules().zip(&judged.rules).any(|(rule, judged)| rule.asks_for_paths() && judged.is_err())
        };
        let open = self.candidates.commits.iter().zip(&self.judged).filter(|(_, judged)| asks(judged));
        open.filter_map(|(commit, _)| Some((commit.first_parent.clone()?, commit.id.clone()))).collect()
    }

    /// The range, when it is known which paths the commits of [`Examined::open`] change. One that is not named here counts as
    /// one that changes every file.
    pub fn finish(self, changed: &BTreeMap<CommitId, Vec<String>>) -> Range {
        let Self { asked, policy, candidates, judged } = self;
        let mut commits = Vec::with_capacity(judged.len());
        for (commit, judged) in candidates.commits.into_iter().zip(judged).rev() {
            let paths = changed.get(&commit.id);
            let covers = |rule: RuleView<'_>| match paths {
                None => rule.covers_everything() || rule.asks_for_paths(),
                Some(paths) => rule.covers_everything() || paths.iter().any(|path| rule.covers_path(path)),
            };
            let covered = policy.rules().map(covers).collect();
            commits.push(JudgedCommit { id: commit.id, subject: commit.subject, judged, covered });
        }
        Range {
            asked,
            policy,
            commits: Arc::new(commits),
            too_long: candidates.too_long,
            detached: candidates.detached,
        }
    }
}

fn committed_at(raw: Option<&[u8]>) -> Option<i64> {
    SignedCommit::parse(raw?).ok().map(|commit| commit.committed_at)
}

impl Range {
    /// What the policies asked for when this was judged.
    pub fn asked(&self) -> &[SyncTrust] {
        &self.asked
    }

    /// All commits, oldest first.
    pub fn commits(&self) -> &[JudgedCommit] {
        &self.commits
    }

    /// Whether the commit in force is not where the first parents lead, see [`Candidates::detached`].
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// How many commits, from the oldest, break no rule by what they change.
    pub fn acceptable(&self) -> usize {
        self.acceptable_after(0)
    }

    /// Whether it takes a plan to tell if the first `count` commits break a rule: one of them lacks the signature of a rule about
    /// effects.
    pub fn depends_on_plan(&self, count: usize) -> bool {
        let depends = |commit: &JudgedCommit| {
            self.policy
                .rules()
                .zip(&commit.judged.rules)
                .any(|(rule, judged)| rule.asks_for_effects() && judged.is_err())
        };
        self.commits.iter().take(count).any(depends)
    }

    /// The same where the first `from` are in force already; counted from the oldest of all.
    fn acceptable_after(&self, from: usize) -> usize {
        if self.too_long {
            return from;
        }
        let breaks = |commit: &JudgedCommit| {
            commit.covered.iter().zip(&commit.judged.rules).any(|(covered, judged)| *covered && judged.is_err())
        };
        self.commits.iter().skip(from).position(breaks).map_or(self.commits.len(), |at| from + at)
    }

    /// Every violation among the first `count` commits, oldest first, where a plan does this; at most a few and one more, which
    /// says that there are more.
    pub fn violations(&self, count: usize, effects: &[TrustEffect]) -> Vec<Violation> {
        self.violations_between(0, count, effects)
    }

    fn violations_between(&self, from: usize, to: usize, effects: &[TrustEffect]) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.too_long {
            let why = format!(
                "more than {MAX_COMMITS} commits are new, too many to judge their signatures: push fewer at once"
            );
            found.push(Violation {
                at: 0,
                commit: None,
                subject: String::new(),
                kind: DenialKind::Untrusted,
                rule: String::new(),
                signed_by: Vec::new(),
                effect: None,
                sentence: why.clone(),
                why,
            });
        }
        for (at, commit) in self.commits.iter().enumerate().take(to).skip(from) {
            found.extend(self.violation(at, commit, effects));
            if found.len() > MAX_TOLD {
                break;
            }
        }
        found
    }

    /// The first rule that a commit breaks.
    fn violation(&self, at: usize, commit: &JudgedCommit, effects: &[TrustEffect]) -> Option<Violation> {
        let mut rules = self.policy.rules().zip(&commit.covered).zip(&commit.judged.rules);
        rules.find_map(|((rule, covered), judged)| {
            let denial = judged.as_ref().err()?;
            let effect = rule.covers_effect(effects);
            if !covered && effect.is_none() {
                return None;
            }
            let effect = effect.filter(|_| !covered);
            let because = effect.map(|effect| format!(", as the plan has the effect {}", effect.as_str()));
            let sentence = format!(
                "commit {} ({}) breaks {}{}: {}",
                commit.id.short(),
                commit.subject,
                rule.told(),
                because.unwrap_or_default(),
                denial.words
            );
            Some(Violation {
                at,
                commit: Some(commit.id.clone()),
                subject: commit.subject.clone(),
                kind: denial.kind,
                rule: rule.told().to_owned(),
                signed_by: rule.signed_by().to_vec(),
                effect,
                why: denial.words.clone(),
                sentence,
            })
        })
    }

    /// What would wait for a person if all commits were pushed now. The service applies what it can of them one part after the
    /// other, so a rule about effects is asked with the plan of each part: `effects(from, to)` says what the plan from the
    /// commit before place `from` to the one before place `to` does, `None` where that part has errors. Empty when nothing
    /// waits.
    ///
    /// # Errors
    /// Those of `effects`.
    pub fn held<E>(
        &self,
        mut effects: impl FnMut(usize, usize) -> Result<Option<Vec<TrustEffect>>, E>,
    ) -> Result<Vec<Violation>, E> {
        let all = self.commits.len();
        let whole = effects(0, all)?.unwrap_or_default();
        let waiting = self.violations(all, &whole);
        if waiting.is_empty() || self.too_long || self.detached {
            return Ok(waiting);
        }
        let (mut from, mut tries) = (0, 0);
        'parts: loop {
            let mut to = self.acceptable_after(from);
            while to > from && tries < MAX_TRIES {
                tries += 1;
                let part = if from == 0 && to == all { Some(whole.clone()) } else { effects(from, to)? };
                let Some(part) = part else { break 'parts };
                match self.violations_between(from, to, &part).first() {
                    None if to == all => return Ok(Vec::new()),
                    None => {
                        from = to;
                        continue 'parts;
                    }
                    // Up to the commit itself the plan may lack the effect that the rule is about.
                    Some(first) if first.at + 1 < to => to = first.at + 1,
                    Some(first) => to = first.at,
                }
            }
            break;
        }
        let left = if from == 0 { whole } else { effects(from, all)?.unwrap_or(whole) };
        Ok(self.violations_between(from, all, &left))
    }

    /// The rules, for people, that would cover one commit with all of the changes: the one that a Git host makes of a pull
    /// request.
    pub fn covering(&self, paths: Option<&[String]>, effects: &[TrustEffect]) -> Vec<String> {
        let by_path = |rule: RuleView<'_>| match paths {
            None => rule.asks_for_paths(),
            Some(paths) => paths.iter().any(|path| rule.covers_path(path)),
        };
        let covers =
            |rule: &RuleView<'_>| rule.covers_everything() || by_path(*rule) || rule.covers_effect(effects).is_some();
        self.policy.rules().filter(covers).map(|rule| rule.told().to_owned()).collect()
    }

    /// Who signed the newest commit, where somebody did.
    pub fn signer(&self) -> Option<&str> {
        let judged = &self.commits.last()?.judged;
        judged.rules.iter().find_map(|judged| judged.as_ref().ok()).map(String::as_str)
    }
}

/// Sentences of violations without full stops, and what to do about them: at most a few and one that says there are more.
pub fn in_sentences<'a>(violations: impl ExactSizeIterator<Item = &'a str>) -> Vec<String> {
    let all = violations.len();
    let mut told: Vec<String> = violations.take(MAX_TOLD).map(str::to_owned).collect();
    if all > MAX_TOLD {
        told.push("more commits break rules than are named here".to_owned());
    }
    if !told.is_empty() {
        told.push("push the commits again with signatures, or have the plan approved".to_owned());
    }
    told
}

/// What an author does before the merge, one command or sentence each: `base` is what the commits are on top of, as Git knows
/// it there, and `newest` the place of the newest commit in the range.
pub fn remedy(violations: &[Violation], base: &str, newest: usize) -> Vec<String> {
    let Some(oldest) = violations.iter().find(|violation| violation.commit.is_some()) else { return Vec::new() };
    let mut signers: Vec<&str> = violations.iter().flat_map(|one| &one.signed_by).map(String::as_str).collect();
    signers.sort_unstable();
    signers.dedup();
    let command = if oldest.at == newest {
        "git commit --amend --no-edit -S".to_owned()
    } else {
        format!("git rebase --force-rebase --rebase-merges -S {base}")
    };
    vec![
        format!("sign again, with a key of {}: {command}", signers.join(" or ")),
        "or have the plan approved after the merge: fleetctl source approve".to_owned(),
    ]
}
