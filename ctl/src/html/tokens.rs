//! HTML of unknown origin, cut into tags and text. Not a parser of the standard: whoever uses the
//! tokens writes something of his own from them, so nobody depends on what a browser would see.

/// Elements whose content is no text for people; it comes with them.
const RAW: &[&str] = &[
    "iframe", "math", "noembed", "noframes", "noscript", "object", "script", "style", "svg", "template",
    "textarea", "title", "xmp",
];

/// A piece of HTML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// Text with its entities as they were written.
    Text(&'a str),
    /// `<name …>`, its name in lower case.
    Start(Tag),
    /// `</name>`.
    End(String),
    /// An element whose content is no text, whole: its tag and what stands in it.
    Raw(Tag, &'a str),
}

/// The beginning of an element.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    /// Names in lower case, values decoded.
    pub(crate) attributes: Vec<(String, String)>,
}

impl Tag {
    /// The value of an attribute, trimmed; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.trim())
    }
}

/// The tokens of a text.
pub(crate) fn tokens(html: &str) -> Tokens<'_> {
    Tokens { rest: html }
}

#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some(after) = self.rest.strip_prefix('<') else {
                return Some(self.text(0));
            };
            if let Some(comment) = after.strip_prefix("!--") {
                self.rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            } else if after.starts_with(['!', '?']) {
                self.rest = after.find('>').map_or("", |end| &after[end + 1..]);
            } else {
                let (closing, name) = after.strip_prefix('/').map_or((false, after), |name| (true, name));
                if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    // A `<` that begins nothing is text.
                    return Some(self.text(1));
                }
                return Some(self.tag(closing, name));
            }
        }
    }
}

impl<'a> Tokens<'a> {
    /// Takes text up to the next `<` that is not among the first `skip` bytes.
    fn text(&mut self, skip: usize) -> Token<'a> {
        let end = self.rest[skip..].find('<').map_or(self.rest.len(), |at| at + skip);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Token::Text(text)
    }

    fn tag(&mut self, closing: bool, after: &'a str) -> Token<'a> {
        let end = after.find(|c: char| c.is_whitespace() || c == '/' || c == '>').unwrap_or(after.len());
        let name = after[..end].to_ascii_lowercase();
        let (attributes, rest) = attributes(&after[end..]);
        self.rest = rest;
        if closing {
            return Token::End(name);
        }
        let tag = Tag { name, attributes };
        if RAW.contains(&tag.name.as_str()) {
            let (content, rest) = raw(rest, &tag.name);
            self.rest = rest;
            return Token::Raw(tag, content);
        }
        Token::Start(tag)
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

/// What stands before `</name …>` and what after it; without an end, everything stands before.
fn raw<'a>(rest: &'a str, name: &str) -> (&'a str, &'a str) {
    let mut from = 0;
    while let Some(at) = rest[from..].find("</").map(|at| from + at) {
        let tail = &rest[at + 2..];
        if tail.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return (&rest[..at], tail.find('>').map_or("", |end| &tail[end + 1..]));
        }
        from = at + 2;
    }
    (rest, "")
}

/// Length of the entity that the text begins with, `&` and `;` included.
pub(crate) fn entity_length(text: &str) -> Option<usize> {
    let end = text.bytes().take(34).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let body = name.strip_prefix('#').unwrap_or(name);
    let legal = !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
    legal.then_some(end + 1)
}

/// The text with the entities that matter as characters. What is not known stays as it is.
pub(crate) fn decode(text: &str) -> String {
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
    const NAMED: [(&str, char); 14] = [
        ("amp", '&'),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("nbsp", '\u{a0}'),
        ("times", '×'),
        ("middot", '·'),
        ("deg", '°'),
        ("plusmn", '±'),
        ("minus", '−'),
        ("hellip", '…'),
        ("ndash", '–'),
        ("mdash", '—'),
    ];
    let Some(number) = name.strip_prefix('#') else {
        return NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, c)| c);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(html: &str) -> Vec<String> {
        tokens(html)
            .map(|token| match token {
                Token::Text(text) => text.to_owned(),
                Token::Start(tag) => format!("<{} {:?}>", tag.name, tag.attributes),
                Token::End(name) => format!("</{name}>"),
                Token::Raw(tag, content) => format!("<{}>{content}</>", tag.name),
            })
            .collect()
    }

    #[test]
    fn html_is_cut_into_tags_and_text() {
        assert_eq!(
            shown("a<B c='1&amp;' d=2 e>x</B ><!-- <i> -->1 < 2<script>let a = '<b>';</SCRIPT>&lt;"),
            [
                "a",
                "<b [(\"c\", \"1&\"), (\"d\", \"2\"), (\"e\", \"\")]>",
                "x",
                "</b>",
                "1 ",
                "< 2",
                "<script>let a = '<b>';</>",
                "&lt;"
            ]
        );
    }

    #[test]
    fn what_never_ends_ends_with_the_text() {
        for html in ["<b", "<b c='", "<!-- x", "<style>a", "</", "<", "<script", "&#x", "</script"] {
            assert!(tokens(html).count() <= 1, "{html}");
        }
    }
}
