//! One output on the page, by the best of its representations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::sanitize::sanitize;
use super::{ansi, escape, markdown, plotly};
use crate::ending::bytes;
use crate::notebook::joined;

/// Text of one output beyond this is cut in the middle, in bytes: a page is for reading.
const TEXT_BYTES: usize = 256 << 10;

/// Images that browsers show and that run nothing, best first.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// What the page must bring for what was written to it.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) has_plotly: bool,
    /// Plotly figures written.
    pub(super) figures: usize,
    /// Frames written.
    pub(super) frames: usize,
}

/// Writes an output of a code cell.
pub(super) fn write(page: &mut String, output: &Value, needs: &mut Needs) {
    let html = match output["output_type"].as_str() {
        Some("stream") => {
            let class = if output["name"] == "stderr" { "stderr" } else { "stdout" };
            text(class, &joined(&output["text"]))
        }
        Some("error") => text("error", &traceback(output)),
        _ => representation(output, needs),
    };
    let prompt = match output["execution_count"].as_u64() {
        Some(count) => format!("Out [{count}]"),
        None => String::new(),
    };
    page.push_str(&format!(
        "<div class=\"row\"><span class=\"prompt\">{prompt}</span><div class=\"out\">{html}</div></div>\n"
    ));
}

fn traceback(output: &Value) -> String {
    let lines = output["traceback"].as_array().map_or(&[][..], Vec::as_slice);
    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    if lines.is_empty() {
        format!("{}: {}", joined(&output["ename"]), joined(&output["evalue"]))
    } else {
        lines.join("\n")
    }
}

fn representation(output: &Value, needs: &mut Needs) -> String {
    let data = &output["data"];
    let get = |mime: &str| data.get(mime);
    let plain = get("text/plain").map(joined).unwrap_or_default();
    if let Some(figure) = get(plotly::MIME).filter(|_| needs.has_plotly) {
        needs.figures += 1;
        return plotly::figure(figure);
    }
    if let Some(html) = get("text/html").map(joined).filter(|html| !html.trim().is_empty()) {
        let clean = sanitize(&html);
        return if clean.lossy { frame(&html, needs) } else { clean.html };
    }
    if let Some(svg) = get("image/svg+xml").map(joined) {
        // In an img an SVG is a picture: no scripts, no requests.
        return image("image/svg+xml", &STANDARD.encode(svg), output, &plain);
    }
    for mime in IMAGES {
        if let Some(data) = get(mime).map(joined) {
            let data: String = data.chars().filter(|c| !c.is_whitespace()).collect();
            return image(mime, &data, output, &plain);
        }
    }
    if get(plotly::MIME).is_some() {
        let note = "<p class=\"note\">A Plotly figure, not drawn: plotly is not in the environment that \
                    cellctl was given with --python.</p>";
        return note.to_owned() + &text("stdout", &plain);
    }
    if let Some(latex) = get("text/latex").map(joined) {
        return format!("<div class=\"math\">{}</div>", escape(&latex));
    }
    if let Some(source) = get("text/markdown").map(joined) {
        return markdown::render(&source, &Value::Null);
    }
    if plain.is_empty()
        && let Some(json) = get("application/json")
    {
        return text("stdout", &format!("{json:#}"));
    }
    text("stdout", &plain)
}

fn text(class: &str, text: &str) -> String {
    if text.len() <= TEXT_BYTES {
        return format!("<pre class=\"{class}\">{}</pre>", ansi::to_html(text));
    }
    let head = text.floor_char_boundary(TEXT_BYTES / 2);
    let tail = text.floor_char_boundary(text.len() - TEXT_BYTES / 2);
    format!(
        "<pre class=\"{class}\">{}</pre><p class=\"note\">{} left out here; the notebook file has them.</p>\
         <pre class=\"{class}\">{}</pre>",
        ansi::to_html(&text[..head]),
        bytes((tail - head) as u64),
        ansi::to_html(&text[tail..]),
    )
}

fn image(mime: &str, base64: &str, output: &Value, alt: &str) -> String {
    let side = |name: &str| {
        let length = output["metadata"][mime][name].as_u64()?;
        Some(format!(" {name}=\"{length}\""))
    };
    let size = [side("width"), side("height")].into_iter().flatten().collect::<String>();
    format!("<img src=\"data:{mime};base64,{}\"{size} alt=\"{}\">", escape(base64), escape(alt))
}

/// HTML that wants more than the allow-list has, in an origin of its own.
fn frame(html: &str, needs: &mut Needs) -> String {
    needs.frames += 1;
    // First in the document, where nothing in the output can swallow it.
    let document = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><style>body{{margin:.3rem .9rem;font:14px/1.5 system-ui,sans-serif}}\
         table{{border-collapse:collapse}}td,th{{padding:.25rem .75rem;text-align:right}}</style>\
         <script>{{const tell=()=>parent.postMessage({{cellblockHeight:\
         document.documentElement.getBoundingClientRect().height+8}},'*');\
         addEventListener('message',tell);addEventListener('load',()=>{{tell();\
         new ResizeObserver(tell).observe(document.documentElement)}})}}</script>{html}"
    );
    format!("<iframe class=\"output\" sandbox=\"allow-scripts\" srcdoc=\"{}\"></iframe>", escape(&document))
}
