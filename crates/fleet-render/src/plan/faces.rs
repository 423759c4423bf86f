//! What a document says, by digests: enough to compare two documents and to tell their differences, without writing
//! them. Contents that are the same for every device of a revision are digested once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use fleet_model::Digest;
use serde_json::json;

use super::{ApplicationChange, Change, FileChange, FileFacts, OsChange, Revision};
use crate::canonical;
use crate::document::{MAX_BODY_BYTES, Resolved, ResolvedFile, Slot, written_size};
use crate::template::Subject;

/// What a document says.
pub(super) struct Face<'a> {
    /// Sorted by path.
    files: Vec<FaceFile<'a>>,
    os: Option<Cow<'a, [u8]>>,
    /// Names with the digests of what they name, which is one unless the specification is wrong.
    applications: BTreeMap<Cow<'a, str>, Vec<Digest>>,
    others: &'a [(&'static str, Vec<u8>)],
    /// Two documents are the same bytes exactly when these are equal.
    pub(super) digest: Digest,
}

struct FaceFile<'a> {
    path: Cow<'a, str>,
    digest: Digest,
    size: usize,
    mode: u32,
    user: &'a str,
    group: &'a str,
    secret: bool,
}

/// What differs between two documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delta {
    pub(super) files: Vec<FileChange>,
    pub(super) os: Option<OsChange>,
    pub(super) applications: Vec<ApplicationChange>,
    pub(super) others: Vec<String>,
}

/// Facts about contents that do not depend on the device, of one revision.
#[derive(Default)]
pub(super) struct Contents {
    digests: HashMap<Slot, Digest>,
    /// Bytes in a document, of those that somebody asked for: they have to be written for that.
    written: HashMap<Slot, usize>,
}

impl Contents {
    fn digest(&mut self, file: &ResolvedFile<'_>) -> Digest {
        if let Some(seal) = file.seal {
            return seal.shown();
        }
        match &file.content {
            Cow::Borrowed(fixed) => *self.digests.entry(file.slot).or_insert_with(|| Digest::of(fixed)),
            Cow::Owned(own) => Digest::of(own),
        }
    }

    /// Whether the document may be larger than allowed: six bytes for each is the worst that a text can come to.
    fn may_be_too_large(&mut self, resolved: &Resolved<'_>) -> bool {
        let fixed = fixed_bound(resolved);
        let worst = resolved.files.iter().map(|file| file.content.len().saturating_mul(6));
        fixed.saturating_add(worst.sum()) > MAX_BODY_BYTES && {
            let written = resolved.files.iter().map(|file| match &file.content {
                Cow::Borrowed(fixed) => *self.written.entry(file.slot).or_insert_with(|| written_size(fixed)),
                Cow::Owned(own) => own.len().saturating_mul(6),
            });
            fixed.saturating_add(written.sum()) > MAX_BODY_BYTES
        }
    }
}

impl<'a> Face<'a> {
    /// What the document of a device says; the error is the sentence that rendering fails with.
    pub(super) fn new(revision: &'a Revision, subject: &Subject<'_>, contents: &mut Contents) -> Result<Self, String> {
        let resolved = revision.prepared.resolve(subject).map_err(|error| error.to_string())?;
        if contents.may_be_too_large(&resolved) {
            // Rare: only writing it tells.
            revision.prepared.render(subject).map_err(|error| error.to_string())?;
        }
        let mut seal = Vec::with_capacity(64 + 160 * resolved.files.len());
        let mut files = Vec::with_capacity(resolved.files.len());
        for file in resolved.files {
            let digest = contents.digest(&file);
            let ResolvedFile { path, content, mode, user, group, seal: sealed, .. } = file;
            // How long a secret is, is one, too.
            let size = if sealed.is_some() { 0 } else { content.len() };
            for text in [&*path, user, group] {
                canonical::write_str(text, &mut seal);
            }
            seal.extend_from_slice(&mode.to_be_bytes());
            seal.extend_from_slice(digest.as_bytes());
            files.push(FaceFile { path, digest, size, mode, user, group, secret: sealed.is_some() });
        }
        let mut list = Vec::new();
        let has_list = resolved.applications.is_some();
        let mut applications: BTreeMap<Cow<'a, str>, Vec<Digest>> = BTreeMap::new();
        for application in resolved.applications.into_iter().flatten() {
            let digest = Digest::of(&application.json);
            // Their order is part of the document.
            list.push(digest.hex());
            applications.entry(application.name).or_default().push(digest);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let others: Vec<(&str, String)> = resolved.others.iter().map(|(key, bytes)| (*key, text(bytes))).collect();
        let rest = json!([has_list.then_some(list), resolved.os.as_deref().map(text), others]);
        canonical::write(&rest, &mut seal);
        Ok(Self { files, os: resolved.os, applications, others: resolved.others, digest: Digest::of(&seal) })
    }
}

/// What is in a document besides the contents of files has no more bytes.
fn fixed_bound(resolved: &Resolved<'_>) -> usize {
    let files = resolved.files.iter().map(|file| 256 + 6 * file.path.len());
    let applications = resolved.applications.iter().flatten().map(|application| application.json.len() + 1);
    let others = resolved.others.iter().map(|(key, json)| key.len() + json.len() + 4);
    let os = resolved.os.as_ref().map_or(0, |json| json.len() + 8);
    files.sum::<usize>() + applications.sum::<usize>() + others.sum::<usize>() + os + 512
}

impl FaceFile<'_> {
    fn facts(&self) -> FileFacts {
        FileFacts {
            digest: self.digest,
            mode: self.mode,
            user: self.user.to_owned(),
            group: self.group.to_owned(),
            size: u64::try_from(self.size).unwrap_or(u64::MAX),
            secret: self.secret,
        }
    }

