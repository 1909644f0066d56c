//! Formulas: LaTeX to MathML, which browsers draw without a script.
//!
//! What the converter writes passes an allow-list of its own before it reaches the page, and what it
//! cannot read stays as it was typed.

use std::thread;

use pulldown_latex::config::{DisplayMode, RenderConfig};
use pulldown_latex::{Parser, Storage, push_mathml};

use super::tokens::{Tag, Token, decode, tokens};
use super::{css, escape};

/// Longest formula, in bytes; sympy's matrices have some tens of thousands.
const FORMULA_BYTES: usize = 64 << 10;

/// Most formulas in one text.
const FORMULAS: usize = 500;

/// The parser descends once for each piece that puts out nothing, so it gets a stack for the longest
/// formula of such pieces. It is address space, not memory.
const STACK_BYTES: usize = 256 << 20;

/// Deepest nesting of groups, and of elements. Each level of groups is read once more, and browsers stop
/// at 512 elements.
const DEPTH: usize = 100;
const ELEMENT_DEPTH: usize = 400;

/// Elements of MathML Core that draw something and hold nothing but each other and text.
const ELEMENTS: &[&str] = &[
    "math",
    "menclose",
    "merror",
    "mfrac",
    "mi",
    "mmultiscripts",
    "mn",
    "mo",
    "mover",
    "mpadded",
    "mphantom",
    "mprescripts",
    "mroot",
    "mrow",
    "mspace",
    "msqrt",
    "mstyle",
    "msub",
    "msubsup",
    "msup",
    "mtable",
    "mtd",
    "mtext",
    "mtr",
    "munder",
    "munderover",
];

/// Attributes whose values are words, lengths and colours.
const ATTRIBUTES: &[&str] = &[
    "accent",
    "accentunder",
    "columnalign",
    "columnspan",
    "depth",
    "display",
    "displaystyle",
    "fence",
    "form",
    "height",
    "linethickness",
    "lspace",
    "mathbackground",
    "mathcolor",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "notation",
    "rowspan",
    "rspace",
    "scriptlevel",
    "separator",
    "stretchy",
    "symmetric",
    "voffset",
    "width",
];

/// What stands around a formula, and whether it is one of its own line.
const DELIMITERS: [(&str, &str, bool); 4] =
    [("$$", "$$", true), ("\\[", "\\]", true), ("\\(", "\\)", false), ("$", "$", false)];

/// A `text/latex` output: text with formulas between dollars, or a formula altogether. `None` when one
/// of its formulas cannot be read, or when it is LaTeX of another kind.
pub(super) fn output(latex: &str) -> Option<String> {
    let latex = latex.trim();
    if latex.len() > FORMULA_BYTES {
        return None;
    }
    let mut html = String::new();
    let mut rest = latex;
    let mut formulas = 0;
    while let Some((before, formula, block, after)) = next_formula(rest) {
        // A formula that is all there is has its line to itself.
        let block = block || formulas == 0 && before.trim().is_empty() && after.trim().is_empty();
        html.push_str(&escape(before));
        html.push_str(&formula_html(formula, block)?);
        formulas += 1;
        if formulas > FORMULAS {
            return None;
        }
        rest = after;
    }
    if formulas == 0 {
        let environment = latex.starts_with("\\begin{") && latex.ends_with('}');
        return environment.then(|| formula_html(latex, true))?;
    }
    Some(format!("<div class=\"formula\">{html}{}</div>", escape(rest)))
}

/// Replaces the formulas that the Markdown renderer marked, in HTML of our own writing.
pub(super) fn in_markdown(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    for _ in 0..FORMULAS {
        let Some((before, after)) = rest.split_once("<span class=\"math math-") else { break };
        out.push_str(before);
        let parts = after.split_once("\">").and_then(|(kind, after)| {
            let (formula, after) = after.split_once("</span>")?;
            (!formula.contains('<')).then_some((kind == "display", formula, after))
        });
        let drawn =
            parts.and_then(|(block, formula, after)| Some((formula_html(&decode(formula), block)?, after)));
        match drawn {
            Some((formula, after)) => {
                out.push_str(&formula);
                rest = after;
            }
            None => {
                out.push_str("<span class=\"math math-");
                rest = after;
            }
        }
    }
    out + rest
}

