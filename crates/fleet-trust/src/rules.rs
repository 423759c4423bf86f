//! The rules of a policy, and what they say of commits.

use fleet_model::{CommitId, SyncTrust, TrustEffect, TrustRule};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::commit::{Signature, SignedCommit};
use crate::openpgp::Certificates;
use crate::ssh::AllowedSigners;

/// How much earlier than its parent a commit may say it was committed, in seconds. Clocks differ; but a signer whose key
/// is over could otherwise date back to when it was not.
const MAX_BACK: i64 = 24 * 60 * 60;

/// The rules that are in force for a source, ready to judge. What cannot be read makes a rule stricter, never laxer: a
/// broken key allows nobody, a broken pattern covers everything.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    paths: Option<GlobSet>,
    effects: Vec<TrustEffect>,
    covers_everything: bool,
    sets: Vec<Set>,
    signed_by: Vec<String>,
    told: String,
}

#[derive(Debug)]
struct Set {
    ssh: AllowedSigners,
    openpgp: Certificates,
}

/// A commit to judge.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The commit.
    pub id: &'a CommitId,
    /// Its bytes; `None` when it is too large to be looked at.
    pub raw: Option<&'a [u8]>,
    /// When its first parent was committed, as that says, where it is known.
    pub parent_committed_at: Option<i64>,
}

/// What each rule says of the signature of one commit, whether or not the rule covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// By rule: who signed, or why that is not enough.
    pub rules: Vec<Result<String, Denial>>,
}

/// Why a signature is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The sort of it.
    pub kind: DenialKind,
    /// The same in words, as a part of a sentence.
    pub words: String,
}

/// Sorts of denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialKind {
    /// There is no signature.
    Unsigned,
    /// There is one that does not count.
    Untrusted,
}

/// A rule, to be asked what it covers.
#[derive(Debug, Clone, Copy)]
pub struct RuleView<'a>(&'a Rule);

impl RuleView<'_> {
    /// Whether every commit is covered.
    pub fn covers_everything(&self) -> bool {
        self.0.covers_everything
    }

    /// Whether a commit that changes this path is covered.
    pub fn covers_path(&self, path: &str) -> bool {
        self.0.covers_everything || self.0.paths.as_ref().is_some_and(|paths| paths.is_match(path))
    }

    /// Whether what a commit changes has to be known to tell whether it is covered.
    pub fn asks_for_paths(&self) -> bool {
        self.0.paths.is_some() && !self.0.covers_everything
    }

    /// Whether the rule is about what plans do.
    pub fn asks_for_effects(&self) -> bool {
        !self.0.effects.is_empty()
    }

    /// The first of these effects that makes the rule cover all commits of a plan.
    pub fn covers_effect(&self, effects: &[TrustEffect]) -> Option<TrustEffect> {
        self.0.effects.iter().copied().find(|effect| effects.contains(effect))
    }

    /// The rule for people: `the rule for fleets/prod/** (signed by platform)`.
    pub fn told(&self) -> &str {
        &self.0.told
    }
}

impl<'a> RuleView<'a> {
    /// The sets of signers of whom one signature is enough.
    pub fn signed_by(&self) -> &'a [String] {
        &self.0.signed_by
    }
}

impl DenialKind {
    /// The word for it in conditions, holds and plans.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unsigned => "UnsignedCommit",
            Self::Untrusted => "UntrustedSigner",
        }
    }
}

impl Policy {
    /// The union of what several policies ask for.
    pub fn new(trusts: &[SyncTrust]) -> Self {
        let rules = trusts.iter().flat_map(|trust| trust.rules.iter().map(|rule| Rule::new(trust, rule)));
        Self { rules: rules.collect() }
    }

    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.rules.iter().map(RuleView)
    }

    /// What each rule says of a commit's signature.
    pub fn judge(&self, subject: Subject<'_>) -> Judged {
        let untrusted = |words: &str| Denial { kind: DenialKind::Untrusted, words: words.to_owned() };
        let all = |denial: Denial| Judged { rules: self.rules.iter().map(|_| Err(denial.clone())).collect() };
        let Some(raw) = subject.raw else { return all(untrusted("it is too large to be looked at")) };
        let commit = match SignedCommit::parse(raw) {
            Ok(commit) => commit,
            Err(error) => return all(untrusted(&error.to_string())),
        };
        let Some(signature) = &commit.signature else {
            return all(Denial { kind: DenialKind::Unsigned, words: "it is not signed".to_owned() });
        };
        if subject.parent_committed_at.is_some_and(|parent| commit.committed_at < parent.saturating_sub(MAX_BACK)) {
            return all(untrusted("it says it was committed more than a day before its parent"));
        }
        let rules = self.rules.iter().map(|rule| {
            let mut words = Vec::new();
            for set in &rule.sets {
                match set.verify(&commit, signature) {
                    Ok(who) => return Ok(who),
                    Err(why) if !words.contains(&why) => words.push(why),
                    Err(_) => {}
                }
            }
            let words = if words.is_empty() { "nobody's signature would do".to_owned() } else { words.join(", ") };
            Err(Denial { kind: DenialKind::Untrusted, words })
        });
        Judged { rules: rules.collect() }
    }
}

impl Rule {
    fn new(trust: &SyncTrust, rule: &TrustRule) -> Self {
        let mut covers_everything = rule.covers_everything();
        let paths = rule.paths.as_ref().map(|paths| {
            let mut set = GlobSetBuilder::new();
            for path in paths {
                match glob(path) {
                    Ok(glob) => {
                        set.add(glob);
                    }
                    Err(_) => covers_everything = true,
                }
            }
            set.build().unwrap_or_else(|_| {
                covers_everything = true;
                GlobSet::empty()
            })
        });
        let named = trust.signers.iter().filter(|set| rule.signed_by.contains(&set.name));
        let sets = named.map(|set| Set {
            ssh: AllowedSigners::parse(set.ssh.as_deref().unwrap_or_default()).0,
            openpgp: Certificates::parse(set.openpgp.as_deref().unwrap_or_default()).unwrap_or_default(),
        });
        Self {
            effects: rule.effects.clone().unwrap_or_default(),
            sets: sets.collect(),
            signed_by: rule.signed_by.clone(),
            told: told(rule),
            paths,
            covers_everything,
        }
    }
}

impl Set {
    fn verify(&self, commit: &SignedCommit, signature: &Signature) -> Result<String, String> {
        match signature {
            Signature::Ssh(text) => self.ssh.verify(&commit.payload, text, commit.committed_at),
            Signature::OpenPgp(text) => self.openpgp.verify(&commit.payload, text, commit.committed_at),
            Signature::Other => Err("its signature is neither an SSH nor an OpenPGP one".to_owned()),
        }
    }
}

/// A pattern of paths from the root of the repository: `*` and `?` stay within a directory, `**` does not.
///
/// # Errors
/// What is wrong with it.
pub fn glob(pattern: &str) -> Result<globset::Glob, String> {
    if pattern.is_empty() || pattern.starts_with('/') || pattern.len() > 1_000 {
        return Err("a pattern is a path from the root of the repository, without a slash in front".to_owned());
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_err(|error| error.kind().to_string())
}

fn told(rule: &TrustRule) -> String {
    let mut what: Vec<String> = rule.paths.iter().flatten().cloned().collect();
    what.extend(rule.effects.iter().flatten().map(|effect| effect.as_str().to_owned()));
    let what = if rule.covers_everything() { "every commit".to_owned() } else { what.join(", ") };
    let short: String = what.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("the rule for {short} (signed by {})", rule.signed_by.join(" or "))
}
