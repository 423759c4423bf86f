//! Files that lie where other files of the same device need a directory: no device can have both.

use std::collections::BTreeMap;
use std::ops::Bound;

use fleet_model::{ConfigProvider, ConfigSource};

use crate::codes;
use crate::document::Document;
use crate::finding::Finding;

/// Finds, per file that cannot lie beside an earlier one, the earlier one. Files of the same path are not looked at here.
///
/// Two paths with the same placeholders are the same on each device, so that they are compared as they are written.
pub(super) fn check(
    document: &Document<'_, '_>,
    pointer: &str,
    providers: &[ConfigProvider],
    findings: &mut Vec<Finding>,
) {
    let mut known = Places::default();
    for (pointer, place) in
        providers.iter().enumerate().flat_map(|(at, p)| places(&format!("{pointer}/config/{at}"), p))
    {
        // What ends like this is no path, which is told elsewhere; of a mount path it can be the root, where all fits.
        if place.path().ends_with('/') {
            continue;
        }
        let at = document.value_span(&pointer);
        let message = match known.add(place, at.line) {
            None => continue,
            Some(Clash::BelowFile(file, line)) if file == place.path() => {
                format!("the directory {file:?} is a file, too; see line {line}")
            }
            Some(Clash::BelowFile(file, line)) => {
                let what = if matches!(place, Place::File(_)) { "file" } else { "directory" };
                format!("the {what} {:?} cannot lie below {file:?}, which is a file; see line {line}", place.path())
            }
            Some(Clash::IsDirectory(other, line)) => {
                format!("the file {:?} is a directory, too; it is needed for {other:?} on line {line}", place.path())
            }
        };
        findings.push(Finding::new(codes::FILE_AND_DIRECTORY, at, message).at_pointer(pointer));
    }
}

/// What a provider puts somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    File(&'a str),
    Directory(&'a str),
}

impl<'a> Place<'a> {
    const fn path(self) -> &'a str {
        let (Self::File(path) | Self::Directory(path)) = self;
        path
    }
}

/// Where the files of a provider lie, with pointers to the values that say so. What lies in the files of a Git reference
/// is not known here.
fn places<'a>(pointer: &str, provider: &'a ConfigProvider) -> Vec<(String, Place<'a>)> {
    match &provider.source {
        ConfigSource::Inline(files) => {
            let pointer = |at| format!("{pointer}/inline/{at}/path");
            files.iter().enumerate().map(|(at, file)| (pointer(at), Place::File(&file.path))).collect()
        }
        ConfigSource::HttpRef(http) => vec![(format!("{pointer}/httpRef/filePath"), Place::File(&http.file_path))],
        ConfigSource::SecretRef(secret) => {
            vec![(format!("{pointer}/secretRef/mountPath"), Place::Directory(&secret.mount_path))]
        }
        ConfigSource::GitRef(_) => Vec::new(),
    }
}

/// Why a place cannot be: with the other path, and its line.
#[derive(Debug, PartialEq, Eq)]
enum Clash<'a> {
    /// A file lies at this path, which has to be a directory.
    BelowFile(&'a str, u32),
    /// This path needs a directory there.
    IsDirectory(&'a str, u32),
}

/// Lines of what is known already, by path.
#[derive(Debug, Default)]
struct Places<'a> {
    files: BTreeMap<&'a str, u32>,
    directories: BTreeMap<&'a str, u32>,
}

impl<'a> Places<'a> {
    fn add(&mut self, place: Place<'a>, line: u32) -> Option<Clash<'a>> {
        let path = place.path();
        let parents = path.match_indices('/').map(|(slash, _)| &path[..slash]).filter(|parent| !parent.is_empty());
        // A directory is one itself.
        let own = matches!(place, Place::Directory(_)).then_some(path);
        let below = parents.chain(own).find_map(|path| self.files.get_key_value(path));
        let clash = below.map(|(file, line)| Clash::BelowFile(file, *line));
        let (known, clash) = match place {
            Place::File(_) => {
                let clash = clash.or_else(|| self.needed_as_directory(path));
                (&mut self.files, clash)
            }
            Place::Directory(_) => (&mut self.directories, clash),
        };
        known.entry(path).or_insert(line);
        clash
    }

    /// What lies below the path, or makes it a directory.
    fn needed_as_directory(&self, path: &str) -> Option<Clash<'a>> {
        let itself = self.directories.get_key_value(path);
        let below = format!("{path}/");
        let first_below = [&self.files, &self.directories].into_iter().find_map(|known| {
            let next = known.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded)).next();
            next.filter(|(next, _)| next.starts_with(&below))
        });
        itself.or(first_below).map(|(other, line)| Clash::IsDirectory(other, *line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the paths, of which those that end with `/` are directories, one per line, and gives the last one's clash.
    fn last<'a>(paths: &[&'a str]) -> Option<Clash<'a>> {
        let mut known = Places::default();
        let mut clash = None;
        for (line, path) in (1..).zip(paths) {
            let place = path.strip_suffix('/').map_or(Place::File(path), Place::Directory);
            clash = known.add(place, line);
        }
        clash
    }

    #[test]
    fn what_lies_below_a_file_is_found_in_either_order() {
        assert_eq!(last(&["/a", "/a/b"]), Some(Clash::BelowFile("/a", 1)));
        assert_eq!(last(&["/a", "/a/b/c/d"]), Some(Clash::BelowFile("/a", 1)));
        assert_eq!(last(&["/a/b/c", "/a"]), Some(Clash::IsDirectory("/a/b/c", 1)));
        assert_eq!(last(&["/a/{{ .x }}", "/a/{{ .x }}/b"]), Some(Clash::BelowFile("/a/{{ .x }}", 1)));
        assert_eq!(last(&["/a", "/a/"]), Some(Clash::BelowFile("/a", 1)));
        assert_eq!(last(&["/a", "/a/b/"]), Some(Clash::BelowFile("/a", 1)));
        assert_eq!(last(&["/a/", "/a"]), Some(Clash::IsDirectory("/a", 1)));
        assert_eq!(last(&["/a/b/", "/a"]), Some(Clash::IsDirectory("/a/b", 1)));
    }

    #[test]
    fn neighbours_are_no_clash() {
        for paths in [
            &["/a", "/a"][..],
            &["/a", "/ab/c"],
            &["/ab", "/a"],
            &["/a-b/c", "/a"],
            &["/a/b", "/a/c"],
            &["/a/", "/a/b"],
            &["/a/", "/a/"],
            &["/a/", "/a/b/"],
            &["/", "/a"],
            &["/a", "/"],
            &["", ""],
        ] {
            assert_eq!(last(paths), None, "{paths:?}");
        }
    }
}
