//! Applications: names, sources, images, variables, volumes, ports, and the files that stand in the manifest.

mod files;
mod volumes;

use std::collections::HashMap;

use base64::DecodeError;
use fleet_model::{AppType, Application, CatalogItemRef, DeviceSpec};
use fleet_render::{FUNCTIONS, Template, TemplateError, check_owner};

use crate::apps::{clip, image_fault};
use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::{Finding, nearest};
use files::relative_path;

/// Longest name, key and value, in characters.
const MAX_NAME: usize = 253;
/// The longest DNS label.
const MAX_LABEL: usize = 63;

/// Checks the applications of a device specification at `pointer`. Placeholders count only in a fleet's template.
pub(crate) fn check(
    document: &Document<'_, '_>,
    pointer: &str,
    spec: &DeviceSpec,
    is_template: bool,
    findings: &mut Vec<Finding>,
) {
    let mut rules = Rules { document, is_template, findings, names: HashMap::new(), bytes: 0 };
    for (at, application) in spec.applications.iter().flatten().enumerate() {
        rules.application(&format!("{pointer}/applications/{at}"), application);
    }
}

/// Checks that each part of a reference to a catalogue is there.
pub(super) fn catalog_item(
    document: &Document<'_, '_>,
    pointer: &str,
    item: &CatalogItemRef,
    findings: &mut Vec<Finding>,
) {
    let fields = [
        ("catalog", Some(&item.catalog)),
        ("item", Some(&item.item)),
        ("version", Some(&item.version)),
        ("channel", item.channel.as_ref()),
    ];
    for (field, text) in fields.into_iter().filter_map(|(field, text)| Some((field, text?))) {
        let message = if text.trim().is_empty() {
            format!("`{field}` of the catalogue item is empty")
        } else if text.trim() != text {
            format!("`{field}` of the catalogue item has white space around it")
        } else {
            continue;
        };
        let pointer = format!("{pointer}/{field}");
        findings.push(Finding::new(codes::CATALOG_ITEM, document.value_span(&pointer), message).at_pointer(pointer));
    }
}

/// Checks an image reference that may have placeholders when `is_template`.
pub(super) fn image(
    document: &Document<'_, '_>,
    pointer: &str,
    text: &str,
    is_template: bool,
    must_be_full: bool,
    findings: &mut Vec<Finding>,
) {
    if is_template && !template(document, pointer, text, findings) {
        return;
    }
    if let Some(fault) = image_fault(text, is_template, must_be_full) {
        let at = document.part_span(pointer, &fault.span);
        findings.push(
            Finding::new(fault.code, at, fault.message).at_pointer(pointer).maybe_hint(fault.hint.map(str::to_owned)),
        );
    }
}

/// Checks the placeholders of a text; whether they are right.
pub(super) fn template(document: &Document<'_, '_>, pointer: &str, text: &str, findings: &mut Vec<Finding>) -> bool {
    let Err(error) = Template::parse(text) else { return true };
    let at = document.part_span(pointer, &error.span);
    let hint = template_hint(text, &error);
    findings.push(Finding::new(codes::BAD_TEMPLATE, at, error.message).at_pointer(pointer).hint(hint));
    false
}

/// What to write instead of a placeholder that is not valid.
pub(super) fn template_hint(text: &str, error: &TemplateError) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '$');
    let rest = text.get(error.span.start..).unwrap_or_default();
    let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
    let meant = match word.strip_prefix('$').unwrap_or(word) {
        path if path.starts_with('.') => path_meant(path),
        path if path.starts_with("metadata.") => Some(format!(".{path}")),
        function => nearest(function, FUNCTIONS.iter().copied()).map(str::to_owned),
    };
    match meant.filter(|meant| meant != word) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "for braces that are meant for another program write {{ \"{{\" }}".to_owned(),
    }
}

/// The path to which a path like `.metadata.label.site` comes near.
fn path_meant(path: &str) -> Option<String> {
    let mut parts = path.split('.').skip(1);
    let first = parts.next()?;
    if nearest(first, ["metadata"]).is_none() && first != "metadata" {
        return None;
    }
    let second = parts.next()?;
    let known = ["name", "labels"];
    let second = known.into_iter().find(|known| *known == second).or_else(|| nearest(second, known))?;
    match (second, parts.next()) {
        ("name", None) => Some(".metadata.name".to_owned()),
        ("labels", Some(key)) => Some(format!(".metadata.labels.{key}")),
        _ => None,
    }
}

/// What is wrong with a text that should be base64, for people.
pub(super) fn base64_problem(error: &DecodeError) -> String {
    match error {
        DecodeError::InvalidByte(at, b'\n' | b'\r') => format!("it has a line break behind {at} characters"),
        DecodeError::InvalidByte(at, byte) if byte.is_ascii_graphic() || *byte == b' ' => {
            format!("character {} is `{}`", at + 1, char::from(*byte))
        }
        DecodeError::InvalidByte(at, _) => format!("character {} is none of base64", at + 1),
        DecodeError::InvalidLength(_) | DecodeError::InvalidLastSymbol(..) => "its end is cut off".to_owned(),
        DecodeError::InvalidPadding => "the `=` at its end do not fit its length".to_owned(),
    }
}

