//! `fleetctl render`: the exact document that each device gets, from files in Git, without the service.

mod files;
mod output;
mod selector;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use fleet_model::{DeviceName, Digest, Kind, LabelSelector, Labels, ResourceName};
use fleet_render::document::Outline;
use fleet_render::plan::{self, Inventory, InventoryDevice, Outcome as Meant, Revision, State};
use fleet_render::{InputKey, Rendered, Subject};

use crate::cli::parse_label;
use crate::output::one_line;
use crate::tree::clones::Clones;
use crate::tree::place::{Place, RepositoryArgs, show_errors, show_remarks};
use crate::tree::state;
use crate::{Io, Outcome};

/// A shorter beginning of a name could soon mean another device.
const SHORTEST_NAME: usize = 6;
/// The label that people know a device by.
const ALIAS: &str = "alias";

/// How documents are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderFormat {
    /// YAML with a comment that says where it comes from
    Yaml,
    /// The bytes that the service serves; with one DEVICE nothing but these, else one object per line with them as `spec`
    Json,
    /// The files as they would lie on the device, below --out
    Files,
}

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Names of devices, or unique beginnings of at least 6 characters [default: all that have a Device manifest]
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// A branch, tag or commit instead of the checkout as it lies there
    #[arg(long, value_name = "REV")]
    pub(crate) rev: Option<String>,
    /// Only devices with these labels: a=b,c in (d,e),!f
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = selector::parse, conflicts_with = "devices")]
    pub(crate) selector: Option<LabelSelector>,
    /// A label of the devices named, as given at enrolment; those of a Device manifest win
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label, requires = "devices")]
    pub(crate) labels: Vec<(String, String)>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = RenderFormat::Yaml)]
    pub(crate) output: RenderFormat,
    /// Where the files go, with `-o files`: a directory that is empty or not there yet
    #[arg(long, value_name = "DIR", required_if_eq("output", "files"))]
    pub(crate) out: Option<PathBuf>,
    /// Write into a directory that is not empty, and replace what an earlier run wrote there
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
}

/// One device and its document.
#[derive(Debug)]
pub(crate) struct Document {
    device: String,
    /// The fleet that owns it; none when it has a specification of its own.
    fleet: Option<String>,
    /// Where template or specification are defined.
    place: String,
    revision: Arc<Revision>,
    labels: Labels,
    rendered: Arc<Rendered>,
}

impl Document {
    /// What the document says, part by part.
    fn outline(&self) -> anyhow::Result<Outline> {
        Ok(self.revision.prepared.outline(&Subject { name: &self.device, labels: &self.labels })?)
    }
}

pub(crate) fn run(args: &RenderArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let place = Place::find(&args.repository)?;
    let clones = Clones::open(&args.repository.repositories)?;
    let tree = match &args.rev {
        Some(revision) => place.load_commit(&place.repository()?.resolve(revision)?, None)?,
        None => place.load_checkout(None)?,
    };
    show_remarks(&tree, io)?;
    let given: Labels = args.labels.iter().cloned().collect();
    let thought = args.devices.iter().map(|name| (name.clone(), given.clone())).collect();
    let built = state::build(&tree, None, &clones, &thought);
    if show_errors(&built.findings, io)? > 0 {
        return Ok(Outcome::Negative);
    }
    for remark in &built.remarks {
        writeln!(io.err, "note: {}", one_line(remark))?;
    }
    let inventory = inventory(args, &built.state)?;
    let mut output = output::Output::begin(args)?;
    let mut renderer = Renderer { state: &built.state, nothing: State::default(), inventory, known: HashMap::new() };
    let (mut shown, mut failed) = (0, 0);
    for name in renderer.inventory.keys().cloned().collect::<Vec<_>>() {
        match renderer.document(&name, args.selector.as_ref()) {
            Ok(None) => continue,
            Ok(Some(document)) => output.document(&document, io)?,
            Err(reason) => {
                failed += 1;
                writeln!(io.err, "error: device {}: {}", one_line(&name), one_line(&reason))?;
            }
        }
        shown += 1;
    }
    output.end(io)?;
    if shown == 0 {
        let why = match args.selector {
            Some(_) => "no device with a Device manifest has such labels",
            None => "no device is meant; name one, or write Device manifests",
        };
        writeln!(io.err, "note: {why}")?;
    }
    Ok(if failed > 0 { Outcome::Negative } else { Outcome::Good })
}

