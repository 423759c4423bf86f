//! Local clones that stand in for the repositories that manifests name: nothing is fetched.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use fleet_git::local::LocalRepository;
use fleet_model::CommitId;

/// Local clones of repositories that manifests take files from, by the Repository's name.
#[derive(Debug, Default)]
pub(crate) struct Clones {
    pub(super) by_name: BTreeMap<String, LocalClone>,
}

/// One clone.
#[derive(Debug)]
pub(super) struct LocalClone {
    pub(super) repo: Rc<LocalRepository>,
    /// What is looked at instead of what manifests ask for.
    pub(super) revision: Option<String>,
}

impl LocalClone {
    /// The commit that a branch or tag of the repository stands for, as far as the clone knows.
    pub(super) fn resolve(&self, revision: &str) -> Result<CommitId, fleet_git::GitError> {
        if let Some(named) = &self.revision {
            return self.repo.resolve(named);
        }
        if revision.is_empty() || revision == "HEAD" {
            return self.repo.resolve("refs/remotes/origin/HEAD").or_else(|_| self.repo.resolve("HEAD"));
        }
        // What was fetched last is nearer to the host than a branch that somebody works on.
        self.repo.resolve(&format!("refs/remotes/origin/{revision}")).or_else(|_| self.repo.resolve(revision))
    }
}

impl Clones {
    /// Reads `NAME=DIR` and `NAME=DIR@REV`.
    ///
    /// # Errors
    /// What is wrong with an argument, or that a directory is no repository.
    pub(crate) fn open(arguments: &[String]) -> anyhow::Result<Self> {
        let mut clones = Self::default();
        for argument in arguments {
            let (name, place) = argument
                .split_once('=')
                .filter(|(name, place)| !name.is_empty() && !place.is_empty())
                .with_context(|| format!("--repository {argument}: write NAME=DIR, or NAME=DIR@REV"))?;
            let (directory, revision) = match place.rsplit_once('@') {
                Some((directory, revision)) if !Path::new(place).exists() => (directory, Some(revision.to_owned())),
                _ => (place, None),
            };
            let repo =
                LocalRepository::discover(Path::new(directory)).with_context(|| format!("--repository {argument}"))?;
            if let Some(revision) = &revision {
                repo.resolve(revision).with_context(|| format!("--repository {argument}"))?;
            }
            let clone = LocalClone { repo: Rc::new(repo), revision };
            if clones.by_name.insert(name.to_owned(), clone).is_some() {
                bail!("--repository names {name} twice");
            }
        }
        Ok(clones)
    }
}
