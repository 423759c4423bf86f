//! Puts the document of one device together: which file lands where, then the bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::prepare::{Content, GitPlan, InlineFile, OsPlan, Provider, Source};
use super::problem::{Place, Problem, RenderError};
use super::{MAX_BODY_BYTES, MAX_FILES, Prepared, check_device_path, paths};
use crate::canonical;
use crate::template::{Subject, Template};

/// The file that each path of the device gets, sorted by path.
pub(super) type Layout = BTreeMap<String, Slot>;

/// A file of a specification: the index of its provider, and its index in the provider's list or tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    provider: usize,
    file: usize,
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
            Source::Git(plan) => select(plan, index, subject, &mut layout)
                .map_err(|problem| Place::config(index, &provider.name, "/gitRef/path").fails(problem))?,
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

/// Adds the files that a `gitRef` selects.
fn select(plan: &GitPlan, provider: usize, subject: Option<&Subject<'_>>, layout: &mut Layout) -> Result<(), Problem> {
    let written = text(&plan.path, subject)?;
    if !plan.path.is_literal() && has_empty_part(&written, plan.path.source()) {
        return Err(Problem::EmptyPart { path: written.into_owned() });
    }
    let path = paths::normalise(&written)?;
    let inside = plan.prefix.is_empty()
        || path.strip_prefix(plan.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !inside {
        return Err(Problem::OutsidePrefix { path, prefix: plan.prefix.clone() });
    }
    let mut found = false;
    for (path, file, _) in plan.tree.select(&path) {
        check_device_path(&path)?;
        layout.insert(path, Slot { provider, file });
        found = true;
        if layout.len() > MAX_FILES {
            return Err(Problem::TooManyFiles);
        }
    }
    if found { Ok(()) } else { Err(Problem::SelectsNothing { path: written.into_owned() }) }
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
        Source::Git(_) => Place::config(slot.provider, name, "/gitRef/path"),
    }
}

/// The whole document.
pub(super) fn body(prepared: &Prepared, subject: &Subject<'_>) -> Result<Vec<u8>, RenderError> {
    let fresh;
    let layout = match &prepared.layout {
        Some(fixed) => fixed,
        None => {
            fresh = self::layout(prepared, Some(subject))?;
            &fresh
        }
    };
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    out.extend_from_slice(&prepared.frame.before_config);
    if layout.is_empty() {
        out.extend_from_slice(br#""config":[]"#);
    } else {
        out.extend_from_slice(br#""config":[{"inline":["#);
        for (index, (path, slot)) in layout.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            file(prepared, path, *slot, subject, &mut out)?;
        }
        out.extend_from_slice(br#"],"name":""}]"#);
    }
    out.extend_from_slice(&prepared.frame.before_os);
    os(&prepared.os, subject, &mut out).map_err(|problem| Place::of("/os/image").fails(problem))?;
    out.extend_from_slice(&prepared.frame.after_os);
    out.push(b'}');
    if out.len() > MAX_BODY_BYTES {
        return Err(Place::of("").fails(Problem::TooLarge));
    }
    Ok(out)
}

fn file(
    prepared: &Prepared,
    path: &str,
    slot: Slot,
    subject: &Subject<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let (content, mode, user, group): (Cow<'_, [u8]>, _, _, _) = match &prepared.providers[slot.provider].source {
        Source::Git(plan) => {
            let file = &plan.tree.files()[slot.file];
            (Cow::Borrowed(&file.content), file.mode, "root", "root")
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
    // Before the bytes are copied: the bound is on memory as well.
    if out.len().saturating_add(content.len()) > MAX_BODY_BYTES {
        return Err(Place::of("/config").fails(Problem::TooLarge));
    }
    out.extend_from_slice(br#"{"content":"#);
    let encoding = match std::str::from_utf8(&content) {
        // Text as it is, so that people can read a document; NUL is legal in JSON but a sign of binary data.
        Ok(text) if !text.contains('\0') => {
            canonical::write_str(text, out);
            "plain"
        }
        _ => {
            canonical::write_str(&STANDARD.encode(&content), out);
            "base64"
        }
    };
    out.extend_from_slice(format!(r#","contentEncoding":"{encoding}","group":"#).as_bytes());
    canonical::write_str(group, out);
    out.extend_from_slice(format!(r#","mode":{mode},"path":"#).as_bytes());
    canonical::write_str(path, out);
    out.extend_from_slice(br#","user":"#);
    canonical::write_str(user, out);
    out.push(b'}');
    Ok(())
}

fn os(plan: &OsPlan, subject: &Subject<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    match plan {
        OsPlan::Fixed(bytes) => out.extend_from_slice(bytes),
        OsPlan::Image { os, image } => {
            let image = image.evaluate(subject)?;
            if !is_image_reference(&image) {
                return Err(Problem::Image(image.chars().take(200).collect()));
            }
            let mut os = os.clone();
            os.insert("image".to_owned(), Value::String(image));
            out.extend_from_slice(br#","os":"#);
            canonical::write(&Value::Object(os), out);
        }
    }
    Ok(())
}

/// `[host[:port]/]name[:tag][@digest]`, as the grammar of container image references has it, at most 2048 bytes.
fn is_image_reference(text: &str) -> bool {
    if text.len() > 2048 {
        return false;
    }
    let (text, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            let algorithm_ok = algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b));
            let hex_ok = hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            algorithm.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && algorithm_ok && hex_ok
        })
    });
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match text[last..].find(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let tag_ok = tag.is_none_or(|tag| {
        tag.len() <= 128
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
    });
    let edge = |part: &str| {
        let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        alphanumeric(part.bytes().next()) && alphanumeric(part.bytes().last())
    };
    let lower = |part: &str| {
        edge(part) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let host = |part: &str| edge(part) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b));
    let name_ok = match name.split_once('/') {
        None => lower(name),
        Some((first, rest)) => (host(first) || lower(first)) && rest.split('/').all(lower),
    };
    digest_ok && tag_ok && name_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_follow_the_grammar() {
        let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for good in
            ["a", "a:1", "q.io/o/i:latest-prod", "localhost:5000/i", &format!("q.io/i:1@{digest}"), "h/a__b/c-d"]
        {
            assert!(is_image_reference(good), "{good}");
        }
        for bad in ["", "q.io/i:", "q.io//i", "q.io/I", "q.io/i:a b", "q.io/i@sha256:12", "q.io/i:-a", "/i", "q.io/"] {
            assert!(!is_image_reference(bad), "{bad}");
        }
    }

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
