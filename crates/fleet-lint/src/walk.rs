//! Which files of a repository are read as manifests.

/// Whether a file may hold manifests: it ends in `.yaml`, `.yml` or `.json`, and neither it nor a directory above it
/// starts with a dot. `path` is relative to the repository's root, with `/`.
///
/// Files that a `gitRef` with repository `.` names are content all the same; [`check_tree`](crate::check_tree) knows them.
pub fn is_candidate(path: &str) -> bool {
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension);
    matches!(extension, Some("yaml" | "yml" | "json")) && !path.split('/').any(|part| part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_and_json_outside_dot_directories_are_candidates() {
        for good in ["a.yaml", "fleets/b.yml", "c.json", "v1.2/d.yaml"] {
            assert!(is_candidate(good), "{good}");
        }
        for bad in
            ["README.md", ".github/workflows/ci.yaml", ".fleetlint.yaml", "a/.b/c.yaml", "yaml", "a.yaml.bak", "A.YAML"]
        {
            assert!(!is_candidate(bad), "{bad}");
        }
    }
}
