//! Filters and pages of the read queries: requirements on labels and on named fields become SQL here.

use fleet_model::{MatchExpression, MatchOperator};
use jiff_sqlx::ToSqlx as _;
use sqlx::{Postgres, QueryBuilder};

/// A field that lists can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    name: &'static str,
    sql: &'static str,
    kind: FieldKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Text,
    Time,
}

impl Field {
    /// A field whose SQL expression gives text.
    pub(crate) const fn text(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, kind: FieldKind::Text }
    }

    /// A field whose SQL expression gives a time.
    pub(crate) const fn time(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, kind: FieldKind::Time }
    }

    /// The field's name on the API, such as `status.summary.status`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOperator {
    /// One of the values (one value: equality).
    In,
    /// None of the values; an absent field has none.
    NotIn,
    /// Holds the value as a part.
    Contains,
    /// Does not hold the value as a part.
    NotContains,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Earlier than the value.
    Before,
    /// Earlier than or at the value.
    NotAfter,
    /// Later than the value.
    After,
    /// Later than or at the value.
    NotBefore,
}

/// Why a requirement on a field is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The operator does not fit the field's type.
    #[error("field {field} cannot be compared this way: it holds {holds}")]
    Operator {
        /// The field's name.
        field: &'static str,
        /// What the field holds.
        holds: &'static str,
    },
    /// A value holds a NUL character.
    #[error("field {field}: a value cannot hold the character U+0000")]
    Nul {
        /// The field's name.
        field: &'static str,
    },
    /// The value is not a time.
    #[error("field {field} holds a time; {value:?} is not one (write it as 2026-01-31T12:00:00Z)")]
    Time {
        /// The field's name.
        field: &'static str,
        /// The value.
        value: String,
    },
}

/// One requirement on one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldRequirement {
    field: Field,
    operator: FieldOperator,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(Vec<String>),
    Times(Vec<jiff::Timestamp>),
}

impl FieldRequirement {
    /// A requirement; the values are read as the field's type.
    ///
    /// # Errors
    /// When the operator or a value does not fit the field's type.
    pub fn new(field: Field, operator: FieldOperator, values: Vec<String>) -> Result<Self, FieldError> {
        use FieldOperator::{
            After, Before, Contains, DoesNotExist, Exists, In, NotAfter, NotBefore, NotContains, NotIn,
        };
        let fits =
            match (field.kind, operator) {
                (_, In | NotIn | Exists | DoesNotExist) => true,
                (FieldKind::Text, Contains | NotContains)
                | (FieldKind::Time, Before | NotAfter | After | NotBefore) => true,
                (FieldKind::Time, Contains | NotContains)
                | (FieldKind::Text, Before | NotAfter | After | NotBefore) => false,
            };
        if !fits {
            let holds = match field.kind {
                FieldKind::Text => "text",
                FieldKind::Time => "a time",
            };
            return Err(FieldError::Operator { field: field.name, holds });
        }
        if values.iter().any(|value| value.contains('\0')) {
            return Err(FieldError::Nul { field: field.name });
        }
        let values = match field.kind {
            FieldKind::Text => Values::Text(values),
            FieldKind::Time => Values::Times(
                values
                    .into_iter()
                    .map(|value| match value.parse::<jiff::Timestamp>() {
                        // Years that the database knows, too.
                        Ok(time) if time.as_second().unsigned_abs() < 100_000_000_000 => Ok(time),
                        Ok(_) | Err(_) => Err(FieldError::Time { field: field.name, value }),
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self { field, operator, values })
    }

    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        let sql = self.field.sql;
        let (before, after) = match self.operator {
            FieldOperator::In => (format!(" and {sql} = any("), ")"),
            FieldOperator::NotIn => (format!(" and not coalesce({sql} = any("), "), false)"),
            FieldOperator::Contains => (format!(" and strpos({sql}, "), ") > 0"),
            FieldOperator::NotContains => (format!(" and not coalesce(strpos({sql}, "), ") > 0, false)"),
            FieldOperator::Exists => {
                query.push(format_args!(" and {sql} is not null"));
                return;
            }
            FieldOperator::DoesNotExist => {
                query.push(format_args!(" and {sql} is null"));
                return;
            }
            FieldOperator::Before => (format!(" and {sql} < all("), ")"),
            FieldOperator::NotAfter => (format!(" and {sql} <= all("), ")"),
            FieldOperator::After => (format!(" and {sql} > all("), ")"),
            FieldOperator::NotBefore => (format!(" and {sql} >= all("), ")"),
        };
        query.push(before);
        let one = matches!(self.operator, FieldOperator::Contains | FieldOperator::NotContains);
        match &self.values {
            Values::Text(values) if one => query.push_bind(values.first().cloned().unwrap_or_default()),
            Values::Text(values) => query.push_bind(values.clone()),
            Values::Times(values) => query.push_bind(values.iter().map(|t| t.to_sqlx()).collect::<Vec<_>>()),
        };
        query.push(after);
    }
}

/// Which rows a list wants.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Requirements on labels; all must hold. Empty: no requirement.
    pub labels: Vec<MatchExpression>,
    /// Requirements on fields; all must hold.
    pub fields: Vec<FieldRequirement>,
    /// The name that the page before ended with.
    pub after: Option<String>,
    /// The most rows to return, 1 to 1000.
    pub limit: u16,
}

impl ListQuery {
    /// Everything, in one page of 1000.
    pub fn all() -> Self {
        Self { limit: 1000, ..Self::default() }
    }

