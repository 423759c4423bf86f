//! The identity of a fleet revision: its template and the contents of its pinned files. Not the commit, so that a
//! commit which changes nothing of a fleet makes no revision of it.

use fleet_model::{DeviceSpec, Digest, ResourceName};
use serde_json::{Value, json};

use crate::canonical;
use crate::document::PinnedTree;

/// Part of every revision digest. Grows when the same inputs are to give another document.
const FORMAT: u32 = 1;

/// The digest of a tree: paths, permission bits and contents of its files; of secret contents their seals.
pub fn tree_digest(tree: &PinnedTree) -> Digest {
    let files: Vec<Value> =
        tree.files().iter().map(|file| json!([file.path, file.mode, file.digest().hex()])).collect();
    Digest::of(&canonical::to_vec(&Value::Array(files)))
}

/// The digest of a template and the trees of its providers, in any order: the provider's name, the value of the
/// placeholders that the tree is for, if there are any, and the digest of the tree.
pub fn revision_digest(template: &DeviceSpec, trees: &[(&str, Option<&str>, Digest)]) -> Digest {
    let tree = |(name, value, digest): &(&str, Option<&str>, Digest)| {
        let mut parts = vec![(*name).to_owned(), digest.hex()];
        parts.extend(value.map(str::to_owned));
        parts
    };
    let mut trees: Vec<Vec<String>> = trees.iter().map(tree).collect();
    trees.sort();
    let template = serde_json::to_value(template).expect("a specification has text keys and finite numbers only");
    Digest::of(&canonical::to_vec(&json!({"format": FORMAT, "template": template, "trees": trees})))
}

/// The name of a revision: `r-` and the first 12 hex digits of its digest.
pub fn revision_name(digest: Digest) -> ResourceName {
    format!("r-{}", digest.short()).parse().expect("r- and hex digits are a DNS label")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::document::PinnedFile;

    fn tree(files: &[(&str, u32, &str)]) -> PinnedTree {
        let file = |(path, mode, content): &(&str, u32, &str)| PinnedFile {
            path: (*path).to_owned(),
            mode: *mode,
            content: Arc::from(content.as_bytes()),
            seal: None,
        };
        PinnedTree::new(files.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn a_tree_is_its_paths_modes_and_contents() {
        let base = tree_digest(&tree(&[("a", 0o644, "x"), ("b", 0o644, "y")]));
        assert_eq!(base, tree_digest(&tree(&[("b", 0o644, "y"), ("a", 0o644, "x")])));
        for other in [
            tree(&[("a", 0o755, "x"), ("b", 0o644, "y")]),
            tree(&[("a", 0o644, "y"), ("b", 0o644, "x")]),
            tree(&[("a", 0o644, "x"), ("c", 0o644, "y")]),
            tree(&[("a", 0o644, "x")]),
        ] {
            assert_ne!(base, tree_digest(&other));
        }
    }

    #[test]
    fn a_revision_is_its_template_and_trees_in_any_order() {
        let spec = |text: &str| serde_json::from_str::<DeviceSpec>(text).unwrap();
        let template = spec(r#"{"os":{"image":"q/a:1"},"systemd":{"matchPatterns":["a"]}}"#);
        let reordered = spec(r#"{"systemd":{"matchPatterns":["a"]},"os":{"image":"q/a:1"}}"#);
        let (one, two) = (("one", None, Digest::of(b"1")), ("two", None, Digest::of(b"2")));
        let base = revision_digest(&template, &[one, two]);
        assert_eq!(base, revision_digest(&reordered, &[two, one]));
        assert_ne!(base, revision_digest(&template, &[one]));
        assert_ne!(base, revision_digest(&template, &[("one", Some("v"), one.2), two]));
        assert_ne!(base, revision_digest(&template, &[("one", None, two.2), ("two", None, one.2)]));
        assert_ne!(
            base,
            revision_digest(&spec(r#"{"os":{"image":"q/a:2"},"systemd":{"matchPatterns":["a"]}}"#), &[one, two])
        );
        assert_eq!(revision_name(base).as_str().len(), 14);
    }
}
