//! `fleetctl get`.

use anyhow::bail;
use serde_json::Value;

use super::{diagnostics, full_names, plans, write_diagnostics};
use crate::cli::{Connection, Format, GetArgs};
use crate::client::Client;
use crate::objects::{self, Type};
use crate::output::{printable, table};
use crate::{Io, Outcome};

pub(crate) async fn get(args: &GetArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let (kind, names) = what(&args.what, &args.names)?;
    let client = Client::new(connection)?;
    let path = kind.path(args.fleetname.as_deref(), args.source.as_deref())?;
    if names.is_empty() {
        let (items, more) = list(&client, kind, &path, args).await?;
        if more && args.output != Format::Json && args.output != Format::Yaml {
            writeln!(io.err, "showing the first {}; raise --limit for more", items.len())?;
        }
        let list = serde_json::json!({
            "apiVersion": fleet_model::API_VERSION, "kind": "List", "metadata": {}, "items": &items,
        });
        show(kind, &items, &list, args.output, io)?;
        return Ok(Outcome::Good);
    }
    if args.selector.is_some() || args.field_selector.is_some() || args.limit.is_some() {
        bail!("names and selectors cannot be combined");
    }
    if !kind.has_items() {
        bail!("{} cannot be shown by name; use --field-selector", kind.collection());
    }
    let mut items = Vec::new();
    let names = match kind == Type::Plan {
        true => plans::full_commits(&client, &path, &names).await?,
        false => full_names(&client, kind, &names).await?,
    };
    for name in names {
        let mut path = path.clone();
        path.push(&name);
        items.push(client.get(&path, &extra(kind)).await?);
    }
    let whole = match &items[..] {
        [one] => one.clone(),
        _ => serde_json::json!({
            "apiVersion": fleet_model::API_VERSION, "kind": "List", "metadata": {}, "items": &items,
        }),
    };
    show(kind, &items, &whole, args.output, io)?;
    Ok(Outcome::Good)
}

/// The type and the names of `TYPE`, `TYPE NAME…` or `TYPE/NAME`.
pub(super) fn what(what: &str, names: &[String]) -> anyhow::Result<(Type, Vec<String>)> {
    let Some((kind, name)) = what.split_once('/') else { return Ok((Type::parse(what)?, names.to_vec())) };
    if name.is_empty() || !names.is_empty() {
        bail!("give TYPE/NAME or TYPE NAME, not both");
    }
    Ok((Type::parse(kind)?, vec![name.to_owned()]))
}

fn extra(kind: Type) -> Vec<(&'static str, &'static str)> {
    if kind == Type::Fleet { vec![("addDevicesSummary", "true")] } else { Vec::new() }
}

async fn list(client: &Client, kind: Type, path: &[&str], args: &GetArgs) -> anyhow::Result<(Vec<Value>, bool)> {
    let selectors = [("labelSelector", &args.selector), ("fieldSelector", &args.field_selector)];
    let selectors = selectors.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query: Vec<(&str, &str)> = extra(kind).into_iter().chain(selectors).collect();
    // Events have no end: the newest are wanted.
    let limit = args.limit.or((kind == Type::Event).then_some(100));
    client.list(path, &query, limit).await
}

fn show(kind: Type, items: &[Value], whole: &Value, format: Format, io: &mut Io<'_>) -> anyhow::Result<()> {
    match format {
        Format::Json => writeln!(io.out, "{whole:#}")?,
        Format::Yaml => io.out.write_all(serde_yaml::to_string(whole)?.as_bytes())?,
        Format::Name => {
            for item in items {
                writeln!(io.out, "{}/{}", kind.singular(), printable(objects::name(item)))?;
            }
        }
        Format::Table | Format::Wide if items.is_empty() => writeln!(io.err, "no {}", kind.collection())?,
        Format::Table | Format::Wide => {
            let (wide, now) = (format == Format::Wide, io.clock.now());
            let rows = items.iter().map(|item| kind.row(item, wide, now)).collect();
            io.out.write_all(table(&kind.header(wide), rows).as_bytes())?;
            if kind == Type::Source {
                refused(items, io)?;
            }
        }
    }
    Ok(())
}

/// Below the table: why commits were refused.
fn refused(sources: &[Value], io: &mut Io<'_>) -> std::io::Result<()> {
    for source in sources {
        let found = diagnostics(source);
        if source["status"]["observedCommit"] == source["status"]["appliedCommit"] || found.is_empty() {
            continue;
        }
        let commit = source.pointer("/status/observedCommit").and_then(Value::as_str).unwrap_or_default();
        let name = printable(objects::name(source));
        writeln!(io.out, "\nsource {name}: commit {} is not applied:", printable(&objects::short(commit)))?;
        write_diagnostics(io, "  ", &found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_two_forms() {
        let names = |list: &[&str]| -> Vec<String> { list.iter().map(|n| (*n).to_owned()).collect() };
        assert_eq!(what("dev/a", &[]).unwrap(), (Type::Device, names(&["a"])));
        assert_eq!(what("er", &names(&["a", "b"])).unwrap(), (Type::EnrollmentRequest, names(&["a", "b"])));
        assert!(what("dev/a", &names(&["b"])).is_err());
        assert!(what("dev/", &[]).is_err());
    }
}
