//! Evaluates a prepared specification for one device: which file lands where, what is in it, and every other value
//! that depends on the device. The documents themselves, and comparisons of them, are made from this.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::applications::{self, ResolvedApplication};
use super::compose::check_image;
use super::pinned::Lands;
use super::prepare::{Content, InlineFile, OsPlan, Provider, Source};
use super::problem::{Place, Problem, RenderError};
use super::tree::{PinnedTree, Seal};
use super::{MAX_BODY_BYTES, MAX_FILES, Prepared, check_device_path, paths};
use crate::template::{Subject, Template};

/// Everything that a document says, without having been written.
pub(crate) struct Resolved<'p> {
    /// Sorted by path.
    pub(crate) files: Vec<ResolvedFile<'p>>,
    /// In the order of the specification; absent where the specification has no list.
    pub(crate) applications: Option<Vec<ResolvedApplication<'p>>>,
    /// Canonical JSON of the operating system.
    pub(crate) os: Option<Cow<'p, [u8]>>,
    /// Canonical JSON of the other fields, by name; none of them depends on the device.
    pub(crate) others: &'p [(&'static str, Vec<u8>)],
}

/// A file on the device.
pub(crate) struct ResolvedFile<'p> {
    pub(crate) path: Cow<'p, str>,
    pub(crate) slot: Slot,
    /// Borrowed when it is the same for every device: then `slot` stands for it.
    pub(crate) content: Cow<'p, [u8]>,
    pub(crate) mode: u32,
    pub(crate) user: &'p str,
    pub(crate) group: &'p str,
    /// Stands for a content that is secret and must not be shown.
    pub(crate) seal: Option<Seal>,
}

/// The file that each path of the device gets, sorted by path.
pub(super) type Layout = BTreeMap<String, Slot>;

/// A file of a specification: the index of its provider, and its index in the provider's list or tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) provider: usize,
    pub(crate) file: usize,
}

/// The file of each path. Without a subject all paths must be literal.
pub(super) fn layout(prepared: &Prepared, subject: Option<&Subject<'_>>) -> Result<Layout, RenderError> {
    let mut layout = Layout::new();
    for (index, provider) in prepared.providers.iter().enumerate() {
        match &provider.source {
            Source::Inline(files) => {
                for (file, spec) in files.iter().enumerate() {
                    let slot = Slot { provider: index, file };
                    let path = text(&spec.path, subject).and_then(|path| {
                        check_device_path(&path)?;
                        Ok(path.into_owned())
                    });
                    layout.insert(path.map_err(|problem| place(prepared, slot, "path").fails(problem))?, slot);
                }
            }
            Source::Pinned(plan) => {
                let at = |field: &str| Place::config(index, &provider.name, field);
                let (start, tree) =
                    plan.tree(subject).map_err(|problem| at(plan.lands.value_field()).fails(problem))?;
                select(&plan.lands, start, tree, index, subject, &mut layout)
                    .map_err(|problem| at(plan.lands.field()).fails(problem))?;
            }
        }
        if layout.len() > MAX_FILES {
            return Err(Place::of("/config").fails(Problem::TooManyFiles));
        }
    }
    for (path, slot) in &layout {
        let mut parents = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]);
        if let Some(file) = parents.find(|parent| layout.contains_key(*parent)) {
            let problem = Problem::Conflict { file: file.to_owned(), path: path.clone() };
            return Err(place(prepared, *slot, "path").fails(problem));
        }
    }
    Ok(layout)
}

/// Adds the files that a provider gives from its tree, whose first file has the number `start`.
fn select(
    lands: &Lands,
    start: usize,
    tree: &PinnedTree,
    provider: usize,
    subject: Option<&Subject<'_>>,
    layout: &mut Layout,
) -> Result<(), Problem> {
    let written = text(lands.template(), subject)?;
    let mut add = |path: String, file: usize| {
        check_device_path(&path)?;
        layout.insert(path, Slot { provider, file: start + file });
        if layout.len() > MAX_FILES { Err(Problem::TooManyFiles) } else { Ok(()) }
    };
    match lands {
        Lands::Git { path: template, prefix } => {
            if !template.is_literal() && has_empty_part(&written, template.source()) {
                return Err(Problem::EmptyPart { path: written.into_owned() });
            }
            let path = paths::normalise(&written)?;
            let inside = prefix.is_empty()
                || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !inside {
                return Err(Problem::OutsidePrefix { path, prefix: prefix.clone() });
            }
            let mut found = false;
            for (path, file, _) in tree.select(&path) {
                add(path, file)?;
                found = true;
            }
            if found { Ok(()) } else { Err(Problem::SelectsNothing { path: written.into_owned() }) }
        }
        Lands::Http { .. } => {
            let last = tree.files().len().checked_sub(1).ok_or(Problem::NotPinned)?;
            add(written.into_owned(), last)
        }
        Lands::Secret { .. } => {
            let directory = written.strip_suffix('/').filter(|_| written.len() == 1).unwrap_or(&written);
            tree.files().iter().enumerate().try_for_each(|(at, file)| add(format!("{directory}/{}", file.path), at))
        }
    }
}

