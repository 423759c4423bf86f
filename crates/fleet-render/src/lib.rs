//! Rendering: what one device should be, as bytes.
//!
//! [`template`] evaluates placeholders, [`document`] composes a device specification with its pinned files into one
//! canonical document, [`revision`] names the inputs by their content, [`ownership`] decides which fleet a device
//! belongs to and [`plan`] says what a change would do. Everything here is a pure function of its
//! arguments: no I/O, no clock, no async. Fetching the files and storing the documents is somebody else's work.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod document;
pub mod image;
pub mod ownership;
mod placeholder;
pub mod plan;
pub mod revision;
pub mod template;

pub use document::{
    InputKey, InputValue, MAX_VALUES, Outline, OutlineFile, OwnerProblem, PathProblem, PathReason, PinnedFile,
    PinnedInputs, PinnedTree, Place, PrepareError, Prepared, Problem, RenderError, Rendered, Seal, check_device_path,
    check_owner, literal_prefix, too_many_values,
};
pub use image::{ImageProblem, ImageReason, check_image_reference, check_image_template, is_fully_qualified};
pub use placeholder::{Placeholder, placeholders};
pub use revision::{revision_digest, revision_name, tree_digest};
pub use template::{FUNCTIONS, Inputs, Subject, Template, TemplateError, TemplateErrorKind};
