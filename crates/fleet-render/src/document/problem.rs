//! What can be wrong with a specification, and where.

use std::fmt;

use super::paths::{OwnerProblem, PathProblem};
use super::{MAX_BODY_BYTES, MAX_FILES, MAX_INLINE_BYTES};
use crate::template::TemplateError;

/// A place in a device specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer from the specification: `/config/0/inline/1/path`.
    pub pointer: String,
    /// The name of the configuration provider, when it is in one.
    pub provider: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            Some(name) => write!(f, "config provider {name:?} ({})", self.pointer),
            None => f.write_str(&self.pointer),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A placeholder. Its span is in the text at the place; for base64 contents, in the decoded text.
    #[error("{0}")]
    Template(TemplateError),
    /// A path on the device or in the repository.
    #[error("{0}")]
    Path(PathProblem),
    /// A user or group.
    #[error("{0}")]
    Owner(OwnerProblem),
    /// Permission bits.
    #[error("mode {0} ({0:#o}) is not 0 to 4095 (0o7777); 0644 is 420")]
    Mode(u32),
    /// The content is not what its encoding says.
    #[error("the content is not base64 with the standard alphabet and padding: {0}")]
    Base64(String),
    /// The content of an inline file.
    #[error("the content has {0} bytes; at most {MAX_INLINE_BYTES} are allowed in an inline file")]
    LargeContent(usize),
    /// Two providers have one name.
    #[error("another provider has the same name")]
    DuplicateProvider,
    /// No files were handed in for a provider.
    #[error("the files of the provider are not pinned")]
    NotPinned,
    /// No files were handed in for the value that placeholders give.
    #[error("{what} {value:?}{} is not pinned yet", of_repository(.repository))]
    ValueNotPinned {
        /// `revision`, `suffix` or `secret`.
        what: &'static str,
        /// The value for this device.
        value: String,
        /// The name of the Repository; empty for secrets.
        repository: String,
    },
    /// A value of placeholders that can mean nothing.
    #[error("the {what} is {value:?} for this device, which cannot be; check its labels")]
    Value {
        /// `revision`, `suffix` or `secret`.
        what: &'static str,
        /// The value for this device, cut after 200 characters.
        value: String,
    },
    /// A `gitRef` path that selects no file.
    #[error("path {path:?} selects no file at the pinned commit")]
    SelectsNothing {
        /// The path for this device.
        path: String,
    },
    /// A placeholder of a `gitRef` path is empty, and the path means another directory than it seems to.
    #[error("path {path:?} has an empty part, because a placeholder in it is empty for this device")]
    EmptyPart {
        /// The path for this device.
        path: String,
    },
    /// A `gitRef` path that leaves the directory before its first placeholder.
    #[error("path {path:?} leaves the pinned directory {prefix:?}")]
    OutsidePrefix {
        /// The path for this device.
        path: String,
        /// What is pinned.
        prefix: String,
    },
    /// One path is a file and also a directory.
    #[error("{path} needs {file} to be a directory, and another provider or entry makes it a file")]
    Conflict {
        /// The file.
        file: String,
        /// The file below it.
        path: String,
    },
    /// An image that is no image reference after substitution.
    #[error("{0:?} is not an image reference ([host[:port]/]name[:tag][@digest])")]
    Image(String),
    /// The path of a file of an application, after substitution.
    #[error("application file {path:?} {reason}")]
    ApplicationPath {
        /// The path for this device, cut after 200 characters.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two applications have one name, after substitution.
    #[error("another application is called {0:?}; give one of them a name")]
    DuplicateApplication(String),
    /// The value of an environment variable, after substitution.
    #[error("the value has {0} bytes; an environment variable has 1 to 253")]
    Variable(usize),
    /// Too many files.
    #[error("the document has more than {MAX_FILES} files")]
    TooManyFiles,
    /// Too large.
    #[error("the document is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
}

fn of_repository(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" of Repository {name}") }
}

/// Why a specification cannot be prepared: it would fail for every device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct PrepareError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Box<Problem>,
}

/// Why the document of one device cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RenderError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Box<Problem>,
}

impl From<RenderError> for PrepareError {
    fn from(error: RenderError) -> Self {
        Self { place: error.place, problem: error.problem }
    }
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

impl From<PathProblem> for Problem {
    fn from(problem: PathProblem) -> Self {
        Self::Path(problem)
    }
}

impl From<OwnerProblem> for Problem {
    fn from(problem: OwnerProblem) -> Self {
        Self::Owner(problem)
    }
}

impl Place {
    pub(super) fn of(pointer: &str) -> Self {
        Self { pointer: pointer.to_owned(), provider: None }
    }

    /// `/config/<index>/<rest>`.
    pub(super) fn config(index: usize, name: &str, rest: &str) -> Self {
        Self { pointer: format!("/config/{index}{rest}"), provider: Some(name.to_owned()) }
    }

    pub(super) fn fails(self, problem: impl Into<Problem>) -> RenderError {
        RenderError { place: self, problem: Box::new(problem.into()) }
    }
}