    /// The one row of this name.
    pub(crate) fn named(field: Field, name: &str) -> Self {
        let only = FieldRequirement { field, operator: FieldOperator::In, values: Values::Text(vec![name.to_owned()]) };
        Self { fields: vec![only], limit: 1, ..Self::default() }
    }

    /// Appends the conditions on labels (held by `labels_sql`) and fields.
    pub(crate) fn push_filter(&self, query: &mut QueryBuilder<Postgres>, labels_sql: &str) {
        for expression in &self.labels {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            match expression.operator {
                MatchOperator::In if values.len() == 1 => {
                    let mut object = serde_json::Map::new();
                    object.insert(key, serde_json::Value::String(values.into_iter().next().unwrap_or_default()));
                    query.push(format_args!(" and {labels_sql} @> ")).push_bind(serde_json::Value::Object(object));
                }
                MatchOperator::In => {
                    query.push(format_args!(" and {labels_sql} ->> ")).push_bind(key);
                    query.push(" = any(").push_bind(values).push(")");
                }
                MatchOperator::NotIn => {
                    query.push(format_args!(" and not coalesce({labels_sql} ->> ")).push_bind(key);
                    query.push(" = any(").push_bind(values).push("), false)");
                }
                MatchOperator::Exists => {
                    query.push(format_args!(" and {labels_sql} ->> ")).push_bind(key).push(" is not null");
                }
                MatchOperator::DoesNotExist => {
                    query.push(format_args!(" and {labels_sql} ->> ")).push_bind(key).push(" is null");
                }
            }
        }
        for requirement in &self.fields {
            requirement.push(query);
        }
    }

    /// Appends where the page begins, its order and its size: one row more than asked for, to know whether more follow.
    pub(crate) fn push_page(&self, query: &mut QueryBuilder<Postgres>, name_sql: &str) {
        if let Some(after) = &self.after {
            query.push(format_args!(" and {name_sql} > ")).push_bind(after.clone());
        }
        query.push(format_args!(" order by {name_sql} limit {}", i64::from(self.limit) + 1));
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether more rows follow.
    pub more: bool,
}

impl<T> Page<T> {
    pub(crate) fn cut(mut items: Vec<T>, limit: u16) -> Self {
        let more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        Self { items, more }
    }
}
