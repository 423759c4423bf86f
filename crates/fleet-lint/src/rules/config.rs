//! Configuration providers: names, paths, owners, contents, placeholders and references.

mod nesting;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{
    ConfigProvider, ConfigSource, ContentEncoding, DeviceSpec, FileSpec, GitRef, HttpRef, ResourceName,
    SELF_REPOSITORY, SecretRef,
};
use fleet_render::{Template, check_device_path, check_owner, literal_prefix};

use super::applications::{base64_problem, template, template_hint};
use crate::apps::clip;
use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::Finding;
use crate::validate::valid_name;

/// The largest content of one inline file, in bytes after decoding.
const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Checks the configuration of a device specification at `pointer`. Placeholders count only in a fleet's template.
pub(crate) fn check(
    document: &Document<'_, '_>,
    pointer: &str,
    spec: &DeviceSpec,
    is_template: bool,
    findings: &mut Vec<Finding>,
) {
    let mut rules = Rules { document, is_template, findings, names: HashMap::new(), paths: HashMap::new() };
    for (at, provider) in spec.config.iter().flatten().enumerate() {
        rules.provider(&format!("{pointer}/config/{at}"), provider);
    }
    nesting::check(document, pointer, spec.config.as_deref().unwrap_or_default(), findings);
}

struct Rules<'r, 't, 'a> {
    document: &'r Document<'t, 'a>,
    is_template: bool,
    findings: &'r mut Vec<Finding>,
    /// Lines of the providers by name.
    names: HashMap<String, u32>,
    /// Lines of the inline files and of the files from web servers, by path.
    paths: HashMap<String, u32>,
}

