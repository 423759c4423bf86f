//! Quadlet applications: which files they have, whether each is what its name says, and what refers to what.
//!
//! Keys that are not named here are the business of Podman.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::content::Neutral;
use super::unit::{Assignment, Unit, parse};
use super::{AppFile, MAX_PROBLEMS, Part, Problem, clip, image_fault};
use fleet_model::Severity;

use crate::codes::{self, Code};
use crate::yaml;

/// So many lines of one file that cannot be read are reported.
const MAX_FAULTS: usize = 20;

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Container,
    Volume,
    Network,
    Image,
    Pod,
    Kube,
    Build,
    Artifact,
}

const TYPES: [Type; 8] =
    [Type::Container, Type::Volume, Type::Network, Type::Image, Type::Pod, Type::Kube, Type::Build, Type::Artifact];

impl Type {
    fn extension(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Image => "image",
            Self::Pod => "pod",
            Self::Kube => "kube",
            Self::Build => "build",
            Self::Artifact => "artifact",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Container => "Container",
            Self::Volume => "Volume",
            Self::Network => "Network",
            Self::Image => "Image",
            Self::Pod => "Pod",
            Self::Kube => "Kube",
            Self::Build => "Build",
            Self::Artifact => "Artifact",
        }
    }

    fn is_workload(self) -> bool {
        matches!(self, Self::Container | Self::Pod | Self::Kube)
    }

    /// The key that gives what the file makes a name of its own. Containers and pods share their names.
    fn name_key(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Container => Some(("ContainerName", "container or pod")),
            Self::Pod => Some(("PodName", "container or pod")),
            Self::Volume => Some(("VolumeName", "volume")),
            Self::Network => Some(("NetworkName", "network")),
            Self::Image | Self::Kube | Self::Build | Self::Artifact => None,
        }
    }
}

/// The type that a path's extension names. Files below other directories count too.
fn type_of(path: &str) -> Option<Type> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (_, extension) = name.rsplit_once('.')?;
    TYPES.into_iter().find(|known| known.extension() == extension)
}

/// Where in a value ` # ` begins what looks like a comment, outside quotes.
fn trailing_comment(value: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, character) in value.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character && before != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if before != '\\' => quote = Some(character),
            (None, '#') if at > 0 && before.is_whitespace() && value[at + 1..].starts_with([' ', '\t']) => {
                return Some(at);
            }
            (None, _) => {}
        }
        before = character;
    }
    None
}