    fn is_same(&self, other: &FaceFile<'_>) -> bool {
        (self.digest, self.mode, self.user, self.group) == (other.digest, other.mode, other.user, other.group)
    }
}

impl Delta {
    /// The difference between two documents; against nothing, everything is new.
    pub(super) fn between(before: Option<&Face<'_>>, after: &Face<'_>) -> Self {
        let files = file_changes(before.map_or(&[], |face| &face.files), &after.files);
        let no_applications = BTreeMap::new();
        let were = before.map_or(&no_applications, |face| &face.applications);
        let mut applications: Vec<ApplicationChange> = Vec::new();
        for (name, digests) in &after.applications {
            let change = match were.get(name) {
                None => Change::Added,
                Some(were) if were != digests => Change::Changed,
                Some(_) => continue,
            };
            applications.push(ApplicationChange { name: name.clone().into_owned(), change });
        }
        let gone = were.keys().filter(|name| !after.applications.contains_key(*name));
        applications
            .extend(gone.map(|name| ApplicationChange { name: name.clone().into_owned(), change: Change::Removed }));
        applications.sort();
        let (was, is) = (before.and_then(|face| face.os.as_deref()), after.os.as_deref());
        let os = (was != is).then(|| OsChange { before: was.map(os_text), after: is.map(os_text), varies: false });
        let were = before.map_or(&[][..], |face| face.others);
        let differs = |key: &&str| find(were, key) != find(after.others, key);
        let mut others: Vec<&str> = were.iter().chain(after.others).map(|(key, _)| *key).filter(differs).collect();
        others.sort_unstable();
        others.dedup();
        let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
        let mut delta = Self { files, os, applications, others };
        if delta == Self::default() && before.is_some_and(|face| face.digest != after.digest) {
            // The same applications in another order.
            delta.others.push("applications".to_owned());
        }
        delta
    }
}

fn find<'f>(others: &'f [(&'static str, Vec<u8>)], key: &str) -> Option<&'f [u8]> {
    others.iter().find(|(other, _)| *other == key).map(|(_, json)| json.as_slice())
}

fn file_changes(before: &[FaceFile<'_>], after: &[FaceFile<'_>]) -> Vec<FileChange> {
    let change = |path: &str, before: Option<&FaceFile<'_>>, after: Option<&FaceFile<'_>>| FileChange {
        path: path.to_owned(),
        before: before.map(FaceFile::facts),
        after: after.map(FaceFile::facts),
        varies: false,
    };
    let mut changes = Vec::new();
    let (mut olds, mut news) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (Some(old), Some(new)) => old.path.cmp(&new.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return changes,
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        match (old, new) {
            (Some(old), Some(new)) if old.is_same(new) => {}
            (Some(file), _) | (None, Some(file)) => changes.push(change(&file.path, old, new)),
            (None, None) => {}
        }
    }
}

/// The image where that is all, else the JSON.
fn os_text(json: &[u8]) -> String {
    match serde_json::from_slice::<fleet_model::OsSpec>(json) {
        Ok(fleet_model::OsSpec { image: Some(image), catalog_item_ref: None }) => image,
        Ok(_) | Err(_) => String::from_utf8_lossy(json).into_owned(),
    }
}
