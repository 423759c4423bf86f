//! Plans in `fleetctl get` and `fleetctl describe`: commits may be shortened, and a source shows the newest in short.

use anyhow::bail;
use serde_json::Value;

use crate::Io;
use crate::client::Client;
use crate::objects;
use crate::output::printable;

/// Commits may be shortened to this many characters.
const MIN_PREFIX: usize = 4;
/// Characters of a whole commit id.
const WHOLE: usize = 40;

/// The whole ids of commits that may be shortened. The service is asked only when one is short.
pub(super) async fn full_commits(client: &Client, path: &[&str], commits: &[String]) -> anyhow::Result<Vec<String>> {
    if commits.iter().all(|commit| commit.len() >= WHOLE) {
        return Ok(commits.to_vec());
    }
    let (all, _) = client.list(path, &[], None).await?;
    commits.iter().map(|commit| full_commit(commit, &all)).collect()
}

fn full_commit(commit: &str, all: &[Value]) -> anyhow::Result<String> {
    if commit.len() < MIN_PREFIX {
        bail!("{commit:?} is too short: give at least {MIN_PREFIX} characters of the commit");
    }
    let matching: Vec<&str> = all.iter().map(objects::name).filter(|full| full.starts_with(commit)).collect();
    match matching[..] {
        [] => bail!("there is no plan of a commit that begins with {commit:?}; the newest plans of a source are kept"),
        [one] => Ok(one.to_owned()),
        _ => bail!("{} commits begin with {commit:?}: give more characters", matching.len()),
    }
}

/// The plan of a source's applied commit: digest and sentence.
pub(super) fn write_summary(source: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let text = |pointer: &str| source.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (commit, digest) = (text("/status/plan/commit"), text("/status/plan/digest"));
    if digest.is_empty() {
        return Ok(());
    }
    writeln!(io.out, "\nPlan of commit {}:", printable(&objects::short(commit)))?;
    writeln!(io.out, "  {}", printable(text("/status/plan/summary/sentence")))?;
    writeln!(io.out, "  {}", printable(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_may_be_shortened_while_it_is_unique() {
        let all: Vec<Value> =
            ["abcd0000", "abce0000"].map(|name| serde_json::json!({"metadata": {"name": name}})).to_vec();
        let find = |commit| full_commit(commit, &all).map_err(|error| error.to_string());
        assert_eq!(find("abcd"), Ok("abcd0000".to_owned()));
        assert!(find("abc").unwrap_err().contains("too short"));
        assert!(find("ffff").unwrap_err().contains("no plan"));
        let twice: Vec<Value> = all.iter().chain(&all).cloned().collect();
        assert!(full_commit("abcd", &twice).unwrap_err().to_string().contains("2 commits"));
    }
}
