//! Splits a template into text and actions, and an action into tokens. Knows no grammar.

use std::ops::Range;

use super::TemplateError;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text, trim markers already applied.
    Text(Range<usize>),
    /// The tokens between `{{` and `}}`, and the span of the whole action.
    Action { tokens: Vec<Token>, span: Range<usize> },
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
    /// White space stands before it. Go's grammar depends on that: `.a.b` is one operand, `.a .b` are two.
    pub(super) spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// `.`
    Dot,
    /// `.name`, without the dot.
    Field(String),
    /// `$` (empty) or `$name`, without the dollar.
    Variable(String),
    /// A keyword or function.
    Word(String),
    Text(String),
    Int(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    /// `:=` or `=`.
    Assign,
    Comma,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Splits `source` into pieces. Comments vanish.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let bytes = source.as_bytes();
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let open = source[at..].find("{{").map(|offset| at + offset);
        let mut text = at..open.unwrap_or(source.len());
        if trim_next {
            text.start += bytes[text.clone()].iter().take_while(|b| is_space(**b)).count();
        }
        let Some(open) = open else {
            push_text(&mut pieces, text);
            return Ok(pieces);
        };
        let mut lexer = Lexer { source, at: open + 2, open };
        if bytes.get(lexer.at) == Some(&b'-') && bytes.get(lexer.at + 1).copied().is_some_and(is_space) {
            text.end -= bytes[text.clone()].iter().rev().take_while(|b| is_space(**b)).count();
            lexer.at += 2;
        }
        push_text(&mut pieces, text);
        if source[lexer.at..].starts_with("/*") {
            trim_next = lexer.comment()?;
        } else {
            let (tokens, trim) = lexer.action()?;
            trim_next = trim;
            pieces.push(Piece::Action { tokens, span: open..lexer.at });
        }
        at = lexer.at;
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: Range<usize>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

struct Lexer<'s> {
    source: &'s str,
    /// The next byte to read.
    at: usize,
    /// Where the action's `{{` is.
    open: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        let length = self.rest().find(|c| !wanted(c)).unwrap_or(self.source.len() - start);
        self.at += length;
        &self.source[start..self.at]
    }

    fn unclosed(&self) -> TemplateError {
        TemplateError::syntax("`{{` is never closed by `}}`", self.open..self.open + 2)
    }

    /// Skips a comment and its `}}`; gives whether the text after it is trimmed.
    fn comment(&mut self) -> Result<bool, TemplateError> {
        self.at += 2;
        let end = self
            .rest()
            .find("*/")
            .ok_or_else(|| TemplateError::syntax("the comment is never closed by `*/`", self.open..self.at))?;
        self.at += end + 2;
        if let Some(trim) = self.right_delimiter() {
            return Ok(trim);
        }
        Err(TemplateError::syntax("a comment must fill its placeholder: `{{/* … */}}`", self.open..self.at))
    }

    /// Reads `}}` or ` -}}` if it is next; gives whether it trims.
    fn right_delimiter(&mut self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            self.at += 2;
            return Some(false);
        }
        let bytes = rest.as_bytes();
        if bytes.first().copied().is_some_and(is_space) && rest[1..].starts_with("-}}") {
            self.at += 4;
            return Some(true);
        }
        None
    }

    fn action(&mut self) -> Result<(Vec<Token>, bool), TemplateError> {
        let mut tokens = Vec::new();
        let mut spaced = true;
        loop {
            if let Some(trim) = self.right_delimiter() {
                return Ok((tokens, trim));
            }
            let Some(c) = self.peek() else { return Err(self.unclosed()) };
            if matches!(c, ' ' | '\t' | '\r' | '\n') {
                self.at += 1;
                spaced = true;
                continue;
            }
            let start = self.at;
            let kind = self.token(c)?;
            tokens.push(Token { kind, span: start..self.at, spaced });
            spaced = false;
        }
    }

    fn token(&mut self, c: char) -> Result<TokenKind, TemplateError> {
        let next = self.rest().chars().nth(1);
        let single = match c {
            '|' => Some(TokenKind::Pipe),
            '(' => Some(TokenKind::Open),
            ')' => Some(TokenKind::Close),
            ',' => Some(TokenKind::Comma),
            '=' => Some(TokenKind::Assign),
            _ => None,
        };
        if let Some(kind) = single {
            self.at += 1;
            return Ok(kind);
        }
        match c {
            ':' if next == Some('=') => {
                self.at += 2;
                Ok(TokenKind::Assign)
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => Err(self.bad("a text is written in double quotes or backquotes", 1)),
            '.' if next.is_some_and(|n| n.is_ascii_digit()) => self.number(),
            '.' => {
                self.at += 1;
                let name = self.take_while(is_word).to_owned();
                self.terminated(&name)?;
                Ok(if name.is_empty() { TokenKind::Dot } else { TokenKind::Field(name) })
            }
            '$' => {
                self.at += 1;
                let name = self.take_while(is_word).to_owned();
                self.terminated("")?;
                Ok(TokenKind::Variable(name))
            }
            '+' | '-' | '0'..='9' => self.number(),
            _ if is_word(c) => {
                let word = self.take_while(is_word).to_owned();
                self.terminated("")?;
                Ok(TokenKind::Word(word))
            }
            _ => Err(self.bad(&format!("unexpected character {c:?}"), c.len_utf8())),
        }
    }

    fn bad(&self, message: &str, length: usize) -> TemplateError {
        TemplateError::syntax(message, self.at..self.at + length)
    }

    /// Checks that a word ends where it may end. `field` is its name when it is a field.
    fn terminated(&self, field: &str) -> Result<(), TemplateError> {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | '=' | ')' | '(') => Ok(()),
            Some('}') if self.rest().starts_with("}}") => Ok(()),
            Some(c @ ('-' | '/')) if !field.is_empty() => {
                let end = self.rest().find(|c: char| !(is_word(c) || matches!(c, '-' | '.' | '/')));
                let key = format!("{field}{}", &self.rest()[..end.unwrap_or(self.rest().len())]);
                let message = format!(
                    "{c:?} cannot stand in a field name; for a label key with '-' or '/' write: index .metadata.labels {key:?}"
                );
                Err(self.bad(&message, 1))
            }
            Some(c) => Err(self.bad(&format!("unexpected character {c:?}"), c.len_utf8())),
        }
    }

    fn number(&mut self) -> Result<TokenKind, TemplateError> {
        let start = self.at;
        if matches!(self.peek(), Some('+' | '-')) {
            self.at += 1;
        }
        let mut previous = ' ';
        while let Some(c) = self.peek() {
            let hex = self.source[start..self.at].contains(['x', 'X']);
            let sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !hex;
            if !(is_word(c) || c == '.' || sign) {
                break;
            }
            previous = c;
            self.at += c.len_utf8();
        }
        let text = &self.source[start..self.at];
        parse_number(text).ok_or_else(|| TemplateError::syntax(format!("{text:?} is not a number"), start..self.at))
    }

    fn raw(&mut self) -> Result<TokenKind, TemplateError> {
        let body = &self.rest()[1..];
        let Some(length) = body.find('`') else { return Err(self.bad("the backquoted text is never closed", 1)) };
        // As in Go: carriage returns in raw text are dropped.
        let text = body[..length].replace('\r', "");
        self.at += length + 2;
        Ok(TokenKind::Text(text))
    }

    fn quoted(&mut self) -> Result<TokenKind, TemplateError> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let Some(c) = self.peek().filter(|c| *c != '\n') else {
                return Err(TemplateError::syntax("the quoted text is never closed", start..start + 1));
            };
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(TokenKind::Text(text));
                }
                '\\' => text.push(self.escape()?),
                _ => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
    }

    /// One escape of a Go string; the next byte is the backslash.
    fn escape(&mut self) -> Result<char, TemplateError> {
        let rest = self.rest();
        let kind = rest.chars().nth(1).unwrap_or('\\');
        let (skip, digits, radix) = match kind {
            'x' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='7' => (1, 3, 8),
            _ => {
                let plain = match kind {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' if rest.len() > 1 && rest.as_bytes()[1] == b'\\' => '\\',
                    '"' => '"',
                    _ => return Err(self.bad("unknown escape in a quoted text", 1)),
                };
                self.at += 2;
                return Ok(plain);
            }
        };
        let decoded = rest
            .get(skip..skip + digits)
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| u32::from_str_radix(code, radix).ok())
            // \x and octal escapes name a byte; beyond ASCII that would be half a character.
            .filter(|code| matches!(kind, 'u' | 'U') || *code < 0x80)
            .and_then(char::from_u32);
        match decoded {
            Some(c) => {
                self.at += skip + digits;
                Ok(c)
            }
            None => Err(self.bad("this escape does not name a character", 1)),
        }
    }
}

fn parse_number(text: &str) -> Option<TokenKind> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = |digits: &str, radix| {
        if digits.starts_with(['+', '-']) {
            return None;
        }
        let sign = if negative { "-" } else { "" };
        i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(TokenKind::Int)
    };
    if let Some(hex) = lower.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = lower.strip_prefix("0o") {
        return radix(octal, 8);
    }
    if let Some(binary) = lower.strip_prefix("0b") {
        return radix(binary, 2);
    }
    if lower.bytes().all(|b| b.is_ascii_digit()) {
        return if lower.len() > 1 && lower.starts_with('0') { radix(&lower[1..], 8) } else { radix(&lower, 10) };
    }
    if !lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-')) {
        return None;
    }
    let number: f64 = lower.parse().ok()?;
    number.is_finite().then_some(TokenKind::Float(if negative { -number } else { number }))
}
