//! Applications: what is the same for every device is written once, with holes where a placeholder stands.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{Application, ContentEncoding};
use serde_json::Value;

use super::compose::check_image;
use super::prepare::{Dialect, decode, value_of};
use super::problem::{Place, Problem, RenderError};
use super::{MAX_BODY_BYTES, MAX_INLINE_BYTES};
use crate::canonical;
use crate::template::{Inputs, Subject, Template};

/// Longest value of an environment variable, in bytes.
const MAX_ENV_BYTES: usize = 253;
/// Longest path of a file of an application, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// An application, parsed.
#[derive(Clone)]
pub(super) struct ApplicationPlan {
    name: Name,
    /// Canonical JSON with the holes between: the first piece, then a hole and a piece for each.
    start: Vec<u8>,
    holes: Vec<(Hole, Vec<u8>)>,
    /// Whether paths of files depend on the device, so that two may become one.
    paths: Option<Vec<Template>>,
    index: usize,
}

#[derive(Clone)]
enum Name {
    Fixed(String),
    /// Without a name an application is called by its image.
    Image(Template),
}

/// A value with a placeholder.
#[derive(Clone)]
struct Hole {
    template: Template,
    rule: Rule,
    /// From the specification.
    pointer: String,
}

/// What an evaluated value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Image,
    Path,
    Text,
    /// To be encoded again.
    Base64,
    Variable,
}

/// An application of one device.
pub(crate) struct ResolvedApplication<'p> {
    /// Its name; its image where it has none.
    pub(crate) name: Cow<'p, str>,
    /// Canonical JSON.
    pub(crate) json: Cow<'p, [u8]>,
}

/// Parses the applications of a specification.
pub(super) fn prepare(applications: &[Application], dialect: Dialect) -> Result<Vec<ApplicationPlan>, RenderError> {
    applications.iter().enumerate().map(|(index, application)| plan(index, application, dialect)).collect()
}

/// The applications of one device.
pub(super) fn resolve<'p>(
    plans: &'p [ApplicationPlan],
    subject: &Subject<'_>,
) -> Result<Vec<ResolvedApplication<'p>>, RenderError> {
    let mut resolved = Vec::with_capacity(plans.len());
    let mut size = 0_usize;
    for plan in plans {
        let application = plan.resolve(subject)?;
        size = size.saturating_add(application.json.len());
        check_size(size)?;
        resolved.push(application);
    }
    // Names that are written out are the same for every device; lint looks at those.
    if resolved.iter().any(|application| matches!(application.name, Cow::Owned(_))) {
        let mut seen = BTreeSet::new();
        for (index, application) in resolved.iter().enumerate() {
            if !seen.insert(&*application.name) {
                let problem = Problem::DuplicateApplication(application.name.chars().take(200).collect());
                return Err(Place::of(&format!("/applications/{index}")).fails(problem));
            }
        }
    }
    Ok(resolved)
}

/// The bound on documents is one on memory as well: looked at after every value.
fn check_size(bytes: usize) -> Result<(), RenderError> {
    if bytes > MAX_BODY_BYTES { Err(Place::of("/applications").fails(Problem::TooLarge)) } else { Ok(()) }
}

fn plan(index: usize, application: &Application, dialect: Dialect) -> Result<ApplicationPlan, RenderError> {
    let mut finder = Finder { index, dialect, holes: BTreeMap::new() };
    let image = finder.image(application)?;
    let paths = finder.files(application)?;
    for (key, value) in application.env_vars().into_iter().flatten() {
        finder.look(&format!("/envVars/{}", escape(key)), value, Rule::Variable)?;
    }
    for (index, volume) in application.volumes().iter().enumerate() {
        if let Some(reference) = volume.image.as_ref().and_then(|image| image.reference.as_ref()) {
            finder.look(&format!("/volumes/{index}/image/reference"), reference, Rule::Image)?;
        }
    }
    let name = match (application.name(), image) {
        (Some(name), _) => Name::Fixed(name.to_owned()),
        (None, Some(image)) => Name::Image(image),
        (None, None) => Name::Fixed(format!("applications[{index}]")),
    };
    let json = value_of(&Some(application)).unwrap_or_default();
    let mut writer = Writer { holes: finder.holes, done: Vec::new(), start: None, hole: None };
    let mut out = Vec::new();
    writer.write(&json, String::new(), &mut out);
    let (start, holes) = writer.finish(out);
    Ok(ApplicationPlan { name, start, holes, paths, index })
}

impl ApplicationPlan {
    /// Adds what the application depends on.
    pub(super) fn add_inputs(&self, inputs: &mut Inputs) {
        for (hole, _) in &self.holes {
            inputs.merge(hole.template.inputs());
        }
    }

