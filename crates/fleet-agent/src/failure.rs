//! Why an update did not come about: phase, component, element and reason, as the status tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest condition message that the protocol allows, in characters.
pub(crate) const MAX_MESSAGE: usize = 250;

/// The step of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing on the device was touched yet.
    Preparing,
    /// Files were being changed.
    ApplyingUpdate,
    /// What had been changed was being put back.
    RollingBack,
}

/// The part of the agent that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Component {
    /// Files.
    Config,
    /// Room on the disk.
    Resources,
    /// Units that read the files.
    Systemd,
    /// The operating-system image.
    Os,
    /// Applications.
    Applications,
    /// Windows for updates.
    UpdatePolicy,
    /// Leaving.
    Lifecycle,
    /// The agent's own state.
    State,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Resources => "resources",
            Self::Systemd => "systemd",
            Self::Os => "os",
            Self::Applications => "applications",
            Self::UpdatePolicy => "update policy",
            Self::Lifecycle => "lifecycle",
            Self::State => "state",
        }
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recurrence {
    /// The same document will fail again.
    Permanent,
    /// Trying again may help; the number of attempts is bounded.
    Transient,
    /// Trying again once something else has changed will help (room on the disk), so it never stops.
    Waiting,
}

/// One failure of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub phase: Phase,
    /// The part.
    pub component: Component,
    /// The file, unit or field.
    pub element: String,
    /// Why, in words.
    pub reason: String,
    /// Whether trying again can help.
    pub recurrence: Recurrence,
}

impl Failure {
    /// A permanent failure.
    pub fn new(phase: Phase, component: Component, element: &str, reason: impl Into<String>) -> Self {
        let element = element.chars().take(200).collect();
        Self { phase, component, element, reason: reason.into(), recurrence: Recurrence::Permanent }
    }

    /// The same failure with another outlook.
    #[must_use]
    pub fn that_is(mut self, recurrence: Recurrence) -> Self {
        self.recurrence = recurrence;
        self
    }

    /// A failure of a file operation.
    pub(crate) fn of_io(phase: Phase, component: Component, element: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        // Asking again does not move a directory out of the way or turn a link around; all else may be a bad moment.
        let permanent = [
            ErrorKind::InvalidInput,
            ErrorKind::InvalidData,
            ErrorKind::NotADirectory,
            ErrorKind::IsADirectory,
            ErrorKind::DirectoryNotEmpty,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::PermissionDenied,
            ErrorKind::InvalidFilename,
            ErrorKind::FileTooLarge,
        ];
        // No bytes or no inodes: somebody has to make room.
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
        let recurrence = if full.contains(&error.kind()) {
            Recurrence::Waiting
        } else if permanent.contains(&error.kind()) {
            Recurrence::Permanent
        } else {
            Recurrence::Transient
        };
        Self::new(phase, component, element, error.to_string()).that_is(recurrence)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, component, element, reason, recurrence: _ } = self;
        write!(f, "While {phase:?}, {} failed for {element:?}: {reason}", component.as_str())
    }
}

/// Cuts a message to what a condition may hold.
pub(crate) fn bounded(message: &str) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut cut: String = message.chars().take(MAX_MESSAGE - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_everything_and_stay_short() {
        let failure = Failure::new(Phase::ApplyingUpdate, Component::Config, "/etc/motd", "Is a directory");
        assert_eq!(failure.to_string(), "While ApplyingUpdate, config failed for \"/etc/motd\": Is a directory");
        assert_eq!(bounded(&"ä".repeat(300)).chars().count(), MAX_MESSAGE);
    }
}
