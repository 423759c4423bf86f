//! The commands that talk to the service, and `token`, which makes what they need.

mod approve;
mod describe;
mod enrollment_config;
mod explain;
mod get;
mod plans;
mod source;
mod sync;
mod token;
mod version;

pub(crate) use approve::approve;
pub(crate) use describe::describe;
pub(crate) use enrollment_config::enrollment_config;
pub(crate) use explain::explain;
pub(crate) use get::get;
pub(crate) use source::{SourceCommand, source};
pub(crate) use sync::sync;
pub(crate) use token::token;
pub(crate) use version::version;

use anyhow::bail;
use fleet_model::Diagnostic;
use serde_json::Value;

use crate::Io;
use crate::client::Client;
use crate::objects::{self, Type};
use crate::output::printable;

/// Shortened names have at least so many characters.
const MIN_PREFIX: usize = 6;

/// The full names behind names that may be shortened. The service is asked only when one is short.
async fn full_names(client: &Client, kind: Type, names: &[String]) -> anyhow::Result<Vec<String>> {
    // A fingerprint of SHA-256 has 52 characters.
    if !kind.has_long_names() || names.iter().all(|name| name.len() >= 52) {
        return Ok(names.to_vec());
    }
    let (all, _) = client.list(&[kind.collection()], &[], None).await?;
    names.iter().map(|name| full_name(kind, name, &all)).collect()
}

fn full_name(kind: Type, name: &str, all: &[Value]) -> anyhow::Result<String> {
    let known = || all.iter().map(objects::name);
    if known().any(|full| full == name) {
        return Ok(name.to_owned());
    }
    if name.len() < MIN_PREFIX {
        bail!("{name:?} is too short: give at least {MIN_PREFIX} characters of the name");
    }
    let matching: Vec<&str> = known().filter(|full| full.starts_with(name)).collect();
    match matching[..] {
        [] => bail!("there is no {} whose name begins with {name:?}", kind.singular()),
        [one] => Ok(one.to_owned()),
        _ => bail!("{} {}s have names that begin with {name:?}: give more characters", matching.len(), kind.singular()),
    }
}

/// The findings in a source's newest commit.
fn diagnostics(source: &Value) -> Vec<Diagnostic> {
    let all = source.pointer("/status/diagnostics").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

/// Findings in the words of `lint`, one per line, with their hints.
fn write_diagnostics(io: &mut Io<'_>, indent: &str, diagnostics: &[Diagnostic]) -> std::io::Result<()> {
    for diagnostic in diagnostics {
        writeln!(io.out, "{indent}{}", printable(&diagnostic.to_string()))?;
        if let Some(hint) = &diagnostic.hint {
            writeln!(io.out, "{indent}  hint: {}", printable(hint))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_must_be_long_and_unique() {
        let all: Vec<Value> =
            ["abcdef123", "abcdef456", "short"].map(|name| serde_json::json!({"metadata": {"name": name}})).to_vec();
        let find = |name| full_name(Type::Device, name, &all).map_err(|error| error.to_string());
        assert_eq!(find("abcdef1"), Ok("abcdef123".to_owned()));
        assert_eq!(find("short"), Ok("short".to_owned()));
        assert!(find("abc").unwrap_err().contains("at least 6"));
        assert!(find("abcdef").unwrap_err().contains("2 devices have names"));
        assert!(find("xxxxxx").unwrap_err().contains("no device"));
    }
}
