//! Which repository a command looks at, and how its findings are shown before they stop it.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail};
use clap::Args;
use fleet_git::local::LocalRepository;
use fleet_model::{Diagnostic, Severity};

use super::{Tree, load_checkout, load_commit, normalized};
use crate::Io;
use crate::output::{one_line, printable};

/// So many errors are shown; `fleetctl lint` shows all.
const MAX_SHOWN: usize = 20;

/// What to look at.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RepositoryArgs {
    /// The repository, or a part of it [default: the repository around this directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The source's path: manifests are read below this directory of the repository only
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// A local clone of a Repository that manifests take files from, and what to look at there: NAME=DIR[@REV]
    #[arg(long = "repository", value_name = "NAME=DIR")]
    pub(crate) repositories: Vec<String>,
}

/// A repository, and where its manifests lie.
#[derive(Debug)]
pub(crate) struct Place {
    /// The root of the checkout; none of a bare repository.
    root: Option<PathBuf>,
    /// The repository, when it is one.
    repo: Result<Rc<LocalRepository>, fleet_git::GitError>,
    /// The source's path.
    below: String,
}

impl Place {
    /// Finds it: a directory outside Git is its own root, a part of a repository is the source's path.
    ///
    /// # Errors
    /// A directory that cannot be read; a path that leads out of the repository.
    pub(crate) fn find(args: &RepositoryArgs) -> anyhow::Result<Self> {
        let directory = args.root.as_deref().unwrap_or(Path::new("."));
        if !directory.is_dir() {
            bail!("{} is no directory", directory.display());
        }
        let path = normalized(args.path.as_deref().unwrap_or_default()).context("--path")?;
        let (root, repo, above) = match LocalRepository::discover(directory) {
            Ok(repo) => {
                // Without --root the whole repository is meant, wherever in it somebody stands.
                let part = if args.root.is_some() { repo.below_root(directory)? } else { String::new() };
                (repo.workdir().map(Path::to_owned), Ok(Rc::new(repo)), part)
            }
            Err(error) => (Some(directory.to_owned()), Err(error), String::new()),
        };
        let below =
            if above.is_empty() || path.is_empty() { format!("{above}{path}") } else { format!("{above}/{path}") };
        Ok(Self { root, repo, below })
    }

    /// The repository.
    ///
    /// # Errors
    /// When the directory lies in none.
    pub(crate) fn repository(&self) -> anyhow::Result<&Rc<LocalRepository>> {
        self.repo.as_ref().map_err(|error| anyhow::Error::new(error.clone()))
    }

    /// The files of a revision.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn load_commit(&self, commit: &fleet_model::CommitId, reuse: Option<&Tree>) -> anyhow::Result<Tree> {
        load_commit(self.repository()?, commit, &self.below, reuse)
    }

    /// The files as they lie in the checkout.
    ///
    /// # Errors
    /// What cannot be read; a bare repository has no checkout.
    pub(crate) fn load_checkout(&self, reuse: Option<&Tree>) -> anyhow::Result<Tree> {
        let root = self
            .root
            .as_deref()
            .context("a bare repository has no checkout; name a revision (plan BASE..HEAD, render --rev REV)")?;
        load_checkout(root, &self.below, reuse)
    }
}

/// Says on standard error what was left out of a tree.
///
/// # Errors
/// When nothing can be written.
pub(crate) fn show_remarks(tree: &Tree, io: &mut Io<'_>) -> io::Result<()> {
    tree.remarks.iter().try_for_each(|remark| writeln!(io.err, "note: {}", one_line(remark)))
}

/// Shows the errors among findings on standard error; returns how many there are.
///
/// # Errors
/// When nothing can be written.
pub(crate) fn show_errors(findings: &[Diagnostic], io: &mut Io<'_>) -> io::Result<usize> {
    let errors: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    for error in errors.iter().take(MAX_SHOWN) {
        let Diagnostic { code, message, file, line, column, .. } = error;
        writeln!(io.err, "error[{code}]: {}\n  --> {}:{line}:{column}", printable(message), one_line(file))?;
        if let Some(hint) = &error.hint {
            writeln!(io.err, "  help: {}", printable(hint))?;
        }
    }
    if errors.len() > MAX_SHOWN {
        writeln!(io.err, "… and {} more; fleetctl lint shows all", errors.len() - MAX_SHOWN)?;
    }
    Ok(errors.len())
}
