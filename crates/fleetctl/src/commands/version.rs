//! `fleetctl version`.

use serde_json::Value;

use crate::cli::{Connection, VersionArgs, VersionFormat};
use crate::client::Client;
use crate::config::Settings;
use crate::output::printable;
use crate::{Io, Outcome};

pub(crate) async fn version(args: &VersionArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let client = env!("CARGO_PKG_VERSION");
    // The client's version is shown also when the service does not answer.
    let server = if args.client { None } else { server(connection).await.transpose() };
    let (server, failure) = match server {
        Some(Ok(version)) => (Some(version), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let mut report = serde_json::json!({"clientVersion": client});
    if let Some(server) = &server {
        report["serverVersion"] = server.as_str().into();
    }
    match args.output {
        VersionFormat::Human => {
            writeln!(io.out, "client {client}")?;
            if let Some(server) = &server {
                writeln!(io.out, "server {}", printable(server))?;
            }
        }
        VersionFormat::Json => writeln!(io.out, "{report:#}")?,
        VersionFormat::Yaml => io.out.write_all(serde_yaml::to_string(&report)?.as_bytes())?,
    }
    failure.map_or(Ok(Outcome::Good), Err)
}

/// The service's version; `None` when no service is named.
async fn server(connection: &Connection) -> anyhow::Result<Option<String>> {
    let Some(settings) = Settings::find(connection)? else { return Ok(None) };
    let answer = Client::with_settings(settings)?.get(&["version"], &[]).await?;
    Ok(Some(answer.get("version").and_then(Value::as_str).unwrap_or("unknown").to_owned()))
}
