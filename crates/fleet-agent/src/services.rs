//! The units that read the managed files.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use tracing::info;

use crate::failure::Recurrence;
use crate::path::FilePath;

/// A unit that would not take up its new files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{unit}: {reason}")]
pub struct ServiceFailure {
    /// The unit, or the command that failed.
    pub unit: String,
    /// Why.
    pub reason: String,
    /// Whether trying again can help.
    pub recurrence: Recurrence,
}

/// Told of files that changed, so that whatever reads them does so again.
pub trait Services: fmt::Debug + Send + Sync + 'static {
    /// `paths` have other contents now, or are gone. Called from a thread that may block.
    ///
    /// # Errors
    /// The first unit that did not take up its files.
    fn files_changed(&self, paths: &[FilePath]) -> Result<(), ServiceFailure>;
}

/// For roots other than the running system's: nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoServices;

impl Services for NoServices {
    fn files_changed(&self, _paths: &[FilePath]) -> Result<(), ServiceFailure> {
        Ok(())
    }
}

/// A unit and the file, or directory with all below it, that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadRule {
    /// Absolute path, without a slash at its end.
    pub path: String,
    /// The unit.
    pub unit: String,
}

/// What to do after a change, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReloadPlan {
    daemon_reload: bool,
    units: Vec<String>,
}

fn plan(rules: &[ReloadRule], paths: &[FilePath]) -> ReloadPlan {
    let mut units: Vec<String> = Vec::new();
    for rule in rules {
        if !units.contains(&rule.unit) && paths.iter().any(|p| p.is_within(&rule.path)) {
            units.push(rule.unit.clone());
        }
    }
    ReloadPlan { daemon_reload: paths.iter().any(|p| p.is_within("/etc/systemd/system")), units }
}

/// systemd of the running system, by way of `systemctl`.
#[derive(Debug)]
pub struct Systemd {
    rules: Vec<ReloadRule>,
    deadline: Duration,
    runtime: tokio::runtime::Handle,
}

impl Systemd {
    /// Reloads or restarts units as `rules` say; each command may take as long as `deadline`.
    pub fn new(rules: Vec<ReloadRule>, deadline: Duration, runtime: tokio::runtime::Handle) -> Self {
        Self { rules, deadline, runtime }
    }

    fn systemctl(&self, arguments: &[&str], unit: &str) -> Result<(), ServiceFailure> {
        let failed = |reason: String, recurrence| ServiceFailure { unit: unit.to_owned(), reason, recurrence };
        let passing = |reason: String| failed(reason, Recurrence::Transient);
        let mut command = tokio::process::Command::new("systemctl");
        command.args(arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = self
            .runtime
            .block_on(async { tokio::time::timeout(self.deadline, command.output()).await })
            .map_err(|_| passing(format!("systemctl did not end within {} s", self.deadline.as_secs())))?
            .map_err(|e| passing(format!("systemctl cannot be run: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        let recurrence = outlook(&told);
        let told: String = told.trim().chars().take(150).collect();
        Err(failed(format!("systemctl {} ended with {}: {told}", arguments.join(" "), output.status), recurrence))
    }
}

/// Whether what systemctl told (in the C locale) is a unit's own failure, which comes again with the same files, or
/// may be a bad moment: of the machine, of the bus or of systemd itself.
fn outlook(told: &str) -> Recurrence {
    let says = |parts: &[&str]| parts.iter().any(|part| told.contains(part));
    let passing = [
        "unavailable resources",
        "timeout was exceeded",
        "attempted too often",
        "canceled",
        "Resource temporarily unavailable",
        "Cannot allocate memory",
        "No space left on device",
    ];
    let definite = ["Job for ", "not found", "is masked", "bad unit file setting", "not loaded", "Invalid unit name"];
    if says(&definite) && !says(&passing) { Recurrence::Permanent } else { Recurrence::Transient }
}

impl Services for Systemd {
    fn files_changed(&self, paths: &[FilePath]) -> Result<(), ServiceFailure> {
        let plan = plan(&self.rules, paths);
        if plan.daemon_reload {
            info!("Reloading systemd, because units changed");
            self.systemctl(&["daemon-reload"], "systemd")?;
        }
        for unit in &plan.units {
            info!(unit, "Reloading a unit, because its files changed");
            self.systemctl(&["reload-or-restart", "--", unit], unit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_units_own_failure_is_definite() {
        for definite in [
            "Job for app.service failed because the control process exited with error code.",
            "Failed to reload-or-restart app.service: Unit app.service not found.",
            "Failed to reload-or-restart app.service: Unit app.service is masked.",
            "Failed to restart app.service: Unit app.service has a bad unit file setting.",
        ] {
            assert_eq!(outlook(definite), Recurrence::Permanent, "{definite}");
        }
        for passing in [
            "",
            "Failed to connect to bus: No such file or directory",
            "Failed to reload daemon: Connection timed out",
            "Job for app.service failed because of unavailable resources or another system error.",
            "Job for app.service failed because a timeout was exceeded.",
            "Failed to restart app.service: Cannot allocate memory",
        ] {
            assert_eq!(outlook(passing), Recurrence::Transient, "{passing}");
        }
    }

    #[test]
    fn a_command_that_cannot_be_run_or_does_not_end_is_a_passing_failure() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let systemd = Systemd::new(vec![], Duration::ZERO, runtime.handle().clone());
        // No time at all, or no systemctl on this machine: one of the two is certain.
        let failure = systemd.systemctl(&["daemon-reload", "--help"], "systemd").unwrap_err();
        assert_eq!(failure.recurrence, Recurrence::Transient, "{failure}");
    }

    #[test]
    fn each_unit_is_reloaded_once_and_systemd_only_for_units() {
        let rule = |path: &str, unit: &str| ReloadRule { path: path.to_owned(), unit: unit.to_owned() };
        let rules = [
            rule("/etc/chrony", "chronyd.service"),
            rule("/etc/app.conf", "app.service"),
            rule("/etc/a", "app.service"),
        ];
        let paths = |all: &[&str]| all.iter().map(|p| FilePath::parse(p).unwrap()).collect::<Vec<_>>();
        let planned = plan(&rules, &paths(&["/etc/chrony/a", "/etc/chrony/b", "/etc/app.conf", "/etc/a/x"]));
        assert_eq!(
            planned,
            ReloadPlan { daemon_reload: false, units: vec!["chronyd.service".into(), "app.service".into()] }
        );
        let planned = plan(&rules, &paths(&["/etc/chrony.d/a", "/etc/systemd/system/x.service"]));
        assert_eq!(planned, ReloadPlan { daemon_reload: true, units: vec![] });
    }
}
