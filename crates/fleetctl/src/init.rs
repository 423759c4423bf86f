//! `fleetctl init`: a new repository that lint accepts, with everything that people need to work in it. The files lie in
//! `init/repo`; `@NAME@` in them stands for the name of the first fleet, `@SCALAR@` for
//! the same as a value in YAML.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use fleet_lint::schema;
use fleet_model::ResourceName;

use crate::output::printable;
use crate::{Io, Outcome};

/// The longest name made from a directory's: it becomes the value of a label.
const MAX_NAME: usize = 63;

/// Whose pull requests are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ci {
    /// GitHub Actions
    Github,
    /// GitLab CI
    Gitlab,
    /// Nobody's
    None,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The directory; made when it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What the first fleet is called [default: the directory's name]
    #[arg(long, value_parser = parse_name)]
    name: Option<ResourceName>,
    /// Whose pull requests are checked
    #[arg(long, value_enum, default_value_t = Ci::Github)]
    ci: Ci,
    /// Write into a directory that is not empty; files that are in the way are replaced
    #[arg(long)]
    force: bool,
}

fn parse_name(text: &str) -> Result<ResourceName, String> {
    let name = ResourceName::try_from(text).map_err(|error| error.to_string())?;
    if text.len() > MAX_NAME {
        return Err(format!("it has {} characters; at most {MAX_NAME} fit into a label", text.len()));
    }
    Ok(name)
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("init/repo/", $path))
    };
}

pub(crate) fn run(args: &InitArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let dir = &args.dir;
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    if !args.force {
        refuse_what_is_there(dir)?;
    }
    let name = match &args.name {
        Some(name) => name.as_str().to_owned(),
        None => name_of(dir)?,
    };
    let files = files(&name, args.ci);
    for (path, text) in &files {
        write(&dir.join(path), text, path.starts_with(".githooks/"))?;
    }
    let shown = printable(&dir.display().to_string());
    writeln!(io.out, "Made a repository for the fleet {name} in {shown}: {} files.\n\nNext:", files.len())?;
    let mut steps = Vec::new();
    if shown != "." {
        steps.push(format!("cd {shown}"));
    }
    if !dir.join(".git").exists() {
        steps.push("git init --initial-branch=main".to_owned());
    }
    steps.push("fleetctl lint".to_owned());
    steps.push(format!("edit fleets/{name}.yaml and config/{name}/, then commit and push"));
    steps.push("name the repository in the service's configuration, below `sources`".to_owned());
    steps.push(format!("fleetctl approve DEVICE -l fleet={name}"));
    for (number, step) in steps.iter().enumerate() {
        writeln!(io.out, "  {}. {step}", number + 1)?;
    }
    Ok(Outcome::Good)
}

/// Nothing that is there already is touched: a Git directory may be, anything else is named.
fn refuse_what_is_there(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot read {}", dir.display());
    let mut there = Vec::new();
    for entry in fs::read_dir(dir).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        if name != ".git" {
            there.push(name.to_string_lossy().into_owned());
        }
    }
    there.sort();
    let more = if there.len() > 5 { format!(" and {} more", there.len() - 5) } else { String::new() };
    if !there.is_empty() {
        there.truncate(5);
        bail!(
            "{} is not empty: {}{more}; name another directory, or give --force to write into this one",
            dir.display(),
            there.join(", ")
        );
    }
    Ok(())
}

/// The directory's name as that of a fleet.
fn name_of(dir: &Path) -> anyhow::Result<String> {
    let full = fs::canonicalize(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let own = full.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut name = String::new();
    for c in own.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(MAX_NAME);
    let name = name.trim_end_matches('-');
    let name = if name.is_empty() { "fleet" } else { name };
    ResourceName::try_from(name).with_context(|| format!("{name:?} is no name for a fleet; give --name"))?;
    Ok(name.to_owned())
}

/// All files by path.
fn files(name: &str, ci: Ci) -> Vec<(PathBuf, String)> {
    let mut files = vec![
        ("README.md".to_owned(), template!("README.md")),
        (format!("fleets/{name}.yaml"), template!("fleets/fleet.yaml")),
        (format!("config/{name}/etc/motd"), template!("config/motd")),
        ("policies/README.md".to_owned(), template!("policies/README.md")),
        ("devices/README.md".to_owned(), template!("devices/README.md")),
        (".fleetlint.yaml".to_owned(), template!(".fleetlint.yaml")),
        (".pre-commit-config.yaml".to_owned(), template!(".pre-commit-config.yaml")),
        (".githooks/pre-commit".to_owned(), template!(".githooks/pre-commit")),
        (".vscode/settings.json".to_owned(), template!(".vscode/settings.json")),
        (".vscode/extensions.json".to_owned(), template!(".vscode/extensions.json")),
    ];
    match ci {
        Ci::Github => {
            files.push((".github/workflows/fleet.yaml".to_owned(), template!(".github/workflows/fleet.yaml")))
        }
        Ci::Gitlab => files.push((".gitlab-ci.yml".to_owned(), template!(".gitlab-ci.yml"))),
        Ci::None => {}
    }
    let mut files: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|(path, text)| (PathBuf::from(path), text.replace("@SCALAR@", &scalar(name)).replace("@NAME@", name)))
        .collect();
    // The schemas of this very program, in a directory that is not read for manifests.
    let mut schemas = schema::generate();
    for (schema, path) in
        [("any.json", ".vscode/manifest.schema.json"), ("fleetlint.json", ".vscode/fleetlint.schema.json")]
    {
        if let Some(text) = schemas.remove(schema) {
            files.push((PathBuf::from(path), text));
        }
    }
    files
}

/// The name as a scalar that every reader of YAML takes for text: `on` and `1e3` are something else without quotes.
fn scalar(name: &str) -> String {
    let is_word = matches!(name, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase()) && !is_word;
    if is_plain { name.to_owned() } else { format!("\"{name}\"") }
}

/// Writes a file in one motion: what is there is replaced, a symbolic link not followed.
fn write(path: &Path, text: &str, is_program: bool) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let dir = path.parent().context("a file lies in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut beside = tempfile::Builder::new().prefix(".fleetctl-init-").tempfile_in(dir).with_context(failed)?;
    beside.write_all(text.as_bytes()).with_context(failed)?;
    let mode = if is_program { 0o755 } else { 0o644 };
    beside.as_file().set_permissions(fs::Permissions::from_mode(mode)).with_context(failed)?;
    beside.persist(path).with_context(failed)?;
    Ok(())
}
