//! The functions that templates can call, with the meaning they have in Go.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::eval::Value;
use super::{MAX_OUTPUT_BYTES, TemplateError, TemplateErrorKind};

/// The names of all functions, for messages and documentation.
pub const FUNCTIONS: [&str; 18] = [
    "and",
    "eq",
    "ge",
    "getOrDefault",
    "gt",
    "index",
    "le",
    "len",
    "lower",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "replace",
    "upper",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Upper,
    Lower,
    Replace,
    GetOrDefault,
    Index,
    Len,
    Print,
    Println,
    Printf,
}

impl Function {
    /// The least and greatest number of arguments.
    fn count(self) -> (usize, usize) {
        match self {
            Self::And | Self::Or | Self::Printf => (1, usize::MAX),
            Self::Print | Self::Println => (0, usize::MAX),
            Self::Not | Self::Upper | Self::Lower | Self::Len => (1, 1),
            Self::Eq => (2, usize::MAX),
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge | Self::Index => (2, 2),
            Self::Replace | Self::GetOrDefault => (3, 3),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Not => "not",
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Upper => "upper",
            Self::Lower => "lower",
            Self::Replace => "replace",
            Self::GetOrDefault => "getOrDefault",
            Self::Index => "index",
            Self::Len => "len",
            Self::Print => "print",
            Self::Println => "println",
            Self::Printf => "printf",
        }
    }
}

pub(super) fn find(word: &str, span: &Range<usize>) -> Result<Function, TemplateError> {
    Ok(match word {
        "and" => Function::And,
        "or" => Function::Or,
        "not" => Function::Not,
        "eq" => Function::Eq,
        "ne" => Function::Ne,
        "lt" => Function::Lt,
        "le" => Function::Le,
        "gt" => Function::Gt,
        "ge" => Function::Ge,
        "upper" => Function::Upper,
        "lower" => Function::Lower,
        "replace" => Function::Replace,
        "getOrDefault" => Function::GetOrDefault,
        "index" => Function::Index,
        "len" => Function::Len,
        "print" => Function::Print,
        "println" => Function::Println,
        "printf" => Function::Printf,
        "call" | "html" | "js" | "slice" | "urlquery" => {
            return Err(TemplateError::unsupported(format!("the function `{word}` is not supported"), span.clone()));
        }
        "if" | "with" | "else" | "end" | "range" | "define" | "template" | "block" | "break" | "continue" => {
            return Err(TemplateError::syntax(format!("`{word}` must come first in its placeholder"), span.clone()));
        }
        _ => {
            let message = format!("there is no function `{word}`; there are {}", FUNCTIONS.join(", "));
            return Err(TemplateError::syntax(message, span.clone()));
        }
    })
}

pub(super) fn check_count(function: Function, given: usize, span: &Range<usize>) -> Result<(), TemplateError> {
    let (least, most) = function.count();
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let wanted = if least == most { format!("{least}") } else { format!("at least {least}") };
    let plural = if wanted.ends_with('1') { "argument" } else { "arguments" };
    let message = format!("`{}` takes {wanted} {plural}, got {given}", function.name());
    Err(TemplateError::syntax(message, span.clone()))
}

/// Calls a function other than `and`, `or` and `not`. `arguments` hold no missing label.
pub(super) fn call<'a>(
    function: Function,
    arguments: Vec<Value<'a>>,
    span: &Range<usize>,
) -> Result<Value<'a>, TemplateError> {
    let call = Call { function, span };
    match function {
        Function::And | Function::Or | Function::Not => Err(call.wrong("conditions are evaluated elsewhere")),
        Function::Eq | Function::Ne => {
            let mut equal = false;
            let [first, others @ ..] = arguments.as_slice() else { return Err(call.wrong("arguments are missing")) };
            for other in others {
                equal |= call.compare(first, other)? == Some(Ordering::Equal);
            }
            Ok(Value::Bool(equal == (function == Function::Eq)))
        }
        Function::Lt => call.order(&arguments, &[Ordering::Less]),
        Function::Le => call.order(&arguments, &[Ordering::Less, Ordering::Equal]),
        Function::Gt => call.order(&arguments, &[Ordering::Greater]),
        Function::Ge => call.order(&arguments, &[Ordering::Greater, Ordering::Equal]),
        Function::Upper => Ok(text(call.text(&arguments, 0)?.chars().map(upper).collect())),
        Function::Lower => Ok(text(call.text(&arguments, 0)?.chars().map(lower).collect())),
        Function::Replace => {
            let [old, new, whole] = [call.text(&arguments, 0)?, call.text(&arguments, 1)?, call.text(&arguments, 2)?];
            call.replace(old, new, whole)
        }
        Function::GetOrDefault => {
            let key = call.text(&arguments, 1)?;
            call.text(&arguments, 2)?;
            match arguments.first() {
                Some(Value::Labels(labels)) => match labels.get(key) {
                    Some(value) => Ok(Value::Text(Cow::Borrowed(value.as_str()))),
                    None => Ok(arguments.into_iter().nth(2).unwrap_or(Value::Bool(false))),
                },
                _ => Err(call.wrong("the first argument must be .metadata.labels")),
            }
        }
        Function::Index => {
            let key = call.text(&arguments, 1)?;
            match arguments.first() {
                Some(Value::Labels(labels)) => {
                    Ok(Value::Text(Cow::Borrowed(labels.get(key).map_or("", String::as_str))))
                }
                _ => Err(call.wrong("the first argument must be .metadata.labels")),
            }
        }
        Function::Len => match arguments.first() {
            Some(Value::Text(text)) => Ok(Value::Int(i64::try_from(text.len()).unwrap_or(i64::MAX))),
            Some(Value::Labels(labels)) => Ok(Value::Int(i64::try_from(labels.len()).unwrap_or(i64::MAX))),
            _ => Err(call.wrong("the argument must be text or .metadata.labels")),
        },
        Function::Print => Ok(text(call.print(&arguments, false)?)),
        Function::Println => Ok(text(call.print(&arguments, true)?)),
        Function::Printf => call.printf(&arguments),
    }
}

