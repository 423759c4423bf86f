//! Writes the document of one device from what was resolved for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::problem::{Place, Problem, RenderError};
use super::resolve::{Resolved, ResolvedFile};
use super::{MAX_BODY_BYTES, Prepared, resolve};
use crate::canonical;
use crate::image::check_image_reference;
use crate::template::Subject;

/// The whole document.
pub(super) fn body(prepared: &Prepared, subject: &Subject<'_>) -> Result<Vec<u8>, RenderError> {
    let resolved = resolve::resolve(prepared, subject)?;
    let out = write(&resolved)?;
    if out.len() > MAX_BODY_BYTES {
        return Err(Place::of("").fails(Problem::TooLarge));
    }
    Ok(out)
}

/// Members in the order of their keys.
fn write(resolved: &Resolved<'_>) -> Result<Vec<u8>, RenderError> {
    let Resolved { files, applications, os, others } = resolved;
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    if let Some(applications) = applications {
        out.extend_from_slice(br#""applications":["#);
        for (index, application) in applications.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&application.json);
        }
        out.extend_from_slice(b"],");
    }
    if files.is_empty() {
        out.extend_from_slice(br#""config":[]"#);
    } else {
        out.extend_from_slice(br#""config":[{"inline":["#);
        for (index, resolved) in files.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            file(resolved, &mut out)?;
        }
        out.extend_from_slice(br#"],"name":""}]"#);
    }
    let after_config = others.iter().map(|(key, json)| (*key, json.as_slice()));
    let mut members: Vec<(&str, &[u8])> = after_config.chain(os.iter().map(|json| ("os", &**json))).collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    for (key, json) in members {
        out.push(b',');
        canonical::write_str(key, &mut out);
        out.push(b':');
        out.extend_from_slice(json);
    }
    out.push(b'}');
    Ok(out)
}

fn file(file: &ResolvedFile<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let ResolvedFile { path, content, mode, user, group, .. } = file;
    // Before the bytes are copied: the bound is on memory as well.
    if out.len().saturating_add(content.len()) > MAX_BODY_BYTES {
        return Err(Place::of("/config").fails(Problem::TooLarge));
    }
    out.extend_from_slice(br#"{"content":"#);
    let encoding = write_content(content, out);
    out.extend_from_slice(format!(r#","contentEncoding":"{encoding}","group":"#).as_bytes());
    canonical::write_str(group, out);
    out.extend_from_slice(format!(r#","mode":{mode},"path":"#).as_bytes());
    canonical::write_str(path, out);
    out.extend_from_slice(br#","user":"#);
    canonical::write_str(user, out);
    out.push(b'}');
    Ok(())
}

/// Appends a content as a JSON string; returns how it is encoded in it.
fn write_content(content: &[u8], out: &mut Vec<u8>) -> &'static str {
    match std::str::from_utf8(content) {
        // Text as it is, so that people can read a document; NUL is legal in JSON but a sign of binary data.
        Ok(text) if !text.contains('\0') => {
            canonical::write_str(text, out);
            "plain"
        }
        _ => {
            canonical::write_str(&STANDARD.encode(content), out);
            "base64"
        }
    }
}

/// How many bytes a content has in a document.
pub(crate) fn written_size(content: &[u8]) -> usize {
    let mut out = Vec::with_capacity(content.len() + 2);
    write_content(content, &mut out);
    out.len()
}

/// Checks an image reference that was evaluated.
pub(super) fn check_image(image: &str) -> Result<(), Problem> {
    if check_image_reference(image).is_ok() { Ok(()) } else { Err(Problem::Image(image.chars().take(200).collect())) }
}
