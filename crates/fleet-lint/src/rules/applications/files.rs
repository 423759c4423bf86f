//! The inline files of an application: paths, contents, sizes; what is in them is looked into by [`crate::apps`].

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{Application, ApplicationFile, ContentEncoding};
use fleet_render::{Template, placeholders};

use super::{Rules, base64_problem, template, template_hint};
use crate::apps::{self, AppFile, Part, Problem, clip};
use crate::codes;
use crate::finding::Finding;

/// The largest file, in bytes after decoding.
const MAX_FILE_BYTES: usize = 1 << 20;
/// The largest files of one application together.
const MAX_APP_BYTES: usize = 4 << 20;
/// The largest files of all applications together. Only aliases make more of one manifest.
const MAX_ALL_BYTES: usize = 16 << 20;
/// Longest path of a file, in bytes.
const MAX_PATH: usize = 4096;

impl Rules<'_, '_, '_> {
    pub(super) fn files(&mut self, pointer: &str, application: &Application, files: &[ApplicationFile]) {
        let said = self.findings.len();
        self.paths(pointer, files);
        let bad: Vec<String> = self.findings[said..].iter().map(|finding| finding.pointer.clone()).collect();
        if self.bytes > MAX_ALL_BYTES {
            return;
        }
        let mut total = 0;
        let mut contents: Vec<Option<Cow<'_, str>>> = Vec::with_capacity(files.len());
        // What cannot be read has its finding already.
        let mut unreadable = vec![false; files.len()];
        for (at, file) in files.iter().enumerate() {
            // Each is bounded; together only aliases make more than a manifest can hold.
            if total > MAX_APP_BYTES {
                break;
            }
            match self.content(format!("{pointer}/inline/{at}/content"), file) {
                Some((bytes, text)) => {
                    total += bytes;
                    contents.push(text);
                }
                None => {
                    unreadable[at] = true;
                    contents.push(None);
                }
            }
        }
        if total > MAX_APP_BYTES {
            let message = format!("the files of the application have more than {MAX_APP_BYTES} bytes together");
            self.find(codes::CONTENT_TOO_LARGE, format!("{pointer}/inline"), message);
            return;
        }
        self.bytes += total;
        if self.bytes > MAX_ALL_BYTES {
            let message = format!("the inline files of all applications have more than {MAX_ALL_BYTES} bytes");
            self.find(codes::CONTENT_TOO_LARGE, format!("{pointer}/inline"), message);
            return;
        }
        let is_template = self.is_template;
        let texts: Vec<AppFile<'_>> = files
            .iter()
            .zip(&contents)
            .map(|(file, text)| AppFile { path: &file.path, text: text.as_deref(), is_template })
            .collect();
        let problems = match application {
            Application::Compose(_) => {
                let volumes: Vec<&str> = application.volumes().iter().map(|volume| volume.name.as_str()).collect();
                apps::compose::check(&texts, &volumes)
            }
            Application::Quadlet(_) => apps::quadlet::check(&texts),
            Application::Vm(_) => apps::vm::check(&texts, application.name()),
            Application::Container(_) | Application::Helm(_) => Vec::new(),
        };
        let is_known = |problem: &Problem| match problem.part {
            Part::Text(file, _) => unreadable[file],
            Part::Path(file) => !bad.is_empty() && bad.contains(&format!("{pointer}/inline/{file}/path")),
            Part::Files | Part::Volume(_) => false,
        };
        for problem in problems.into_iter().filter(|problem| !is_known(problem)) {
            self.inside(pointer, files, &contents, problem);
        }
    }

    /// Reports a problem inside the application at its place in the manifest.
    fn inside(&mut self, pointer: &str, files: &[ApplicationFile], texts: &[Option<Cow<'_, str>>], problem: Problem) {
        let mut message = problem.message;
        let (pointer, at) = match problem.part {
            Part::Files => {
                let pointer = format!("{pointer}/inline");
                let at = self.document.key_span(&pointer);
                (pointer, at)
            }
            Part::Path(file) => {
                let pointer = format!("{pointer}/inline/{file}/path");
                let at = self.document.value_span(&pointer);
                (pointer, at)
            }
            Part::Volume(volume) => {
                let pointer = format!("{pointer}/volumes/{volume}/name");
                let at = self.document.value_span(&pointer);
                (pointer, at)
            }
            Part::Text(file, span) => {
                let pointer = format!("{pointer}/inline/{file}/content");
                if files[file].content_encoding == Some(ContentEncoding::Base64) {
                    // The place is inside what was decoded.
                    let before = texts[file].as_deref().and_then(|text| text.get(..span.start)).unwrap_or_default();
                    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
                    message.push_str(&format!(" (line {line} of the decoded content)"));
                    let at = self.document.value_span(&pointer);
                    (pointer, at)
                } else {
                    let at = self.document.part_span(&pointer, &span);
                    (pointer, at)
                }
            }
        };
        self.findings.push(Finding::new(problem.code, at, message).at_pointer(pointer).maybe_hint(problem.hint));
    }

    fn paths(&mut self, pointer: &str, files: &[ApplicationFile]) {
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for (at, file) in files.iter().enumerate() {
            let below = format!("{pointer}/inline/{at}/path");
            let known = if self.is_template && file.path.contains("{{") {
                if !template(self.document, &below, &file.path, self.findings) {
                    continue;
                }
                Cow::Owned(without_placeholders(&file.path))
            } else {
                Cow::Borrowed(file.path.as_str())
            };
            if let Err(reason) = relative_path(&known) {
                let message = format!("the path {:?} is not valid: {reason}", clip(&file.path));
                self.find(codes::BAD_APP_FILE, below.as_str(), message).hint =
                    Some("write it relative to the application's directory".to_owned());
            }
            let line = self.document.value_span(&below).line;
            if let Some(first) = lines.insert(&file.path, line) {
                let message = format!("the file {:?} is given twice; the first is on line {first}", clip(&file.path));
                self.find(codes::BAD_APP_FILE, below, message);
            }
        }
        for (at, file) in files.iter().enumerate().filter(|(_, file)| file.path.len() <= MAX_PATH) {
            let mut parents = file.path.match_indices('/').map(|(end, _)| &file.path[..end]);
            if let Some(parent) = parents.find(|parent| lines.contains_key(parent)) {
                let message = format!("{:?} cannot be below {:?}, which is a file", clip(&file.path), clip(parent));
                self.find(codes::BAD_APP_FILE, format!("{pointer}/inline/{at}/path"), message);
            }
        }
    }

    /// The size of a file's content, and its text when it is text; nothing when it cannot be read.
    fn content<'f>(&mut self, pointer: String, file: &'f ApplicationFile) -> Option<(usize, Option<Cow<'f, str>>)> {
        let content = file.content.as_deref().unwrap_or_default();
        let is_encoded = file.content_encoding == Some(ContentEncoding::Base64);
        let (bytes, text) = if is_encoded {
            match STANDARD.decode(content.as_bytes()) {
                Ok(raw) => (raw.len(), String::from_utf8(raw).ok().map(Cow::Owned)),
                Err(error) => {
                    let hint = "use the standard alphabet with padding and no line breaks, as `base64 -w0` does";
                    let message = format!("the content is not base64: {}", base64_problem(&error));
                    self.find(codes::BAD_BASE64, pointer, message).hint = Some(hint.to_owned());
                    return None;
                }
            }
        } else {
            (content.len(), Some(Cow::Borrowed(content)))
        };
        if bytes > MAX_FILE_BYTES {
            let message = format!("the content has {bytes} bytes; at most {MAX_FILE_BYTES} are allowed");
            self.find(codes::CONTENT_TOO_LARGE, pointer, message);
            return None;
        }
        if let Some(text) = &text {
            if self.is_template && is_encoded {
                if let Err(error) = Template::parse(text) {
                    let message = format!("{} (in the decoded content)", error.message);
                    self.find(codes::BAD_TEMPLATE, pointer, message).hint = Some(template_hint(text, &error));
                    return None;
                }
            } else if self.is_template {
                if !template(self.document, &pointer, text, self.findings) {
                    return None;
                }
            } else {
                self.placeholders_in_device(&pointer, text);
            }
        }
        Some((bytes, text))
    }
}

/// The text with a word in place of each placeholder.
fn without_placeholders(text: &str) -> String {
    let mut known = String::with_capacity(text.len());
    let mut at = 0;
    for placeholder in placeholders(text) {
        known.push_str(&text[at..placeholder.span.start]);
        known.push('x');
        at = placeholder.span.end;
    }
    known + &text[at..]
}

/// Whether a path is relative, clean and without control characters.
pub(super) fn relative_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("it is empty")
    } else if path.len() > MAX_PATH {
        Err("it has more than 4096 bytes")
    } else if path.starts_with('/') {
        Err("it is absolute")
    } else if path.split('/').any(|part| part == "..") {
        Err("it has a `..`")
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        Err("it has an empty part or a `.`")
    } else if path.chars().any(|c| c.is_control() || c == '\\') {
        Err("it has a control character or a backslash")
    } else {
        Ok(())
    }
}
