//! Virtual machines: the one file `vm.yaml` with a KubeVirt `VirtualMachine`.

use super::content::{Neutral, read};
use super::{AppFile, Part, Problem, clip};
use crate::codes;

const FILE: &str = "vm.yaml";
const API_VERSION: &str = "kubevirt.io/v1";
const KIND: &str = "VirtualMachine";

/// Checks the files of an inline virtual machine with this name.
pub(crate) fn check(files: &[AppFile<'_>], name: Option<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if files.is_empty() {
        let problem = Problem::new(codes::VM_FILE, Part::Files, "a virtual machine needs the file `vm.yaml`");
        return vec![problem];
    }
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.has_fixed_path()) {
        if file.path != FILE {
            let message = format!("{:?} is not a file of a virtual machine; it has `vm.yaml` alone", clip(file.path));
            problems.push(Problem::new(codes::BAD_APP_FILE, Part::Path(number), message));
        }
    }
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.path == FILE) {
        match file.text {
            Some(text) => machine(number, &Neutral::of(text, file.is_template), name, &mut problems),
            None => {
                problems.push(Problem::new(codes::VM_FILE, Part::Text(number, 0..0), "`vm.yaml` is not UTF-8 text"))
            }
        }
    }
    problems
}

fn machine(number: usize, source: &Neutral<'_>, name: Option<&str>, problems: &mut Vec<Problem>) {
    let yaml = read(source, number, FILE, codes::VM_FILE, problems);
    if !yaml.is_whole {
        return;
    }
    let wanted = [
        ("apiVersion", "/apiVersion", Some(API_VERSION)),
        ("kind", "/kind", Some(KIND)),
        ("metadata.name", "/metadata/name", name),
    ];
    let root = yaml.root().map_or(0..0, |root| yaml.place(root));
    for (field, pointer, value) in wanted {
        let found = yaml.find(pointer).and_then(|node| yaml.text(node));
        let (span, message) = match (found, value) {
            (Some((_, span)), _) if yaml.is_touched(&span) => continue,
            (Some((text, _)), Some(value)) if text == value => continue,
            (Some((text, span)), Some(value)) => {
                let whose = if field == "metadata.name" { ", the application's name" } else { "" };
                (span, format!("`{field}` in vm.yaml is {:?}; it must be {value:?}{whose}", clip(text)))
            }
            (None, Some(value)) if !source.has_control() => {
                (root.clone(), format!("vm.yaml has no `{field}`; it must be {value:?}"))
            }
            (_, _) => continue,
        };
        problems.push(Problem::new(codes::VM_FILE, Part::Text(number, span), message));
    }
}
