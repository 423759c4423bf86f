//! Selectors in query parameters: label selectors (`a=b,c in (d,e),!f`) and field selectors, in the syntax of Kubernetes.
//!
//! Both have one grammar: requirements between commas, all of which must hold. They differ in what a key and a value
//! may be, and field selectors know more operators.

use fleet_model::{LabelError, MatchExpression, MatchOperator, validate_label_key, validate_label_value};
use fleet_store::read_filter::{Field, FieldError, FieldOperator, FieldRequirement};

/// No selector has more requirements.
const MAX_REQUIREMENTS: usize = 64;
/// No list in parentheses has more values.
const MAX_VALUES: usize = 256;

/// Why a selector does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorParseError {
    /// Something else was expected at a place.
    #[error("at character {at}: expected {expected}")]
    Expected {
        /// Place, in characters from 1.
        at: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// Too long.
    #[error("more than {MAX_REQUIREMENTS} requirements, or more than {MAX_VALUES} values in one of them")]
    TooLong,
    /// A label key or value breaks the rules.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// An operator that labels do not have.
    #[error("labels can be compared with =, ==, !=, in and notin only, or asked for with `key` and `!key`")]
    LabelOperator,
    /// No such field.
    #[error("unknown field {name:?}; supported fields: {supported}")]
    UnknownField {
        /// The name.
        name: String,
        /// The supported names, comma-separated.
        supported: String,
    },
    /// The operator or value does not fit the field.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Parses a label selector. An empty one has no requirements.
///
/// # Errors
/// [`SelectorParseError`] with the place.
pub fn parse_label_selector(text: &str) -> Result<Vec<MatchExpression>, SelectorParseError> {
    parse(text)?.into_iter().map(label_requirement).collect()
}

/// Parses a field selector over the given fields. An empty one has no requirements.
///
/// # Errors
/// [`SelectorParseError`]; an unknown field lists those that are supported.
pub fn parse_field_selector(text: &str, fields: &[Field]) -> Result<Vec<FieldRequirement>, SelectorParseError> {
    parse(text)?.into_iter().map(|requirement| field_requirement(requirement, fields)).collect()
}

#[derive(Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: FieldOperator,
    values: Vec<String>,
}

fn label_requirement(requirement: Requirement) -> Result<MatchExpression, SelectorParseError> {
    let operator = match requirement.operator {
        FieldOperator::In => MatchOperator::In,
        FieldOperator::NotIn => MatchOperator::NotIn,
        FieldOperator::Exists => MatchOperator::Exists,
        FieldOperator::DoesNotExist => MatchOperator::DoesNotExist,
        FieldOperator::Contains
        | FieldOperator::NotContains
        | FieldOperator::Before
        | FieldOperator::NotAfter
        | FieldOperator::After
        | FieldOperator::NotBefore => return Err(SelectorParseError::LabelOperator),
    };
    validate_label_key(&requirement.key)?;
    requirement.values.iter().try_for_each(|value| validate_label_value(value))?;
    let values = (!requirement.values.is_empty()).then_some(requirement.values);
    Ok(MatchExpression { key: requirement.key, operator, values })
}

fn field_requirement(requirement: Requirement, fields: &[Field]) -> Result<FieldRequirement, SelectorParseError> {
    let Some(field) = fields.iter().find(|field| field.name() == requirement.key) else {
        let supported = fields.iter().map(Field::name).collect::<Vec<_>>().join(", ");
        let name = requirement.key.chars().take(80).collect();
        return Err(SelectorParseError::UnknownField { name, supported });
    };
    Ok(FieldRequirement::new(*field, requirement.operator, requirement.values)?)
}

fn parse(text: &str) -> Result<Vec<Requirement>, SelectorParseError> {
    let mut reader = Reader { text, rest: text };
    let mut requirements = Vec::new();
    reader.skip_space();
    if reader.rest.is_empty() {
        return Ok(requirements);
    }
    loop {
        requirements.push(reader.requirement()?);
        if requirements.len() > MAX_REQUIREMENTS {
            return Err(SelectorParseError::TooLong);
        }
        reader.skip_space();
        if reader.rest.is_empty() {
            return Ok(requirements);
        }
        reader.take(",").then_some(()).ok_or(reader.expected("a comma or the end"))?;
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

fn is_key_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '=' | '!' | '<' | '>' | '(' | ')')
}

