//! The operating system of a device, and references to catalogue items.

use serde::{Deserialize, Serialize};

/// The operating-system image; exactly one of `image` and `catalogItemRef` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OsSpec {
    /// A bootable image: `registry/name:tag` or `registry/name@digest`. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
}

/// One version of an item of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogItemRef {
    /// The catalogue's name.
    pub catalog: String,
    /// The item's name.
    pub item: String,
    /// The item's version.
    pub version: String,
    /// The channel that newer versions come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}
