//! What a bundle is in a terminal: text by the best of its representations, or an image.

use cellblock_proto::execution::Bundle;
use serde_json::Value;

use super::html_text;
use super::one_line;
use crate::ending::bytes;
use crate::html::{bokeh, plotly, vega};
use crate::notebook::outputs;

/// Text made of JSON or HTML beyond this is cut, in bytes: a terminal is for reading.
const TEXT_BYTES: usize = 32 << 10;

/// Where figures are drawn that no terminal draws.
const PAGE: &str = "`cellctl run -o page.html` draws it";

/// Images, best first.
const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"];

/// A bundle, for a terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// A part of another output, nothing by itself.
    Nothing,
    /// Text without its last line's end.
    Text(String),
    /// An image, which some terminals draw.
    Image { mime: &'a str, bytes: &'a [u8] },
}

/// What to show of a bundle in so many columns.
pub(super) fn shown<'a>(bundle: &'a Bundle, payload: &'a [u8], columns: usize) -> Shown<'a> {
    let part = |mime: &str| {
        let part = bundle.parts.iter().find(|part| part.mime == mime)?;
        Some((part.mime.as_str(), part.span.of(payload)?))
    };
    let text = |mime: &str| Some(String::from_utf8_lossy(part(mime)?.1).into_owned());
    let plain = text("text/plain");
    let speaking = plain.as_ref().filter(|plain| !plain.is_empty() && !is_only_a_name(plain));
    // A formula is text first; the picture of it is for who cannot show formulas.
    let formula = part("text/latex").is_some() && speaking.is_some();
    if let Some((mime, bytes)) = IMAGES.iter().find_map(|mime| part(mime)).filter(|_| !formula) {
        return Shown::Image { mime, bytes };
    }
    if let Some(figure) = figure(bundle, payload) {
        return figure;
    }
    // Markdown is for reading as it is.
    if let Some(markdown) = text("text/markdown").filter(|_| speaking.is_none()) {
        return Shown::Text(markdown);
    }
    if let Some(html) = text("text/html").filter(|html| is_better(html, plain.as_deref())) {
        let words = html_text::render(&html, columns);
        if !words.is_empty() {
            return Shown::Text(words);
        }
    }
    if let Some(plain) = speaking {
        return Shown::Text(plain.clone());
    }
    if let Some(latex) = text("text/latex") {
        return Shown::Text(latex);
    }
    if let Some(part) = bundle.parts.iter().find(|part| outputs::is_json(&part.mime))
        && let Some(json) = part.span.of(payload).and_then(|json| serde_json::from_slice::<Value>(json).ok())
    {
        return Shown::Text(cut(format!("{json:#}")));
    }
    if let Some((_, script)) = part("application/javascript") {
        return Shown::Text(format!("[JavaScript, {}; {PAGE}]", bytes(script.len() as u64)));
    }
    if let Some(plain) = plain {
        return Shown::Text(plain);
    }
    let mimes: Vec<_> = bundle.parts.iter().map(|part| one_line(&part.mime)).collect();
    Shown::Text(format!("[{}]", mimes.join(", ")))
}

/// Whether the plain text is nothing but what Python calls an object: `<Figure …>`.
pub(crate) fn is_only_a_name(plain: &str) -> bool {
    let plain = plain.trim();
    plain.starts_with('<') && plain.ends_with('>') && plain.lines().count() == 1
}

/// Whether HTML says more than the plain text beside it. pandas and polars have tables of their own as
/// text; others only say how the object was made: `GT(…)`.
fn is_better(html: &str, plain: Option<&str>) -> bool {
    let Some(plain) = plain.filter(|plain| !plain.is_empty()) else { return true };
    let constructor = plain.split_once('(').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._".contains(c))
    });
    is_only_a_name(plain) || constructor && html.contains("<table")
}

/// A figure that only a browser draws.
fn figure<'a>(bundle: &Bundle, payload: &[u8]) -> Option<Shown<'a>> {
    let drawn_elsewhere = |mime: &str| {
        [plotly::MIME, bokeh::PLOT, bokeh::LOADING].contains(&mime)
            || ["application/vnd.vega", "text/html"].iter().any(|start| mime.starts_with(start))
    };
    if !bundle.parts.iter().any(|part| drawn_elsewhere(&part.mime)) {
        return None;
    }
    let data = Value::Object(outputs::data(bundle, payload));
    let named = |what: &str, title: Option<String>| {
        let title = title.map_or(String::new(), |title| format!(" “{}”", one_line(&title)));
        Some(Shown::Text(format!("[{what}{title}; {PAGE}]")))
    };
    if bokeh::is_scaffold(&data) {
        return Some(Shown::Nothing);
    }
    if let Some(figure) = data.get(plotly::MIME) {
        return named("Plotly figure", plotly::title(figure));
    }
    if data.get(bokeh::PLOT).is_some() {
        return named("Bokeh plot", None);
    }
    named("Altair chart", vega::title(&vega::chart(&data)?))
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        let left = text.len() - TEXT_BYTES;
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        text.push_str(&format!("\n[{} more]", bytes(left as u64)));
    }
    text
}

