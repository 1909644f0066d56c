//! HTML as text: tables with their columns under each other, paragraphs and lists by lines.

use super::table::Table;
use crate::ending::bytes;
use crate::html::tokens::{Tag, Token, decode, tokens};

/// Longest text of one output, in bytes: a terminal is for reading.
const TEXT_BYTES: usize = 32 << 10;

/// Longest piece of a link or a description, in characters.
const WORDS_CHARS: usize = 200;

/// Elements that begin a line.
const LINES: &[&str] = &[
    "blockquote",
    "br",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "ul",
];

/// The HTML in so many columns; 0 where nobody knows how many there are.
pub(super) fn render(html: &str, columns: usize) -> String {
    let mut writer = Writer::default();
    for token in tokens(html) {
        if writer.out.len() > TEXT_BYTES {
            writer.out.truncate(writer.out.floor_char_boundary(TEXT_BYTES));
            writer.out.push_str("\n[…]");
            return writer.out;
        }
        match token {
            Token::Text(text) => writer.text(&decode(text)),
            Token::Start(tag) => writer.start(&tag),
            Token::End(name) => writer.end(&name, columns),
            Token::Raw(tag, _) => writer.raw(&tag),
        }
    }
    while writer.table.is_some() {
        writer.end("table", columns);
    }
    // An entity may be any character.
    writer
        .out
        .replace(|c: char| c.is_control() && !"\n\t".contains(c), "")
        .trim_start_matches('\n')
        .trim_end()
        .to_owned()
}

#[derive(Debug, Default)]
struct Writer {
    out: String,
    /// The table that is read, and how many more are open inside it: those are their text.
    table: Option<Table>,
    inner_tables: usize,
    /// Whether white space is kept.
    preformatted: bool,
    /// The element whose text is for browsers that cannot play it.
    silent: Option<String>,
}

impl Writer {
    fn text(&mut self, text: &str) {
        if self.silent.is_some() {
            return;
        }
        if let Some(table) = &mut self.table {
            return table.text(text);
        }
        if self.preformatted {
            return self.out.push_str(text);
        }
        let lead = text.starts_with(char::is_whitespace) && !self.out.ends_with(['\n', ' ']);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if lead && !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(&words);
        if !words.is_empty() && text.ends_with(char::is_whitespace) {
            self.out.push(' ');
        }
    }

    fn line(&mut self) {
        let end = self.out.trim_end_matches(' ').len();
        self.out.truncate(end);
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn start(&mut self, tag: &Tag) {
        let name = tag.name.as_str();
        if let Some(table) = &mut self.table {
            match name {
                "table" => self.inner_tables += 1,
                _ if self.inner_tables == 0 => table.start(tag),
                _ => {}
            }
            return;
        }
        if LINES.contains(&name) {
            self.line();
        }
        match name {
            "table" => self.table = Some(Table::default()),
            "li" => self.out.push_str("- "),
            "hr" => self.out.push_str("────\n"),
            "pre" => self.preformatted = true,
            "img" => self.words("image", tag.get("alt"), tag.get("src")),
            "audio" | "video" => {
                self.silent = Some(tag.name.clone());
                self.words(name, "", tag.get("src"));
            }
            "source" => {
                if let Some(player) = self.silent.clone() {
                    self.words(&player, "", tag.get("src"));
                }
            }
            _ => {}
        }
    }

    /// What cannot be shown, by what it is and where it is.
    fn words(&mut self, what: &str, alt: &str, source: &str) {
        let place = match source.strip_prefix("data:").and_then(|data| data.split_once([';', ','])) {
            Some((mime, data)) => format!(
                "{mime}, {}",
                bytes(data.strip_prefix("base64,").unwrap_or(data).len() as u64 / 4 * 3)
            ),
            None => source.to_owned(),
        };
        let words = if alt.is_empty() { place } else { alt.to_owned() };
        if !words.is_empty() {
            let words: String = words.chars().take(WORDS_CHARS).collect();
            self.out.push_str(&format!("[{what}: {words}]"));
        }
    }

    fn end(&mut self, name: &str, columns: usize) {
        if self.silent.as_deref() == Some(name) {
            self.silent = None;
        }
        match (name, &mut self.table) {
            ("table", Some(_)) if self.inner_tables > 0 => self.inner_tables -= 1,
            ("table", Some(table)) => {
                let text = table.render(columns);
                self.table = None;
                self.line();
                self.out.push_str(&text);
            }
            (_, Some(table)) => table.end(name),
            _ if LINES.contains(&name) => {
                self.preformatted &= name != "pre";
                self.line();
            }
            _ => {}
        }
    }

    fn raw(&mut self, tag: &Tag) {
        if tag.name == "iframe" && self.table.is_none() {
            self.words("frame", "", tag.get("src"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_html_breaks_it(html in r"(</?(table|tr|td|th|thead|caption|pre|audio|li|br)( (colspan|rowspan)=[0-9]{1,20})?>|<|[a-z ]|é|&#[0-9]{1,3};){0,60}", columns in 0usize..200) {
            let text = render(&html, columns);
            prop_assert!(!text.contains(|c: char| c.is_control() && !"\n\t".contains(c)), "{text:?}");
        }
    }

    #[test]
    fn paragraphs_and_lists_are_lines() {
        assert_eq!(
            render(
                "<h2>A  title</h2><p>Some <b>bold</b> &amp; <i>it</i>\n<ul><li>one<li>two</ul><pre>a\n  b</pre>x<br>y",
                0
            ),
            "A title\nSome bold & it\n- one\n- two\na\n  b\nx\ny"
        );
    }

    #[test]
    fn what_a_terminal_cannot_show_is_named() {
        let wav = format!(
            "<audio controls><source src=\"data:audio/wav;base64,{}\">no player</audio>",
            "A".repeat(399) + "="
        );
        assert_eq!(render(&wav, 0), "[audio: audio/wav, 300 B]");
        assert_eq!(
            render("<iframe src=\"https://example.org\"></iframe>", 0),
            "[frame: https://example.org]"
        );
        assert_eq!(
            render("<img src=\"a.png\"><video src=\"b.mp4\"></video>", 0),
            "[image: a.png][video: b.mp4]"
        );
        assert_eq!(render("<script>alert(1)</script><style>a{}</style>", 0), "");
    }

    #[test]
    fn a_table_of_pandas_styler_stands_in_its_columns() {
        let html = "<style>#T th {color:red}</style>\n<table id=\"T\"><caption>Sales</caption><thead><tr>\
            <th class=\"blank level0\" >&nbsp;</th><th>region</th><th>sales</th></tr></thead><tbody>\
            <tr><th>0</th><td>North &amp; <b>West</b></td><td>1,234.50</td></tr>\
            <tr><th>1</th><td>South</td><td>-12.00</td></tr></tbody></table><p>end";
        insta::assert_snapshot!(render(html, 80));
    }

    #[test]
    fn endless_html_is_cut() {
        let text = render(&"<p>word</p>".repeat(100_000), 80);
        assert!(text.len() < TEXT_BYTES + 100 && text.ends_with("[…]"), "{}", text.len());
        let table = "<table>".repeat(1_000) + &"<tr><td>x".repeat(1_000);
        assert!(render(&table, 80).len() < TEXT_BYTES);
    }
}
