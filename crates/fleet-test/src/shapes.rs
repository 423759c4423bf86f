//! Repositories of a given shape, made by `git fast-import` in seconds: one with as many files, commits and references as
//! anybody has, and many small ones side by side. The same shape gives the same commit ids.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Date of the first commit: 2026-01-01T00:00:00Z.
const FIRST_COMMIT_AT: usize = 1_767_225_600;
const WHO: &str = "committer Cara Committer <cara@example.com>";
/// Changes when the contents of shaped repositories do, so that none of an older form is taken from a cache.
const VERSION: u32 = 3;
const FILES_PER_DIRECTORY: usize = 100;

/// How large a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Manifests of devices, about 870 bytes each, a hundred to a directory.
    pub files: usize,
    /// Commits on `main`: one with all files, and each further one changes a file.
    pub commits: usize,
    /// Branches besides `main`.
    pub refs: usize,
}

impl Shape {
    /// As large as syncing is measured with: a pack of about 25 MB.
    pub const LARGE: Self = Self { files: 50_000, commits: 3_000, refs: 12_000 };

    /// A bare repository of this shape of the caller's own, in a new temporary directory. It is made once and kept in
    /// `cache`, from where further copies are links.
    ///
    /// # Panics
    /// When `git` fails or the disk is full.
    #[must_use]
    pub fn repository(self, cache: &Path) -> BareRepo {
        let kept = cache.join(format!("shape-{VERSION}-{}-{}-{}.git", self.files, self.commits, self.refs));
        if !kept.join("HEAD").is_file() {
            fs::create_dir_all(cache).expect("the cache can be made");
            let fresh = tempfile::Builder::new().prefix("shape-").tempdir_in(cache).expect("the cache can be written");
            let path = fresh.path().join("bare.git");
            git(cache, &["init", "--quiet", "--bare", "--initial-branch=main", path.to_str().expect("UTF-8")]);
            import(&path, &self.stream());
            let head = git(&path, &["rev-parse", "main"]);
            let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
            let _ = writeln!(packed, "{head} refs/heads/main");
            for number in 0..self.refs {
                let _ = writeln!(packed, "{head} refs/heads/other/{number:06}");
            }
            fs::remove_file(path.join("refs/heads/main")).expect("fast-import wrote it");
            fs::write(path.join("packed-refs"), packed).expect("the repository can be written");
            // Whoever was faster made the same one.
            let _ = fs::rename(&path, &kept);
        }
        let dir = tempfile::tempdir().expect("the temporary directory can be written");
        let path = dir.path().join("bare.git");
        link_tree(&kept, &path);
        BareRepo { _dir: dir, path }
    }

    /// Path and content of a file, in the form that it has after `changes` changes.
    #[must_use]
    pub fn file(self, number: usize, changes: usize) -> (String, String) {
        let path = format!("devices/{:04}/device-{number:06}.yaml", number / FILES_PER_DIRECTORY);
        let mut text = format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: d{number:015}\n  labels:\n    \
             site: site-{}\n    stage: stage-{changes}\n  annotations:\n",
            number % 97
        );
        // Digits that do not compress well, as serial numbers and digests in real files.
        let mut state = u64::try_from(number * 7_919 + changes + 1).unwrap_or(1);
        for line in 0..5 {
            let _ = write!(text, "    acme.test/serial-{line}: \"");
            for _ in 0..8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let _ = write!(text, "{state:016x}");
            }
            text.push_str("\"\n");
        }
        (path, text)
    }

    fn stream(self) -> Vec<u8> {
        let mut stream = Vec::with_capacity(self.files * 700);
        let mut commit = |number: usize, files: &mut dyn Iterator<Item = (String, String)>| {
            let message = format!("commit {number}\n");
            let _ = write!(
                stream,
                "commit refs/heads/main\n{WHO} {} +0000\ndata {}\n{message}",
                FIRST_COMMIT_AT + number,
                message.len()
            );
            for (path, content) in files {
                let _ = write!(stream, "M 100644 inline {path}\ndata {}\n{content}\n", content.len());
            }
        };
        commit(0, &mut (0..self.files).map(|number| self.file(number, 0)));
        for number in 1..self.commits {
            let changed = number * 7_919 % self.files.max(1);
            commit(number, &mut std::iter::once(self.file(changed, number)));
        }
        stream
    }
}

/// A bare repository in a directory of its own.
#[derive(Debug)]
pub struct BareRepo {
    _dir: TempDir,
    path: PathBuf,
}

impl BareRepo {
    /// The repository.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory around it, to be served.
    ///
    /// # Panics
    /// Never; the repository lies in a directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.path.parent().expect("it lies in a directory")
    }

    /// The commit of `main`.
    #[must_use]
    pub fn head(&self) -> String {
        git(&self.path, &["rev-parse", "main"])
    }

    /// Changes one file on `main`, and returns the commit.
    pub fn commit(&self, path: &str, content: &str) -> String {
        commit(&self.path, path, content)
    }
}

/// Many small bare repositories below one directory, each with one file in one commit of its own.
#[derive(Debug)]
pub struct RepoFarm {
    dir: TempDir,
    heads: Vec<String>,
}