/// The first formula of a text: what stands before, it, whether it is a block, and what follows.
fn next_formula(text: &str) -> Option<(&str, &str, bool, &str)> {
    let found = DELIMITERS.iter().filter_map(|(open, close, block)| {
        let start = text.find(open)?;
        let inside = &text[start + open.len()..];
        let end = inside.find(close).filter(|end| *end > 0)?;
        Some((start, &inside[..end], *block, &inside[end + close.len()..]))
    });
    // The first one; of `$$` and `$` at the same place, the longer, which stands first in the list.
    let (start, formula, block, after) = found.min_by_key(|(start, ..)| *start)?;
    Some((&text[..start], formula, block, after))
}

fn formula_html(latex: &str, block: bool) -> Option<String> {
    if latex.len() > FORMULA_BYTES || depth(latex) > DEPTH {
        return None;
    }
    let source = latex.trim().to_owned();
    // sympy begins with `\displaystyle` also where that is the rule.
    let block = block || source.starts_with("\\displaystyle");
    let convert = move || {
        let storage = Storage::new();
        let parser = Parser::new(&source, &storage);
        let events = parser.collect::<Result<Vec<_>, _>>().ok()?;
        let display_mode = if block { DisplayMode::Block } else { DisplayMode::Inline };
        let config = RenderConfig { display_mode, ..RenderConfig::default() };
        let mut mathml = String::new();
        let events = events.into_iter().map(Ok::<_, std::convert::Infallible>);
        push_mathml(&mut mathml, events, config).ok()?;
        Some(mathml)
    };
    // In a thread of its own: for its stack, and so that a fault of the parser costs one formula.
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(convert).ok()?;
    thread.join().ok().flatten().and_then(|mathml| allowed(&mathml))
}

/// How deep groups of any kind are nested.
fn depth(latex: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for (at, c) in latex.char_indices().filter(|(_, c)| "{}\\".contains(*c)) {
        let starts = |words: [&str; 2]| words.iter().any(|word| latex[at..].starts_with(word));
        if c == '{' || starts(["\\left", "\\begin"]) {
            depth += 1;
            deepest = deepest.max(depth);
        } else if c == '}' || starts(["\\right", "\\end"]) {
            depth = depth.saturating_sub(1);
        }
    }
    deepest
}

/// The MathML with what is on the lists, balanced; `None` when it is nested without measure.
fn allowed(mathml: &str) -> Option<String> {
    let mut out = String::with_capacity(mathml.len());
    let mut open: Vec<&str> = Vec::new();
    for token in tokens_of_math(mathml) {
        match token {
            Token::Text(text) => out.push_str(&escape(&decode(text))),
            Token::Start(tag) => {
                let Some(name) = ELEMENTS.iter().find(|known| **known == tag.name) else { continue };
                out.push_str(&format!("<{name}{}>", attributes(&tag)));
                if ["mspace", "mprescripts"].contains(name) {
                    out.push_str(&format!("</{name}>"));
                } else if open.len() == ELEMENT_DEPTH {
                    return None;
                } else {
                    open.push(name);
                }
            }
            Token::End(name) => {
                if let Some(at) = open.iter().rposition(|found| *found == name) {
                    open.drain(at..).rev().for_each(|name| out.push_str(&format!("</{name}>")));
                }
            }
            Token::Raw(..) => {}
        }
    }
    open.drain(..).rev().for_each(|name| out.push_str(&format!("</{name}>")));
    Some(out)
}

/// `math` is an element whose content is skipped elsewhere; here it is what we want.
fn tokens_of_math(mathml: &str) -> impl Iterator<Item = Token<'_>> {
    tokens(mathml).flat_map(|token| match token {
        Token::Raw(tag, content) if tag.name == "math" => {
            let end = Token::End(tag.name.clone());
            std::iter::once(Token::Start(tag)).chain(tokens(content)).chain([end]).collect()
        }
        other => vec![other],
    })
}

