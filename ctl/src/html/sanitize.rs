//! HTML of unknown origin, written anew from an allow-list.
//!
//! The input is cut into tags and text; only tags and attributes on the lists below are written
//! again, with our own quoting, balanced, and every other `<` escaped. So a browser that reads
//! the input differently than we do makes no difference: it never sees the input.

use super::escape;

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clean {
    pub(super) html: String,
    /// Something that matters to how it looks or works was left out: a script, a style sheet,
    /// drawings, forms.
    pub(super) lossy: bool,
}

const ELEMENTS: &[&str] = &[
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "mark",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "wbr",
];
const VOID: &[&str] = &["br", "col", "hr", "img", "wbr"];
/// Elements whose content is no text for people; it goes with them.
const RAW: &[&str] = &[
    "iframe", "math", "noembed", "noframes", "noscript", "object", "script", "style", "svg", "template",
    "textarea", "title", "xmp",
];
/// Style properties that stay within their element's box.
const PROPERTIES: &[&str] = &[
    "background",
    "background-color",
    "border",
    "border-bottom",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-style",
    "border-top",
    "border-width",
    "color",
    "display",
    "font-family",
    "font-size",
    "font-style",
    "font-weight",
    "height",
    "line-height",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-width",
    "min-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "text-align",
    "text-decoration",
    "vertical-align",
    "white-space",
    "width",
];
/// Deeper nesting is nobody's table; it only costs the browser its stack.
const DEPTH: usize = 100;

/// Writes the HTML anew.
pub(super) fn sanitize(html: &str) -> Clean {
    let mut writer = Writer { out: String::with_capacity(html.len()), open: Vec::new(), lossy: false };
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        writer.text(&rest[..at]);
        rest = writer.markup(&rest[at..]);
    }
    writer.text(rest);
    while let Some(name) = writer.open.pop() {
        writer.close(name);
    }
    Clean { html: writer.out, lossy: writer.lossy }
}

struct Writer {
    out: String,
    open: Vec<&'static str>,
    lossy: bool,
}

impl Writer {
    /// Text keeps its entities; what only looks like one is escaped.
    fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find('&') {
            self.out.push_str(&escape(&rest[..at]));
            let entity = entity_length(&rest[at..]);
            match entity {
                Some(length) => self.out.push_str(&rest[at..at + length]),
                None => self.out.push_str("&amp;"),
            }
            rest = &rest[at + entity.unwrap_or(1)..];
        }
        self.out.push_str(&escape(rest));
    }

    /// Takes the markup that `rest` begins with (at `<`) and returns what follows it.
    fn markup<'a>(&mut self, rest: &'a str) -> &'a str {
        let after = &rest[1..];
        if let Some(comment) = after.strip_prefix("!--") {
            return comment.find("-->").map_or("", |end| &comment[end + 3..]);
        }
        if after.starts_with(['!', '?']) {
            return after.find('>').map_or("", |end| &after[end + 1..]);
        }
        let (closing, after) = match after.strip_prefix('/') {
            Some(after) => (true, after),
            None => (false, after),
        };
        if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.out.push_str("&lt;");
            return &rest[1..];
        }
        let end = after.find(|c: char| c.is_whitespace() || c == '/' || c == '>').unwrap_or(after.len());
        let name = after[..end].to_ascii_lowercase();
        let (attributes, after) = attributes(&after[end..]);
        if closing {
            self.end(&name);
            return after;
        }
        if RAW.contains(&name.as_str()) {
            // `<style scoped>` is what pandas puts before every table; the page has its own.
            let scoped = name == "style" && attributes.iter().any(|(name, _)| name == "scoped");
            self.lossy |= !scoped;
            return skip_raw(after, &name);
        }
        self.start(&name, &attributes);
        after
    }

    fn start(&mut self, name: &str, attributes: &[(String, String)]) {
        let known = ELEMENTS.iter().find(|known| **known == name).copied();
        let Some(name) = known.filter(|_| self.open.len() < DEPTH) else {
            // The outer shell of a document is no loss.
            self.lossy |= !["html", "head", "body", "meta"].contains(&name);
            return;
        };
        // On other elements `on…` would be lost as well, but those are gone already.
        self.lossy |= attributes.iter().any(|(name, _)| name.starts_with("on"));
        if name == "img" {
            return self.image(attributes);
        }
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.attribute(name, attribute, value);
        }
        self.out.push('>');
        if !VOID.contains(&name) {
            self.open.push(name);
        }
    }

    fn attribute(&mut self, element: &str, name: &str, value: &str) {
        let digits = |value: &str| !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || c == '%');
        let word = |value: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || c == '#');
        let value = match name {
            "href" if element == "a" && is_link(value) => value.to_owned(),
            "style" => styles(value),
            // The face of formulas; other classes are not for strangers to choose.
            "class" if ["math math-inline", "math math-display"].contains(&value) => value.to_owned(),
            "title" | "alt" => value.to_owned(),
            "colspan" | "rowspan" | "width" | "height" | "start" | "span" if digits(value) => {
                value.to_owned()
            }
            "align" | "valign" | "scope" | "color" | "open" | "bgcolor" if word(value) => value.to_owned(),
            _ => return,
        };
        if value.is_empty() && name == "style" {
            return;
        }
        self.out.push_str(&format!(" {name}=\"{}\"", escape(&value)));
        if name == "href" {
            self.out.push_str(" rel=\"noopener noreferrer\"");
        }
    }

    /// Images that the page carries itself are shown; others become a link, as nothing is fetched.
    fn image(&mut self, attributes: &[(String, String)]) {
        let get = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.trim())
        };
        let (source, alt) = (get("src"), get("alt"));
        if is_embedded_image(source) {
            self.out.push_str(&format!("<img src=\"{}\"", escape(source)));
            for (name, value) in attributes.iter().filter(|(name, _)| name != "src" && name != "href") {
                self.attribute("img", name, value);
            }
            self.out.push('>');
            return;
        }
        let words = escape(if alt.is_empty() { source } else { alt });
        if is_link(source) && source.starts_with("http") {
            let link = escape(source);
            self.out
                .push_str(&format!("<a href=\"{link}\" rel=\"noopener noreferrer\">[image: {words}]</a>"));
        } else {
            self.out.push_str(&format!("[image: {words}]"));
        }
    }

    fn end(&mut self, name: &str) {
        // An end without a beginning would end something of the page's.
        let Some(at) = self.open.iter().rposition(|open| *open == name) else { return };
        while self.open.len() > at {
            if let Some(name) = self.open.pop() {
                self.close(name);
            }
        }
    }

    fn close(&mut self, name: &str) {
        self.out.push_str(&format!("</{name}>"));
    }
}