impl RepoFarm {
    /// Makes `count` repositories; `file` gives path and content for each number.
    ///
    /// # Panics
    /// When `git` fails or the disk is full.
    #[must_use]
    pub fn create(count: usize, file: impl Fn(usize) -> (String, String)) -> Self {
        let dir = tempfile::Builder::new().prefix("farm-").tempdir().expect("the temporary directory can be written");
        let template = dir.path().join("template");
        git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "template"]);
        let mut stream = Vec::new();
        for number in 0..count {
            let (path, content) = file(number);
            let _ = write!(
                stream,
                "commit refs/heads/{number:06}\n{WHO} {FIRST_COMMIT_AT} +0000\ndata 4\none\nM 100644 inline {path}\ndata \
                 {}\n{content}\n",
                content.len()
            );
        }
        import(&template, &stream);
        let listed = git(&template, &["for-each-ref", "--format=%(objectname)", "--sort=refname", "refs/heads"]);
        let heads: Vec<String> = listed.lines().map(str::to_owned).collect();
        assert_eq!(heads.len(), count, "one branch for each repository");
        fs::remove_dir_all(template.join("refs/heads")).expect("the template can be written");
        fs::create_dir(template.join("refs/heads")).expect("the template can be written");
        for (number, head) in heads.iter().enumerate() {
            let path = dir.path().join(Self::name(number));
            link_tree(&template, &path);
            fs::write(path.join("refs/heads/main"), format!("{head}\n")).expect("the repository can be written");
        }
        fs::remove_dir_all(template).expect("the template can be removed");
        Self { dir, heads }
    }

    /// The directory with all of them, to be served.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The name of a repository below the root.
    #[must_use]
    pub fn name(number: usize) -> String {
        format!("r{number:06}.git")
    }

    /// The commit that a repository began with.
    #[must_use]
    pub fn first(&self, number: usize) -> &str {
        &self.heads[number]
    }

    /// Changes one file of one repository on `main`, and returns the commit.
    pub fn commit(&self, number: usize, path: &str, content: &str) -> String {
        commit(&self.dir.path().join(Self::name(number)), path, content)
    }
}

fn commit(repository: &Path, path: &str, content: &str) -> String {
    let before = git(repository, &["log", "-1", "--format=%H %ct", "main"]);
    let (parent, at) = before.split_once(' ').expect("a commit and its time");
    let at: usize = at.parse().expect("seconds");
    let stream = format!(
        "commit refs/heads/main\n{WHO} {} +0000\ndata 7\nchange\nfrom {parent}\nM 100644 inline {path}\ndata {}\n{content}\n",
        at + 1,
        content.len()
    );
    import(repository, stream.as_bytes());
    git(repository, &["rev-parse", "main"])
}

/// A copy of a repository: references are copied, packs and objects, which nobody changes in place, are links.
fn link_tree(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the directory can be made");
    for entry in fs::read_dir(from).expect("the template can be read") {
        let entry = entry.expect("the template can be read");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("the template can be read").is_dir() {
            link_tree(&source, &target);
        } else if !from.components().any(|part| part.as_os_str() == "objects")
            || fs::hard_link(&source, &target).is_err()
        {
            fs::copy(&source, &target).expect("the repository can be copied");
        }
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C");
    command
}

fn git(directory: &Path, args: &[&str]) -> String {
    let output = command(directory)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("git cannot be run ({error}); install the package git"));
    assert!(
        output.status.success(),
        "git {} in {}: {}",
        args.join(" "),
        directory.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn import(repository: &Path, stream: &[u8]) {
    let mut child = command(repository)
        .args(["-c", "core.fsync=none", "fast-import", "--quiet", "--date-format=raw"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("git cannot be run ({error}); install the package git"));
    child.stdin.take().expect("piped").write_all(stream).expect("git fast-import reads its input");
    let status = child.wait().expect("git ends");
    assert!(status.success(), "git fast-import in {}: {status}", repository.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_what_it_says_and_the_same_each_time() {
        let shape = Shape { files: 250, commits: 7, refs: 30 };
        let cache = tempfile::tempdir().unwrap();
        let (one, two) = (shape.repository(cache.path()), shape.repository(tempfile::tempdir().unwrap().path()));
        assert_eq!(one.head(), two.head());
        let count = |args: &[&str]| git(one.path(), args).lines().count();
        assert_eq!(count(&["ls-tree", "-r", "--name-only", "main"]), 250);
        assert_eq!(count(&["log", "--format=%H", "main"]), 7);
        assert_eq!(count(&["for-each-ref"]), 31);
        let changed = one.commit(&shape.file(3, 0).0, "changed\n");
        assert_eq!(count(&["log", "--format=%H", "main"]), 8);
        assert_ne!(changed, shape.repository(cache.path()).head(), "the cached one stays as it is");
    }

    #[test]
    fn a_farm_has_repositories_with_commits_of_their_own() {
        let farm = RepoFarm::create(3, |number| ("a.yaml".to_owned(), format!("number: {number}\n")));
        assert_ne!(farm.first(0), farm.first(1));
        let second = farm.commit(1, "a.yaml", "number: 11\n");
        let show = |n: usize| git(&farm.root().join(RepoFarm::name(n)), &["show", "main:a.yaml"]);
        assert_eq!([show(0), show(1), show(2)], ["number: 0", "number: 11", "number: 2"]);
        assert_ne!(farm.first(1), second);
        git(&farm.root().join(RepoFarm::name(1)), &["fsck", "--strict"]);
    }
}
