//! Every code a finding can carry, with its title and severity, in one table.
//!
//! Codes are stable: one that was given out keeps its meaning. `00` is about bytes, `01` about YAML and JSON, `02`
//! about identity, `03` about the schema, `04` about meaning inside one document, `05` about the repository as a whole,
//! `06` about what only the service can see, `07` about lint's own configuration and suppressions.
//!
//! # What a repository may lower
//!
//! A warning refuses nothing, so every warning may be turned off, raised or suppressed. An error is [`Adjust::Fixed`]
//! unless its row says `Adjustable`: behind most errors the document is not well defined (it cannot be read, it has no
//! identity, a value means nothing, or two things claim one place), and no setting gives it a meaning. Adjustable are
//! the errors behind which exactly one reading is left:
//!
//! | code | what is applied when it is lowered |
//! |---|---|
//! | `SB0106` | the reading of YAML 1.2, which is the one that everything else here uses |
//! | `SB0301` | the document without the unknown field |
//! | `SB0402` | the label as written; nothing here depends on its form |
//! | `SB0410` | the credential as written, for everyone who can read the repository |
//! | `SB0422` | the annotation as written; nothing here depends on its form |
//! | `SB0443` | the image as written; the device's settings choose the registry |
//! | `SB0450` to `SB0456` | the application's files as written; the tools on the device have the last word |
//! | `SB0504` | the name as written; the Repository may stand in another source |

use fleet_model::Severity;

/// One kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `SB` and four digits.
    pub code: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// How bad it is unless a repository says otherwise.
    pub severity: Severity,
    /// Whether a repository may say otherwise.
    pub adjust: Adjust,
}

/// Whether a repository may change the severity of a kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjust {
    /// Never below what the table says.
    Fixed,
    /// Down to a warning or to nothing, in the configuration or by a comment; or up to an error.
    Adjustable,
}

impl Code {
    /// Whether `.fleetlint.yaml` may turn the code down or off.
    pub fn can_be_lowered(&self) -> bool {
        self.adjust == Adjust::Adjustable
    }

    /// Whether a comment may suppress findings of the code. What is said about suppressions themselves stays.
    pub fn can_be_suppressed(&self) -> bool {
        self.can_be_lowered() && !self.code.starts_with("SB07")
    }

    /// An error that no setting changes.
    pub(crate) fn is_fatal(&self) -> bool {
        self.severity == Severity::Error && self.adjust == Adjust::Fixed
    }
}