fn text<'a>(owned: String) -> Value<'a> {
    Value::Text(Cow::Owned(owned))
}

/// Go maps characters one to one; those that would become several stay as they are.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

struct Call<'s> {
    function: Function,
    span: &'s Range<usize>,
}

impl Call<'_> {
    fn wrong(&self, problem: &str) -> TemplateError {
        TemplateError::argument(format!("`{}`: {problem}", self.function.name()), self.span.clone())
    }

    fn text<'v>(&self, arguments: &'v [Value<'_>], index: usize) -> Result<&'v str, TemplateError> {
        match arguments.get(index) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(self.wrong(&format!("argument {} must be text", index + 1))),
        }
    }

    /// The order of two values of one type; `None` for numbers without one.
    fn compare(&self, left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, TemplateError> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
            (Value::Int(left), Value::Int(right)) => Ok(Some(left.cmp(right))),
            (Value::Float(left), Value::Float(right)) => Ok(left.partial_cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Ok(Some(left.cmp(right))),
            _ => Err(self.wrong(&format!("{} and {} cannot be compared; labels are text", left.noun(), right.noun()))),
        }
    }

    fn order<'a>(&self, arguments: &[Value<'a>], wanted: &[Ordering]) -> Result<Value<'a>, TemplateError> {
        let [left, right] = arguments else { return Err(self.wrong("two arguments are needed")) };
        if matches!(left, Value::Bool(_)) {
            return Err(self.wrong("true and false have no order"));
        }
        let order = self.compare(left, right)?;
        Ok(Value::Bool(order.is_some_and(|order| wanted.contains(&order))))
    }

    /// The size is known before the text is made: a replacement can multiply its input.
    fn replace<'a>(&self, old: &str, new: &str, whole: &str) -> Result<Value<'a>, TemplateError> {
        let matches = whole.matches(old).count();
        let size = matches.saturating_mul(new.len()).saturating_add(whole.len() - matches * old.len());
        if size > MAX_OUTPUT_BYTES {
            let message = format!("`replace` would give {size} bytes; at most {MAX_OUTPUT_BYTES} are allowed");
            return Err(TemplateError::new(TemplateErrorKind::Limit, message, self.span.clone()));
        }
        Ok(text(whole.replace(old, new)))
    }

    fn print(&self, arguments: &[Value<'_>], line: bool) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut previous: Option<&Value<'_>> = None;
        for value in arguments {
            // As in Go: `print` puts a space between two values that are both not text, `println` always.
            let is_text = |value: &Value<'_>| matches!(value, Value::Text(_));
            if previous.is_some_and(|previous| line || !(is_text(previous) || is_text(value))) {
                out.push(' ');
            }
            value.print(&mut out);
            self.bounded(&out)?;
            previous = Some(value);
        }
        if line {
            out.push('\n');
        }
        Ok(out)
    }

    fn bounded(&self, out: &str) -> Result<(), TemplateError> {
        if out.len() <= MAX_OUTPUT_BYTES {
            return Ok(());
        }
        let message = format!("`{}` gives more than {MAX_OUTPUT_BYTES} bytes", self.function.name());
        Err(TemplateError::new(TemplateErrorKind::Limit, message, self.span.clone()))
    }

    /// `%s`, `%v`, `%d` and `%%`, without flags or widths.
    fn printf<'a>(&self, arguments: &[Value<'_>]) -> Result<Value<'a>, TemplateError> {
        let format = self.text(arguments, 0)?;
        let mut values = arguments[1..].iter();
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let verb = chars.next();
            if verb == Some('%') {
                out.push('%');
                continue;
            }
            let value = values.next().ok_or_else(|| self.wrong("there are fewer values than verbs"))?;
            match (verb, value) {
                (Some('s'), Value::Text(_)) | (Some('v'), _) | (Some('d'), Value::Int(_)) => value.print(&mut out),
                (Some('s' | 'd'), _) => {
                    return Err(self.wrong(&format!("{} does not fit its verb; %v takes any value", value.noun())));
                }
                _ => return Err(self.wrong("only the verbs %s, %d, %v and %% are supported, without flags or widths")),
            }
            self.bounded(&out)?;
        }
        match values.next() {
            None => Ok(text(out)),
            Some(_) => Err(self.wrong("there are more values than verbs")),
        }
    }
}
