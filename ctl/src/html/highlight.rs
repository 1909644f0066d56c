//! Python with colours: just enough of its lexer for reading.

use super::escape;

const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "any",
    "bool",
    "bytes",
    "dict",
    "display",
    "enumerate",
    "filter",
    "float",
    "frozenset",
    "getattr",
    "hasattr",
    "id",
    "input",
    "int",
    "isinstance",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "min",
    "next",
    "object",
    "open",
    "print",
    "property",
    "range",
    "repr",
    "reversed",
    "round",
    "self",
    "set",
    "sorted",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "vars",
    "zip",
];

/// The code as HTML with spans.
pub(super) fn python(code: &str) -> String {
    let mut html = String::with_capacity(code.len() * 2);
    let mut rest = code;
    // `def` and `class` name what comes next.
    let mut naming = false;
    let mut line_start = true;
    while let Some(first) = rest.chars().next() {
        let (length, class) = token(rest, first, line_start);
        let (text, after) = rest.split_at(length);
        let class = match class {
            Class::Word if KEYWORDS.contains(&text) => Some("k"),
            Class::Word if naming => Some("d"),
            Class::Word if BUILTINS.contains(&text) => Some("b"),
            Class::Word | Class::Other => None,
            Class::Text => Some("s"),
            Class::Number => Some("n"),
            Class::Comment => Some("c"),
            Class::Decoration => Some("d"),
        };
        match class {
            Some(class) => html.push_str(&format!("<span class=\"{class}\">{}</span>", escape(text))),
            None => html.push_str(&escape(text)),
        }
        if !text.trim().is_empty() {
            naming = matches!(text, "def" | "class");
        }
        line_start = text.ends_with('\n') || line_start && text.trim().is_empty();
        rest = after;
    }
    html
}

#[derive(Clone, Copy)]
enum Class {
    Word,
    Text,
    Number,
    Comment,
    /// A decorator, or a line for IPython: `%magic`, `!command`.
    Decoration,
    Other,
}

/// Length in bytes of the token that `rest` begins with, never 0.
fn token(rest: &str, first: char, line_start: bool) -> (usize, Class) {
    let until = |end: &dyn Fn(char) -> bool| rest.find(end).unwrap_or(rest.len());
    match first {
        '#' => (until(&|c| c == '\n'), Class::Comment),
        '%' | '!' if line_start => (until(&|c| c == '\n'), Class::Decoration),
        '@' if line_start => (until(&|c| c == '(' || c.is_whitespace()), Class::Decoration),
        '"' | '\'' => (string_length(rest), Class::Text),
        '0'..='9' => (until(&|c| !(c.is_alphanumeric() || c == '.' || c == '_')), Class::Number),
        c if c.is_alphabetic() || c == '_' => {
            let length = until(&|c| !(c.is_alphanumeric() || c == '_'));
            let prefix = length <= 2 && rest[..length].chars().all(|c| "rRbBfFuUtT".contains(c));
            match rest[length..].chars().next() {
                Some('"' | '\'') if prefix => (length + string_length(&rest[length..]), Class::Text),
                _ => (length, Class::Word),
            }
        }
        c => (c.len_utf8(), Class::Other),
    }
}

/// Length of the string that begins here with its quote, closed or not.
fn string_length(rest: &str) -> usize {
    let quote = &rest[..1];
    let triple = quote.repeat(3);
    let (open, long) = if rest.starts_with(&triple) { (triple.as_str(), true) } else { (quote, false) };
    let mut at = open.len();
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(open) {
            return at + open.len();
        }
        if c == '\n' && !long {
            return at;
        }
        at += c.len_utf8();
        if c == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_coloured_and_escaped() {
        insta::assert_snapshot!(python(
            "@cache\ndef f(x: int) -> str:  # <why>\n    return f'{x}\\'' + \"\"\"a\n'b\"\"\" * 1_0.5e3\n%time f(1)"
        ));
    }

    #[test]
    fn no_text_is_lost_whatever_it_is() {
        for code in ["'", "\"\"\"", "'\\", "é'ü\\", "1.e", "b'", "\\\n", "\r\n%x", "rb\"x", "@", "f'é\\é"]
        {
            let html = python(code);
            let mut text = String::new();
            let mut inside = false;
            for c in html.chars() {
                match c {
                    '<' => inside = true,
                    '>' => inside = false,
                    c if !inside => text.push(c),
                    _ => {}
                }
            }
            let text = text.replace("&quot;", "\"").replace("&#39;", "'");
            assert_eq!(text, code.replace('\r', ""), "{code:?}");
        }
    }
}