impl Rules<'_, '_, '_> {
    fn find(&mut self, code: Code, pointer: String, message: String) -> &mut Finding {
        let at = self.document.value_span(&pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn provider(&mut self, pointer: &str, provider: &ConfigProvider) {
        let name_pointer = format!("{pointer}/name");
        if let Err(error) = provider.name.parse::<ResourceName>() {
            self.find(codes::BAD_PROVIDER_NAME, name_pointer.clone(), format!("the provider's {error}")).hint =
                valid_name(&provider.name).map(|name| format!("did you mean `{name}`?"));
        }
        let line = self.document.value_span(&name_pointer).line;
        if let Some(first) = self.names.insert(provider.name.clone(), line) {
            let message = format!("the provider name {:?} is given twice; the first is on line {first}", provider.name);
            self.find(codes::DUPLICATE_PROVIDER, name_pointer, message);
        }
        match &provider.source {
            ConfigSource::Inline(files) => {
                for (at, file) in files.iter().enumerate() {
                    self.file(&format!("{pointer}/inline/{at}"), file);
                }
            }
            ConfigSource::GitRef(git_ref) => self.git_ref(&format!("{pointer}/gitRef"), git_ref),
            ConfigSource::HttpRef(http_ref) => self.http_ref(&format!("{pointer}/httpRef"), http_ref),
            ConfigSource::SecretRef(secret_ref) => self.secret_ref(&format!("{pointer}/secretRef"), secret_ref),
        }
    }

    fn file(&mut self, pointer: &str, file: &FileSpec) {
        self.path_of_file(format!("{pointer}/path"), &file.path);
        self.owners(pointer, file.user.as_deref(), file.group.as_deref());
        self.content(format!("{pointer}/content"), file);
    }

    /// The path of a file, which only one provider may give.
    fn path_of_file(&mut self, pointer: String, path: &str) {
        self.device_path(&pointer, path);
        let line = self.document.value_span(&pointer).line;
        if let Some(first) = self.paths.insert(path.to_owned(), line) {
            let message = format!("the file {path:?} is given twice; the first is on line {first}");
            self.find(codes::DUPLICATE_FILE, pointer, message);
        }
    }

    fn device_path(&mut self, pointer: &str, path: &str) {
        if !self.is_template || !path.contains("{{") {
            if let Err(problem) = check_device_path(path) {
                self.find(codes::BAD_DEVICE_PATH, pointer.to_owned(), problem.to_string());
            } else {
                self.placeholder_in_device(pointer, path);
            }
            return;
        }
        self.template(pointer, path);
        if !path.starts_with('/') && !path.starts_with("{{") {
            let message = format!("device path {path:?} is not absolute; start it with '/'");
            self.find(codes::BAD_DEVICE_PATH, pointer.to_owned(), message);
        }
    }

    fn owners(&mut self, pointer: &str, user: Option<&str>, group: Option<&str>) {
        for (field, owner) in [("user", user), ("group", group)] {
            if let Some(Err(problem)) = owner.map(check_owner) {
                self.find(codes::BAD_OWNER, format!("{pointer}/{field}"), problem.to_string());
            }
        }
    }

    fn content(&mut self, pointer: String, file: &FileSpec) {
        let decoded;
        let (bytes, text) = match file.content_encoding {
            Some(ContentEncoding::Base64) => match STANDARD.decode(file.content.as_bytes()) {
                Ok(raw) => {
                    let length = raw.len();
                    decoded = String::from_utf8(raw).ok();
                    (length, decoded.as_deref())
                }
                Err(error) => {
                    let hint = "use the standard alphabet with padding and no line breaks, as `base64 -w0` does";
                    let message = format!("the content is not base64: {}", base64_problem(&error));
                    self.find(codes::BAD_BASE64, pointer, message).hint = Some(hint.to_owned());
                    return;
                }
            },
            Some(ContentEncoding::Plain) | None => (file.content.len(), Some(file.content.as_str())),
        };
        if bytes > MAX_CONTENT_BYTES {
            let message = format!("the content has {bytes} bytes; at most {MAX_CONTENT_BYTES} are allowed");
            self.find(codes::CONTENT_TOO_LARGE, pointer, message);
            return;
        }
        let Some(text) = text else { return };
        if self.is_template && file.content_encoding == Some(ContentEncoding::Base64) {
            // There is no place in the file for what was decoded.
            if let Err(error) = Template::parse(text) {
                let line = text[..error.span.start].bytes().filter(|b| *b == b'\n').count() + 1;
                let message = format!("{} (line {line} of the decoded content)", error.message);
                self.find(codes::BAD_TEMPLATE, pointer, message).hint = Some(template_hint(text, &error));
            }
        } else if self.is_template {
            self.template(&pointer, text);
        } else {
            self.placeholder_in_device(&pointer, text);
        }
    }

    fn placeholder_in_device(&mut self, pointer: &str, text: &str) {
        if text.contains("{{ .metadata") || text.contains("{{.metadata") {
            let message = "placeholders are replaced in a fleet's template only; the device gets them as they are";
            self.find(codes::PLACEHOLDER_IN_DEVICE, pointer.to_owned(), message.to_owned());
        }
    }

    fn template(&mut self, pointer: &str, text: &str) {
        template(self.document, pointer, text, self.findings);
    }

    fn repository_name(&mut self, pointer: &str, name: &str) {
        if name.contains("{{") {
            let message = "the repository's name cannot have placeholders";
            self.find(codes::TEMPLATED, format!("{pointer}/repository"), message.to_owned());
        } else if name != SELF_REPOSITORY
            && !name.is_empty()
            && let Err(error) = name.parse::<ResourceName>()
        {
            let hint = repository_hint(name).map(str::to_owned);
            let hint = hint.or_else(|| valid_name(name).map(|name| format!("did you mean `{name}`?")));
            self.find(codes::BAD_NAME, format!("{pointer}/repository"), format!("the Repository's {error}")).hint =
                hint;
        }
    }

    fn http_ref(&mut self, pointer: &str, http_ref: &HttpRef) {
        self.repository_name(pointer, &http_ref.repository);
        if http_ref.repository == SELF_REPOSITORY {
            let message =
                "`httpRef` needs a Repository of type http; `.` is the Git repository that the manifest lies in";
            self.find(codes::REPOSITORY_TYPE, format!("{pointer}/repository"), message.to_owned()).hint =
                Some("use `gitRef` for files of this repository".to_owned());
        }
        if let Some(suffix) = http_ref.suffix.as_deref().filter(|_| self.is_template) {
            self.template(&format!("{pointer}/suffix"), suffix);
        }
        self.path_of_file(format!("{pointer}/filePath"), &http_ref.file_path);
    }

    fn secret_ref(&mut self, pointer: &str, secret_ref: &SecretRef) {
        for (field, text) in [("name", &secret_ref.name), ("namespace", &secret_ref.namespace)] {
            let pointer = format!("{pointer}/{field}");
            if self.is_template && text.contains("{{") {
                self.template(&pointer, text);
            } else if !is_dns_label(text) {
                let message = format!(
                    "the secret's {field} {text:?} is not a DNS label (at most 63 lower-case letters, digits and '-')"
                );
                self.find(codes::BAD_SECRET_REF, pointer, message);
            }
        }
        // The root is a directory, too, and names no file here.
        if secret_ref.mount_path != "/" {
            self.device_path(&format!("{pointer}/mountPath"), &secret_ref.mount_path);
        }
        self.owners(pointer, secret_ref.user.as_deref(), secret_ref.group.as_deref());
    }

    fn git_ref(&mut self, pointer: &str, git_ref: &GitRef) {
        let revision_pointer = format!("{pointer}/targetRevision");
        let revision = git_ref.target_revision.as_deref();
        self.repository_name(pointer, &git_ref.repository);
        match (git_ref.repository == SELF_REPOSITORY, revision) {
            (true, None | Some("HEAD")) => {}
            (true, Some(other)) => {
                let message = format!("repository `.` means the commit that is synced; it cannot be {other:?}");
                self.find(codes::SELF_REVISION, revision_pointer, message).hint =
                    Some("remove targetRevision".to_owned());
            }
            (false, None) => {
                let message = format!("the reference to {:?} has no `targetRevision`", git_ref.repository);
                self.find(codes::NO_REVISION, pointer.to_owned(), message).hint =
                    Some("name a branch, tag or commit".to_owned());
            }
            (false, Some(revision)) if revision.contains("{{") => {
                if self.is_template {
                    self.template(&revision_pointer, revision);
                } else {
                    let message = "`targetRevision` can have placeholders in a fleet's template only";
                    self.find(codes::TEMPLATED, revision_pointer, message.to_owned());
                }
            }
            (false, Some(revision)) => {
                if let Some(problem) = revision_problem(revision) {
                    let message = format!("`targetRevision`: {:?} {problem}", clip(revision));
                    self.find(codes::SCHEMA, revision_pointer, message).hint =
                        Some("name a branch, tag or commit".to_owned());
                }
            }
        }
        self.repository_path(format!("{pointer}/path"), &git_ref.path, git_ref.repository == SELF_REPOSITORY);
    }

    fn repository_path(&mut self, pointer: String, path: &str, own: bool) {
        let templated = path.contains("{{");
        if templated && self.is_template {
            self.template(&pointer, path);
        }
        let problem = match literal_prefix(path) {
            Err(problem) => problem.to_string(),
            Ok(_) if path.is_empty() => "the path is empty; write `/` for the whole repository".to_owned(),
            Ok(prefix) if prefix.is_empty() && own && templated => {
                "the path starts with a placeholder; start it with a directory, so that its content is known".to_owned()
            }
            Ok(_) => return,
        };
        self.find(codes::BAD_REPOSITORY_PATH, pointer, problem);
    }
}

/// Why Git has no branch, tag or commit of this name, if it cannot.
pub(super) fn revision_problem(revision: &str) -> Option<&'static str> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if revision.contains(is_odd) {
        return Some("has a character that names of branches, tags and commits cannot have");
    }
    let parts = || revision.split('/');
    let is_odd = revision.contains("..")
        || revision.contains("@{")
        || revision.starts_with('-')
        || revision.ends_with('.')
        || parts().any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"));
    is_odd.then_some("is not the name of a branch, tag or commit")
}

/// What to write instead of a name that is none.
pub(super) fn repository_hint(name: &str) -> Option<&'static str> {
    (name.contains("://") || name.starts_with("git@"))
        .then_some("define a manifest of kind Repository with this URL, and give its name here")
}

/// Whether the text is one DNS label.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && text.parse::<ResourceName>().is_ok()
}
