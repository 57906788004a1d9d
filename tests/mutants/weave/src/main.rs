//! Writes mutants into sources so that all of them are built at once, and a number switches one of them on.
//!
//! ```text
//! weave MUTANTS.json DIRECTORY CALL
//! ```
//!
//! The mutants are told as by `cargo mutants --list --json`, each with a `number`; files below DIRECTORY are rewritten. Each
//! mutant stands beside what it is a mutant of: `a + b` becomes `(if CALL(7) { (a) - (b) } else { a + b })`, and a function
//! begins with `if CALL(8) { return Default::default(); }`. No line is added, so that places in messages stay. Prints as JSON,
//! for each file, where (in bytes) the mutants of which numbers stand now: `whole` with what is beside it, `branch` alone; for
//! a message of the compiler then tells which mutants cannot be built. Those that it cannot weave are named on standard error.
//!
//! What must not come in: which tests are run, and what comes of them; that is `every`'s.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use proc_macro2::{LineColumn, Span};
use serde::{Deserialize, Serialize};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A mutant as `cargo mutants` tells it, with the number that the caller has given it.
#[derive(Deserialize)]
struct Mutant {
    number: u32,
    file: String,
    genre: String,
    replacement: String,
    span: Range,
}

/// Lines and columns, both from 1; columns are characters.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    line: usize,
    column: usize,
}

#[derive(Clone, Copy, Deserialize)]
struct Range {
    start: Position,
    end: Position,
}

/// What comes before and behind a piece of the source.
struct Edit {
    start: usize,
    end: usize,
    before: Vec<Piece>,
    behind: String,
}

/// A piece of what comes before: the mutant with this number, or what is no mutant.
struct Piece {
    number: Option<u32>,
    text: String,
}

/// Where a mutant stands in the file that was written, in bytes.
#[derive(Serialize)]
struct Placed {
    number: u32,
    whole: [usize; 2],
    branch: [usize; 2],
}

/// Finds what the mutants of one file are mutants of.
struct Weaver<'a> {
    text: &'a str,
    lines: Vec<usize>,
    call: &'a str,
    /// By genre and the beginning of the span.
    mutants: BTreeMap<(&'a str, usize), Vec<&'a Mutant>>,
    edits: Vec<Edit>,
}

