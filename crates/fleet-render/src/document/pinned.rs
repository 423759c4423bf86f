//! Providers whose files lie elsewhere: in Git, on a web server or with a keeper of secrets. Their files are pinned
//! before anything is rendered; where placeholders decide which ones a device gets, once for each value of them.

use std::collections::BTreeMap;

use fleet_model::{ConfigSource, GitRef, HttpRef, SELF_REPOSITORY, SecretRef};

use super::prepare::Dialect;
use super::problem::Problem;
use super::tree::{PinnedFile, PinnedTree, PinnedTrees};
use crate::template::{Inputs, Subject, Template};

/// The longest value that placeholders may give here, in bytes.
const MAX_VALUE_BYTES: usize = 2048;

/// The most values that the placeholders of one provider may have among a fleet's devices.
pub const MAX_VALUES: usize = 100;

/// Says that a provider has more than [`MAX_VALUES`].
pub fn too_many_values(provider: &str, count: usize) -> String {
    format!(
        "the placeholders of provider {provider:?} have {count} different values among the fleet's devices; at most \
         {MAX_VALUES} are possible"
    )
}

/// What decides, besides the provider, which files are pinned for a device: the revision of a `gitRef`, the suffix of an
/// `httpRef`, or namespace and name of a `secretRef`. Only with placeholders; otherwise all devices get the same.
#[derive(Debug, Clone)]
pub struct InputValue {
    /// Joined by `/`.
    parts: Vec<Template>,
    what: &'static str,
}

impl InputValue {
    /// Reads what decides about a provider of a fleet's template. `None` where no placeholder does.
    ///
    /// # Errors
    /// A text that is not a template.
    pub fn of(source: &ConfigSource) -> Result<Option<Self>, crate::TemplateError> {
        let (texts, what) = match source {
            ConfigSource::Inline(_) => return Ok(None),
            ConfigSource::GitRef(git) if git.repository == SELF_REPOSITORY => return Ok(None),
            ConfigSource::GitRef(git) => (vec![git.target_revision.as_deref().unwrap_or_default()], "revision"),
            ConfigSource::HttpRef(http) => (vec![http.suffix.as_deref().unwrap_or_default()], "suffix"),
            ConfigSource::SecretRef(secret) => (vec![secret.namespace.as_str(), secret.name.as_str()], "secret"),
        };
        let parts = texts.into_iter().map(Template::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(parts.iter().any(|part| !part.is_literal()).then_some(Self { parts, what }))
    }

    /// The value for one device.
    ///
    /// # Errors
    /// A placeholder that cannot be evaluated, or a value that can mean nothing: empty, too long, with control
    /// characters, or of a secret with a `/` in one of its names.
    pub fn evaluate(&self, subject: &Subject<'_>) -> Result<String, Problem> {
        let parts = self.parts.iter().map(|part| part.evaluate(subject)).collect::<Result<Vec<_>, _>>()?;
        let unusable = |part: &String| {
            part.is_empty()
                || part.len() > MAX_VALUE_BYTES
                || part.chars().any(char::is_control)
                || (self.parts.len() > 1 && part.contains('/'))
        };
        let value = parts.join("/");
        match parts.iter().any(unusable) {
            true => Err(Problem::Value { what: self.what, value: value.chars().take(200).collect() }),
            false => Ok(value),
        }
    }

    /// The provider as it is for devices with this value.
    pub fn apply(source: &ConfigSource, value: &str) -> ConfigSource {
        match source {
            ConfigSource::Inline(_) => source.clone(),
            ConfigSource::GitRef(git) => {
                ConfigSource::GitRef(GitRef { target_revision: Some(value.to_owned()), ..git.clone() })
            }
            ConfigSource::HttpRef(http) => {
                ConfigSource::HttpRef(HttpRef { suffix: Some(value.to_owned()), ..http.clone() })
            }
            ConfigSource::SecretRef(secret) => {
                let (namespace, name) = value.split_once('/').unwrap_or_default();
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                ConfigSource::SecretRef(SecretRef { namespace, name, ..secret.clone() })
            }
        }
    }
}

/// The files of one provider, for each value.
#[derive(Clone)]
pub(super) struct PinnedPlan {
    pub(super) lands: Lands,
    value: Option<InputValue>,
    /// The Repository's name, for messages.
    from: String,
    /// Where the files of each value start, counted over all of them: so that one number stands for a file.
    starts: BTreeMap<Option<String>, usize>,
    /// In the order of those numbers.
    trees: Vec<(usize, PinnedTree)>,
}

/// Where files land.
#[derive(Clone)]
pub(super) enum Lands {
    /// What this path selects, laid over the root; nothing outside the normalised prefix can be selected.
    Git { path: Template, prefix: String },
    /// The one file here.
    Http { path: Template },
    /// All files in this directory.
    Secret { directory: Template, user: String, group: String },
}

impl Lands {
    pub(super) fn template(&self) -> &Template {
        match self {
            Self::Git { path, .. } | Self::Http { path } | Self::Secret { directory: path, .. } => path,
        }
    }

