//! What people bring from elsewhere: files of other tools, kinds that have no manifests, fields of the old format.
//! Words for hints only; what is an error the rest decides.

use serde_json::Value;

/// What to do with a document of another tool, when its `apiVersion` or kind says that it is one.
pub(crate) fn of_other_tool(api_version: Option<&str>, kind: &str) -> Option<String> {
    let group = api_version.unwrap_or_default();
    let is_ours = group.is_empty() || group == "v1beta1" || group == "v1alpha1" || group.starts_with("flightctl.io/");
    if is_ours || group.starts_with("shorebase/") {
        return None;
    }
    let what = if group.starts_with("kustomize.config.k8s.io/") {
        "a file for Kustomize".to_owned()
    } else {
        format!("{kind} of {} is an object of Kubernetes", crate::apps::clip(group))
    };
    Some(format!("{what}; {ELSEWHERE}"))
}

/// Where files belong that are no manifests.
pub(crate) const ELSEWHERE: &str = "move the file out of the source's path, name it under `exclude` in .fleetlint.yaml, or, if it is content \
     for devices, keep it below a directory that a gitRef with repository `.` names";

/// Where resources of a kind of ours come from when not from Git.
pub(crate) fn origin(kind: &str) -> &'static str {
    match kind {
        "List" | "FleetList" | "DeviceList" => {
            "write each item as a document of its own, with a line `---` between them"
        }
        "Catalog" | "CatalogItem" => {
            "this version of the service has no catalogues; name the file under `exclude` in .fleetlint.yaml"
        }
        "EnrollmentRequest" | "CertificateSigningRequest" => {
            "devices make them; an EnrollmentPolicy says which are approved"
        }
        "TemplateVersion" | "Event" => "the service makes them by itself; remove the document",
        "AuthProvider" | "Organization" => "this belongs to the service's configuration; remove the document",
        _ => "remove the document, or name its file under `exclude` in .fleetlint.yaml",
    }
}

/// What became of a field of the old format.
pub(crate) fn old_field(pointer: &str) -> Option<&'static str> {
    let mut parts = pointer.rsplit('/');
    let (name, above) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match (name, above) {
        ("configType", at) if is_number(at) => Some(
            "remove it: it is of the old format, and `inline`, `gitRef`, `httpRef` or `secretRef` says the type now",
        ),
        ("mountPath", "gitRef") => Some(
            "it is of the old format: what lies below `path` goes to `/` of the device, so keep `etc/app.conf` below `path` \
             for /etc/app.conf, and remove the field",
        ),
        ("hooks", "spec") => Some("hooks are files: bring them to /etc/flightctl/hooks.d with a provider in `config`"),
        ("containers", "spec") => Some("it is of the old format: list what is to run in `applications`"),
        _ => None,
    }
}

/// What a field is called here that other formats call so.
pub(crate) fn also_called(name: &str) -> &'static [&'static str] {
    match name.to_ascii_lowercase().as_str() {
        "branch" | "tag" | "ref" | "commit" | "rev" | "revision" => &["targetRevision"],
        "repo" => &["repository"],
        "url" | "host" => &["registry"],
        "dir" | "directory" | "folder" | "file" | "filename" => &["path", "filePath"],
        "permissions" | "permission" | "chmod" => &["mode"],
        "owner" => &["user"],
        "data" | "text" | "contents" => &["content"],
        "env" | "environment" => &["envVars"],
        "type" => &["appType", "monitorType"],
        "cron" | "schedule" | "when" => &["at"],
        "interval" => &["samplingInterval"],
        "alerts" | "rules" => &["alertRules"],
        "threshold" => &["percentage", "successThreshold"],
        "labels" => &["matchLabels"],
        "expressions" => &["matchExpressions"],
        "units" | "patterns" => &["matchPatterns"],
        "secret" => &["secretRef"],
        "git" => &["gitRef"],
        "http" => &["httpRef"],
        "files" => &["inline"],
        _ => &[],
    }
}

/// What to write for a value of the old format, or one near it.
pub(crate) fn old_value(pointer: &str, value: &Value) -> Option<&'static str> {
    let (above, name) = pointer.rsplit_once('/')?;
    let Value::Object(fields) = value else { return None };
    if name != "inline" || !above.contains("/config/") {
        return None;
    }
    if fields.contains_key("ignition") || fields.contains_key("storage") || fields.contains_key("systemd") {
        return Some(
            "an Ignition configuration is of the old format: write a list of files, each with `path`, `content` and `mode`",
        );
    }
    fields.contains_key("path").then_some("write a list: put `- ` in front of `path`")
}
