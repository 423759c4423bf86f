//! What is compared.

use std::fmt;

use anyhow::{Context as _, bail};
use fleet_git::local::LocalRepository;
use fleet_model::CommitId;

/// Two sides of a comparison.
#[derive(Debug)]
pub(super) struct Range {
    /// What is in force, or will be.
    pub(super) base: Named,
    /// The change; none for the checkout as it lies there.
    pub(super) head: Option<Named>,
}

/// A commit, and how it was named.
#[derive(Debug)]
pub(super) struct Named {
    /// The commit.
    pub(super) id: CommitId,
    name: String,
}

impl Named {
    /// How people named it; where that is no revision, its id.
    pub(super) fn name(&self) -> &str {
        if self.name.contains(' ') { self.id.short() } else { &self.name }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.id.short();
        if self.id.as_str().starts_with(&self.name) { f.write_str(short) } else { write!(f, "{} ({short})", self.name) }
    }
}

impl Range {
    /// Reads `BASE..HEAD`, `BASE...HEAD` (from their merge base), `BASE..` and `BASE...` (to the checkout), `..HEAD`; without
    /// anything, from the merge base of `HEAD` and origin's default branch to the checkout.
    ///
    /// # Errors
    /// What is no range; a revision that is not there, with what to fetch.
    pub(super) fn read(text: Option<&str>, repo: &LocalRepository) -> anyhow::Result<Self> {
        let text = text.unwrap_or("..");
        let (base, head, from_merge_base) = if let Some((base, head)) = text.split_once("...") {
            (base, head, true)
        } else if let Some((base, head)) = text.split_once("..") {
            (base, head, base.is_empty())
        } else {
            bail!("{text:?} is no range; write BASE..HEAD, or {text}.. for what the checkout changes since {text}");
        };
        let named =
            |name: &str| -> anyhow::Result<Named> { Ok(Named { id: repo.resolve(name)?, name: name.to_owned() }) };
        let base = if base.is_empty() {
            named(repo.default_branch().context("cannot tell what to compare with")?)?
        } else {
            named(base)?
        };
        let head = if head.is_empty() { None } else { Some(named(head)?) };
        if !from_merge_base {
            return Ok(Self { base, head });
        }
        let tip = match &head {
            Some(head) => head.id.clone(),
            None => repo.resolve("HEAD")?,
        };
        let common = repo.merge_base(&base.id, &tip)?;
        let name = if common == base.id { base.name } else { format!("merge base with {}", base.name) };
        Ok(Self { base: Named { id: common, name }, head })
    }

    /// The change, for people.
    pub(super) fn head_name(&self) -> String {
        self.head.as_ref().map_or_else(|| "the checkout".to_owned(), Named::to_string)
    }
}