/// Checks the files of an inline quadlet application.
pub(crate) fn check(files: &[AppFile<'_>]) -> Vec<Problem> {
    let mut app = App {
        files,
        problems: Vec::new(),
        names: BTreeMap::new(),
        paths: files.iter().map(|file| file.path).collect(),
        pods: HashSet::new(),
        has_open_path: files.iter().any(|file| !file.has_fixed_path()),
    };
    let mut has_workload = false;
    for (number, file) in files.iter().enumerate() {
        // A placeholder at the end may make any extension.
        has_workload |= file.is_template && file.path.ends_with("}}");
        let Some(kind) = type_of(file.path) else { continue };
        has_workload |= kind.is_workload();
        if app.problems.len() >= MAX_PROBLEMS {
            continue;
        }
        if matches!(kind, Type::Build | Type::Artifact) {
            // What is missing is most likely this file in another form.
            has_workload = true;
            let message = format!("{:?}: `.{}` files are not run on devices", clip(file.path), kind.extension());
            let hint = "build the image in a pipeline and name it with `Image=`";
            app.problems.push(Problem::new(codes::BAD_APP_FILE, Part::Path(number), message).hint(hint));
            continue;
        }
        if file.has_fixed_path() && file.path.contains('/') {
            let message = format!("{:?}: quadlet files lie at the root of the application", clip(file.path));
            let hint = format!("write `{}`", file.path.rsplit('/').next().unwrap_or_default());
            app.problems.push(Problem::new(codes::BAD_APP_FILE, Part::Path(number), message).hint(hint));
        }
        match file.text {
            Some(text) => app.unit(number, kind, &Neutral::of(text, file.is_template)),
            None => {
                let message = format!("{:?} is not UTF-8 text", clip(file.path));
                app.problems.push(Problem::new(codes::UNIT_SYNTAX, Part::Text(number, 0..0), message));
            }
        }
    }
    if !has_workload {
        let message = "the quadlet application runs nothing";
        let problem = Problem::new(codes::BAD_APP_FILE, Part::Files, message);
        app.problems.push(problem.hint("add a `.container`, `.pod` or `.kube` file"));
    }
    app.problems
}

struct App<'f, 'a> {
    files: &'f [AppFile<'a>],
    problems: Vec<Problem>,
    /// Names that files give, by what they name: the file that gave it first.
    names: BTreeMap<(&'static str, String), usize>,
    /// The files of the application.
    paths: HashSet<&'a str>,
    /// Files that were looked at as the target of a kube file.
    pods: HashSet<usize>,
    /// A path has placeholders and may be any.
    has_open_path: bool,
}

impl App<'_, '_> {
    fn find(&mut self, code: Code, number: usize, span: Range<usize>, message: String) -> &mut Problem {
        let message = format!("{}: {message}", clip(self.files[number].path));
        self.problems.push(Problem::new(code, Part::Text(number, span), message));
        self.problems.last_mut().expect("one was just pushed")
    }

    fn unit(&mut self, number: usize, kind: Type, source: &Neutral<'_>) {
        let unit = parse(source);
        for (span, why) in unit.faults.iter().take(MAX_FAULTS) {
            self.find(codes::UNIT_SYNTAX, number, span.clone(), (*why).to_owned());
        }
        self.trailing_comments(number, &unit, source);
        let is_sure = !source.has_control() && !unit.is_open && unit.faults.is_empty();
        let own = kind.section();
        let mut is_foreign = false;
        for section in &unit.sections {
            if section.name != own && TYPES.iter().any(|other| other.section() == section.name) {
                let message =
                    format!("the section [{}] does not belong into a `.{}` file", section.name, kind.extension());
                let hint = format!("move it into a `.{}` file", section.name.to_ascii_lowercase());
                self.find(codes::UNIT_CONTENT, number, section.span.clone(), message).hint = Some(hint);
                is_foreign = true;
            }
        }
        if !unit.sections.iter().any(|section| section.name == own) {
            if is_sure && !is_foreign {
                let first = unit.sections.first().map_or(0..0, |section| section.span.clone());
                let message = format!("a `.{}` file needs the section [{own}]", kind.extension());
                self.find(codes::UNIT_CONTENT, number, first, message);
            }
            return;
        }
        match kind {
            Type::Container | Type::Image => self.image(number, kind, &unit, is_sure),
            Type::Volume => {
                for image in unit.values(own, "Image") {
                    self.image_value(number, image, "image");
                }
            }
            Type::Kube => self.kube(number, &unit, is_sure),
            Type::Network | Type::Pod | Type::Build | Type::Artifact => {}
        }
        self.references(number, own, &unit);
        self.name(number, kind, &unit);
    }

    /// A `#` behind a value: what was meant as a comment is part of the value.
    fn trailing_comments(&mut self, number: usize, unit: &Unit<'_>, source: &Neutral<'_>) {
        let mut said = 0;
        for entry in unit.sections.iter().flat_map(|section| &section.entries) {
            // An image with a comment is no image, and is reported as such; in a description a `#` does no harm.
            if matches!(entry.key, "Image" | "Description") || said >= MAX_FAULTS {
                continue;
            }
            let Some(line) = source.text.get(entry.span.clone()) else { continue };
            let Some(at) = trailing_comment(line) else { continue };
            let span = entry.span.start + at..entry.span.end;
            said += 1;
            let message = format!("the `#` is no comment here but part of the value of `{}=`", clip(entry.key));
            let code = Code { severity: Severity::Warning, ..codes::UNIT_SYNTAX };
            self.find(code, number, span, message).hint =
                Some("give the comment a line of its own, before this one; quote a `#` that is meant".to_owned());
        }
    }

    /// `Image=` of a container or image file.
    fn image(&mut self, number: usize, kind: Type, unit: &Unit<'_>, is_sure: bool) {
        let own = kind.section();
        match unit.values(own, "Image").last() {
            Some(image) => self.image_value(number, image, if kind == Type::Container { "image" } else { "" }),
            None if is_sure => {
                let span = unit.sections.iter().find(|section| section.name == own).map_or(0..0, |s| s.span.clone());
                let message = format!("[{own}] has no `Image=`");
                let hint = if unit.values(own, "Rootfs").is_empty() {
                    "add `Image=` with the image's full name"
                } else {
                    "`Rootfs=` is not supported; name an image"
                };
                self.find(codes::UNIT_CONTENT, number, span, message).hint = Some(hint.to_owned());
            }
            None => {}
        }
    }

    /// An image's name, or the `.image` file `extension` of this application.
    fn image_value(&mut self, number: usize, image: &Assignment<'_>, extension: &str) {
        let name = image.value.as_ref();
        if !extension.is_empty()
            && !name.contains('/')
            && name.rsplit_once('.').is_some_and(|(_, e)| matches!(e, "image" | "build"))
        {
            return self.reference(number, image, name);
        }
        if let Some(fault) = image_fault(name, image.is_touched, true) {
            let span = if image.span.len() == name.len() {
                image.span.start + fault.span.start..image.span.start + fault.span.end
            } else {
                image.span.clone()
            };
            let hint = match trailing_comment(name) {
                Some(_) => Some("a comment needs a line of its own; here the `#` is part of the value"),
                None => fault.hint,
            };
            self.find(fault.code, number, span, fault.message).hint = hint.map(str::to_owned);
        }
    }

    /// `Yaml=` and `ConfigMap=` of a kube file.
    fn kube(&mut self, number: usize, unit: &Unit<'_>, is_sure: bool) {
        let targets = unit.values("Kube", "Yaml");
        if targets.is_empty() && is_sure {
            let span = unit.sections.iter().find(|section| section.name == "Kube").map_or(0..0, |s| s.span.clone());
            self.find(codes::UNIT_CONTENT, number, span, "[Kube] has no `Yaml=`".to_owned());
        }
        let maps = unit.values("Kube", "ConfigMap");
        for (target, is_pod) in targets.into_iter().map(|t| (t, true)).chain(maps.into_iter().map(|m| (m, false))) {
            let path = target.value.strip_prefix("./").unwrap_or(&target.value);
            if path.starts_with('/') || path.contains("://") {
                continue;
            }
            self.reference(number, target, path);
            if is_pod && let Some(file) = self.files.iter().position(|file| file.path == path) {
                self.pod_file(file);
            }
        }
    }

    /// The file that `Yaml=` names: it must hold a Pod.
    fn pod_file(&mut self, number: usize) {
        let Some(text) = self.files[number].text.filter(|_| self.pods.insert(number)) else { return };
        let source = Neutral::of(text, self.files[number].is_template);
        let file = yaml::load(&source.text, false);
        let kinds = file.documents.iter().filter_map(|document| file.tree.find(document.root?, "/kind"));
        let kinds: Vec<(&str, Range<usize>)> = kinds
            .map(|(node, _)| &file.scalars[node as usize])
            .map(|kind| (&*kind.text, kind.start_byte..kind.end_byte))
            .collect();
        if file.stopped
            || source.has_control()
            || kinds.iter().any(|(kind, span)| *kind == "Pod" || source.is_touched(span))
        {
            return;
        }
        let (found, span) = match kinds.first() {
            Some((kind, span)) => (format!("is a {}", clip(kind)), span.clone()),
            None => ("has no `kind`".to_owned(), 0..0),
        };
        self.find(codes::UNIT_CONTENT, number, span, format!("the file {found}; a kube file runs a Pod"));
    }

    fn references(&mut self, number: usize, own: &str, unit: &Unit<'_>) {
        let source_of = |value: &str| value.split(':').next().unwrap_or_default().trim().to_owned();
        for (key, extensions) in [
            ("Volume", &["volume"][..]),
            ("Network", &["network", "container"]),
            ("Pod", &["pod"]),
            ("Mount", &["volume", "image", "build"]),
        ] {
            for entry in unit.values(own, key) {
                let name = if key == "Mount" {
                    let fields = entry.value.split(',').filter_map(|field| field.trim().split_once('='));
                    let mut sources = fields.filter(|(name, _)| matches!(name.trim(), "source" | "src"));
                    sources.next().map(|(_, source)| source.trim().to_owned()).unwrap_or_default()
                } else {
                    source_of(&entry.value)
                };
                let is_file = name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension));
                if key == "Pod" && !is_file && !entry.is_touched && !name.is_empty() {
                    let message = format!("`Pod={}` must name a `.pod` file of this application", clip(&name));
                    self.find(codes::UNIT_REFERENCE, number, entry.span.clone(), message);
                } else if is_file && !name.contains('/') {
                    self.reference(number, entry, &name);
                }
            }
        }
    }

    /// A reference to a file that must be in the application.
    fn reference(&mut self, number: usize, entry: &Assignment<'_>, name: &str) {
        // Placeholders and specifiers of systemd are known on the device only.
        if name.contains("{{") || name.contains('%') || (entry.is_touched && name.contains('}')) {
            return;
        }
        // `a@x.volume` is an instance of `a@.volume`.
        let template =
            name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        let is_there = |name: &str| self.paths.contains(name);
        if self.has_open_path
            || is_there(name)
            || template.is_some_and(|template| is_there(&template))
            || self.problems.len() >= MAX_PROBLEMS
        {
            return;
        }
        let is_small = self.files.len() <= MAX_PROBLEMS && name.len() <= 100;
        let known = self.files.iter().filter(|_| is_small).map(|file| file.path);
        let near = crate::finding::nearest(name, known);
        let hint = near.map_or_else(
            || format!("add {:?} to the application", clip(name)),
            |near| format!("did you mean `{near}`?"),
        );
        let key = entry.key;
        let message = format!("`{key}=` refers to {:?}, which is not in the application", clip(name));
        self.find(codes::UNIT_REFERENCE, number, entry.span.clone(), message).hint = Some(hint);
    }

    /// The name that the file gives what it makes.
    fn name(&mut self, number: usize, kind: Type, unit: &Unit<'_>) {
        let Some((key, what)) = kind.name_key() else { return };
        let values = unit.values(kind.section(), key);
        let Some(entry) = values.last().filter(|entry| !entry.is_touched && !entry.value.contains('%')) else { return };
        if let Some(first) = self.names.insert((what, entry.value.to_string()), number) {
            let first = clip(self.files[first].path);
            let message = format!("the {what} name {:?} is given by {first} already", clip(&entry.value));
            self.find(codes::UNIT_NAME, number, entry.span.clone(), message).hint = Some(format!("remove `{key}=`"));
        }
    }
}
