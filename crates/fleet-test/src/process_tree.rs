//! What a process and everything it started take from the machine, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;

/// Ticks of the kernel's counters in a second; the same on every Linux that programs see.
const TICKS_PER_SECOND: f64 = 100.0;

/// A moment's figures of a process and its descendants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeUse {
    /// Processes.
    pub processes: usize,
    /// Seconds of processor time so far, with that of children that have ended.
    pub processor: f64,
    /// Memory in KiB, with what is shared counted in parts (PSS).
    pub memory: u64,
    /// Memory in KiB of the first process alone (PSS).
    pub first_memory: u64,
}

/// The figures of `pid` and all below it; `None` when it is gone.
///
/// Children that were ended and waited for count in their parent; a child that ends between two readings is counted then.
#[must_use]
pub fn tree_use(pid: u32) -> Option<TreeUse> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            && let Some(fields) = stat(number)
            && let Some(parent) = fields.get(1).and_then(|field| field.parse::<u32>().ok())
        {
            parents.insert(number, parent);
        }
    }
    let is_below = |mut child: u32| {
        for _ in 0..64 {
            if child == pid {
                return true;
            }
            match parents.get(&child) {
                Some(parent) => child = *parent,
                None => return false,
            }
        }
        false
    };
    let first_memory = memory(pid)?;
    let mut total = TreeUse { processes: 0, processor: 0.0, memory: 0, first_memory };
    for child in parents.keys().copied().filter(|child| is_below(*child)) {
        let Some(fields) = stat(child) else { continue };
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        // User and system time, of itself and of children that it waited for.
        total.processor += (ticks(11) + ticks(12) + ticks(13) + ticks(14)) / TICKS_PER_SECOND;
        total.memory += memory(child).unwrap_or(0);
        total.processes += 1;
    }
    Some(total)
}

/// The fields of `/proc/PID/stat` behind the name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The value below which this share of the values lies (`0.5`: the median); zero when there is none.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // By hand, since a float does not become an index without a cast that could cut.
    let mut index = 0;
    while index + 1 < sorted.len() && count(index + 1) < share * count(sorted.len()) {
        index += 1;
    }
    sorted.get(index).copied().unwrap_or(0.0)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_with_its_children() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let tree = tree_use(std::process::id()).unwrap();
        assert!(tree.processes >= 2 && tree.memory > tree.first_memory && tree.first_memory > 0, "{tree:?}");
        assert_eq!(tree_use(child.id()).unwrap().processes, 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(tree_use(child.id()), None);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| percentile(&values, share)), [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