impl<'a> Weaver<'a> {
    fn new(text: &'a str, call: &'a str, mutants: &[&'a Mutant]) -> Self {
        let lines = core::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut weaver = Self { text, lines, call, mutants: BTreeMap::new(), edits: Vec::new() };
        for mutant in mutants {
            let start = weaver.offset(mutant.span.start);
            weaver.mutants.entry((&mutant.genre, start)).or_default().push(mutant);
        }
        weaver
    }

    fn offset(&self, at: Position) -> usize {
        let line = self.lines[at.line - 1];
        line + self.text[line..].chars().take(at.column - 1).map(char::len_utf8).sum::<usize>()
    }

    fn range(&self, span: Span) -> (usize, usize) {
        let at = |at: LineColumn| self.offset(Position { line: at.line, column: at.column + 1 });
        (at(span.start()), at(span.end()))
    }

    fn take(&mut self, genre: &'static str, start: usize) -> Vec<&'a Mutant> {
        self.mutants.remove(&(genre, start)).unwrap_or_default()
    }

    /// An expression with others that may come in its place.
    fn instead(&mut self, span: Span, others: Vec<(u32, String)>) {
        let (start, end) = self.range(span);
        if others.is_empty() {
            return;
        }
        let mut before = vec![Piece { number: None, text: "(".into() }];
        for (number, other) in others {
            before.push(Piece { number: Some(number), text: format!("if {}({number}) {{ {other} }} else ", self.call) });
        }
        before.push(Piece { number: None, text: "{ ".into() });
        self.edits.push(Edit { start, end, before, behind: " })".into() });
    }

    fn source(&self, node: &impl Spanned) -> &'a str {
        let (start, end) = self.range(node.span());
        &self.text[start..end]
    }

    /// Functions whose body comes to nothing but a value.
    fn bodies(&mut self, genre: &'static str) {
        let found: Vec<usize> = self.mutants.keys().filter(|key| key.0 == genre).map(|key| key.1).collect();
        for start in found {
            for mutant in self.take(genre, start) {
                let text = format!("if {}({}) {{ return {}; }} ", self.call, mutant.number, mutant.replacement);
                // Ends with the body, so that it is outside of what begins there, too.
                let end = self.offset(mutant.span.end);
                let before = vec![Piece { number: Some(mutant.number), text }];
                self.edits.push(Edit { start, end, before, behind: String::new() });
            }
        }
    }

    /// The file with all edits, and where the mutants stand in it.
    fn written(&mut self) -> (String, Vec<Placed>) {
        // What is outside comes first; of two that are the same, the one that was found first is outside.
        self.edits.sort_by_key(|edit| (edit.start, core::cmp::Reverse(edit.end)));
        let (mut out, mut placed, mut open) = (String::new(), Vec::new(), Vec::new());
        let mut at = 0;
        for edit in &self.edits {
            close(&mut out, &mut placed, &mut open, self.text, &mut at, edit.start);
            out.push_str(&self.text[at..edit.start]);
            at = edit.start;
            let (begun, first) = (out.len(), placed.len());
            for piece in &edit.before {
                let start = out.len();
                out.push_str(&piece.text);
                if let Some(number) = piece.number {
                    placed.push(Placed { number, whole: [begun, 0], branch: [start, out.len()] });
                }
            }
            open.push((edit, first, placed.len()));
        }
        close(&mut out, &mut placed, &mut open, self.text, &mut at, self.text.len() + 1);
        out.push_str(&self.text[at..]);
        (out, placed)
    }
}

/// Ends the edits that are open and end at `until` or before; the innermost first.
fn close(
    out: &mut String,
    placed: &mut [Placed],
    open: &mut Vec<(&Edit, usize, usize)>,
    text: &str,
    at: &mut usize,
    until: usize,
) {
    while let Some((edit, first, end)) = open.pop_if(|(edit, ..)| edit.end <= until) {
        out.push_str(&text[*at..edit.end]);
        *at = edit.end;
        out.push_str(&edit.behind);
        placed[first..end].iter_mut().for_each(|placed| placed.whole[1] = out.len());
    }
}

/// Whether `let` stands in this condition, so that it may stand nowhere else.
fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Weaver<'_> {
    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        let (start, _) = self.range(node.op.span());
        if !has_let(&node.left) && !has_let(&node.right) {
            let (left, right) = (self.source(&node.left), self.source(&node.right));
            let other = |mutant: &Mutant| (mutant.number, format!("({left}) {} ({right})", mutant.replacement));
            let others = self.take("BinaryOperator", start).into_iter().map(other).collect();
            self.instead(node.span(), others);
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let (start, _) = self.range(node.op.span());
        let inner = self.source(&node.expr);
        let others = self.take("UnaryOperator", start).into_iter().map(|mutant| (mutant.number, inner.into())).collect();
        self.instead(node.span(), others);
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        let (start, end) = self.range(node.span());
        let mut others = Vec::new();
        for field in &node.fields {
            let (first, last) = self.range(field.span());
            let behind = &self.text[last..end];
            let behind = behind.trim_start().strip_prefix(',').unwrap_or(behind);
            let other = |mutant: &Mutant| (mutant.number, format!("{}{behind}", &self.text[start..first]));
            others.extend(self.take("StructField", first).into_iter().map(other));
        }
        self.instead(node.span(), others);
        visit::visit_expr_struct(self, node);
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        let takes_all = |arm: &syn::Arm| match &arm.pat {
            syn::Pat::Wild(_) => arm.guard.is_none(),
            // With a capital it is a variant, such as `None`.
            syn::Pat::Ident(name) => arm.guard.is_none() && name.ident.to_string().starts_with(char::is_lowercase),
            _ => false,
        };
        if !node.arms.iter().any(takes_all) {
            // Nothing would take what is meant for an arm that is gone; cargo-mutants takes `_ if x` for something that would.
            for arm in &node.arms {
                let (start, _) = self.range(arm.span());
                self.take("MatchArm", start).iter().for_each(|mutant| eprintln!("not woven: {}", mutant.number));
            }
        }
        visit::visit_expr_match(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        let (arm, _) = self.range(node.span());
        let deleted = self.take("MatchArm", arm);
        let (_, pattern) = self.range(node.pat.span());
        let condition = |mutants: &[&Mutant]| {
            mutants.iter().fold(String::new(), |mut text, mutant| {
                let _ = write!(text, "!{}({})", self.call, mutant.number);
                text
            })
        };
        match &node.guard {
            Some((_, guard)) => {
                let (start, end) = self.range(guard.span());
                if let [mutant] = deleted[..] {
                    let before = vec![Piece { number: Some(mutant.number), text: format!("{} && (", condition(&deleted)) }];
                    self.edits.push(Edit { start, end, before, behind: ")".into() });
                }
                let others = self.take("MatchArmGuard", start);
                self.instead(guard.span(), others.iter().map(|mutant| (mutant.number, mutant.replacement.clone())).collect());
            }
            None => {
                if let [mutant] = deleted[..] {
                    let before = vec![Piece { number: Some(mutant.number), text: format!(" if {}", condition(&deleted)) }];
                    self.edits.push(Edit { start: pattern, end: pattern, before, behind: String::new() });
                }
            }
        }
        visit::visit_arm(self, node);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mutants, directory, call] = &args[..] else { panic!("weave MUTANTS.json DIRECTORY CALL") };
    let mutants = std::fs::read(mutants).expect("mutants can be read");
    let mutants: Vec<Mutant> = serde_json::from_slice(&mutants).expect("mutants are told as JSON");
    let mut files = BTreeMap::<&str, Vec<&Mutant>>::new();
    mutants.iter().for_each(|mutant| files.entry(&mutant.file).or_default().push(mutant));
    let mut told = BTreeMap::new();
    for (file, mutants) in files {
        let path = Path::new(directory).join(file);
        let text = std::fs::read_to_string(&path).expect("sources can be read");
        let parsed = syn::parse_file(&text).expect("sources are Rust");
        let mut weaver = Weaver::new(&text, call, &mutants);
        weaver.bodies("FnValue");
        weaver.visit_file(&parsed);
        for mutant in weaver.mutants.values().flatten() {
            eprintln!("not woven: {}", mutant.number);
        }
        let (written, placed) = weaver.written();
        std::fs::write(&path, written).expect("sources can be written");
        told.insert(file, placed);
    }
    println!("{}", serde_json::to_string(&told).expect("numbers can be told"));
}
