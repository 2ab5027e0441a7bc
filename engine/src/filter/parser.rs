//! A precedence-climbing parser: text to syntax tree.
//!
//! From loosest to tightest: `or`; `and`; `not`; comparisons, `in`, `like`, `is`; `|`; `^`; `&`; shifts; `+ -`; `* / %`;
//! unary `- + ~` and `exists`; `**`. Bit operators bind tighter than comparisons, as in Python, so that `flags & 4 == 4`
//! means what it says.

use super::error::{Problem, Span};
use super::lexer::{Kind, Lexer, Token};
use super::syntax::{Arithmetic, Comparison, Expr, ExprKind, Literal, Step, Unary};

/// Longest expression in bytes. A delete of a hundred thousand keys fits.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// Deepest nesting: every later pass recurses over the tree.
pub(super) const MAX_DEPTH: usize = 100;
/// Most values, names and operators in one expression.
pub(super) const MAX_NODES: usize = 500_000;

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const MULTIPLICATIVE: u8 = 10;
/// `**` and the operands of prefix operators.
const POWER: u8 = 11;

fn arithmetic(symbol: &str) -> Option<(Arithmetic, u8)> {
    Some(match symbol {
        "|" => (Arithmetic::Or, 5),
        "^" => (Arithmetic::Xor, 6),
        "&" => (Arithmetic::And, 7),
        "<<" => (Arithmetic::ShiftLeft, 8),
        ">>" => (Arithmetic::ShiftRight, 8),
        "+" => (Arithmetic::Add, 9),
        "-" => (Arithmetic::Subtract, 9),
        "*" => (Arithmetic::Multiply, MULTIPLICATIVE),
        "/" => (Arithmetic::Divide, MULTIPLICATIVE),
        "%" => (Arithmetic::Remainder, MULTIPLICATIVE),
        "**" => (Arithmetic::Power, POWER),
        _ => return None,
    })
}