/// The table's third word, or what follows from the severity.
const fn adjust(severity: Severity, said: &[Adjust]) -> Adjust {
    match (said, severity) {
        ([first, ..], _) => *first,
        ([], Severity::Warning) => Adjust::Adjustable,
        ([], Severity::Error) => Adjust::Fixed,
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident $($adjust:ident)?, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code {
            code: $code,
            title: $title,
            severity: Severity::$severity,
            adjust: adjust(Severity::$severity, &[$(Adjust::$adjust)?]),
        };)*

        /// All codes, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    NOT_UTF8 = "SB0001", Error, "the file is not UTF-8";
    CONTROL_CHARACTER = "SB0002", Error, "the file has a control character";
    FILE_TOO_LARGE = "SB0003", Error, "the file is too large";
    TOO_MANY_DOCUMENTS = "SB0004", Error, "the file has too many documents";
    BYTE_ORDER_MARK = "SB0005", Warning, "the file starts with a byte-order mark";

    SYNTAX = "SB0101", Error, "not well-formed YAML";
    TAB = "SB0102", Error, "a tab is used for indentation";
    DUPLICATE_KEY = "SB0103", Error, "a key is given twice";
    TAG = "SB0104", Error, "a YAML tag is used";
    MERGE_KEY = "SB0105", Error, "a merge key does not merge a mapping";
    AMBIGUOUS = "SB0106", Error Adjustable, "YAML readers disagree about a value";
    TOO_DEEP = "SB0107", Error, "the nesting is too deep";
    TOO_MANY_NODES = "SB0108", Error, "the document is too large once its aliases are expanded";
    KEY_NOT_TEXT = "SB0109", Error, "a key is not text";
    READERS_DISAGREE = "SB0110", Error, "two YAML readers disagree about the document";
    NUMBER = "SB0111", Error, "a number cannot be represented";
    DIRECTIVE = "SB0112", Error, "a YAML directive is used";
    ALIAS = "SB0113", Error, "an alias refers to nothing that is complete";
    JSON_SYNTAX = "SB0114", Error, "not well-formed JSON";

    NOT_A_MAPPING = "SB0201", Error, "the document is not a mapping";
    NO_KIND = "SB0202", Error, "the document has no kind";
    UNKNOWN_KIND = "SB0203", Error, "the kind is unknown";
    NO_API_VERSION = "SB0204", Error, "the document has no apiVersion";
    WRONG_API_VERSION = "SB0205", Error, "the apiVersion does not fit the kind";
    OLD_API_VERSION = "SB0206", Warning, "the apiVersion is an old one";
    NO_NAME = "SB0207", Error, "the document has no metadata.name";
    BAD_NAME = "SB0208", Error, "the name is not a DNS-1123 subdomain";
    BAD_DEVICE_NAME = "SB0209", Error, "the device's name is not a key fingerprint";
    KIND_NOT_FROM_GIT = "SB0210", Error, "resources of this kind do not come from Git";
    SET_BY_SERVICE = "SB0211", Error, "only the service sets this field";

    UNKNOWN_FIELD = "SB0301", Error Adjustable, "the field is unknown";
    MISSING_FIELD = "SB0302", Error, "a field is missing";
    WRONG_TYPE = "SB0303", Error, "the value has the wrong type";
    NOT_ALLOWED = "SB0304", Error, "the value is not one of those allowed";
    OUT_OF_BOUNDS = "SB0305", Error, "the value is too large, too small, too long or too short";
    ONE_OF = "SB0306", Error, "exactly one of several fields must be given";
    SCHEMA = "SB0307", Error, "the value does not fit the schema";
    NOT_DECODED = "SB0308", Error, "the document does not fit its kind";

    UNSUPPORTED = "SB0401", Warning, "this version of the service cannot carry it out yet";
    BAD_LABEL = "SB0402", Error Adjustable, "the label breaks the rules for labels";
    BAD_SELECTOR = "SB0403", Error, "the selector is not valid";
    DUPLICATE_PROVIDER = "SB0404", Error, "two configuration providers have one name";
    BAD_DEVICE_PATH = "SB0405", Error, "the path on the device is not allowed";
    BAD_OWNER = "SB0406", Error, "the file's user or group is not valid";
    BAD_BASE64 = "SB0407", Error, "the value is not base64";
    BAD_TEMPLATE = "SB0408", Error, "the placeholder is not valid";
    DUPLICATE_FILE = "SB0409", Error, "two providers give one path";
    CREDENTIAL = "SB0410", Error Adjustable, "a credential is written in plain text";
    SELF_REVISION = "SB0411", Error, "repository `.` with a revision of its own";
    NO_REVISION = "SB0412", Error, "a Git reference has no targetRevision";
    TEMPLATED = "SB0413", Error, "the field cannot have placeholders";
    BAD_REPOSITORY_PATH = "SB0414", Error, "the path in the repository is not valid";
    RULE_MATCHES_NOBODY = "SB0415", Error, "the rule matches no device";
    BAD_URL = "SB0416", Error, "the URL is not valid";
    BAD_PROVIDER_NAME = "SB0417", Error, "the provider's name is not valid";
    DECIMAL_MODE = "SB0418", Warning, "a file mode looks octal but is read as decimal";
    NO_SELECTOR = "SB0419", Warning, "the fleet selects no device";
    PLACEHOLDER_IN_DEVICE = "SB0420", Warning, "placeholders in a device are not replaced";
    CONTENT_TOO_LARGE = "SB0421", Error, "the file's content is too large";
    BAD_ANNOTATION = "SB0422", Error Adjustable, "the annotation's key breaks the rules for keys";
    BAD_SECRET_REF = "SB0423", Error, "the secret's name or namespace is not a DNS label";
    HTTP_AND_SSH = "SB0424", Error, "a repository has settings for HTTP and for SSH";
    BAD_REGISTRY = "SB0425", Error, "the registry is not a host with an optional port";
    DUPLICATE_ITEM = "SB0426", Error, "a list names the same thing twice";
    HALF_CREDENTIAL = "SB0427", Error, "one half of a credential is missing";
    FILE_AND_DIRECTORY = "SB0428", Error, "a file lies where another one needs a directory";

    BAD_APP_NAME = "SB0440", Error, "the application's name is not valid";
    DUPLICATE_APP = "SB0441", Error, "two applications have one name";
    BAD_IMAGE = "SB0442", Error, "the image reference is not valid";
    SHORT_IMAGE = "SB0443", Error Adjustable, "the image reference does not name its registry";
    BAD_ENV_VAR = "SB0444", Error, "the environment variable is not valid";
    BAD_VOLUME = "SB0445", Error, "the application's volume is not valid";
    BAD_PORT = "SB0446", Error, "the port mapping is not valid";
    BAD_LIMIT = "SB0447", Error, "the resource limit is not valid";
    BAD_RUN_AS = "SB0448", Error, "the user that runs the application is not valid";
    BAD_APP_FILE = "SB0449", Error, "the file does not fit the application";
    COMPOSE = "SB0450", Error Adjustable, "the compose file is not usable";
    COMPOSE_SERVICE = "SB0451", Error Adjustable, "the compose service is not usable";
    COMPOSE_VOLUME = "SB0452", Error Adjustable, "the volume is not external in the compose file";
    UNIT_SYNTAX = "SB0453", Error Adjustable, "the quadlet file is not a unit file";
    UNIT_CONTENT = "SB0454", Error Adjustable, "the quadlet file is not what its name says";
    UNIT_REFERENCE = "SB0455", Error Adjustable, "the quadlet file refers to a file that is not there";
    UNIT_NAME = "SB0456", Error Adjustable, "two quadlet files give one name";
    VM_FILE = "SB0457", Error, "the virtual machine's file is not usable";
    HELM_SETTING = "SB0458", Error, "the setting of the Helm chart is not valid";
    CATALOG_ITEM = "SB0459", Error, "the reference to a catalogue item is not complete";
    BAD_DURATION = "SB0460", Error, "the duration is not valid";
    BAD_MONITOR = "SB0461", Error, "the resource monitor is not valid";
    ALERT_RULES = "SB0462", Error, "the alert rules contradict each other";
    BAD_UNIT_PATTERN = "SB0463", Error, "the pattern for systemd units is not valid";
    BAD_SCHEDULE = "SB0464", Error, "the schedule is not a cron expression";
    SCHEDULE_NEVER = "SB0465", Error, "the schedule never comes";
    BAD_TIME_ZONE = "SB0466", Error, "the time zone is unknown";
    GRACE_TOO_LONG = "SB0467", Error, "the grace time is longer than the schedule's interval";
    BAD_ROLLOUT = "SB0468", Error, "the rollout policy is not complete";
    BAD_PERCENTAGE = "SB0469", Error, "the number or percentage is not valid";

    BAD_SIGNERS = "SB0480", Error, "the signers' keys cannot be used";
    UNKNOWN_SIGNERS = "SB0481", Error, "the set of signers is not defined";
    BAD_TRUST_PATH = "SB0482", Error, "the pattern of a trust rule is not valid";
    SIGNERS_OVER = "SB0483", Warning, "no key of the signers can sign commits";
    TRUST_UNPROTECTED = "SB0484", Warning, "no signature is asked for changes of the policy itself";

    DUPLICATE_RESOURCE = "SB0501", Error, "two resources have one kind and name";
    PATH_NOT_FOUND = "SB0502", Error, "the path is not in this repository";
    REPOSITORY_NOT_HERE = "SB0503", Warning, "the Repository is not defined here";
    REPOSITORY_TYPO = "SB0504", Error Adjustable, "the Repository's name looks misspelt";
    OVERLAP = "SB0505", Warning, "two fleets select the same device";
    NOTHING_HERE = "SB0506", Warning, "there is no manifest";
    MANIFEST_IS_CONTENT = "SB0507", Error, "a manifest lies inside the content it refers to";
    REPOSITORY_TYPE = "SB0508", Error, "the Repository has the wrong type";
    BAD_CONTENT_PATH = "SB0509", Error, "a file of the content cannot lie on a device";
    NOT_SELECTED = "SB0510", Warning, "no fleet selects the device";
    MISSING_LABEL = "SB0511", Warning, "a device lacks a label that a placeholder needs";
    SECRET_IN_CONTENT = "SB0512", Warning, "a file's content holds a credential in plain text";

    UNUSABLE_INPUT = "SB0601", Error, "the files that a Git reference names cannot be used";
    DEFINED_ELSEWHERE = "SB0602", Error, "another source defines the resource";
    NOTHING_LEFT = "SB0603", Error, "the commit would remove everything";
    NOT_A_FILE = "SB0604", Error, "a manifest is not a regular file";
    NOT_RENDERABLE = "SB0605", Error, "the specification cannot be rendered for any device";
    SOURCE_PATH = "SB0606", Error, "the source's path is not in the commit";

    LINT_CONFIG = "SB0701", Error, "the configuration of lint is not valid";
    UNKNOWN_CODE = "SB0702", Error, "there is no such code";
    NOT_ADJUSTABLE = "SB0703", Error, "the code can be neither lowered nor suppressed";
    BAD_GLOB = "SB0704", Error, "the pattern for paths is not valid";
    BAD_SUPPRESSION = "SB0705", Error, "the comment to lint cannot be read";
    NO_REASON = "SB0706", Error, "a suppression gives no reason";
    UNUSED_SUPPRESSION = "SB0707", Warning, "a suppression suppresses nothing";
}

/// The code of this text, such as `SB0301`.
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert_eq!(find("SB0301"), Some(&UNKNOWN_FIELD));
    }
}
