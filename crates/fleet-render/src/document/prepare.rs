//! Parses and checks a specification, as far as that needs no device.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{ConfigSource, ContentEncoding, DeviceSpec, FileSpec, GitRef, OsSpec, SecretRef};
use serde_json::Value;

use super::applications::{self, ApplicationPlan};
use super::paths::OwnerProblem;
use super::pinned::{Lands, PinnedPlan};
use super::problem::{Place, PrepareError, Problem, RenderError};
use super::tree::{PinnedInputs, PinnedTrees};
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
    Pinned(Box<PinnedPlan>),
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
                ConfigSource::GitRef(git) => {
                    at.pinned(at.git(git)?, &provider.source, &git.repository, pinned.take(&provider.name))?
                }
                ConfigSource::HttpRef(http) => {
                    let lands = Lands::Http { path: at.device_path("/httpRef/filePath", &http.file_path)? };
                    at.pinned(lands, &provider.source, &http.repository, pinned.take(&provider.name))?
                }
                ConfigSource::SecretRef(secret) => {
                    at.pinned(at.secret(secret)?, &provider.source, "", pinned.take(&provider.name))?
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
            Source::Pinned(plan) => plan.is_literal(),
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
            Source::Pinned(plan) => plan.add_inputs(&mut inputs),
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
            owner_or_root(owner.as_deref()).map_err(|problem| field(name).fails(problem))
        };
        Ok(InlineFile { path, content, mode, user: owner("user", user)?, group: owner("group", group)? })
    }

    fn content(&self, content: &str, encoding: Option<ContentEncoding>) -> Result<Content, Problem> {
        match String::from_utf8(decode(content, encoding)?) {
            Ok(text) => Ok(Content::Text(self.dialect.parse(&text)?)),
            Err(binary) => Ok(Content::Bytes(binary.into_bytes())),
        }
    }

    fn git(&self, git: &GitRef) -> Result<Lands, RenderError> {
        let field = || self.place("/gitRef/path");
        let path = self.dialect.parse(&git.path).map_err(|problem| field().fails(problem))?;
        let prefix = if path.is_literal() { paths::normalise(&git.path) } else { literal_prefix(&git.path) };
        let prefix = prefix.map_err(|problem| field().fails(problem))?;
        Ok(Lands::Git { path, prefix })
    }

    fn secret(&self, secret: &SecretRef) -> Result<Lands, RenderError> {
        let SecretRef { name: _, namespace: _, mount_path, user, group } = secret;
        // The root is a directory, too.
        let directory = match mount_path.as_str() {
            "/" => Template::literal(mount_path),
            other => self.device_path("/secretRef/mountPath", other)?,
        };
        let owner = |name: &str, owner: &Option<String>| {
            let place = || self.place(&format!("/secretRef/{name}"));
            owner_or_root(owner.as_deref()).map_err(|problem| place().fails(problem))
        };
        Ok(Lands::Secret { directory, user: owner("user", user)?, group: owner("group", group)? })
    }

    fn device_path(&self, field: &str, path: &str) -> Result<Template, RenderError> {
        let path = self.dialect.parse(path).map_err(|problem| self.place(field).fails(problem))?;
        if path.is_literal() {
            check_device_path(path.source()).map_err(|problem| self.place(field).fails(problem))?;
        }
        Ok(path)
    }

    fn pinned(
        &self,
        lands: Lands,
        source: &ConfigSource,
        from: &str,
        trees: PinnedTrees,
    ) -> Result<Source, RenderError> {
        let field = lands.value_field();
        let plan = PinnedPlan::new(lands, source, from, self.dialect, trees);
        plan.map(|plan| Source::Pinned(Box::new(plan))).map_err(|problem| self.place(field).fails(problem))
    }
}

fn owner_or_root(owner: Option<&str>) -> Result<String, OwnerProblem> {
    let owner = owner.filter(|owner| !owner.is_empty()).unwrap_or("root");
    check_owner(owner).map(|()| owner.to_owned())
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