/// Whether substitution made an empty part: `sites/{{ … }}/etc` must not quietly mean `sites/etc`.
fn has_empty_part(written: &str, source: &str) -> bool {
    let mut parts = written;
    if source.starts_with('/') {
        parts = parts.strip_prefix('/').unwrap_or(parts);
    }
    if source.ends_with('/') {
        parts = parts.strip_suffix('/').unwrap_or(parts);
    }
    parts.split('/').any(|part| part.trim().is_empty())
}

fn text<'p>(template: &'p Template, subject: Option<&Subject<'_>>) -> Result<Cow<'p, str>, Problem> {
    match subject {
        Some(subject) if !template.is_literal() => Ok(Cow::Owned(template.evaluate(subject)?)),
        _ => Ok(Cow::Borrowed(template.source())),
    }
}

fn place(prepared: &Prepared, slot: Slot, field: &str) -> Place {
    let Provider { name, source } = &prepared.providers[slot.provider];
    match source {
        Source::Inline(_) => Place::config(slot.provider, name, &format!("/inline/{}/{field}", slot.file)),
        Source::Pinned(plan) => Place::config(slot.provider, name, plan.lands.field()),
    }
}

/// Everything that the document of one device says.
pub(super) fn resolve<'p>(prepared: &'p Prepared, subject: &Subject<'_>) -> Result<Resolved<'p>, RenderError> {
    let mut budget = Budget(MAX_BODY_BYTES);
    let files = match &prepared.layout {
        Some(fixed) => {
            let paths = fixed.iter().map(|(path, slot)| (Cow::Borrowed(path.as_str()), *slot));
            files(prepared, paths, subject, &mut budget)?
        }
        None => {
            let fresh = layout(prepared, Some(subject))?;
            let paths = fresh.into_iter().map(|(path, slot)| (Cow::Owned(path), slot));
            files(prepared, paths, subject, &mut budget)?
        }
    };
    let applications = match &prepared.applications {
        Some(plans) => Some(applications::resolve(plans, subject)?),
        None => None,
    };
    let size = applications.iter().flatten().map(|application| application.json.len()).sum();
    budget.take(size, "/applications")?;
    let os = os(&prepared.os, subject).map_err(|problem| Place::of("/os/image").fails(problem))?;
    Ok(Resolved { files, applications, os, others: &prepared.others })
}

/// What may still be evaluated: the bound on documents is one on memory as well.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize, pointer: &str) -> Result<(), RenderError> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| Place::of(pointer).fails(Problem::TooLarge))?;
        Ok(())
    }
}

fn files<'p>(
    prepared: &'p Prepared,
    paths: impl ExactSizeIterator<Item = (Cow<'p, str>, Slot)>,
    subject: &Subject<'_>,
    budget: &mut Budget,
) -> Result<Vec<ResolvedFile<'p>>, RenderError> {
    let mut files = Vec::with_capacity(paths.len());
    for (path, slot) in paths {
        let mut seal = None;
        let (content, mode, user, group) = match &prepared.providers[slot.provider].source {
            Source::Pinned(plan) => {
                let file = plan.file(slot.file);
                let (user, group) = match &plan.lands {
                    Lands::Git { .. } | Lands::Http { .. } => ("root", "root"),
                    Lands::Secret { user, group, .. } => {
                        seal = file.seal;
                        (user.as_str(), group.as_str())
                    }
                };
                (Cow::Borrowed(&*file.content), file.mode, user, group)
            }
            Source::Inline(files) => {
                let InlineFile { content, mode, user, group, .. } = &files[slot.file];
                let content = match content {
                    Content::Bytes(bytes) => Cow::Borrowed(bytes.as_slice()),
                    Content::Text(template) => {
                        match text(template, Some(subject)).map_err(|p| place(prepared, slot, "content").fails(p))? {
                            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                        }
                    }
                };
                (content, *mode, user.as_str(), group.as_str())
            }
        };
        budget.take(content.len(), "/config")?;
        files.push(ResolvedFile { path, slot, content, mode, user, group, seal });
    }
    Ok(files)
}

fn os<'p>(plan: &'p OsPlan, subject: &Subject<'_>) -> Result<Option<Cow<'p, [u8]>>, Problem> {
    match plan {
        OsPlan::None => Ok(None),
        OsPlan::Fixed(json) => Ok(Some(Cow::Borrowed(json))),
        OsPlan::Image { os, image } => {
            let image = image.evaluate(subject)?;
            check_image(&image)?;
            Ok(Some(Cow::Owned(os.json(image))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_placeholder_shows_as_an_empty_part() {
        for (written, source, expected) in [
            ("sites/berlin", "sites/{{x}}", false),
            ("sites/", "sites/{{x}}", true),
            ("sites//", "sites/{{x}}/", true),
            ("sites/berlin/", "sites/{{x}}/", false),
            ("/sites/berlin", "/sites/{{x}}", false),
            ("/etc", "{{x}}/etc", true),
            ("sites/ /etc", "sites/{{x}}/etc", true),
            ("", "{{x}}", true),
        ] {
            assert_eq!(has_empty_part(written, source), expected, "{written} from {source}");
        }
    }
}
