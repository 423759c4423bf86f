//! Keeps `.sqlx/`, what the checked queries of fleet-store need to build without a database, in step with the
//! queries and the migrations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fleet_test::TestDatabase;

use crate::{cargo, root, say};

/// What to do with a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write `.sqlx/`.
    Update,
    /// Fail and name the files.
    Check,
}

/// Builds fleet-store against a database with all migrations and compares what the queries need with `.sqlx/`.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let database = TestDatabase::try_create()?;
    for schema in ["durable", "desired", "rendered"] {
        for file in sql_files(&root().join("migrations").join(schema))? {
            database.psql_file(&file).with_context(|| format!("applying {}", file.display()))?;
        }
    }
    let fresh = tempfile::tempdir().context("creating a temporary directory")?;
    touch(&root().join("crates/fleet-store/src/lib.rs"), fresh.path())?;
    let status = cargo()
        .args(["check", "--quiet", "--package", "fleet-store", "--all-targets"])
        .env("DATABASE_URL", database.url())
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", fresh.path())
        .status()
        .context("running cargo check")?;
    // The next build must not take what was built with these variables for its own.
    touch(&root().join("crates/fleet-store/src/lib.rs"), fresh.path())?;
    ensure!(status.success(), "fleet-store does not build against the migrations ({status})");

    let committed = root().join(".sqlx");
    let (wanted, found) = (queries(fresh.path())?, queries(&committed)?);
    let names = |from: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        from.iter().filter(|(name, text)| other.get(*name) != Some(*text)).map(|(name, _)| name.clone()).collect()
    };
    let (missing, stale) = (names(&wanted, &found), names(&found, &wanted));
    if missing.is_empty() && stale.is_empty() {
        say(&format!(".sqlx is current ({} queries)", wanted.len()));
        return Ok(());
    }
    if mode == Mode::Check {
        let named: Vec<&str> = missing.iter().chain(&stale).take(5).map(String::as_str).collect();
        bail!(
            ".sqlx is not current: {} missing or changed, {} no longer needed ({}…); run `cargo xtask sqlx` and commit",
            missing.len(),
            stale.len(),
            named.join(", ")
        );
    }
    std::fs::create_dir_all(&committed).context("creating .sqlx")?;
    for name in &stale {
        std::fs::remove_file(committed.join(name)).with_context(|| format!("removing .sqlx/{name}"))?;
    }
    for name in &missing {
        std::fs::write(committed.join(name), &wanted[name]).with_context(|| format!("writing .sqlx/{name}"))?;
    }
    say(&format!(".sqlx: {} written, {} removed, {} in all", missing.len(), stale.len(), wanted.len()));
    Ok(())
}

fn sql_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    ensure!(!files.is_empty(), "no migrations in {}", dir.display());
    Ok(files)
}

/// `query-*.json` files by name; none when there is no directory.
fn queries(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("query-") && name.ends_with(".json") {
            found.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(found)
}

/// Makes cargo build a file's crate again: the macros read the environment, which cargo does not know.
fn touch(file: &Path, scratch: &Path) -> Result<()> {
    let probe = scratch.join("now");
    std::fs::write(&probe, b"").context("writing a temporary file")?;
    let now = probe.metadata()?.modified()?;
    let file_handle = std::fs::File::options().append(true).open(file);
    let touched = file_handle.and_then(|handle| handle.set_modified(now));
    touched.with_context(|| format!("touching {}", file.display()))
}
