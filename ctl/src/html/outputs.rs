//! One output on the page, by the best of its representations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::sanitize::sanitize;
use super::{Charts, ansi, bokeh, escape, frame, json, markdown, math, plotly, vega};
use crate::ending::bytes;
use crate::notebook::joined;
use crate::notebook::outputs::is_json;
use crate::show::is_only_a_name;

/// Text of one output beyond this is cut in the middle, in bytes: a page is for reading.
const TEXT_BYTES: usize = 256 << 10;

/// Images that browsers show and that run nothing, best first.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

const WIDGET: &str = "application/vnd.jupyter.widget-view+json";

/// What the page has, and what it must bring for what was written to it.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) has_plotly: bool,
    pub(super) has_bokeh: bool,
    /// Plotly figures written.
    pub(super) figures: usize,
    /// Frames written, Bokeh's plots among them.
    pub(super) frames: usize,
    pub(super) bokeh_plots: usize,
    /// Style sheets written, each for a scope of its own.
    pub(super) scopes: usize,
}

/// Where an output stands: its cell among the notebook's, and its place in it.
pub(crate) type Place = (usize, usize);

/// Writes an output of a code cell.
pub(super) fn write(page: &mut String, output: &Value, place: Place, charts: &Charts, needs: &mut Needs) {
    let html = match output["output_type"].as_str() {
        Some("stream") => {
            let class = if output["name"] == "stderr" { "stderr" } else { "stdout" };
            text(class, &joined(&output["text"]))
        }
        Some("error") => text("error", &traceback(output)),
        _ if bokeh::is_scaffold(&output["data"]) => return,
        _ => representation(output, charts.get(&place), needs),
    };
    if html.is_empty() {
        // A progress bar that was closed.
        return;
    }
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

fn representation(output: &Value, chart: Option<&Result<String, String>>, needs: &mut Needs) -> String {
    let data = &output["data"];
    let get = |mime: &str| data.get(mime);
    let plain = get("text/plain").map(joined).unwrap_or_default();
    if let Some(drawn) = drawn(output, &plain, chart, needs) {
        return drawn;
    }
    if let Some(source) = get("text/html").map(joined).filter(|html| !html.trim().is_empty()) {
        return html(&source, needs);
    }
    let latex = get("text/latex").map(joined);
    if let Some(formula) = latex.as_deref().and_then(math::output) {
        return formula;
    }
    if let Some(image) = image(output, &plain) {
        return image;
    }
    if let Some(source) = get("text/markdown").map(joined) {
        return format!("<div class=\"text\">{}</div>", markdown::render(&source, &Value::Null));
    }
    if let Some(latex) = latex {
        return format!("<div class=\"math\">{}</div>", text("latex", &latex));
    }
    if get(WIDGET).is_some() {
        return note("A widget: it lives only while its notebook does. As text:") + &text("stdout", &plain);
    }
    let structure = data.as_object().and_then(|bundle| bundle.iter().find(|(mime, _)| is_json(mime)));
    if let Some((_, value)) = structure.filter(|_| plain.is_empty() || is_only_a_name(&plain)) {
        return json::tree(value);
    }
    if let Some(code) = get("application/javascript").map(joined) {
        return frame::script(&code, needs);
    }
    if let Some(pdf) = get("application/pdf").map(joined) {
        return document(&pdf);
    }
    if get("text/plain").is_none() {
        let mimes = data.as_object().into_iter().flat_map(|bundle| bundle.keys()).cloned();
        return note(&format!(
            "An output that this page cannot show: {}.",
            mimes.collect::<Vec<_>>().join(", ")
        ));
    }
    text("stdout", &plain)
}

/// Figures of the libraries that draw in the browser, or what can be said of them.
fn drawn(
    output: &Value,
    plain: &str,
    chart: Option<&Result<String, String>>,
    needs: &mut Needs,
) -> Option<String> {
    let data = &output["data"];
    let missing = |what: &str, package: &str| {
        note(&format!(
            "A {what}, not drawn: {package} is not in the environment that cellctl was given with --python."
        ))
    };
    if let Some(figure) = data.get(plotly::MIME) {
        if needs.has_plotly {
            needs.figures += 1;
            return Some(plotly::figure(figure));
        }
        let other = data.get("text/html").is_some() || image(output, plain).is_some();
        return (!other).then(|| missing("Plotly figure", "plotly") + &text("stdout", plain));
    }
    if data.get(bokeh::PLOT).is_some() {
        let plot = if needs.has_bokeh { bokeh::plot(data, needs) } else { None };
        return Some(plot.unwrap_or_else(|| missing("Bokeh plot", "bokeh")));
    }
    let spec = vega::chart(data)?;
    if let Some(image) = image(output, plain) {
        return Some(image);
    }
    Some(match chart {
        Some(Ok(picture)) => svg(picture, vega::title(&spec).as_deref().unwrap_or("An Altair chart")),
        Some(Err(why)) => vega::words(&spec, why),
        None => vega::words(&spec, "nobody was asked to draw it"),
    })
}

fn html(source: &str, needs: &mut Needs) -> String {
    let scope = format!("s{}", needs.scopes);
    let clean = sanitize(source, Some(&scope));
    if clean.lossy {
        return frame::html(source, needs);
    }
    if clean.css.is_empty() {
        return clean.html;
    }
    needs.scopes += 1;
    // Who chooses colours chooses them for white.
    let paper = if clean.css.contains("color") || clean.css.contains("background") { " paper" } else { "" };
    // Classes of Jupyter's own around an output, which pygments' sheet begins with.
    let (css, html) = (clean.css, clean.html);
    format!(
        "<style>\n{css}</style><div class=\"{scope}{paper}\"><div class=\"u-output_html\">{html}</div></div>"
    )
}

fn note(words: &str) -> String {
    format!("<p class=\"note\">{}</p>", escape(words))
}

fn document(pdf: &str) -> String {
    let data: String = pdf.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
    format!(
        "<p><a download=\"output.pdf\" href=\"data:application/pdf;base64,{data}\">A PDF document, {}</a></p>",
        bytes(data.len() as u64 / 4 * 3)
    )
}

fn text(class: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
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

/// The image of a bundle, when it has one.
fn image(output: &Value, alt: &str) -> Option<String> {
    let data = &output["data"];
    if let Some(source) = data.get("image/svg+xml").map(joined) {
        return Some(svg(&source, alt));
    }
    IMAGES.iter().find_map(|mime| {
        let base64: String = joined(data.get(*mime)?).chars().filter(|c| !c.is_whitespace()).collect();
        let side = |name: &str| {
            let length = output["metadata"][*mime][name].as_u64()?;
            Some(format!(" {name}=\"{length}\""))
        };
        let size = [side("width"), side("height")].into_iter().flatten().collect::<String>();
        let (base64, alt) = (escape(&base64), escape(alt));
        Some(format!("<img src=\"data:{mime};base64,{base64}\"{size} alt=\"{alt}\">"))
    })
}

/// In an img an SVG is a picture: no scripts, no requests.
fn svg(source: &str, alt: &str) -> String {
    let alt = escape(alt);
    format!("<img src=\"data:image/svg+xml;base64,{}\" alt=\"{alt}\">", STANDARD.encode(source))
}
