//! Evaluates a parsed template for one device. Work is metered: every call costs the bytes it reads and makes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use fleet_model::Labels;

use super::functions::{self, Function};
use super::parser::{Expr, ExprKind, Node};
use super::{MAX_OUTPUT_BYTES, Subject, TemplateError, TemplateErrorKind};

/// Work allowed for one evaluation, in bytes touched.
const MAX_WORK: usize = 32 << 20;

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Labels(&'a Labels),
    /// A reference to a label that the device lacks: false as a condition, an error as a value.
    Missing {
        label: &'a str,
        span: Range<usize>,
    },
}

impl Value<'_> {
    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Bool(truth) => *truth,
            Self::Labels(labels) => !labels.is_empty(),
            Self::Missing { .. } => false,
        }
    }

    /// The kind of value, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Missing { .. } => "text",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::Labels(_) => "all labels",
        }
    }

    /// Appends the value as Go prints it.
    pub(super) fn print(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Int(number) => write!(out, "{number}").expect("a String takes every write"),
            Self::Float(number) => print_float(*number, out),
            Self::Bool(truth) => write!(out, "{truth}").expect("a String takes every write"),
            Self::Labels(labels) => {
                let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                write!(out, "map[{}]", pairs.join(" ")).expect("a String takes every write");
            }
            Self::Missing { .. } => {}
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Labels(_) | Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Missing { .. } => 8,
        }
    }
}

/// Go's `%v`: the shortest digits, with an exponent below 1e-4 and from 1e21.
fn print_float(number: f64, out: &mut String) {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        write!(out, "{number}").expect("a String takes every write");
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs()).expect("a String takes every write");
    }
}

/// The text for `subject`.
pub(super) fn evaluate(source: &str, nodes: &[Node], subject: &Subject<'_>) -> Result<String, TemplateError> {
    let mut run = Run { source, subject: *subject, work: MAX_WORK, out: String::new() };
    run.nodes(nodes, None)?;
    Ok(run.out)
}

struct Run<'a> {
    source: &'a str,
    subject: Subject<'a>,
    work: usize,
    out: String,
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: Option<&Value<'a>>) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(range) => {
                    self.out.push_str(&self.source[range.clone()]);
                    self.check_output(range)?;
                }
                Node::Print(expr) => {
                    let value = self.present(expr, dot)?;
                    value.print(&mut self.out);
                    self.check_output(&expr.span)?;
                }
                Node::Choice { arms, otherwise } => {
                    let mut chosen = (otherwise.as_slice(), None);
                    for arm in arms {
                        let value = self.value(&arm.condition, dot)?;
                        if value.is_true() {
                            chosen = (arm.body.as_slice(), arm.rebinds.then_some(value));
                            break;
                        }
                    }
                    self.nodes(chosen.0, chosen.1.as_ref().or(dot))?;
                }
            }
        }
        Ok(())
    }

    fn check_output(&self, span: &Range<usize>) -> Result<(), TemplateError> {
        if self.out.len() <= MAX_OUTPUT_BYTES {
            return Ok(());
        }
        let message = format!("the result is longer than {MAX_OUTPUT_BYTES} bytes");
        Err(TemplateError::new(TemplateErrorKind::Limit, message, span.clone()))
    }

    fn spend(&mut self, bytes: usize, span: &Range<usize>) -> Result<(), TemplateError> {
        match self.work.checked_sub(bytes) {
            Some(left) => {
                self.work = left;
                Ok(())
            }
            None => {
                let message = "the template takes too much work; replace or print shorter texts";
                Err(TemplateError::new(TemplateErrorKind::Limit, message, span.clone()))
            }
        }
    }

    /// A value that is there.
    fn present(&mut self, expr: &'a Expr, dot: Option<&Value<'a>>) -> Result<Value<'a>, TemplateError> {
        match self.value(expr, dot)? {
            Value::Missing { label, span } => Err(TemplateError::missing_label(label, span)),
            value @ (Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Labels(_)) => Ok(value),
        }
    }

    fn value(&mut self, expr: &'a Expr, dot: Option<&Value<'a>>) -> Result<Value<'a>, TemplateError> {
        self.spend(16, &expr.span)?;
        Ok(match &expr.kind {
            ExprKind::Text(text) => Value::Text(Cow::Borrowed(text)),
            ExprKind::Int(number) => Value::Int(*number),
            ExprKind::Float(number) => Value::Float(*number),
            ExprKind::Bool(truth) => Value::Bool(*truth),
            ExprKind::Name => Value::Text(Cow::Borrowed(self.subject.name)),
            ExprKind::Labels => Value::Labels(self.subject.labels),
            ExprKind::Label(label) => match self.subject.labels.get(label) {
                Some(value) => Value::Text(Cow::Borrowed(value)),
                None => Value::Missing { label, span: expr.span.clone() },
            },
            ExprKind::Dot => {
                let dot = dot.ok_or_else(|| TemplateError::syntax("`.` outside `with`", expr.span.clone()))?;
                self.spend(dot.size(), &expr.span)?;
                dot.clone()
            }
            ExprKind::Call { function, arguments } => return self.call(*function, arguments, &expr.span, dot),
        })
    }

    fn call(
        &mut self,
        function: Function,
        arguments: &'a [Expr],
        span: &Range<usize>,
        dot: Option<&Value<'a>>,
    ) -> Result<Value<'a>, TemplateError> {
        if matches!(function, Function::And | Function::Or | Function::Not) {
            let mut last = Value::Bool(false);
            for argument in arguments {
                last = self.value(argument, dot)?;
                let stop = if function == Function::And { !last.is_true() } else { last.is_true() };
                if stop {
                    break;
                }
            }
            return Ok(if function == Function::Not { Value::Bool(!last.is_true()) } else { last });
        }
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let value = self.present(argument, dot)?;
            self.spend(value.size(), span)?;
            values.push(value);
        }
        let result = functions::call(function, values, span)?;
        self.spend(result.size(), span)?;
        Ok(result)
    }
}