fn attributes(tag: &Tag) -> String {
    let mut out = String::new();
    for (name, value) in &tag.attributes {
        // Chromium sizes a bracket with a style of its own unlike its partner.
        if tag.name == "mo" && ["displaystyle", "scriptlevel"].contains(&name.as_str()) {
            continue;
        }
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || " .%#-+".contains(c));
        let value = match name.as_str() {
            "style" => css::declarations(value),
            "class" => classes(value),
            name if ATTRIBUTES.contains(&name) && plain => value.clone(),
            _ => continue,
        };
        if !value.is_empty() {
            out.push_str(&format!(" {name}=\"{}\"", escape(&value)));
        }
    }
    out
}

/// The converter's own classes, which the page's style sheet knows.
fn classes(value: &str) -> String {
    let known = |name: &&str| {
        ["menv-", "mop-", "cell-"].iter().any(|start| name.starts_with(start)) || *name == "small"
    };
    value.split_whitespace().filter(known).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formulas_of_sympy_and_of_markdown_become_mathml() {
        let matrix = r"$\displaystyle \left[\begin{matrix}x & x^{2}\\1 & \frac{1}{3}\end{matrix}\right]$";
        insta::assert_snapshot!(output(matrix).unwrap());
        let mixed = output("Let $a<b$ be, and $$\\sum_i i$$ <b>").unwrap();
        assert_eq!(mixed.matches("<math").count(), 2, "{mixed}");
        assert!(mixed.contains("&lt;b&gt;") && mixed.contains("display=\"block\""), "{mixed}");
        let cell = in_markdown("<p><span class=\"math math-inline\">a &lt; b</span> x</p>");
        assert!(cell.starts_with("<p><math display=\"inline\"><mi>a</mi>"), "{cell}");
        assert!(cell.ends_with("</math> x</p>"), "{cell}");
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        for latex in
            ["no formula", "$\\nonsense$", "$\\frac{1}$", "\\begin{Verbatim}x\\end{Verbatim}", "$", "$$$$"]
        {
            assert_eq!(output(latex), None, "{latex}");
        }
        let html = "<span class=\"math math-inline\">\\nonsense</span>";
        assert_eq!(in_markdown(html), html);
    }

    #[test]
    fn a_formula_cannot_bring_markup() {
        for latex in [
            r"$\text{<script>alert(1)</script>}$",
            r"$\href{javascript:alert(1)}{x}$",
            r"$\color{red;background:url(//evil)}x$",
            r"$\operatorname{<img src=x onerror=alert(1)>}$",
            r"$\class{chip}{x}$",
        ] {
            let html = output(latex).unwrap_or_default();
            for bad in ["<script", "<img", "href", "url(", "chip"] {
                assert!(!html.contains(bad), "{latex}: {html}");
            }
        }
    }

    #[test]
    fn formulas_without_end_are_refused_in_time() {
        for latex in [
            format!("${}$", "{".repeat(30_000)),
            format!("${}x{}$", "{".repeat(30_000), "}".repeat(30_000)),
            format!("${}$", "\\left(".repeat(10_000)),
            format!("${}x$", "\\sqrt".repeat(12_000)),
            format!("${}x{}$", "\\left(".repeat(4_000), "\\right)".repeat(4_000)),
            format!("${}x$", "\\displaystyle".repeat(4_000)),
            format!("${}$", "x".repeat(FORMULA_BYTES + 1)),
            r"$\def\a{\b\b}\def\b{\c\c}\def\c{\a\a}\a$".to_owned(),
            r"$\def\x{\x\x}\x$".to_owned(),
            format!("${}$", "x^{y}".repeat(12_000)),
            format!("${}$", "\\frac12".repeat(9_000)),
            format!("${}$", "\\nonsense".repeat(7_000)),
            format!("${}$", "x\\".repeat(7_000)),
            format!("$\\begin{{matrix}}{}\\end{{matrix}}$", "x&".repeat(7_000)),
            format!("${}$", r"\text{a}".repeat(7_000)),
            "$x$".repeat(20_000),
        ] {
            // It returns; a stack that overflows would end the test.
            let html = output(&latex).unwrap_or_default();
            assert!(html.len() < 1_000_000, "{}", html.len());
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_converter(latex in r"([a-z0-9{}^_&~%#\\ <>]|\\(frac|sqrt|left|right|begin\{matrix\}|end\{matrix\}|text|sum|def|let|over|hline|color)){0,40}") {
            if let Some(html) = formula_html(&latex, true) {
                prop_assert!(html.matches('<').count() == html.matches('>').count());
            }
        }
    }
}