impl<'a> Reader<'a> {
    fn expected(&self, expected: &'static str) -> SelectorParseError {
        let done = self.text.len() - self.rest.len();
        SelectorParseError::Expected { at: self.text[..done].chars().count() + 1, expected }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    /// Everything up to a character that ends it.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn key(&mut self) -> Result<String, SelectorParseError> {
        self.skip_space();
        let before = self.expected("a key");
        match self.until(is_key_end) {
            "" => Err(before),
            key => Ok(key.to_owned()),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorParseError> {
        self.skip_space();
        if self.take("!") {
            return Ok(Requirement { key: self.key()?, operator: FieldOperator::DoesNotExist, values: Vec::new() });
        }
        let key = self.key()?;
        self.skip_space();
        let symbols = [
            ("==", FieldOperator::In),
            ("!=", FieldOperator::NotIn),
            ("<=", FieldOperator::NotAfter),
            (">=", FieldOperator::NotBefore),
            ("=", FieldOperator::In),
            ("<", FieldOperator::Before),
            (">", FieldOperator::After),
        ];
        if let Some((_, operator)) = symbols.into_iter().find(|(symbol, _)| self.take(symbol)) {
            self.skip_space();
            let value = self.until(|c| c == ',').trim_end().to_owned();
            return Ok(Requirement { key, operator, values: vec![value] });
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Requirement { key, operator: FieldOperator::Exists, values: Vec::new() });
        }
        let before = self.expected("=, ==, !=, in, notin, a comma or the end");
        match self.until(is_key_end) {
            "in" => Ok(Requirement { key, operator: FieldOperator::In, values: self.list()? }),
            "notin" => Ok(Requirement { key, operator: FieldOperator::NotIn, values: self.list()? }),
            "contains" => Ok(Requirement { key, operator: FieldOperator::Contains, values: vec![self.word()] }),
            "notcontains" => Ok(Requirement { key, operator: FieldOperator::NotContains, values: vec![self.word()] }),
            _ => Err(before),
        }
    }

    fn word(&mut self) -> String {
        self.skip_space();
        self.until(|c| c == ',').trim_end().to_owned()
    }

    /// `(a, b)`; at least one value, which may be empty.
    fn list(&mut self) -> Result<Vec<String>, SelectorParseError> {
        self.skip_space();
        if !self.take("(") {
            return Err(self.expected("("));
        }
        let mut values = Vec::new();
        loop {
            self.skip_space();
            values.push(self.until(|c| matches!(c, ',' | ')' | '(')).trim_end().to_owned());
            if values.len() > MAX_VALUES {
                return Err(SelectorParseError::TooLong);
            }
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(self.expected(") or a comma"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_model::{LabelSelector, Labels};
    use fleet_store::read_devices::FIELDS;
    use proptest::prelude::*;

    use super::*;

    fn print(expressions: &[MatchExpression]) -> String {
        let one = |e: &MatchExpression| {
            let values = e.values.clone().unwrap_or_default().join(",");
            match e.operator {
                MatchOperator::In => format!("{} in ({values})", e.key),
                MatchOperator::NotIn => format!("{} notin ( {values} )", e.key),
                MatchOperator::Exists => e.key.clone(),
                MatchOperator::DoesNotExist => format!("!{}", e.key),
            }
        };
        expressions.iter().map(one).collect::<Vec<_>>().join(" , ")
    }

    fn expression() -> impl Strategy<Value = MatchExpression> {
        let key = "([a-z]{1,8}\\.[a-z]{2}/)?[a-zA-Z0-9]([-_.a-z0-9]{0,6}[a-z0-9])?";
        let value = "([a-zA-Z0-9]([-_.a-z0-9]{0,6}[a-z0-9])?)?";
        (key, 0..4_u8, prop::collection::vec(value, 1..4)).prop_map(|(key, operator, values)| {
            let (operator, values) = match operator {
                0 => (MatchOperator::In, Some(values)),
                1 => (MatchOperator::NotIn, Some(values)),
                2 => (MatchOperator::Exists, None),
                _ => (MatchOperator::DoesNotExist, None),
            };
            MatchExpression { key, operator, values }
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(expressions in prop::collection::vec(expression(), 0..5)) {
            prop_assert_eq!(parse_label_selector(&print(&expressions)), Ok(expressions));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ a-z=!,()<>é\\.\"]{0,40}") {
            let _ = parse_label_selector(&text);
            let _ = parse_field_selector(&text, FIELDS);
        }

        #[test]
        fn what_parses_is_valid(text in "[a-c =!,()in]{0,24}") {
            if let Ok(expressions) = parse_label_selector(&text) && !expressions.is_empty() {
                let selector = LabelSelector { match_labels: None, match_expressions: Some(expressions) };
                prop_assert!(selector.validate().is_ok(), "{selector:?}");
            }
        }
    }

    #[test]
    fn the_syntax_of_kubernetes_is_read() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let device = labels(&[("site", "berlin"), ("stage", "prod")]);
        for (text, want) in [
            ("site=berlin", true),
            ("site==berlin,stage=test", false),
            ("site != paris", true),
            ("absent!=x", true),
            ("site in (paris, berlin),stage notin (test)", true),
            ("stage", true),
            ("!stage", false),
            ("! absent", true),
        ] {
            let selector =
                LabelSelector { match_labels: None, match_expressions: Some(parse_label_selector(text).unwrap()) };
            assert_eq!(selector.matches(&device), want, "{text}");
        }
        assert_eq!(parse_label_selector(" "), Ok(vec![]));
    }

    #[test]
    fn errors_name_the_place() {
        let message = |text| parse_label_selector(text).unwrap_err().to_string();
        assert_eq!(message("a=b,"), "at character 5: expected a key");
        assert_eq!(message("a in b"), "at character 6: expected (");
        assert_eq!(message("a in (b"), "at character 8: expected ) or a comma");
        assert_eq!(message("a b"), "at character 3: expected =, ==, !=, in, notin, a comma or the end");
        assert!(message("a=b c").contains("label value"), "{}", message("a=b c"));
        assert!(message("a>b").contains("labels can be compared"));
    }

    #[test]
    fn an_unknown_field_lists_the_supported_ones() {
        let error = parse_field_selector("spec.nonsense=1", FIELDS).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown field \"spec.nonsense\"; supported fields: metadata.name, metadata.owner"),
            "{error}"
        );
        assert!(
            parse_field_selector("status.summary.status in (Online,Unknown),lastSeen<2026-01-01T00:00:00Z", FIELDS)
                .is_ok()
        );
        assert!(
            parse_field_selector("lastSeen<yesterday", FIELDS)
                .unwrap_err()
                .to_string()
                .contains("2026-01-31T12:00:00Z")
        );
        assert!(parse_field_selector("metadata.name<b", FIELDS).is_err());
    }
}