/// The devices that are meant, with the labels of their enrolment.
fn inventory(args: &RenderArgs, state: &State) -> anyhow::Result<Inventory> {
    let known =
        |labels: &Labels| InventoryDevice { enrolled: true, labels: labels.clone(), ..InventoryDevice::default() };
    if args.devices.is_empty() {
        return Ok(state.devices.keys().map(|name| (name.clone(), known(&Labels::new()))).collect());
    }
    let labels: Labels = args.labels.iter().cloned().collect();
    let mut inventory = Inventory::new();
    for name in &args.devices {
        inventory.insert(full_name(name, state, labels.is_empty())?, known(&labels));
    }
    Ok(inventory)
}

/// The device that a name or its beginning means.
fn full_name(name: &str, state: &State, needs_manifest: bool) -> anyhow::Result<String> {
    if state.devices.contains_key(name) {
        return Ok(name.to_owned());
    }
    let found: Vec<&String> = state.devices.keys().filter(|known| known.starts_with(name)).collect();
    match found[..] {
        [one] if name.len() >= SHORTEST_NAME => return Ok(one.clone()),
        [_] => bail!("{name:?} is too short for a name; give at least {SHORTEST_NAME} characters"),
        [_, _, ..] => bail!("{name:?} is the beginning of {} devices' names; give more of it", found.len()),
        [] => {}
    }
    if let Err(error) = name.parse::<DeviceName>() {
        let has_alias = |labels: &Labels| labels.get(ALIAS).is_some_and(|alias| alias == name);
        if state.devices.values().any(|device| has_alias(&device.labels)) {
            bail!("{name:?} is a device's alias; write: fleetctl render -l {ALIAS}={name}");
        }
        // A device that is only thought of may have any name.
        if needs_manifest || name.parse::<ResourceName>().is_err() {
            bail!("{error}; devices are found by labels, too: fleetctl render -l {ALIAS}=…");
        }
    }
    if needs_manifest {
        bail!("there is no Device manifest {name:?}; give the labels of the device: --label KEY=VALUE");
    }
    Ok(name.to_owned())
}

struct Renderer<'a> {
    state: &'a State,
    nothing: State,
    inventory: Inventory,
    /// What was rendered: devices with the same inputs share it.
    known: HashMap<(Digest, bool, InputKey), Result<Arc<Rendered>, String>>,
}

impl Renderer<'_> {
    /// The document of a device; `None` when the selector leaves it out. The error says where and why.
    fn document(&mut self, name: &str, selector: Option<&LabelSelector>) -> Result<Option<Document>, String> {
        let (_, after) = plan::views(&self.nothing, self.state, &self.inventory, name);
        let Some(view) = after else { return Err("it is not known".to_owned()) };
        if selector.is_some_and(|selector| !selector.matches(&view.labels)) {
            return Ok(None);
        }
        let fleet = view.ownership.owner.clone();
        let place = match &fleet {
            Some(fleet) => self.place(Kind::Fleet, fleet),
            None => self.place(Kind::Device, name),
        };
        let revision = match view.outcome {
            Meant::Document(revision) => revision,
            Meant::Waits(reason) if view.ownership.contenders.is_empty() => return Err(format!("{place}: {reason}")),
            Meant::Waits(reason) => return Err(reason),
            Meant::Keeps { reason, .. } => return Err(format!("{place}: {reason}")),
            Meant::Elsewhere => return Err(format!("{place}: it comes from another source")),
            Meant::Nothing => {
                return Err("no fleet selects it and it has no specification of its own; look at its labels".to_owned());
            }
        };
        let subject = Subject { name, labels: &view.labels };
        let key = (revision.digest, fleet.is_some(), revision.prepared.input_key(&subject));
        let rendered = self
            .known
            .entry(key)
            .or_insert_with(|| revision.prepared.render(&subject).map(Arc::new).map_err(|error| error.to_string()));
        let rendered = rendered.clone().map_err(|error| format!("{place}: {error}"))?;
        Ok(Some(Document { device: name.to_owned(), fleet, place, revision, labels: view.labels, rendered }))
    }

    /// `fleets/pos.yaml:1 (Fleet pos)`.
    fn place(&self, kind: Kind, name: &str) -> String {
        match self.state.objects.get(&(kind, name.to_owned())) {
            Some(object) => format!("{}:{} ({kind} {name})", object.file, object.line),
            None => format!("{kind} {name}"),
        }
    }
}

/// Octal permission bits, as people write them.
fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Names of the parts that are no files, for `spec.yaml`.
fn other_parts(outline: &Outline) -> BTreeMap<String, serde_json::Value> {
    let mut parts: BTreeMap<String, serde_json::Value> = outline.others.clone();
    if let Some(os) = &outline.os {
        parts.insert("os".to_owned(), os.clone());
    }
    if !outline.applications.is_empty() {
        let applications = outline.applications.values().cloned().collect();
        parts.insert("applications".to_owned(), serde_json::Value::Array(applications));
    }
    parts
}
