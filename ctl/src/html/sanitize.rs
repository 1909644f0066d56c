//! HTML of unknown origin, written anew from an allow-list.
//!
//! The input is cut into tags and text; only tags and attributes on the lists below are written
//! again, with our own quoting, balanced, and every other `<` escaped. So a browser that reads
//! the input differently than we do makes no difference: it never sees the input.

use super::tokens::{Tag, Token, entity_length, tokens};
use super::{css, escape};

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clean {
    pub(super) html: String,
    /// Its style sheets, for a scope of that name.
    pub(super) css: String,
    /// Something that matters to how it looks or works was left out: a script, a style sheet that says
    /// more than [`css`] lets pass, drawings, forms.
    pub(super) lossy: bool,
}

const ELEMENTS: &[&str] = &[
    "a",
    "abbr",
    "audio",
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
    "source",
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
    "video",
    "wbr",
];
const VOID: &[&str] = &["br", "col", "hr", "img", "source", "wbr"];
const PLAYERS: [&str; 2] = ["audio", "video"];
/// Deeper nesting is nobody's table; it only costs the browser its stack.
const DEPTH: usize = 100;

/// Writes the HTML anew. `scope` is a class that nothing else on the page has: style sheets are written
/// for what stands within it alone. Without one there are no style sheets.
pub(super) fn sanitize(html: &str, scope: Option<&str>) -> Clean {
    let mut lossy = false;
    let css = scope.and_then(|scope| match style_sheets(html) {
        sheets if sheets.is_empty() => None,
        sheets => {
            let sheets = css::scoped(&sheets, scope);
            lossy |= sheets.is_none();
            sheets
        }
    });
    let mut writer = Writer {
        out: String::with_capacity(html.len()),
        open: Vec::new(),
        lossy,
        any_style: scope.is_some(),
        names: css.is_some(),
    };
    for token in tokens(html) {
        match token {
            Token::Text(text) => writer.text(text),
            Token::Start(tag) => writer.start(&tag),
            Token::End(name) => writer.end(&name),
            Token::Raw(tag, _) => writer.raw(&tag),
        }
    }
    while let Some(name) = writer.open.pop() {
        writer.close(name);
    }
    Clean { html: writer.out, css: css.unwrap_or_default(), lossy: writer.lossy }
}

/// `<style scoped>` is what pandas puts before every table; the page has its own.
fn style_sheets(html: &str) -> String {
    let mut sheets = String::new();
    for token in tokens(html) {
        if let Token::Raw(tag, content) = token
            && tag.name == "style"
            && !is_scoped(&tag)
        {
            sheets.push_str(content);
            sheets.push('\n');
        }
    }
    sheets
}

fn is_scoped(style: &Tag) -> bool {
    style.attributes.iter().any(|(name, _)| name == "scoped")
}

struct Writer {
    out: String,
    open: Vec<&'static str>,
    lossy: bool,
    /// Style sheets have been looked at, so they are no loss here.
    any_style: bool,
    /// Ids and classes are kept, as the style sheets refer to them.
    names: bool,
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

    /// An element whose content is no text.
    fn raw(&mut self, tag: &Tag) {
        match tag.name.as_str() {
            "style" => self.lossy |= !self.any_style && !is_scoped(tag),
            // Nothing is fetched, so a frame of somewhere else is a link to it.
            "iframe" if is_web(tag.get("src")) => self.link("frame", tag.get("src"), ""),
            _ => self.lossy = true,
        }
    }

    fn start(&mut self, tag: &Tag) {
        let known = ELEMENTS.iter().find(|known| **known == tag.name).copied();
        let Some(name) = known.filter(|_| self.open.len() < DEPTH) else {
            // The outer shell of a document is no loss.
            self.lossy |= !["html", "head", "body", "meta"].contains(&tag.name.as_str());
            return;
        };
        // On other elements `on…` would be lost as well, but those are gone already.
        self.lossy |= tag.attributes.iter().any(|(name, _)| name.starts_with("on"));
        match name {
            "img" => return self.image(tag),
            "source" => return self.source(tag),
            "audio" | "video" => return self.player(name, tag),
            _ => {}
        }
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in &tag.attributes {
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
            "style" => css::declarations(value),
            // Formulas; other classes are not for strangers to choose, but in a namespace of theirs.
            "class" if ["math math-inline", "math math-display"].contains(&value) => value.to_owned(),
            "class" | "id" if self.names => css::names(value),
            "title" | "alt" => value.to_owned(),
            "colspan" | "rowspan" | "width" | "height" | "start" | "span" if digits(value) => {
                value.to_owned()
            }
            "align" | "valign" | "scope" | "color" | "open" | "bgcolor" if word(value) => value.to_owned(),
            _ => return,
        };
        if value.is_empty() && ["style", "class", "id"].contains(&name) {
            return;
        }
        self.out.push_str(&format!(" {name}=\"{}\"", escape(&value)));
        if name == "href" {
            self.out.push_str(" rel=\"noopener noreferrer\"");
        }
    }

