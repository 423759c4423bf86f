//! Parses and checks a specification, as far as that needs no device.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{ConfigSource, ContentEncoding, DeviceSpec, FileSpec, GitRef};
use serde_json::Value;

use super::problem::{Place, PrepareError, Problem, RenderError};
use super::tree::{PinnedInputs, PinnedTree};
use super::{MAX_INLINE_BYTES, Prepared, check_device_path, check_owner, compose, literal_prefix, paths};
use crate::canonical;
use crate::template::{Inputs, Template};

/// Permission bits of a file that gives none: 0644.
const DEFAULT_MODE: u32 = 0o644;

/// Whether `{{` opens a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Template,
    Plain,
}

impl Dialect {
    fn parse(self, text: &str) -> Result<Template, Problem> {
        match self {
            Self::Template => Ok(Template::parse(text)?),
            Self::Plain => Ok(Template::literal(text)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) source: Source,
}

#[derive(Clone)]
pub(super) enum Source {
    Inline(Vec<InlineFile>),
    Git(GitPlan),
}

#[derive(Clone)]
pub(super) struct InlineFile {
    pub(super) path: Template,
    pub(super) content: Content,
    pub(super) mode: u32,
    pub(super) user: String,
    pub(super) group: String,
}

#[derive(Clone)]
pub(super) enum Content {
    Text(Template),
    /// Not UTF-8, so nothing to evaluate.
    Bytes(Vec<u8>),
}

#[derive(Clone)]
pub(super) struct GitPlan {
    pub(super) path: Template,
    /// Normalised; nothing outside it can be selected.
    pub(super) prefix: String,
    pub(super) tree: PinnedTree,
}

#[derive(Clone)]
pub(super) enum OsPlan {
    /// Canonical JSON with its key and a comma before it, or nothing.
    Fixed(Vec<u8>),
    /// The object without its image, and the image.
    Image { os: serde_json::Map<String, Value>, image: Template },
}

/// Canonical JSON around `config` and `os`.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) before_config: Vec<u8>,
    pub(super) before_os: Vec<u8>,
    pub(super) after_os: Vec<u8>,
}

impl Prepared {
    pub(super) fn build(spec: &DeviceSpec, mut pinned: PinnedInputs, dialect: Dialect) -> Result<Self, PrepareError> {
        // Every field by name, so that a new one cannot be forgotten here.
        let DeviceSpec { os, config, applications, systemd, resources, update_policy, consoles, decommissioning } =
            spec;
        let mut providers = Vec::new();
        let mut names = BTreeSet::new();
        for (index, provider) in config.iter().flatten().enumerate() {
            let at = At { index, name: &provider.name, dialect };
            if !names.insert(provider.name.as_str()) {
                return Err(at.place("/name").fails(Problem::DuplicateProvider).into());
            }
            let source = match &provider.source {
                ConfigSource::Inline(files) => Source::Inline(at.inline(files)?),
                ConfigSource::GitRef(git) => Source::Git(at.git(git, pinned.remove(&provider.name))?),
                ConfigSource::HttpRef(_) => {
                    return Err(at.place("/httpRef").fails(Problem::Unsupported("httpRef")).into());
                }
                ConfigSource::SecretRef(_) => {
                    return Err(at.place("/secretRef").fails(Problem::Unsupported("secretRef")).into());
                }
            };
            providers.push(Provider { name: provider.name.clone(), source });
        }
        let list = |items: &Option<Vec<Value>>| items.clone().map(Value::Array);
        let frame = Frame {
            before_config: members("", &[("applications", list(applications))], ","),
            before_os: members(",", &[("consoles", list(consoles)), ("decommissioning", decommissioning.clone())], ""),
            after_os: members(
                ",",
                &[
                    ("resources", list(resources)),
                    ("systemd", systemd.clone()),
                    ("updatePolicy", update_policy.clone()),
                ],
                "",
            ),
        };
        let os = os_plan(os.as_ref(), dialect).map_err(|problem| Place::of("/os/image").fails(problem))?;
        let inputs = all_inputs(&providers, &os);
        let mut prepared = Self { providers, os, frame, inputs, layout: None };
        if prepared.paths_are_literal() {
            prepared.layout = Some(compose::layout(&prepared, None)?);
        }
        Ok(prepared)
    }

