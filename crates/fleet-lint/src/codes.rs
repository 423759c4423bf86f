//! Every code a finding can carry, with its title and severity, in one table.
//!
//! Codes are stable: one that was given out keeps its meaning. `00` is about bytes, `01` about YAML and JSON, `02`
//! about identity, `03` about the schema, `04` about meaning inside one document, `05` about the repository as a whole,
//! `06` about what only the service can see.

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
}

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code { code: $code, title: $title, severity: Severity::$severity };)*

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
    AMBIGUOUS = "SB0106", Error, "YAML readers disagree about a value";
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

    UNKNOWN_FIELD = "SB0301", Error, "the field is unknown";
    MISSING_FIELD = "SB0302", Error, "a field is missing";
    WRONG_TYPE = "SB0303", Error, "the value has the wrong type";
    NOT_ALLOWED = "SB0304", Error, "the value is not one of those allowed";
    OUT_OF_BOUNDS = "SB0305", Error, "the value is too large, too small, too long or too short";
    ONE_OF = "SB0306", Error, "exactly one of several fields must be given";
    SCHEMA = "SB0307", Error, "the value does not fit the schema";
    NOT_DECODED = "SB0308", Error, "the document does not fit its kind";

    UNSUPPORTED = "SB0401", Error, "this version cannot carry out the field";
    BAD_LABEL = "SB0402", Error, "the label breaks the rules for labels";
    BAD_SELECTOR = "SB0403", Error, "the selector is not valid";
    DUPLICATE_PROVIDER = "SB0404", Error, "two configuration providers have one name";
    BAD_DEVICE_PATH = "SB0405", Error, "the path on the device is not allowed";
    BAD_OWNER = "SB0406", Error, "the file's user or group is not valid";
    BAD_BASE64 = "SB0407", Error, "the value is not base64";
    BAD_TEMPLATE = "SB0408", Error, "the placeholder is not valid";
    DUPLICATE_FILE = "SB0409", Error, "two inline files have one path";
    CREDENTIAL = "SB0410", Error, "a credential is written in plain text";
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

    DUPLICATE_RESOURCE = "SB0501", Error, "two resources have one kind and name";
    PATH_NOT_FOUND = "SB0502", Error, "the path is not in this repository";
    REPOSITORY_NOT_HERE = "SB0503", Warning, "the Repository is not defined here";
    REPOSITORY_TYPO = "SB0504", Error, "the Repository's name looks misspelt";
    OVERLAP = "SB0505", Warning, "two fleets select the same device";
    NOTHING_HERE = "SB0506", Warning, "there is no manifest";
    MANIFEST_IS_CONTENT = "SB0507", Error, "a manifest lies inside the content it refers to";
    REPOSITORY_TYPE = "SB0508", Error, "the Repository is not a Git repository";
    BAD_CONTENT_PATH = "SB0509", Error, "a file of the content cannot lie on a device";

    UNUSABLE_INPUT = "SB0601", Error, "the files that a Git reference names cannot be used";
    DEFINED_ELSEWHERE = "SB0602", Error, "another source defines the resource";
    NOTHING_LEFT = "SB0603", Error, "the commit would remove everything";
    NOT_A_FILE = "SB0604", Error, "a manifest is not a regular file";
    NOT_RENDERABLE = "SB0605", Error, "the specification cannot be rendered for any device";
    SOURCE_PATH = "SB0606", Error, "the source's path is not in the commit";
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