/// The attributes of a tag, values decoded, and what follows its `>`.
fn attributes(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (found, after);
        }
        if rest.is_empty() {
            return (found, "");
        }
        // A stray `=` begins a name in HTML; taking at least one character keeps this loop going.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let end = rest[first..]
            .find(|c: char| c.is_whitespace() || "/>=".contains(c))
            .map_or(rest.len(), |at| at + first);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            (value, rest) = match after.chars().next() {
                Some(quote @ ('"' | '\'')) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                _ => {
                    after.split_at(after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len()))
                }
            };
        }
        found.push((name, decode(value)));
    }
}

/// What follows `</name …>`, or nothing when it never comes.
fn skip_raw<'a>(rest: &'a str, name: &str) -> &'a str {
    let mut from = 0;
    while let Some(at) = rest[from..].find("</").map(|at| from + at + 2) {
        let tail = &rest[at..];
        if tail.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return tail.find('>').map_or("", |end| &tail[end + 1..]);
        }
        from = at;
    }
    ""
}

/// Only schemes that run nothing; whitespace and controls inside are how `java\nscript:` hides.
fn is_link(url: &str) -> bool {
    let url: String = url.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let url = url.to_ascii_lowercase();
    ["http://", "https://", "mailto:", "#"].iter().any(|start| url.starts_with(start))
}

fn is_embedded_image(url: &str) -> bool {
    // Not SVG: as an image it runs nothing, but opened in a tab of its own it does.
    let data = ["png", "jpeg", "jpg", "gif", "webp"]
        .iter()
        .find_map(|kind| url.strip_prefix("data:image/")?.strip_prefix(kind)?.strip_prefix(";base64,"));
    data.is_some_and(|data| data.chars().all(|c| c.is_ascii_alphanumeric() || "+/=\n\r ".contains(c)))
}

/// The declarations of a style attribute that are on the list and fetch nothing.
fn styles(value: &str) -> String {
    let harmless = |value: &str| {
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || " #%.,()-".contains(c));
        // A function must be a colour; a negative length would cover what is not its own.
        let calls = value.split('(').rev().skip(1).all(|name| {
            ["rgb", "rgba", "hsl", "hsla"].iter().any(|colour| name.trim_end().ends_with(colour))
        });
        plain && calls && !value.split([' ', ',']).any(|word| word.starts_with('-'))
    };
    let declarations = value.split(';').filter_map(|declaration| {
        let (property, value) = declaration.split_once(':')?;
        let (property, value) = (property.trim().to_ascii_lowercase(), value.trim());
        (PROPERTIES.contains(&property.as_str()) && harmless(value)).then(|| format!("{property}: {value}"))
    });
    declarations.collect::<Vec<_>>().join("; ")
}

/// Length of the entity that the text begins with, `&` and `;` included.
fn entity_length(text: &str) -> Option<usize> {
    let end = text.bytes().take(34).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let body = name.strip_prefix('#').unwrap_or(name);
    let legal = !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
    legal.then_some(end + 1)
}

/// The entities that matter in attributes. What is not known stays as it is and is escaped later.
fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = entity_length(rest);
        let decoded = length.and_then(|length| character(&rest[1..length - 1]));
        match (length, decoded) {
            (Some(length), Some(c)) => {
                out.push(c);
                rest = &rest[length..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn character(name: &str) -> Option<char> {
    let number = match name.strip_prefix('#') {
        None => {
            let named =
                [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}')];
            return named.into_iter().find(|(known, _)| *known == name).map(|(_, c)| c);
        }
        Some(number) => number,
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}
