//! Tokens to a tree. Everything that can be refused without a device is refused here: unknown names, wrong numbers of
//! arguments, loops, variables, and paths other than name and labels.

use std::ops::Range;

use super::functions::{self, Function};
use super::lexer::{self, Piece, Token, TokenKind};
use super::{Inputs, MAX_ACTIONS, MAX_NESTING, MAX_STAGES, TemplateError, TemplateErrorKind};

#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Bytes of the source.
    Text(Range<usize>),
    /// Prints a value.
    Print(Expr),
    /// `if` or `with`: the first arm whose condition holds, else the last body.
    Choice { arms: Vec<Arm>, otherwise: Vec<Node> },
}

#[derive(Debug, Clone)]
pub(super) struct Arm {
    /// `with`: the condition's value becomes the dot of the body.
    pub(super) rebinds: bool,
    pub(super) condition: Expr,
    pub(super) body: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum ExprKind {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// `.metadata.name`
    Name,
    /// `.metadata.labels`
    Labels,
    /// `.metadata.labels.<key>`
    Label(String),
    /// `.` inside `with`.
    Dot,
    Call {
        function: Function,
        arguments: Vec<Expr>,
    },
}

/// Parses a whole template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = lexer::pieces(source)?;
    let actions = pieces.iter().filter(|piece| matches!(piece, Piece::Action { .. })).count();
    if actions > MAX_ACTIONS {
        let message = format!("the text has {actions} placeholders; at most {MAX_ACTIONS} are allowed");
        return Err(TemplateError::new(TemplateErrorKind::Limit, message, 0..0));
    }
    let mut parser = Parser { pieces: pieces.into_iter() };
    let (nodes, end) = parser.body(0, true)?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(TemplateError::syntax(format!("`{}` without `if` or `with` before it", end.word()), end.span)),
    }
}

/// What closed a body.
struct Ending {
    kind: EndingKind,
    span: Range<usize>,
}

enum EndingKind {
    End,
    Else,
    /// `else if` and `else with`, with the tokens of the condition.
    ElseArm {
        rebinds: bool,
        tokens: Vec<Token>,
    },
}

impl Ending {
    fn word(&self) -> &'static str {
        match self.kind {
            EndingKind::End => "end",
            EndingKind::Else | EndingKind::ElseArm { .. } => "else",
        }
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
}

impl Parser {
    /// Nodes up to the end of the text or of the enclosing block. `root`: the dot is the device.
    fn body(&mut self, depth: usize, root: bool) -> Result<(Vec<Node>, Option<Ending>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, span) = match piece {
                Piece::Text(range) => {
                    nodes.push(Node::Text(range));
                    continue;
                }
                Piece::Action { tokens, span } => (tokens, span),
            };
            let word = match tokens.first().map(|token| &token.kind) {
                Some(TokenKind::Word(word)) => word.as_str(),
                _ => "",
            };
            match word {
                "if" | "with" => {
                    let rebinds = word == "with";
                    nodes.push(self.choice(rebinds, &tokens[1..], span, depth + 1, root)?);
                }
                "end" => {
                    nothing_more(&tokens[1..], "end")?;
                    return Ok((nodes, Some(Ending { kind: EndingKind::End, span })));
                }
                "else" => return Ok((nodes, Some(Ending { kind: else_kind(&tokens)?, span }))),
                "range" | "define" | "template" | "block" | "break" | "continue" => {
                    let message = format!("`{word}` is not supported; use `if`, `with` and the functions");
                    return Err(TemplateError::unsupported(message, tokens[0].span.clone()));
                }
                _ => nodes.push(Node::Print(pipeline(&tokens, &span, root)?)),
            }
        }
        Ok((nodes, None))
    }

    fn choice(
        &mut self,
        rebinds: bool,
        tokens: &[Token],
        span: Range<usize>,
        depth: usize,
        root: bool,
    ) -> Result<Node, TemplateError> {
        if depth > MAX_NESTING {
            let message = format!("blocks are nested more than {MAX_NESTING} deep");
            return Err(TemplateError::new(TemplateErrorKind::Limit, message, span));
        }
        let word = if rebinds { "with" } else { "if" };
        let mut arms = Vec::new();
        let mut condition = pipeline(tokens, &span, root)?;
        loop {
            let (body, ending) = self.body(depth, root && !rebinds)?;
            arms.push(Arm { rebinds, condition, body });
            let unclosed = || TemplateError::syntax(format!("`{word}` is never closed by `{{{{end}}}}`"), span.clone());
            let ending = ending.ok_or_else(unclosed)?;
            match ending.kind {
                EndingKind::End => return Ok(Node::Choice { arms, otherwise: Vec::new() }),
                EndingKind::Else => {
                    let (otherwise, last) = self.body(depth, root)?;
                    let last = last.ok_or_else(unclosed)?;
                    return match last.kind {
                        EndingKind::End => Ok(Node::Choice { arms, otherwise }),
                        EndingKind::Else | EndingKind::ElseArm { .. } => {
                            Err(TemplateError::syntax("a second `else` in one block", last.span))
                        }
                    };
                }
                EndingKind::ElseArm { rebinds: other, .. } if other != rebinds => {
                    let message = format!("`{word}` continues with `else {word}` or `else`");
                    return Err(TemplateError::syntax(message, ending.span));
                }
                EndingKind::ElseArm { tokens, .. } => condition = pipeline(&tokens, &ending.span, root)?,
            }
        }
    }
}

