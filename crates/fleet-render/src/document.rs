//! Composes the rendered document of a device: one specification without placeholders, with all its files in one
//! inline provider, as canonical JSON.
//!
//! [`Prepared`] does what is the same for all devices of a fleet once; [`Prepared::input_key`] tells which devices
//! share a document, so that it is made once for all of them.
//!
//! Placeholders are evaluated in the templates of fleets, and there in
//!
//! - `os.image`,
//! - `config[].inline[].path` and `.content`, `config[].gitRef.path`, `.httpRef.filePath` and `.secretRef.mountPath`,
//! - what decides which files of these providers a device gets, see [`InputValue`],
//! - `applications[].image`, `.inline[].path` and `.content`, values of `.envVars`, `.volumes[].image.reference`.
//!
//! Contents in base64 are decoded, evaluated and encoded again. What comes out is checked again for each device. All
//! else is text and stays as it was written: `{{` in a name, a port or a Helm value means nothing, and neither do
//! contents of pinned files.

use std::hash::Hash;

use fleet_model::{DeviceSpec, Digest, Labels};

mod applications;
mod compose;
mod outline;
mod paths;
mod pinned;
mod prepare;
mod problem;
mod resolve;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use compose::written_size;
pub use outline::{Outline, OutlineFile};
pub use paths::{OwnerProblem, PathProblem, PathReason, check_device_path, check_owner, literal_prefix};
pub use pinned::{InputValue, MAX_VALUES, too_many_values};
pub use problem::{Place, PrepareError, Problem, RenderError};
pub(crate) use resolve::{Resolved, ResolvedFile, Slot};
pub use tree::{PinnedFile, PinnedInputs, PinnedTree, Seal};

use crate::template::{Inputs, Subject};

/// Largest rendered document, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Most files in one rendered document.
pub const MAX_FILES: usize = 10_000;
/// Largest content of one inline file, decoded, in bytes.
pub const MAX_INLINE_BYTES: usize = 1 << 20;

/// A specification and its pinned files, parsed and checked as far as that is possible without a device.
#[derive(Clone)]
pub struct Prepared {
    providers: Vec<prepare::Provider>,
    /// `None` where the specification has no list.
    applications: Option<Vec<applications::ApplicationPlan>>,
    os: prepare::OsPlan,
    /// Canonical JSON of the other fields, by name.
    others: Vec<(&'static str, Vec<u8>)>,
    inputs: Inputs,
    /// Which file lands where, when no path depends on the device.
    layout: Option<resolve::Layout>,
}

/// Without the contents, which may be secret.
impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let providers: Vec<&str> = self.providers.iter().map(|provider| provider.name.as_str()).collect();
        f.debug_struct("Prepared").field("providers", &providers).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Prepares the template of a fleet. `pinned` holds, for the name of each `gitRef` provider, the files at or below
    /// the [`literal_prefix`] of its path; of each `httpRef` one file; of each `secretRef` a file for each key. With
    /// placeholders in what decides about them, it holds that for each value; devices with other values wait.
    ///
    /// # Errors
    /// What would fail for every device: templates that do not parse, forbidden paths that are written out, files
    /// that are not there, providers that are not supported.
    pub fn new(template: &DeviceSpec, pinned: PinnedInputs) -> Result<Self, PrepareError> {
        Self::build(template, pinned, prepare::Dialect::Template)
    }

    /// Prepares the specification of a device outside any fleet: `{{` is text there.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn stand_alone(spec: &DeviceSpec, pinned: PinnedInputs) -> Result<Self, PrepareError> {
        Self::build(spec, pinned, prepare::Dialect::Plain)
    }

    /// Everything that the document can depend on.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// What a device brings to its document. Devices with equal keys have the same document, or the same failure.
    /// Keys of different `Prepared` values are not comparable.
    pub fn input_key(&self, subject: &Subject<'_>) -> InputKey {
        let inputs = &self.inputs;
        InputKey {
            name: inputs.name.then(|| subject.name.to_owned()),
            labels: match inputs.all_labels {
                true => Vec::new(),
                false => inputs.labels.iter().map(|key| subject.labels.get(key).cloned()).collect(),
            },
            all_labels: inputs.all_labels.then(|| subject.labels.clone()),
        }
    }

    /// The value that decides which files of a provider a device gets; `None` where that does not depend on the device,
    /// or cannot be told.
    pub fn value(&self, provider: &str, subject: &Subject<'_>) -> Option<String> {
        let provider = self.providers.iter().find(|known| known.name == provider)?;
        match &provider.source {
            prepare::Source::Pinned(plan) => plan.value(Some(subject)).ok().flatten(),
            prepare::Source::Inline(_) => None,
        }
    }

    /// The document of one device.
    ///
    /// # Errors
    /// A placeholder that cannot be evaluated, or a result that breaks a rule: a forbidden or conflicting path, a
    /// `gitRef` path that selects no file, an image reference that is none, too many files or bytes.
    pub fn render(&self, subject: &Subject<'_>) -> Result<Rendered, RenderError> {
        let body = compose::body(self, subject)?;
        let digest = Digest::of(&body);
        Ok(Rendered { body, digest })
    }

    /// What the document of one device says, part by part, with contents.
    ///
    /// # Errors
    /// As [`Prepared::render`], except that the size of the written document is not looked at.
    pub fn outline(&self, subject: &Subject<'_>) -> Result<Outline, RenderError> {
        Ok(outline::outline(&self.resolve(subject)?, self))
    }

    /// As [`Prepared::outline`], without copies.
    pub(crate) fn resolve(&self, subject: &Subject<'_>) -> Result<Resolved<'_>, RenderError> {
        resolve::resolve(self, subject)
    }
}

/// The values that one device brings to its document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InputKey {
    name: Option<String>,
    /// In the order of [`Inputs::labels`]; `None` where the device lacks the label.
    labels: Vec<Option<String>>,
    all_labels: Option<Labels>,
}

/// A rendered document.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Canonical JSON of a [`DeviceSpec`].
    pub body: Vec<u8>,
    /// The digest of `body`.
    pub digest: Digest,
}

/// Without the contents, which may be secret.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("bytes", &self.body.len()).field("digest", &self.digest).finish()
    }
}