    /// Images that the page carries itself are shown; others become a link, as nothing is fetched.
    fn image(&mut self, tag: &Tag) {
        let source = tag.get("src");
        if !is_embedded_image(source) {
            return self.link("image", source, tag.get("alt"));
        }
        self.out.push_str(&format!("<img src=\"{}\"", escape(source)));
        for (name, value) in tag.attributes.iter().filter(|(name, _)| name != "src" && name != "href") {
            self.attribute("img", name, value);
        }
        self.out.push('>');
    }

    /// A sound or a film: played when somebody asks for it.
    fn player(&mut self, name: &'static str, tag: &Tag) {
        self.out.push_str(&format!("<{name} controls"));
        for (attribute, value) in &tag.attributes {
            match attribute.as_str() {
                "width" | "height" | "style" => self.attribute(name, attribute, value),
                "loop" | "muted" => self.out.push_str(&format!(" {attribute}")),
                _ => {}
            }
        }
        let source = tag.get("src");
        if is_embedded_media(source) {
            self.out.push_str(&format!(" src=\"{}\"", escape(source)));
        }
        self.out.push('>');
        self.open.push(name);
        if !source.is_empty() && !is_embedded_media(source) {
            self.elsewhere(name, source);
        }
    }

    fn source(&mut self, tag: &Tag) {
        let source = tag.get("src");
        if is_embedded_media(source) {
            self.out.push_str(&format!("<source src=\"{}\">", escape(source)));
        } else if let Some(player) = self.open.last().copied().filter(|name| PLAYERS.contains(name)) {
            self.elsewhere(player, source);
        }
    }

    /// What an element plays that the page does not carry: a link in place of the player.
    fn elsewhere(&mut self, player: &'static str, source: &str) {
        self.end(player);
        self.link(player, source, "");
    }

    fn link(&mut self, what: &str, source: &str, words: &str) {
        let words = escape(if words.is_empty() { source } else { words });
        if is_web(source) {
            let link = escape(source);
            self.out
                .push_str(&format!("<a href=\"{link}\" rel=\"noopener noreferrer\">[{what}: {words}]</a>"));
        } else {
            self.out.push_str(&format!("[{what}: {words}]"));
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

/// Only schemes that run nothing; whitespace and controls inside are how `java\nscript:` hides.
fn is_link(url: &str) -> bool {
    let url: String = url.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let url = url.to_ascii_lowercase();
    ["http://", "https://", "mailto:", "#"].iter().any(|start| url.starts_with(start))
}

fn is_web(url: &str) -> bool {
    is_link(url) && url.starts_with("http")
}

fn is_embedded_image(url: &str) -> bool {
    // Not SVG: as an image it runs nothing, but opened in a tab of its own it does.
    let data = ["png", "jpeg", "jpg", "gif", "webp"]
        .iter()
        .find_map(|kind| url.strip_prefix("data:image/")?.strip_prefix(kind)?.strip_prefix(";base64,"));
    data.is_some_and(is_base64)
}

fn is_embedded_media(url: &str) -> bool {
    let rest = url.strip_prefix("data:audio/").or_else(|| url.strip_prefix("data:video/"));
    rest.and_then(|rest| rest.split_once(";base64,")).is_some_and(|(kind, data)| {
        kind.chars().all(|c| c.is_ascii_alphanumeric() || "-+.".contains(c)) && is_base64(data)
    })
}

fn is_base64(data: &str) -> bool {
    data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=\n\r ".contains(&byte))
}
