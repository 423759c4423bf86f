//! `fleetctl describe`: one resource for people.

use anyhow::{bail, ensure};
use serde_json::Value;

use super::get::what;
use super::source::write_hold;
use super::{diagnostics, full_names, plans, write_diagnostics};
use crate::cli::{Connection, DescribeArgs};
use crate::client::Client;
use crate::duration::ago;
use crate::objects::{self, Type};
use crate::output::{one_line, printable, table};
use crate::{Io, Outcome};

/// So many events are shown.
const EVENTS: u32 = 10;

pub(crate) async fn describe(args: &DescribeArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let names: Vec<String> = args.name.iter().cloned().collect();
    let (kind, names) = what(&args.what, &names)?;
    ensure!(kind.has_items(), "{} cannot be described", kind.collection());
    let client = Client::new(connection)?;
    let names = full_names(&client, kind, &names).await?;
    let [name] = &names[..] else { bail!("give the name of one {}", kind.singular()) };
    let mut path = kind.path(args.fleetname.as_deref(), None)?;
    path.push(name);
    let object = client.get(&path, &[("addDevicesSummary", "true")]).await?;
    head(&object, io)?;
    conditions(&object, io)?;
    findings(kind, &object, io)?;
    if kind == Type::Source {
        plans::write_summary(&object, io)?;
        hold(&object, io)?;
        overdue(&object, io)?;
    }
    body(&object, io)?;
    events(&client, &object, io).await?;
    Ok(Outcome::Good)
}

fn field(io: &mut Io<'_>, name: &str, value: &str) -> std::io::Result<()> {
    writeln!(io.out, "{:<13}{}", format!("{name}:"), printable(value))
}

fn head(object: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    field(io, "Name", objects::name(object))?;
    field(io, "Kind", text("/kind"))?;
    for (name, pointer) in [("Owner", "/metadata/owner"), ("Created", "/metadata/creationTimestamp")] {
        if !text(pointer).is_empty() {
            field(io, name, text(pointer))?;
        }
    }
    for (name, pointer) in [("Labels", "/metadata/labels"), ("Annotations", "/metadata/annotations")] {
        let pairs = object.pointer(pointer).and_then(Value::as_object);
        for (n, (key, value)) in pairs.into_iter().flatten().enumerate() {
            let pair = one_line(&format!("{key}={}", value.as_str().unwrap_or_default()));
            if n == 0 { field(io, name, &pair)? } else { writeln!(io.out, "{:13}{pair}", "")? }
        }
    }
    Ok(())
}

fn conditions(object: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .flatten()
        .map(|c| {
            let text = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
            let at: Option<jiff::Timestamp> = text("lastTransitionTime").parse().ok();
            // Conditions without a time of their own carry the beginning of time.
            let since = at.filter(|at| at.as_second() > 0).map(|at| ago(io.clock.now().as_second() - at.as_second()));
            vec![text("type"), text("status"), text("reason"), since.unwrap_or_default(), text("message")]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(io.out, "\nConditions:")?;
    indented(io, &table(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows))
}

/// The commit that waits, and how to go on.
fn hold(source: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let held = source.pointer("/status/held").cloned().and_then(|held| serde_json::from_value(held).ok());
    let Some(held) = held else { return Ok(()) };
    writeln!(io.out)?;
    write_hold(objects::name(source), &held, io)
}

/// What a suspension keeps in force.
fn overdue(source: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let count = source.pointer("/status/suspended/overdueRemovals").and_then(Value::as_i64).unwrap_or_default();
    let objects = match count {
        ..1 => return Ok(()),
        1 => "1 object that left Git stays".to_owned(),
        count => format!("{count} objects that left Git stay"),
    };
    writeln!(io.out, "\n{objects} in force until the source is resumed: the grace is over")
}

fn indented(io: &mut Io<'_>, text: &str) -> std::io::Result<()> {
    text.lines().try_for_each(|line| writeln!(io.out, "  {line}"))
}

fn findings(kind: Type, object: &Value, io: &mut Io<'_>) -> std::io::Result<()> {
    let found = diagnostics(object);
    if kind != Type::Source || found.is_empty() {
        return Ok(());
    }
    let commit = object.pointer("/status/observedCommit").and_then(Value::as_str).unwrap_or_default();
    writeln!(io.out, "\nFindings in commit {}:", printable(&objects::short(commit)))?;
    write_diagnostics(io, "  ", &found)
}

/// Specification and status as YAML, without what was shown before.
fn body(object: &Value, io: &mut Io<'_>) -> anyhow::Result<()> {
    for (title, key) in [("Spec", "spec"), ("Status", "status")] {
        let mut value = object[key].clone();
        if let Some(map) = value.as_object_mut() {
            for shown in ["conditions", "diagnostics", "plan", "held"] {
                map.remove(shown);
            }
        }
        if value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty) {
            continue;
        }
        writeln!(io.out, "\n{title}:")?;
        // YAML writes control characters as escapes in quotes.
        indented(io, &serde_yaml::to_string(&value)?)?;
    }
    Ok(())
}

async fn events(client: &Client, object: &Value, io: &mut Io<'_>) -> anyhow::Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = objects::name(object);
    let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
    // Not everybody may read events; the resource itself was shown all the same.
    let Ok((events, _)) = client.list(&["events"], &[("fieldSelector", &selector)], Some(EVENTS)).await else {
        return Ok(());
    };
    if events.is_empty() {
        return Ok(());
    }
    let rows = events
        .iter()
        .map(|event| {
            let mut row = Type::Event.row(event, false, io.clock.now());
            row.remove(3);
            row
        })
        .collect();
    writeln!(io.out, "\nEvents:")?;
    indented(io, &table(&["AGE", "TYPE", "REASON", "ACTOR", "MESSAGE"], rows))?;
    Ok(())
}