fn else_kind(tokens: &[Token]) -> Result<EndingKind, TemplateError> {
    match tokens.get(1).map(|token| &token.kind) {
        Some(TokenKind::Word(word)) if word == "if" || word == "with" => {
            Ok(EndingKind::ElseArm { rebinds: word == "with", tokens: tokens[2..].to_vec() })
        }
        _ => nothing_more(&tokens[1..], "else").map(|()| EndingKind::Else),
    }
}

fn nothing_more(tokens: &[Token], word: &str) -> Result<(), TemplateError> {
    match tokens.first() {
        None => Ok(()),
        Some(token) => Err(TemplateError::syntax(format!("nothing may follow `{word}`"), token.span.clone())),
    }
}

/// A whole action as one pipeline.
fn pipeline(tokens: &[Token], action: &Range<usize>, root: bool) -> Result<Expr, TemplateError> {
    if let Some(assign) = tokens.iter().find(|token| token.kind == TokenKind::Assign) {
        return Err(TemplateError::unsupported(
            "variables are not supported; write the value where it is used",
            assign.span.clone(),
        ));
    }
    let mut expressions = Expressions { tokens, at: 0, root, action };
    let expr = expressions.pipeline(0)?;
    match tokens.get(expressions.at) {
        None => Ok(expr),
        Some(token) => Err(TemplateError::syntax("`)` without `(` before it", token.span.clone())),
    }
}

struct Expressions<'t> {
    tokens: &'t [Token],
    at: usize,
    root: bool,
    action: &'t Range<usize>,
}