    /// The field with the path, below the provider.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Self::Git { .. } => "/gitRef/path",
            Self::Http { .. } => "/httpRef/filePath",
            Self::Secret { .. } => "/secretRef/mountPath",
        }
    }

    /// The field that decides which files are pinned.
    pub(super) fn value_field(&self) -> &'static str {
        match self {
            Self::Git { .. } => "/gitRef/targetRevision",
            Self::Http { .. } => "/httpRef/suffix",
            Self::Secret { .. } => "/secretRef",
        }
    }
}

impl PinnedPlan {
    pub(super) fn new(
        lands: Lands,
        source: &ConfigSource,
        from: &str,
        dialect: Dialect,
        pinned: PinnedTrees,
    ) -> Result<Self, Problem> {
        let value = match dialect {
            Dialect::Template => InputValue::of(source)?,
            Dialect::Plain => None,
        };
        if value.is_none() && !pinned.contains_key(&None) {
            return Err(Problem::NotPinned);
        }
        // Without a seal a secret's digest would be one that guesses can be compared with.
        let unsealed = |tree: &PinnedTree| tree.files().iter().any(|file| file.seal.is_none());
        if matches!(lands, Lands::Secret { .. }) && pinned.values().any(unsealed) {
            return Err(Problem::NotPinned);
        }
        let (mut starts, mut trees, mut next) = (BTreeMap::new(), Vec::new(), 0);
        for (of, tree) in pinned.into_iter().filter(|(of, _)| of.is_some() == value.is_some()) {
            starts.insert(of, trees.len());
            let count = tree.files().len();
            trees.push((next, tree));
            next += count;
        }
        Ok(Self { lands, value, from: from.to_owned(), starts, trees })
    }

    /// Whether each file lands at the same place for every device, and is the same one.
    pub(super) fn is_literal(&self) -> bool {
        self.value.is_none() && self.lands.template().is_literal()
    }

    pub(super) fn add_inputs(&self, inputs: &mut Inputs) {
        inputs.merge(self.lands.template().inputs());
        for part in self.value.iter().flat_map(|value| &value.parts) {
            inputs.merge(part.inputs());
        }
    }

    /// The value for a device; `None` where no placeholder decides. Without a subject there must be none.
    pub(super) fn value(&self, subject: Option<&Subject<'_>>) -> Result<Option<String>, Problem> {
        match (&self.value, subject) {
            (Some(value), Some(subject)) => Ok(Some(value.evaluate(subject)?)),
            (Some(_), None) | (None, _) => Ok(None),
        }
    }

    /// The files for a device, with the number of the first.
    pub(super) fn tree(&self, subject: Option<&Subject<'_>>) -> Result<(usize, &PinnedTree), Problem> {
        let value = self.value(subject)?;
        match self.starts.get(&value) {
            Some(at) => {
                let (start, tree) = &self.trees[*at];
                Ok((*start, tree))
            }
            None => {
                let what = self.value.as_ref().map_or("value", |value| value.what);
                let value = value.unwrap_or_default();
                Err(Problem::ValueNotPinned { what, value, repository: self.from.clone() })
            }
        }
    }

    /// The file with this number.
    pub(super) fn file(&self, number: usize) -> &PinnedFile {
        let at = self.trees.partition_point(|(start, _)| *start <= number).saturating_sub(1);
        let (start, tree) = &self.trees[at];
        &tree.files()[number - start]
    }
}