struct Rules<'r, 't, 'a> {
    document: &'r Document<'t, 'a>,
    is_template: bool,
    findings: &'r mut Vec<Finding>,
    /// Lines of the applications by name.
    names: HashMap<String, u32>,
    /// Bytes of the files that were looked at.
    bytes: usize,
}

impl Rules<'_, '_, '_> {
    fn find(&mut self, code: Code, pointer: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        let pointer = pointer.into();
        let at = self.document.value_span(&pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn image(&mut self, pointer: &str, text: &str) {
        image(self.document, pointer, text, self.is_template, true, self.findings);
    }

    fn application(&mut self, pointer: &str, application: &Application) {
        self.name(pointer, application);
        self.source(pointer, application);
        if let Some(image) = application.image() {
            self.image(&format!("{pointer}/image"), image);
        }
        if let Some(item) = application.catalog_item_ref() {
            catalog_item(self.document, &format!("{pointer}/catalogItemRef"), item, self.findings);
        }
        for (key, value) in application.env_vars().into_iter().flatten() {
            self.variable(&format!("{pointer}/envVars"), key, value);
        }
        if let Some(user) = application.run_as() {
            self.run_as(format!("{pointer}/runAs"), user);
        }
        self.volumes(pointer, application);
        match application {
            Application::Container(container) => {
                self.ports(&format!("{pointer}/ports"), container.ports.as_deref());
                if let Some(limits) = container.resources.as_ref().and_then(|resources| resources.limits.as_ref()) {
                    self.limits(
                        &format!("{pointer}/resources/limits"),
                        limits.cpu.as_deref(),
                        limits.memory.as_deref(),
                    );
                }
            }
            Application::Vm(machine) => {
                self.ports(&format!("{pointer}/publishPorts"), machine.publish_ports.as_deref())
            }
            Application::Helm(helm) => {
                self.helm(pointer, helm.namespace.as_deref(), helm.values_files.as_deref().unwrap_or_default());
            }
            Application::Compose(_) | Application::Quadlet(_) => {}
        }
        if let Some(files) = application.inline() {
            self.files(pointer, application, files);
        }
    }

    fn name(&mut self, pointer: &str, application: &Application) {
        let at = format!("{pointer}/name");
        let name = match (application.name(), application.image()) {
            (Some(name), _) => {
                if !is_label(name, MAX_NAME) {
                    let message = format!("the application's name {:?} is not valid", clip(name));
                    let hint = if name.contains("{{") {
                        "a name cannot have placeholders"
                    } else {
                        "lower-case letters, digits and `-`, with a letter or digit at both ends, at most 253"
                    };
                    self.find(codes::BAD_APP_NAME, at.as_str(), message).hint = Some(hint.to_owned());
                }
                name
            }
            (None, Some(image)) => image,
            (None, None) => {
                if application.inline().is_some() {
                    let message = "an application with inline files needs a `name`";
                    self.find(codes::BAD_APP_NAME, pointer, message).hint = Some("add `name`".to_owned());
                }
                return;
            }
        };
        let at = if application.name().is_some() { at } else { format!("{pointer}/image") };
        let line = self.document.value_span(&at).line;
        if let Some(first) = self.names.insert(name.to_owned(), line) {
            let message = if application.name().is_some() {
                format!("the application name {:?} is given twice; the first is on line {first}", clip(name))
            } else {
                format!("the image is the application's name, and {:?} is one already, on line {first}", clip(name))
            };
            self.find(codes::DUPLICATE_APP, at, message).hint = Some("give each a `name` of its own".to_owned());
        }
    }

    fn source(&mut self, pointer: &str, application: &Application) {
        let given = [
            ("image", application.image().is_some()),
            ("catalogItemRef", application.catalog_item_ref().is_some()),
            ("inline", application.inline().is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
        if given.len() == 1 {
            return;
        }
        let kind = application.app_type();
        let wanted = match kind {
            AppType::Compose | AppType::Quadlet => "`image`, `catalogItemRef` or `inline`",
            AppType::Container | AppType::Helm => "`image` or `catalogItemRef`",
            AppType::Vm => "`image` or `inline`",
        };
        let message = match given.as_slice() {
            [] => format!("the {} application has no source; give {wanted}", kind.as_str()),
            _ => format!("the application has {}; only one of them can be its source", given.join(" and ")),
        };
        self.find(codes::ONE_OF, pointer, message);
    }

    fn variable(&mut self, pointer: &str, key: &str, value: &str) {
        let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        let head = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !head || key.len() > MAX_NAME || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let at = self.document.key_span(&below);
            let message = format!("{:?} is not the name of an environment variable", clip(key));
            let hint = "letters, digits and `_`, not beginning with a digit, at most 253";
            self.findings.push(Finding::new(codes::BAD_ENV_VAR, at, message).at_pointer(below.as_str()).hint(hint));
        }
        let has_placeholders = value.contains("{{");
        if self.is_template && has_placeholders {
            template(self.document, &below, value, self.findings);
            return;
        }
        self.placeholders_in_device(&below, value);
        let length = value.chars().count();
        if !(1..=MAX_NAME).contains(&length) {
            let message =
                format!("the value of the environment variable has {length} characters; it must have 1 to {MAX_NAME}");
            self.find(codes::BAD_ENV_VAR, below, message);
        }
    }

    fn placeholders_in_device(&mut self, pointer: &str, text: &str) {
        if !self.is_template && (text.contains("{{ .metadata") || text.contains("{{.metadata")) {
            let message = "placeholders are replaced in a fleet's template only; the device gets them as they are";
            self.find(codes::PLACEHOLDER_IN_DEVICE, pointer, message);
        }
    }

    fn run_as(&mut self, pointer: String, user: &str) {
        let is_number = !user.is_empty() && user.bytes().all(|b| b.is_ascii_digit());
        if is_number || check_owner(user).is_err() {
            let message = format!("{:?} is not a user's name", clip(user));
            self.find(codes::BAD_RUN_AS, pointer, message).hint =
                Some("name a user of the device, such as `flightctl`; leave runAs out for root".to_owned());
        }
    }

    fn ports(&mut self, pointer: &str, ports: Option<&[String]>) {
        for (at, port) in ports.unwrap_or_default().iter().enumerate() {
            if let Err(reason) = check_port(port) {
                let message = format!("the port mapping {:?} is not valid: {reason}", clip(port));
                self.find(codes::BAD_PORT, format!("{pointer}/{at}"), message).hint =
                    Some("write `\"8080:80\"`: the port of the device, `:`, the port inside".to_owned());
            }
        }
    }

    fn limits(&mut self, pointer: &str, cpu: Option<&str>, memory: Option<&str>) {
        let is_number = |text: &str| {
            let shape =
                text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
            shape && text.parse::<f64>().is_ok_and(f64::is_finite)
        };
        if let Some(cpu) = cpu.filter(|cpu| !is_number(cpu)) {
            let message = format!("the CPU limit {:?} is not a number of processors", clip(cpu));
            self.find(codes::BAD_LIMIT, format!("{pointer}/cpu"), message).hint =
                Some("write for example \"0.5\"".to_owned());
        }
        let is_size = |text: &str| {
            let digits = text.strip_suffix(['b', 'k', 'm', 'g']).unwrap_or(text);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        };
        if let Some(memory) = memory.filter(|memory| !is_size(memory)) {
            let message = format!("the memory limit {:?} is not a size", clip(memory));
            self.find(codes::BAD_LIMIT, format!("{pointer}/memory"), message).hint =
                Some("write bytes, or a number with b, k, m or g behind it: \"512m\"".to_owned());
        }
    }

    fn helm(&mut self, pointer: &str, namespace: Option<&str>, files: &[String]) {
        if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace, MAX_LABEL)) {
            let message = format!("the namespace {:?} is not valid", clip(namespace));
            let hint = if namespace.contains("{{") {
                "a namespace cannot have placeholders"
            } else {
                "lower-case letters, digits and `-`, with a letter or digit at both ends, at most 63"
            };
            self.find(codes::HELM_SETTING, format!("{pointer}/namespace"), message).hint = Some(hint.to_owned());
        }
        for (at, file) in files.iter().enumerate() {
            let reason = match relative_path(file) {
                Err(reason) => reason,
                Ok(()) if file.len() > MAX_NAME => "it has more than 253 bytes",
                Ok(()) if !(file.ends_with(".yaml") || file.ends_with(".yml")) => "it does not end in .yaml or .yml",
                Ok(()) => continue,
            };
            let message = format!("{:?} is not a values file of the chart: {reason}", clip(file));
            self.find(codes::HELM_SETTING, format!("{pointer}/valuesFiles/{at}"), message);
        }
    }
}

/// Lower-case letters, digits and `-`, with a letter or digit at both ends.
pub(super) fn is_label(text: &str, most: usize) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= most
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().next_back().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'-')
}

/// `host:inside[/protocol]`, both from 1 to 65535.
fn check_port(text: &str) -> Result<(), &'static str> {
    let (ports, protocol) = text.split_once('/').map_or((text, None), |(ports, protocol)| (ports, Some(protocol)));
    if protocol.is_some_and(|protocol| !matches!(protocol, "tcp" | "udp" | "sctp")) {
        return Err("behind the `/` stands tcp, udp or sctp");
    }
    let Some((host, inside)) = ports.split_once(':') else { return Err("there is no `:`") };
    for port in [host, inside] {
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err("a port is a number");
        }
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err("a port is from 1 to 65535");
        }
    }
    Ok(())
}
