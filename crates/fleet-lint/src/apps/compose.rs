//! Compose applications: which files they have, their services, images and volumes.
//!
//! What a compose file may hold beyond that is the business of the program that runs it.

use std::collections::BTreeMap;

use super::content::{Neutral, Yaml, bytes_of, read};
use super::{AppFile, MAX_PROBLEMS, Part, Problem, clip, image_fault};
use crate::codes;
use crate::finding::{Span, nearest};

/// The beginnings of the names that a compose file can have.
const NAMES: [&str; 2] = ["docker-compose", "podman-compose"];
const EXTENSIONS: [&str; 2] = ["yaml", "yml"];

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Role {
    name: &'static str,
    is_override: bool,
}

/// Checks the files of an inline compose application. `volumes` are the names of its API volumes.
pub(crate) fn check(files: &[AppFile<'_>], volumes: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    names(files, &mut problems);
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.text.is_none() && role(file.path).is_some())
    {
        let message = format!("{:?} is not UTF-8 text", clip(file.path));
        problems.push(Problem::new(codes::COMPOSE, Part::Text(number, 0..0), message));
    }
    let sources: Vec<(usize, &AppFile<'_>, Neutral<'_>)> = files
        .iter()
        .enumerate()
        .filter(|(_, file)| !file.has_fixed_path() || role(file.path).is_some())
        .filter_map(|(number, file)| Some((number, file, Neutral::of(file.text?, file.is_template))))
        .collect();
    let mut app = App {
        problems,
        services: BTreeMap::new(),
        volumes: BTreeMap::new(),
        misspelt: None,
        is_whole: true,
        is_sure: true,
    };
    let texts: BTreeMap<usize, &str> = sources.iter().map(|(number, _, source)| (*number, &*source.text)).collect();
    for (number, file, source) in &sources {
        app.is_sure &= !source.has_control();
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let yaml = read(source, *number, name, codes::COMPOSE, &mut app.problems);
        app.is_whole &= yaml.is_whole;
        app.file(*number, &yaml);
    }
    // A file that cannot be read may hold whatever is missing.
    app.is_whole &= sources.len() == files.len() && !files.is_empty();
    app.finish(volumes, &texts);
    app.problems
}

fn role(path: &str) -> Option<Role> {
    let (stem, extension) = path.rsplit_once('.')?;
    let is_override = stem.ends_with(".override");
    let stem = stem.strip_suffix(".override").unwrap_or(stem);
    let name = NAMES.into_iter().find(|name| *name == stem)?;
    EXTENSIONS.contains(&extension).then_some(Role { name, is_override })
}

fn names(files: &[AppFile<'_>], problems: &mut Vec<Problem>) {
    let mut base: Option<(usize, Role)> = None;
    let mut extra: Option<(usize, Role)> = None;
    let mut find = |number: usize, message: String, hint: &str| {
        problems.push(Problem::new(codes::BAD_APP_FILE, Part::Path(number), message).hint(hint));
    };
    let is_fixed = files.iter().all(AppFile::has_fixed_path);
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.has_fixed_path()) {
        let Some(role) = role(file.path) else {
            let message = format!("{:?} is not a file of an inline compose application", clip(file.path));
            find(number, message, "name it docker-compose.yaml or podman-compose.yaml; an image can hold other files");
            continue;
        };
        let slot = if role.is_override { &mut extra } else { &mut base };
        if let Some((first, _)) = slot {
            let kind = if role.is_override { "override file" } else { "compose file" };
            let message = format!("{:?} is a second {kind}; the first is {:?}", file.path, files[*first].path);
            find(number, message, "keep one of the two");
        } else {
            *slot = Some((number, role));
        }
    }
    match (base, extra) {
        (Some((first, base)), Some((number, extra))) if base.name != extra.name => {
            let message = format!("{:?} does not belong to {:?}", files[number].path, files[first].path);
            find(number, message, "start both names with the same word");
        }
        (None, Some((number, extra))) if is_fixed => {
            let message = format!("{:?} has nothing to override", files[number].path);
            let hint = format!("add {}.yaml", extra.name);
            find(number, message, &hint);
        }
        (None, None) if is_fixed && files.is_empty() => {
            let message = "a compose application needs a compose file";
            problems.push(Problem::new(codes::BAD_APP_FILE, Part::Files, message).hint("add docker-compose.yaml"));
        }
        _ => {}
    }
}

/// What the files say together.
struct App {
    problems: Vec<Problem>,
    /// By name: whether it has an image, and where it stands first.
    services: BTreeMap<String, Service>,
    /// Volumes of the files by name: the place, and whether it is external when that is known.
    volumes: BTreeMap<String, (Place, Option<bool>)>,
    /// A key beside `services` that comes near to it.
    misspelt: Option<(String, Place)>,
    /// Every file was read to its end.
    is_whole: bool,
    /// No placeholder decides which text there is.
    is_sure: bool,
}

struct Service {
    has_image: bool,
    has_build: bool,
    place: Place,
}

/// A file by its number, and where in it. Becomes bytes only when it is reported.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    span: Span,
}

impl Place {
    fn part(self, texts: &BTreeMap<usize, &str>) -> Part {
        Part::Text(self.file, texts.get(&self.file).map_or(0..0, |text| bytes_of(text, self.span)))
    }
}

impl App {
    fn find(&mut self, part: Part, message: String) -> &mut Problem {
        self.problems.push(Problem::new(codes::COMPOSE_SERVICE, part, message));
        self.problems.last_mut().expect("one was just pushed")
    }

