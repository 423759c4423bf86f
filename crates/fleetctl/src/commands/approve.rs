//! `fleetctl approve`.

use reqwest::Method;
use serde_json::Value;

use super::full_names;
use crate::cli::{ApproveArgs, Connection};
use crate::client::Client;
use crate::objects::Type;
use crate::output::printable;
use crate::{Io, Outcome};

pub(crate) async fn approve(args: &ApproveArgs, connection: &Connection, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let client = Client::new(connection)?;
    let kind = Type::EnrollmentRequest;
    let names: Vec<String> = args
        .names
        .iter()
        .map(|name| name.strip_prefix("er/").or(name.strip_prefix("enrollmentrequest/")).unwrap_or(name).to_owned())
        .collect();
    let names = full_names(&client, kind, &names).await?;
    let labels: serde_json::Map<String, Value> =
        args.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let decision = serde_json::json!({"approved": !args.deny, "labels": labels, "replaceLabels": args.replace_labels});
    let mut failures = Vec::new();
    for name in &names {
        let path = [kind.collection(), name, "approval"];
        match client.send(Method::PUT, &path, &[], Some(&decision)).await {
            Ok(answer) => {
                let done = match (args.deny, answer["certificateIssued"].as_bool()) {
                    (true, _) => "denied",
                    (false, Some(true)) => "approved, certificate issued",
                    (false, _) => "approved; the certificate follows",
                };
                writeln!(io.out, "enrollmentrequest/{} {done}", printable(name))?;
            }
            Err(error) => failures.push(error.context(format!("enrollmentrequest/{name}"))),
        }
    }
    let mut failures = failures.into_iter();
    let Some(last) = failures.next_back() else { return Ok(Outcome::Good) };
    for failure in failures {
        writeln!(io.err, "error: {}", printable(&format!("{failure:#}")))?;
    }
    Err(last)
}