    fn paths_are_literal(&self) -> bool {
        self.providers.iter().all(|provider| match &provider.source {
            Source::Inline(files) => files.iter().all(|file| file.path.is_literal()),
            Source::Git(plan) => plan.path.is_literal(),
        })
    }
}

/// Members of an object that are there, each with `before` in front and `after` behind.
fn members(before: &str, members: &[(&str, Option<Value>)], after: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in members {
        if let Some(value) = value {
            out.extend_from_slice(before.as_bytes());
            canonical::write_str(key, &mut out);
            out.push(b':');
            canonical::write(value, &mut out);
            out.extend_from_slice(after.as_bytes());
        }
    }
    out
}

fn os_plan(os: Option<&Value>, dialect: Dialect) -> Result<OsPlan, Problem> {
    if let Some(Value::Object(os)) = os
        && let Some(Value::String(image)) = os.get("image")
    {
        let image = dialect.parse(image)?;
        if !image.is_literal() {
            let mut os = os.clone();
            os.remove("image");
            return Ok(OsPlan::Image { os, image });
        }
    }
    Ok(OsPlan::Fixed(members(",", &[("os", os.cloned())], "")))
}

fn all_inputs(providers: &[Provider], os: &OsPlan) -> Inputs {
    let mut inputs = Inputs::default();
    if let OsPlan::Image { image, .. } = os {
        inputs.merge(image.inputs());
    }
    for provider in providers {
        match &provider.source {
            Source::Git(plan) => inputs.merge(plan.path.inputs()),
            Source::Inline(files) => {
                for file in files {
                    inputs.merge(file.path.inputs());
                    if let Content::Text(text) = &file.content {
                        inputs.merge(text.inputs());
                    }
                }
            }
        }
    }
    inputs
}

/// The provider that is being read.
struct At<'s> {
    index: usize,
    name: &'s str,
    dialect: Dialect,
}

impl At<'_> {
    fn place(&self, rest: &str) -> Place {
        Place::config(self.index, self.name, rest)
    }

    fn inline(&self, files: &[FileSpec]) -> Result<Vec<InlineFile>, RenderError> {
        files.iter().enumerate().map(|(index, file)| self.file(index, file)).collect()
    }

    fn file(&self, index: usize, file: &FileSpec) -> Result<InlineFile, RenderError> {
        let FileSpec { path, content, content_encoding, mode, user, group } = file;
        let field = |name: &str| self.place(&format!("/inline/{index}/{name}"));
        let path = self.dialect.parse(path).map_err(|problem| field("path").fails(problem))?;
        if path.is_literal() {
            check_device_path(path.source()).map_err(|problem| field("path").fails(problem))?;
        }
        let content = self.content(content, *content_encoding).map_err(|problem| field("content").fails(problem))?;
        let mode = mode.unwrap_or(DEFAULT_MODE);
        if mode > 0o7777 {
            return Err(field("mode").fails(Problem::Mode(mode)));
        }
        let owner = |name: &str, owner: &Option<String>| {
            let owner = owner.as_deref().filter(|owner| !owner.is_empty()).unwrap_or("root");
            check_owner(owner).map_err(|problem| field(name).fails(problem))?;
            Ok(owner.to_owned())
        };
        Ok(InlineFile { path, content, mode, user: owner("user", user)?, group: owner("group", group)? })
    }

    fn content(&self, content: &str, encoding: Option<ContentEncoding>) -> Result<Content, Problem> {
        let bytes = match encoding {
            None | Some(ContentEncoding::Plain) => content.as_bytes().to_vec(),
            Some(ContentEncoding::Base64) => {
                // Long base64 is often folded over lines.
                let unfolded = content.replace(['\r', '\n'], "");
                STANDARD.decode(unfolded).map_err(|error| Problem::Base64(error.to_string()))?
            }
        };
        if bytes.len() > MAX_INLINE_BYTES {
            return Err(Problem::LargeContent(bytes.len()));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Content::Text(self.dialect.parse(&text)?)),
            Err(binary) => Ok(Content::Bytes(binary.into_bytes())),
        }
    }

    fn git(&self, git: &GitRef, tree: Option<PinnedTree>) -> Result<GitPlan, RenderError> {
        let revision = git.target_revision.as_deref().unwrap_or_default();
        if self.dialect == Dialect::Template && revision.contains("{{") {
            let problem = Problem::Unsupported("a placeholder in targetRevision");
            return Err(self.place("/gitRef/targetRevision").fails(problem));
        }
        let field = || self.place("/gitRef/path");
        let path = self.dialect.parse(&git.path).map_err(|problem| field().fails(problem))?;
        let prefix = if path.is_literal() { paths::normalise(&git.path) } else { literal_prefix(&git.path) };
        let prefix = prefix.map_err(|problem| field().fails(problem))?;
        let tree = tree.ok_or_else(|| self.place("/gitRef").fails(Problem::NotPinned))?;
        Ok(GitPlan { path, prefix, tree })
    }
}
