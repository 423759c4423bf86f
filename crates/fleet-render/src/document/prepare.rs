//! Parses and checks a specification, as far as that needs no device.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{ConfigSource, ContentEncoding, DeviceSpec, FileSpec, GitRef, OsSpec};
use serde_json::Value;

use super::applications::{self, ApplicationPlan};
use super::problem::{Place, PrepareError, Problem, RenderError};
use super::tree::{PinnedInputs, PinnedTree};
use super::{MAX_INLINE_BYTES, Prepared, check_device_path, check_owner, literal_prefix, paths, resolve};
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
    pub(super) fn parse(self, text: &str) -> Result<Template, Problem> {
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
    /// Nothing is said.
    None,
    /// Canonical JSON.
    Fixed(Vec<u8>),
    /// With an image that depends on the device.
    Image { os: OsFrame, image: Template },
}

/// An operating system without its image.
#[derive(Clone)]
pub(super) struct OsFrame(serde_json::Map<String, Value>);

impl OsFrame {
    /// Canonical JSON with this image.
    pub(super) fn json(&self, image: String) -> Vec<u8> {
        let mut os = self.0.clone();
        os.insert("image".to_owned(), Value::String(image));
        canonical::to_vec(&Value::Object(os))
    }
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
        let applications = match applications {
            Some(list) => Some(applications::prepare(list, dialect)?),
            None => None,
        };
        let others = [
            ("consoles", value_of(consoles)),
            ("decommissioning", value_of(decommissioning)),
            ("resources", value_of(resources)),
            ("systemd", value_of(systemd)),
            ("updatePolicy", value_of(update_policy)),
        ];
        let json = |(key, value): (&'static str, Option<Value>)| Some((key, canonical::to_vec(&value?)));
        let others = others.into_iter().filter_map(json).collect();
        let os = os_plan(os.as_ref(), dialect).map_err(|problem| Place::of("/os/image").fails(problem))?;
        let inputs = all_inputs(&providers, applications.as_deref().unwrap_or_default(), &os);
        let mut prepared = Self { providers, applications, os, others, inputs, layout: None };
        if prepared.paths_are_literal() {
            prepared.layout = Some(resolve::layout(&prepared, None)?);
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

/// A part of a specification as JSON.
pub(super) fn value_of<T: serde::Serialize>(part: &Option<T>) -> Option<Value> {
    part.as_ref().map(|part| serde_json::to_value(part).expect("a specification has text keys and finite numbers only"))
}

fn os_plan(os: Option<&OsSpec>, dialect: Dialect) -> Result<OsPlan, Problem> {
    let Some(os) = os else { return Ok(OsPlan::None) };
    let mut json = value_of(&Some(os)).unwrap_or_default();
    if let Some(image) = &os.image {
        let image = dialect.parse(image)?;
        if let (false, Value::Object(fields)) = (image.is_literal(), &mut json) {
            fields.remove("image");
            return Ok(OsPlan::Image { os: OsFrame(std::mem::take(fields)), image });
        }
    }
    Ok(OsPlan::Fixed(canonical::to_vec(&json)))
}

fn all_inputs(providers: &[Provider], applications: &[ApplicationPlan], os: &OsPlan) -> Inputs {
    let mut inputs = Inputs::default();
    if let OsPlan::Image { image, .. } = os {
        inputs.merge(image.inputs());
    }
    for application in applications {
        application.add_inputs(&mut inputs);
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
        match String::from_utf8(decode(content, encoding)?) {
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

/// The bytes that a manifest writes in some encoding.
pub(super) fn decode(content: &str, encoding: Option<ContentEncoding>) -> Result<Vec<u8>, Problem> {
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
    Ok(bytes)
}
