//! Label selectors: which devices belong to a fleet. Both `matchLabels` and `matchExpressions` count, and all must hold.

use serde::{Deserialize, Serialize};

use crate::{LabelError, Labels, validate_label_key, validate_label_value};

/// Selects by labels. A selector with neither part selects nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be present with exactly these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<Labels>,
    /// Expressions that must all hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<MatchExpression>>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchExpression {
    /// The label's key.
    pub key: String,
    /// How the label is compared.
    pub operator: MatchOperator,
    /// The values for `In` and `NotIn`; empty for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MatchOperator {
    /// The label is present with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// Why a selector is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Neither part is given.
    #[error("a selector needs matchLabels or matchExpressions; an empty one selects nothing")]
    Empty,
    /// A key or value breaks the label rules.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// `In` or `NotIn` without values.
    #[error("operator {operator:?} on key {key:?} needs at least one value")]
    MissingValues {
        /// The label's key.
        key: String,
        /// The operator.
        operator: MatchOperator,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("operator {operator:?} on key {key:?} takes no values")]
    UnexpectedValues {
        /// The label's key.
        key: String,
        /// The operator.
        operator: MatchOperator,
    },
}

impl LabelSelector {
    /// Selects devices with exactly these labels.
    pub fn of_labels(labels: Labels) -> Self {
        Self { match_labels: Some(labels), match_expressions: None }
    }

    /// Whether neither part has an entry: selects nothing.
    pub fn is_empty(&self) -> bool {
        self.match_labels.as_ref().is_none_or(Labels::is_empty)
            && self.match_expressions.as_ref().is_none_or(Vec::is_empty)
    }

    /// Whether `labels` satisfy every requirement. An empty selector matches nothing.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.is_empty()
            && self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().flatten().all(|expression| expression.matches(labels))
    }

    /// Checks the label rules and the shape of every expression.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), SelectorError> {
        if self.is_empty() {
            return Err(SelectorError::Empty);
        }
        for (key, value) in self.match_labels.iter().flatten() {
            validate_label_key(key)?;
            validate_label_value(value)?;
        }
        self.match_expressions.iter().flatten().try_for_each(MatchExpression::validate)
    }
}

impl MatchExpression {
    fn values(&self) -> &[String] {
        self.values.as_deref().unwrap_or_default()
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            MatchOperator::In => value.is_some_and(|v| self.values().contains(v)),
            MatchOperator::NotIn => value.is_none_or(|v| !self.values().contains(v)),
            MatchOperator::Exists => value.is_some(),
            MatchOperator::DoesNotExist => value.is_none(),
        }
    }

    fn validate(&self) -> Result<(), SelectorError> {
        validate_label_key(&self.key)?;
        let (key, operator) = (self.key.clone(), self.operator);
        match operator {
            MatchOperator::In | MatchOperator::NotIn if self.values().is_empty() => {
                Err(SelectorError::MissingValues { key, operator })
            }
            MatchOperator::Exists | MatchOperator::DoesNotExist if !self.values().is_empty() => {
                Err(SelectorError::UnexpectedValues { key, operator })
            }
            MatchOperator::In | MatchOperator::NotIn | MatchOperator::Exists | MatchOperator::DoesNotExist => {
                self.values().iter().try_for_each(|v| validate_label_value(v)).map_err(SelectorError::from)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn expression(key: &str, operator: MatchOperator, values: &[&str]) -> MatchExpression {
        MatchExpression {
            key: key.to_owned(),
            operator,
            values: (!values.is_empty()).then(|| values.iter().map(|v| (*v).to_owned()).collect()),
        }
    }

    #[test]
    fn an_empty_selector_matches_nothing() {
        assert!(!LabelSelector::default().matches(&labels(&[("a", "b")])));
        assert_eq!(LabelSelector::default().validate(), Err(SelectorError::Empty));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        use MatchOperator::{DoesNotExist, Exists, In, NotIn};
        let device = labels(&[("site", "berlin"), ("stage", "prod")]);
        let cases = [
            (expression("site", In, &["berlin", "paris"]), true),
            (expression("site", In, &["paris"]), false),
            (expression("absent", In, &["x"]), false),
            (expression("site", NotIn, &["paris"]), true),
            (expression("absent", NotIn, &["x"]), true),
            (expression("site", NotIn, &["berlin"]), false),
            (expression("site", Exists, &[]), true),
            (expression("absent", Exists, &[]), false),
            (expression("absent", DoesNotExist, &[]), true),
            (expression("site", DoesNotExist, &[]), false),
        ];
        for (expression, want) in cases {
            let selector = LabelSelector {
                match_labels: Some(labels(&[("stage", "prod")])),
                match_expressions: Some(vec![expression.clone()]),
            };
            assert_eq!(selector.matches(&device), want, "{expression:?}");
            let other_stage = LabelSelector { match_labels: Some(labels(&[("stage", "test")])), ..selector };
            assert!(!other_stage.matches(&device), "{expression:?}");
        }
    }

    #[test]
    fn the_shape_of_an_expression_is_checked() {
        let of = |e| LabelSelector { match_labels: None, match_expressions: Some(vec![e]) }.validate();
        assert!(matches!(of(expression("a", MatchOperator::In, &[])), Err(SelectorError::MissingValues { .. })));
        assert!(matches!(
            of(expression("a", MatchOperator::Exists, &["x"])),
            Err(SelectorError::UnexpectedValues { .. })
        ));
        assert!(matches!(of(expression("a b", MatchOperator::Exists, &[])), Err(SelectorError::Label(_))));
    }
}