#[cfg(test)]
mod tests {
    use cellblock_proto::execution::{Part, Span};

    use super::*;

    fn shown_as(parts: &[(&str, &str)]) -> String {
        let mut payload = Vec::new();
        let parts = parts.iter().map(|(mime, text)| {
            let span = Span { offset: payload.len() as u64 as _, length: text.len() as u64 as _ };
            payload.extend_from_slice(text.as_bytes());
            Part { mime: (*mime).to_owned(), span }
        });
        let bundle = Bundle { parts: parts.collect(), metadata: None };
        match shown(&bundle, &payload, 80) {
            Shown::Nothing => "nothing".to_owned(),
            Shown::Text(text) => text,
            Shown::Image { mime, bytes } => format!("{mime} of {} bytes", bytes.len()),
        }
    }

    #[test]
    fn the_best_of_a_bundle_is_shown() {
        let table = "<table><tr><td>1</td></tr></table>";
        let vega = "{\"$schema\": \"vega\", \"title\": \"sales\"}";
        for (parts, expected) in [
            (&[("text/plain", "   a\n0  1"), ("text/html", table)][..], "   a\n0  1"),
            (&[("text/plain", "<Styler at 0x7f>"), ("text/html", table)], "1"),
            (&[("text/plain", "GT(_data=…)"), ("text/html", table)], "1"),
            (&[("text/plain", "Thing(3)"), ("text/html", "<b>x</b>")], "Thing(3)"),
            (&[("text/plain", "<Figure>"), ("image/png", "PNG")], "image/png of 3 bytes"),
            (&[("text/plain", "x²"), ("image/png", "PNG"), ("text/latex", "$x^2$")], "x²"),
            (&[("text/plain", "<Latex object>"), ("text/latex", "$x^2$")], "$x^2$"),
            (&[("text/plain", "<Markdown object>"), ("text/markdown", "**b**")], "**b**"),
            (&[("text/plain", "gauge ▓▓░"), ("text/markdown", "**b**")], "gauge ▓▓░"),
            (
                &[("text/plain", "<JSON object>"), ("application/json", "{\"a\":[1]}")],
                "{\n  \"a\": [\n    1\n  ]\n}",
            ),
            (
                &[(
                    "application/vnd.plotly.v1+json",
                    "{\"layout\":{\"title\":{\"text\":\"a\\u001b]0;x\\u0007b\"}}}",
                )],
                "[Plotly figure “ab”; `cellctl run -o page.html` draws it]",
            ),
            (
                &[("text/plain", "alt.Chart(...)"), ("application/vnd.vegalite.v6+json", vega)],
                "[Altair chart “sales”; `cellctl run -o page.html` draws it]",
            ),
            (
                &[("application/javascript", "f()"), ("application/vnd.bokehjs_exec.v0+json", "")],
                "[Bokeh plot; `cellctl run -o page.html` draws it]",
            ),
            // A bar that was closed.
            (&[("text/plain", "")], ""),
            (&[("text/html", "<div id=\"a\" data-root-id=\"p1\"></div>")], "nothing"),
            (
                &[("text/plain", "<Javascript>"), ("application/javascript", "f()")],
                "[JavaScript, 3 B; `cellctl run -o page.html` draws it]",
            ),
            (&[("application/x-\u{1b}thing", "data")], "[application/x-hing]"),
            (&[("text/plain", "<object>"), ("text/html", "<script>x</script>")], "<object>"),
        ] {
            assert_eq!(shown_as(parts), expected, "{parts:?}");
        }
    }

    #[test]
    fn endless_json_is_cut() {
        let json = format!("[{}1]", "1,".repeat(100_000));
        let text = shown_as(&[("application/json", &json)]);
        assert!(text.len() < TEXT_BYTES + 100 && text.ends_with(" more]"), "{}", &text[text.len() - 40..]);
    }
}