/// The syntax tree of `source`.
pub(super) fn parse(source: &str) -> Result<Expr, Problem> {
    if source.len() > MAX_BYTES {
        let what = format!("the expression has {} bytes, more than the {MAX_BYTES} allowed,", source.len());
        return Err(Problem::new(0..0, what).remedy("split the request"));
    }
    let mut lexer = Lexer::new(source);
    let token = lexer.next()?;
    let mut parser = Parser { lexer, token, depth: 0, nodes: 0 };
    let expr = parser.expression(0)?;
    match &parser.token.kind {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("an operator such as `and`, or the end of the expression")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next token, not yet consumed.
    token: Token<'a>,
    depth: usize,
    nodes: usize,
}

impl<'a> Parser<'a> {
    /// An expression whose operators all bind at least as tightly as `power`.
    fn expression(&mut self, power: u8) -> Result<Expr, Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.token.span.clone()));
        }
        let mut left = self.prefix()?;
        loop {
            left = match self.token.kind.clone() {
                Kind::Keyword("or") if OR >= power => self.chain("or", left, AND)?,
                Kind::Keyword("and") if AND >= power => self.chain("and", left, NOT)?,
                Kind::Keyword("in") if COMPARISON >= power => self.membership(left, false)?,
                Kind::Keyword("not") if COMPARISON >= power => {
                    self.advance()?;
                    match self.token.kind {
                        Kind::Keyword("in") => self.membership(left, true)?,
                        _ => {
                            return Err(self
                                .unexpected("`in` after `not`")
                                .remedy("a whole condition is negated by `not (…)`"));
                        }
                    }
                }
                Kind::Keyword("like") if COMPARISON >= power => {
                    self.advance()?;
                    let pattern = Box::new(self.expression(COMPARISON + 1)?);
                    let span = left.span.start..pattern.span.end;
                    self.node(ExprKind::Like { value: Box::new(left), pattern }, span)?
                }
                Kind::Keyword("is") if COMPARISON >= power => self.null_test(left)?,
                Kind::Symbol(symbol @ ("=~" | "!~")) => {
                    return Err(Problem::unsupported(
                        self.token.span.clone(),
                        &format!("the regular-expression operator `{symbol}`"),
                    )
                    .remedy("use `like` with % and _"));
                }
                Kind::Symbol(symbol) => match (Comparison::from_symbol(symbol), arithmetic(symbol)) {
                    (Some(comparison), _) if COMPARISON >= power => self.comparison(left, comparison)?,
                    (_, Some((operator, strength))) if strength >= power => {
                        self.advance()?;
                        // `**` groups to the right, the others to the left.
                        let tighter = if operator == Arithmetic::Power { POWER } else { strength + 1 };
                        let right = self.expression(tighter)?;
                        let span = left.span.start..right.span.end;
                        self.node(ExprKind::Arithmetic(operator, Box::new(left), Box::new(right)), span)?
                    }
                    _ => break,
                },
                _ => break,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expr, Problem> {
        let start = self.token.span.start;
        match self.token.kind {
            Kind::Keyword("not") => {
                self.advance()?;
                let operand = self.expression(NOT)?;
                let span = start..operand.span.end;
                self.node(ExprKind::Not(Box::new(operand)), span)
            }
            Kind::Keyword("exists") => {
                self.advance()?;
                let operand = self.expression(POWER)?;
                let span = start..operand.span.end;
                self.node(ExprKind::Exists(Box::new(operand)), span)
            }
            Kind::Symbol("-") => self.unary(Unary::Minus),
            Kind::Symbol("+") => self.unary(Unary::Plus),
            Kind::Symbol("~") => self.unary(Unary::BitNot),
            _ => self.primary(),
        }
    }

    fn unary(&mut self, operator: Unary) -> Result<Expr, Problem> {
        let start = self.advance()?.span.start;
        let operand = self.expression(POWER)?;
        let span = start..operand.span.end;
        let kind = match (operator, operand.kind) {
            (Unary::Minus, ExprKind::Literal(Literal::Int(value))) => ExprKind::Literal(Literal::Int(-value)),
            (Unary::Minus, ExprKind::Literal(Literal::Float(value))) => ExprKind::Literal(Literal::Float(-value)),
            (_, kind) => ExprKind::Unary(operator, Box::new(Expr { kind, ..operand })),
        };
        self.node(kind, span)
    }

    fn primary(&mut self) -> Result<Expr, Problem> {
        let Token { kind, span } = self.token.clone();
        let kind = match kind {
            Kind::Int(value) => ExprKind::Literal(Literal::Int(value)),
            Kind::Float(value) => ExprKind::Literal(Literal::Float(value)),
            Kind::Text(value) => ExprKind::Literal(Literal::Text(value)),
            Kind::Keyword("true") => ExprKind::Literal(Literal::Bool(true)),
            Kind::Keyword("false") => ExprKind::Literal(Literal::Bool(false)),
            Kind::Name(name) => return self.named(name.to_owned()),
            Kind::Symbol("(") => {
                self.advance()?;
                let inner = self.expression(0)?;
                let end = self.close(")", span.start)?;
                return Ok(Expr { span: span.start..end, ..inner });
            }
            Kind::Symbol("[") => {
                self.advance()?;
                let (items, end) = self.items("]", span.start)?;
                return self.node(ExprKind::List(items), span.start..end);
            }
            Kind::Symbol("{") => {
                self.advance()?;
                let Kind::Name(name) = self.token.kind else {
                    return Err(self.unexpected("the name of a parameter after `{`"));
                };
                self.advance()?;
                let end = self.close("}", span.start)?;
                return self.node(ExprKind::Template(name.to_owned()), span.start..end);
            }
            Kind::Keyword("null") => {
                return Err(self.unexpected("a value").remedy("null is tested with `is null` and `is not null`"));
            }
            _ => return Err(self.unexpected("a field, a value or `(`")),
        };
        self.advance()?;
        self.node(kind, span)
    }

    /// A field, a path into JSON or a call.
    fn named(&mut self, name: String) -> Result<Expr, Problem> {
        let Span { start, mut end } = self.advance()?.span;
        if self.token.kind == Kind::Symbol("(") {
            let open = self.advance()?.span.start;
            let (arguments, end) = self.items(")", open)?;
            return self.node(ExprKind::Call { name, arguments }, start..end);
        }
        let of_time = ["interval", "iso"].iter().any(|word| name.eq_ignore_ascii_case(word));
        if of_time && matches!(self.token.kind, Kind::Text(_)) {
            return Err(Problem::unsupported(start..end, "time arithmetic with ISO and INTERVAL"));
        }
        let mut steps = Vec::new();
        while self.token.kind == Kind::Symbol("[") {
            let open = self.advance()?.span.start;
            let step = match self.token.kind.clone() {
                Kind::Text(key) => Step { key, index: None },
                Kind::Int(index) => {
                    Step { key: index.to_string(), index: Some(usize::try_from(index).unwrap_or(usize::MAX)) }
                }
                _ => return Err(self.unexpected("a quoted key or a position such as [\"key\"] or [0]")),
            };
            self.advance()?;
            end = self.close("]", open)?;
            steps.push(step);
            self.count(start..end)?;
        }
        match steps.is_empty() {
            true => self.node(ExprKind::Name(name), start..end),
            false => self.node(ExprKind::Path { name, steps }, start..end),
        }
    }

    /// Comma-separated expressions up to `close`; a trailing comma is allowed.
    fn items(&mut self, close: &'static str, open: usize) -> Result<(Vec<Expr>, usize), Problem> {
        let mut items = Vec::new();
        while self.token.kind != Kind::Symbol(close) {
            items.push(self.expression(0)?);
            if self.token.kind != Kind::Symbol(",") {
                break;
            }
            self.advance()?;
        }
        Ok((items, self.close(close, open)?))
    }

    /// `left or … or …` as one flat node.
    fn chain(&mut self, keyword: &'static str, left: Expr, tighter: u8) -> Result<Expr, Problem> {
        let start = left.span.start;
        let mut parts = vec![left];
        while self.token.kind == Kind::Keyword(keyword) {
            self.advance()?;
            parts.push(self.expression(tighter)?);
        }
        let end = parts.last().map_or(start, |part| part.span.end);
        let kind = if keyword == "or" { ExprKind::Or(parts) } else { ExprKind::And(parts) };
        self.node(kind, start..end)
    }

    fn membership(&mut self, left: Expr, negated: bool) -> Result<Expr, Problem> {
        self.advance()?;
        let list = self.expression(COMPARISON + 1)?;
        let span = left.span.start..list.span.end;
        self.node(ExprKind::In { value: Box::new(left), list: Box::new(list), negated }, span)
    }

    fn null_test(&mut self, left: Expr) -> Result<Expr, Problem> {
        self.advance()?;
        let negated = self.token.kind == Kind::Keyword("not");
        if negated {
            self.advance()?;
        }
        if self.token.kind != Kind::Keyword("null") {
            return Err(self.unexpected("`null` or `not null` after `is`"));
        }
        let span = left.span.start..self.advance()?.span.end;
        self.node(ExprKind::IsNull { value: Box::new(left), negated }, span)
    }

    /// A comparison, or a range when a second one in the same direction follows.
    fn comparison(&mut self, left: Expr, first: Comparison) -> Result<Expr, Problem> {
        self.advance()?;
        let middle = self.expression(COMPARISON + 1)?;
        let second = match self.token.kind {
            Kind::Symbol(symbol) => Comparison::from_symbol(symbol),
            _ => None,
        };
        let Some(second) = second else {
            let span = left.span.start..middle.span.end;
            return self.node(ExprKind::Compare(first, Box::new(left), Box::new(middle)), span);
        };
        if !first.same_direction(second) {
            return Err(Problem::new(self.token.span.clone(), "two comparisons that do not form a range")
                .remedy("a range is written `1 <= a < 5` or `5 > a >= 1`; join other comparisons with `and`"));
        }
        self.advance()?;
        let high = self.expression(COMPARISON + 1)?;
        let span = left.span.start..high.span.end;
        let (low, middle, high) = (Box::new(left), Box::new(middle), Box::new(high));
        self.node(ExprKind::Range { low, lower: first, middle, upper: second, high }, span)
    }

    fn close(&mut self, close: &'static str, open: usize) -> Result<usize, Problem> {
        if self.token.kind != Kind::Symbol(close) {
            return Err(self.unexpected(&format!("`{close}` for the bracket opened at byte {}", open + 1)));
        }
        Ok(self.advance()?.span.end)
    }

    /// Consumes the current token and returns it.
    fn advance(&mut self) -> Result<Token<'a>, Problem> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn node(&mut self, kind: ExprKind, span: Span) -> Result<Expr, Problem> {
        self.count(span.clone())?;
        let depth = 1 + kind.children_depth();
        match depth > MAX_DEPTH {
            true => Err(too_deep(span)),
            false => Ok(Expr { kind, span, depth }),
        }
    }

    fn count(&mut self, span: Span) -> Result<(), Problem> {
        self.nodes += 1;
        match self.nodes > MAX_NODES {
            true => {
                Err(Problem::new(span, format!("more than {MAX_NODES} values and operators"))
                    .remedy("split the request"))
            }
            false => Ok(()),
        }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let found = match &self.token.kind {
            Kind::End => "the expression ends",
            _ => "this text stands",
        };
        Problem::new(self.token.span.clone(), format!("{found} where {wanted} belongs"))
    }
}

impl ExprKind {
    fn children_depth(&self) -> usize {
        let deepest = |parts: &[Expr]| parts.iter().map(|part| part.depth).max().unwrap_or(0);
        match self {
            ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Path { .. } | ExprKind::Template(_) => 0,
            ExprKind::List(parts) | ExprKind::And(parts) | ExprKind::Or(parts) => deepest(parts),
            ExprKind::Call { arguments, .. } => deepest(arguments),
            ExprKind::Unary(_, operand) | ExprKind::Not(operand) | ExprKind::Exists(operand) => operand.depth,
            ExprKind::IsNull { value, .. } => value.depth,
            ExprKind::Arithmetic(_, left, right) | ExprKind::Compare(_, left, right) => left.depth.max(right.depth),
            ExprKind::In { value, list, .. } => value.depth.max(list.depth),
            ExprKind::Like { value, pattern } => value.depth.max(pattern.depth),
            ExprKind::Range { low, middle, high, .. } => low.depth.max(middle.depth).max(high.depth),
        }
    }
}

fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("the expression is nested more than {MAX_DEPTH} levels deep"))
}