    /// The application of one device.
    fn resolve(&self, subject: &Subject<'_>) -> Result<ResolvedApplication<'_>, RenderError> {
        let name = match &self.name {
            Name::Fixed(name) => Cow::Borrowed(name.as_str()),
            Name::Image(image) if image.is_literal() => Cow::Borrowed(image.source()),
            Name::Image(image) => {
                let place = || Place::of(&format!("/applications/{}/image", self.index));
                Cow::Owned(image.evaluate(subject).map_err(|problem| place().fails(problem))?)
            }
        };
        if self.holes.is_empty() {
            return Ok(ResolvedApplication { name, json: Cow::Borrowed(&self.start) });
        }
        let mut json = self.start.clone();
        for (hole, after) in &self.holes {
            hole.fill(subject, &mut json).map_err(|problem| Place::of(&hole.pointer).fails(problem))?;
            json.extend_from_slice(after);
            check_size(json.len())?;
        }
        self.check_paths(subject)?;
        Ok(ResolvedApplication { name, json: Cow::Owned(json) })
    }

    /// Two files that become one: the device would write one over the other.
    fn check_paths(&self, subject: &Subject<'_>) -> Result<(), RenderError> {
        let mut seen = BTreeSet::new();
        for (file, path) in self.paths.iter().flatten().enumerate() {
            let place = || Place::of(&format!("/applications/{}/inline/{file}/path", self.index));
            let path = path.evaluate(subject).map_err(|problem| place().fails(problem))?;
            if seen.contains(&path) {
                return Err(place().fails(Problem::ApplicationPath { path, reason: "occurs twice" }));
            }
            seen.insert(path);
        }
        Ok(())
    }
}

impl Hole {
    /// Appends the value for one device as a JSON string.
    fn fill(&self, subject: &Subject<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        let mut value = self.template.evaluate(subject)?;
        match self.rule {
            Rule::Image => check_image(&value)?,
            Rule::Path => check_path(&value)?,
            Rule::Variable if value.is_empty() || value.len() > MAX_ENV_BYTES => {
                return Err(Problem::Variable(value.len()));
            }
            Rule::Text | Rule::Base64 if value.len() > MAX_INLINE_BYTES => {
                return Err(Problem::LargeContent(value.len()));
            }
            Rule::Base64 => value = STANDARD.encode(&value),
            Rule::Text | Rule::Variable => {}
        }
        canonical::write_str(&value, out);
        Ok(())
    }
}

/// Relative and clean, so that it stays in the application's directory.
fn check_path(path: &str) -> Result<(), Problem> {
    let reason = if path.len() > MAX_PATH_BYTES {
        "is longer than 4096 bytes"
    } else if path.starts_with('/') {
        "is not relative; leave the '/' at its start out"
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "is not clean; remove '.', '..', empty parts and a '/' at the end"
    } else if path.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    Err(Problem::ApplicationPath { path: path.chars().take(200).collect(), reason })
}

/// Finds the values with placeholders.
struct Finder {
    index: usize,
    dialect: Dialect,
    /// By their pointers from the application.
    holes: BTreeMap<String, Hole>,
}

impl Finder {
    fn place(&self, pointer: &str) -> Place {
        Place::of(&format!("/applications/{}{pointer}", self.index))
    }

    fn look(&mut self, pointer: &str, text: &str, rule: Rule) -> Result<Template, RenderError> {
        let template = self.dialect.parse(text).map_err(|problem| self.place(pointer).fails(problem))?;
        if !template.is_literal() {
            let hole = Hole { template: template.clone(), rule, pointer: self.place(pointer).pointer };
            self.holes.insert(pointer.to_owned(), hole);
        }
        Ok(template)
    }

    fn image(&mut self, application: &Application) -> Result<Option<Template>, RenderError> {
        application.image().map(|image| self.look("/image", image, Rule::Image)).transpose()
    }

    /// The files; returns their paths when one of them depends on the device.
    fn files(&mut self, application: &Application) -> Result<Option<Vec<Template>>, RenderError> {
        let mut paths = Vec::new();
        for (index, file) in application.inline().into_iter().flatten().enumerate() {
            paths.push(self.look(&format!("/inline/{index}/path"), &file.path, Rule::Path)?);
            let Some(content) = &file.content else { continue };
            let pointer = format!("/inline/{index}/content");
            let bytes = decode(content, file.content_encoding).map_err(|p| self.place(&pointer).fails(p))?;
            let rule = match file.content_encoding {
                Some(ContentEncoding::Base64) => Rule::Base64,
                None | Some(ContentEncoding::Plain) => Rule::Text,
            };
            // What is not text has nothing to evaluate.
            if let Ok(text) = String::from_utf8(bytes) {
                self.look(&pointer, &text, rule)?;
            }
        }
        Ok(if paths.iter().all(Template::is_literal) { None } else { Some(paths) })
    }
}

/// Writes canonical JSON in pieces around holes.
struct Writer {
    holes: BTreeMap<String, Hole>,
    done: Vec<(Hole, Vec<u8>)>,
    start: Option<Vec<u8>>,
    /// The hole before the piece that is being written.
    hole: Option<Hole>,
}

impl Writer {
    fn write(&mut self, value: &Value, pointer: String, out: &mut Vec<u8>) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => canonical::write(value, out),
            Value::String(_) => match self.holes.remove(&pointer) {
                Some(hole) => self.cut(hole, std::mem::take(out)),
                None => canonical::write(value, out),
            },
            Value::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write(item, format!("{pointer}/{index}"), out);
                }
                out.push(b']');
            }
            Value::Object(map) => {
                out.push(b'{');
                let sorted: BTreeMap<&String, &Value> = map.iter().collect();
                for (index, (key, item)) in sorted.into_iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    canonical::write_str(key, out);
                    out.push(b':');
                    self.write(item, format!("{pointer}/{}", escape(key)), out);
                }
                out.push(b'}');
            }
        }
    }

    /// Ends a piece at a hole.
    fn cut(&mut self, hole: Hole, piece: Vec<u8>) {
        match self.hole.replace(hole) {
            Some(before) => self.done.push((before, piece)),
            None => self.start = Some(piece),
        }
    }

    fn finish(mut self, last: Vec<u8>) -> (Vec<u8>, Vec<(Hole, Vec<u8>)>) {
        match (self.start, self.hole) {
            (Some(start), Some(hole)) => {
                self.done.push((hole, last));
                (start, self.done)
            }
            _ => (last, Vec::new()),
        }
    }
}

/// A key in a JSON pointer.
fn escape(key: &str) -> Cow<'_, str> {
    match key.contains(['~', '/']) {
        true => Cow::Owned(key.replace('~', "~0").replace('/', "~1")),
        false => Cow::Borrowed(key),
    }
}