    fn file(&mut self, number: usize, yaml: &Yaml<'_>) {
        let Some(root) = yaml.root() else { return };
        let place = yaml.place(root);
        if yaml.is_touched(&place) && yaml.entries(root).is_none() {
            self.is_sure = false;
            return;
        }
        if yaml.is_null(root) {
            return;
        }
        if yaml.entries(root).is_none() {
            let message = "the compose file is not a mapping with `services`";
            self.problems.push(Problem::new(codes::COMPOSE, Part::Text(number, place), message));
            return;
        }
        if let Some(services) = yaml.find("/services").filter(|services| !yaml.is_null(*services)) {
            match yaml.entries(services) {
                Some(entries) => {
                    for entry in entries.iter().filter(|entry| !entry.is_merge) {
                        let place = Place { file: number, span: entry.key_span };
                        self.service(yaml, &entry.key, entry.value, place);
                    }
                }
                None => {
                    let part = yaml.place(services);
                    if yaml.is_touched(&part) {
                        self.is_sure = false;
                    } else {
                        let message = "`services` is not a mapping of names to services";
                        self.problems.push(Problem::new(codes::COMPOSE, Part::Text(number, part), message));
                        self.is_whole = false;
                    }
                }
            }
        }
        let near = yaml.entries(root).into_iter().flatten().find(|entry| nearest(&entry.key, ["services"]).is_some());
        if let Some(entry) = near {
            self.misspelt = Some((clip(&entry.key), Place { file: number, span: entry.key_span }));
        }
        let volumes = yaml.find("/volumes").and_then(|volumes| yaml.entries(volumes));
        for entry in volumes.into_iter().flatten().filter(|entry| !entry.is_merge) {
            let external = yaml.below(entry.value, "/external").and_then(|external| yaml.text(external));
            let is_external = match external {
                Some((text, _)) if ["true", "yes", "on"].iter().any(|yes| text.eq_ignore_ascii_case(yes)) => Some(true),
                Some((_, span)) if yaml.is_touched(&span) => None,
                // The old form: `external: {name: …}`.
                None if yaml.below(entry.value, "/external").is_some() => Some(true),
                Some(_) | None => Some(false),
            };
            let known = self.volumes.entry(entry.key.to_string());
            let slot = known.or_insert((Place { file: number, span: entry.key_span }, is_external));
            if is_external != Some(false) {
                slot.1 = is_external;
            }
        }
    }

    fn service(&mut self, yaml: &Yaml<'_>, name: &str, node: u32, place: Place) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let name = clip(name);
        let number = place.file;
        if let Some(span) = yaml.key_below(node, "/container_name") {
            let message =
                format!("the service {name:?} sets `container_name`, which would clash with other applications");
            self.find(Part::Text(number, span), message).hint = Some("remove container_name".to_owned());
        }
        let image = yaml.below(node, "/image").filter(|image| !yaml.is_null(*image));
        if let Some((text, span)) = image.and_then(|image| yaml.text(image))
            && let Some(fault) = image_fault(text, yaml.is_touched(&span), true)
        {
            let exact = span.start + fault.span.start..span.start + fault.span.end;
            let message = format!("the service {name:?}: {}", fault.message);
            let mut problem = Problem::new(fault.code, Part::Text(number, exact), message);
            problem.hint = fault.hint.map(str::to_owned);
            self.problems.push(problem);
        }
        let is_open = yaml.text(node).is_some_and(|(_, span)| yaml.is_touched(&span));
        let service = self.services.entry(name).or_insert(Service { has_image: false, has_build: false, place });
        service.has_image |= image.is_some() || is_open;
        service.has_build |= yaml.below(node, "/build").is_some();
    }

    fn finish(&mut self, volumes: &[&str], texts: &BTreeMap<usize, &str>) {
        if !(self.is_whole && self.is_sure) || self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        if self.services.is_empty() {
            let message = "the compose application has no service";
            self.problems.push(match self.misspelt.take() {
                Some((key, place)) => {
                    let message = format!("{message}: `{key}` is not `services`");
                    Problem::new(codes::COMPOSE, place.part(texts), message).hint("did you mean `services`?")
                }
                None => Problem::new(codes::COMPOSE, Part::Files, message)
                    .hint("name at least one service with its image below `services`"),
            });
        }
        for (name, service) in std::mem::take(&mut self.services) {
            if !service.has_image && self.problems.len() < MAX_PROBLEMS {
                let hint = if service.has_build {
                    "devices do not build images; build it in a pipeline and name it with `image`"
                } else {
                    "add `image` with the image's full name"
                };
                self.find(service.place.part(texts), format!("the service {name:?} has no `image`")).hint =
                    Some(hint.to_owned());
            }
        }
        for (number, name) in volumes.iter().enumerate() {
            let problem = match self.volumes.get(*name) {
                Some((_, Some(true) | None)) => continue,
                Some((place, Some(false))) => {
                    let message =
                        format!("the volume {name:?} is filled by the agent, but the compose file makes its own");
                    Problem::new(codes::COMPOSE_VOLUME, place.part(texts), message).hint("add `external: true`")
                }
                None => {
                    let message = format!("the compose file does not declare the volume {name:?}");
                    Problem::new(codes::COMPOSE_VOLUME, Part::Volume(number), message).hint(format!(
                        "write `volumes: {{{name}: {{external: true}}}}` there and mount it in a service"
                    ))
                }
            };
            self.problems.push(problem);
        }
    }
}
