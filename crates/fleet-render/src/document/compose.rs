//! Writes the document of one device from what was resolved for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use fleet_model::{Digest, SECRET_FILES_PREFIX};

use super::problem::{Place, Problem, RenderError};
use super::resolve::{Resolved, ResolvedFile};
use super::tree::Seal;
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
    out.extend_from_slice(br#""config":["#);
    provider("", files.iter().filter(|file| file.seal.is_none()), &mut out)?;
    if let Some(name) = secret_provider(files) {
        provider(&name, files.iter().filter(|file| file.seal.is_some()), &mut out)?;
    }
    out.push(b']');
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

/// The name of the provider with the secret files, if there are any. The seals in it are in no other thing that people see:
/// without them, the digest of the document could be compared with those of documents with guessed contents.
fn secret_provider(files: &[ResolvedFile<'_>]) -> Option<String> {
    let seals: Vec<&Seal> = files.iter().filter_map(|file| file.seal.as_ref()).collect();
    let bytes = seals.iter().flat_map(|seal| seal.as_bytes()).copied();
    let all: Vec<u8> = b"shorebase secret files\0".iter().copied().chain(bytes).collect();
    (!seals.is_empty()).then(|| format!("{SECRET_FILES_PREFIX}{}", Digest::of(&all).hex()))
}

/// A provider and its files; nothing without files.
fn provider<'f>(
    name: &str,
    files: impl Iterator<Item = &'f ResolvedFile<'f>>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let mut first = true;
    for resolved in files {
        match (first, out.last()) {
            (true, Some(b'[')) => out.extend_from_slice(br#"{"inline":["#),
            (true, _) => out.extend_from_slice(br#",{"inline":["#),
            (false, _) => out.push(b','),
        }
        first = false;
        file(resolved, out)?;
    }
    if !first {
        out.extend_from_slice(br#"],"name":"#);
        canonical::write_str(name, out);
        out.push(b'}');
    }
    Ok(())
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