impl Expressions<'_> {
    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// Commands joined by `|`, up to `)` or the end.
    fn pipeline(&mut self, depth: usize) -> Result<Expr, TemplateError> {
        let mut value = self.command(depth, None)?;
        let mut stages = 1;
        while self.peek() == Some(&TokenKind::Pipe) {
            stages += 1;
            if stages > MAX_STAGES {
                let message = format!("a pipeline has more than {MAX_STAGES} stages");
                return Err(TemplateError::new(TemplateErrorKind::Limit, message, self.action.clone()));
            }
            self.at += 1;
            value = self.command(depth, Some(value))?;
        }
        Ok(value)
    }

    /// An operand, or a function with its arguments; `piped` becomes the last one.
    fn command(&mut self, depth: usize, piped: Option<Expr>) -> Result<Expr, TemplateError> {
        let Some(first) = self.tokens.get(self.at) else {
            return Err(TemplateError::syntax("a value is missing", self.action.clone()));
        };
        let span = first.span.clone();
        if let TokenKind::Word(word) = &first.kind
            && !matches!(word.as_str(), "true" | "false" | "nil")
        {
            let function = functions::find(word, &span)?;
            self.at += 1;
            let mut arguments = Vec::new();
            while self.more() {
                arguments.push(self.operand(depth)?);
            }
            arguments.extend(piped);
            functions::check_count(function, arguments.len(), &span)?;
            let end = self.tokens[self.at - 1].span.end;
            return Ok(Expr { kind: ExprKind::Call { function, arguments }, span: span.start..end });
        }
        if piped.is_some() {
            return Err(TemplateError::syntax("only a function can stand after `|`", span));
        }
        let value = self.operand_at(depth)?;
        if self.more() {
            let message = "this value takes no arguments; functions come first, as in: upper .metadata.name";
            return Err(TemplateError::syntax(message, self.tokens[self.at].span.clone()));
        }
        Ok(value)
    }

    fn more(&self) -> bool {
        self.peek().is_some_and(|kind| !matches!(kind, TokenKind::Pipe | TokenKind::Close))
    }

    /// An argument; white space must stand before it.
    fn operand(&mut self, depth: usize) -> Result<Expr, TemplateError> {
        let token = &self.tokens[self.at];
        if !token.spaced {
            return Err(TemplateError::syntax("a space is missing before this", token.span.clone()));
        }
        if let TokenKind::Word(word) = &token.kind
            && !matches!(word.as_str(), "true" | "false" | "nil")
        {
            functions::find(word, &token.span)?;
            let message = format!("a function as an argument needs parentheses: ({word} …)");
            return Err(TemplateError::syntax(message, token.span.clone()));
        }
        self.operand_at(depth)
    }

    fn operand_at(&mut self, depth: usize) -> Result<Expr, TemplateError> {
        let token = &self.tokens[self.at];
        let start = token.span.clone();
        self.at += 1;
        let kind = match &token.kind {
            TokenKind::Text(text) => ExprKind::Text(text.clone()),
            TokenKind::Int(number) => ExprKind::Int(*number),
            TokenKind::Float(number) => ExprKind::Float(*number),
            TokenKind::Word(word) if word == "nil" => {
                return Err(TemplateError::unsupported("`nil` is not supported", start));
            }
            TokenKind::Word(word) => ExprKind::Bool(word == "true"),
            TokenKind::Open => {
                if depth == MAX_NESTING {
                    let message = format!("parentheses are nested more than {MAX_NESTING} deep");
                    return Err(TemplateError::new(TemplateErrorKind::Limit, message, start));
                }
                let inner = self.pipeline(depth + 1)?;
                if self.peek() != Some(&TokenKind::Close) {
                    return Err(TemplateError::syntax("`(` is never closed by `)`", start));
                }
                self.at += 1;
                inner.kind
            }
            TokenKind::Dot if self.root => {
                let message = "`.` is the whole device here; name a part: .metadata.name or .metadata.labels";
                return Err(TemplateError::unsupported(message, start));
            }
            TokenKind::Dot => ExprKind::Dot,
            TokenKind::Variable(name) if name.is_empty() => self.path("$", None, start.clone())?,
            TokenKind::Variable(name) => {
                let message = format!("variables such as ${name} are not supported; write the value where it is used");
                return Err(TemplateError::unsupported(message, start));
            }
            TokenKind::Field(name) => self.path("", Some(name.clone()), start.clone())?,
            TokenKind::Pipe | TokenKind::Close | TokenKind::Assign | TokenKind::Comma => {
                return Err(TemplateError::syntax("a value is missing before this", start));
            }
        };
        let span = start.start..self.tokens[self.at - 1].span.end;
        if let Some(Token { kind: TokenKind::Field(name), spaced: false, span }) = self.tokens.get(self.at) {
            return Err(TemplateError::syntax(format!("`.{name}` cannot follow this value"), span.clone()));
        }
        Ok(Expr { kind, span })
    }

    /// `.metadata…` and `$.metadata…`.
    fn path(&mut self, root: &str, first: Option<String>, start: Range<usize>) -> Result<ExprKind, TemplateError> {
        let mut fields: Vec<String> = first.into_iter().collect();
        while let Some(Token { kind: TokenKind::Field(name), spaced: false, .. }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        let span = start.start..self.tokens[self.at - 1].span.end;
        if root.is_empty() && !self.root {
            let message = format!(
                "inside `with` the dot is the value of `with`; write $.{} for the device's metadata",
                fields.join(".")
            );
            return Err(TemplateError::unsupported(message, span));
        }
        let parts: Vec<&str> = fields.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["metadata", "name"] => Ok(ExprKind::Name),
            ["metadata", "labels"] => Ok(ExprKind::Labels),
            ["metadata", "labels", key] => Ok(ExprKind::Label((*key).to_owned())),
            ["metadata", "labels", key @ ..] => {
                let message =
                    format!("a label key with dots is written: index {root}.metadata.labels {:?}", key.join("."));
                Err(TemplateError::syntax(message, span))
            }
            _ => {
                let message = format!(
                    "{root}.{} is not available; templates see .metadata.name and .metadata.labels.<key>",
                    fields.join(".")
                );
                Err(TemplateError::unsupported(message, span))
            }
        }
    }
}

/// Adds to `inputs` everything that `nodes` can look at.
pub(super) fn collect_inputs(nodes: &[Node], inputs: &mut Inputs) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Print(expr) => expression_inputs(expr, inputs),
            Node::Choice { arms, otherwise } => {
                for arm in arms {
                    expression_inputs(&arm.condition, inputs);
                    collect_inputs(&arm.body, inputs);
                }
                collect_inputs(otherwise, inputs);
            }
        }
    }
}

fn expression_inputs(expr: &Expr, inputs: &mut Inputs) {
    match &expr.kind {
        ExprKind::Text(_) | ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) | ExprKind::Dot => {}
        ExprKind::Name => inputs.name = true,
        ExprKind::Labels => inputs.all_labels = true,
        ExprKind::Label(key) => {
            inputs.labels.insert(key.clone());
        }
        ExprKind::Call { function: Function::Index | Function::GetOrDefault, arguments } => {
            match arguments.as_slice() {
                // One label by a fixed key: not a dependency on the others.
                [Expr { kind: ExprKind::Labels, .. }, Expr { kind: ExprKind::Text(key), .. }, rest @ ..] => {
                    inputs.labels.insert(key.clone());
                    rest.iter().for_each(|argument| expression_inputs(argument, inputs));
                }
                all => all.iter().for_each(|argument| expression_inputs(argument, inputs)),
            }
        }
        ExprKind::Call { arguments, .. } => arguments.iter().for_each(|argument| expression_inputs(argument, inputs)),
    }
}
