//! The notebook as one self-contained page, made to be sent to somebody.
//!
//! Whoever wrote the notebook is not trusted, so nothing of it may run in the page's own origin
//! and nothing may call out. Three layers, each enough alone for most of it:
//! 1. every text is escaped, and HTML passes an allow-list ([`sanitize`]) that writes it anew, with its
//!    style sheets ([`css`]) for its own place;
//! 2. what the list cannot say (scripts, embedded SVG, Bokeh's plots) goes into a frame of its own with
//!    `sandbox="allow-scripts"`: another origin, no access to the page;
//! 3. a Content-Security-Policy forbids every request, and, where there are no such frames,
//!    every script but ours.

mod ansi;
pub(crate) mod bokeh;
mod css;
mod frame;
mod highlight;
mod json;
pub(crate) mod library;
mod markdown;
mod math;
mod outputs;
pub(crate) mod plotly;
mod sanitize;
pub(crate) mod tokens;
pub(crate) mod vega;

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use sandbox_profiles::SandboxReport;
use serde_json::Value;

use crate::commands::{state_mark, state_name};
use crate::ending::time;
use crate::notebook::{Notebook, joined};

use self::library::Libraries;
use self::outputs::{Needs, Place};

/// What the page says about the run.
#[derive(Debug)]
pub(crate) struct PageInfo {
    pub(crate) file_name: String,
    pub(crate) cells: usize,
    pub(crate) done: usize,
    /// Places of the cells that failed, from 1.
    pub(crate) failed: Vec<usize>,
    pub(crate) elapsed: Duration,
    pub(crate) python: Option<String>,
    pub(crate) report: Option<SandboxReport>,
    /// What draws figures; without it they are shown as words.
    pub(crate) libraries: Libraries,
    pub(crate) charts: Charts,
    /// Random, so that no text in the notebook can carry it.
    pub(crate) nonce: String,
}

/// Charts that were drawn for the page as SVG, or why one was not.
pub(crate) type Charts = HashMap<Place, Result<String, String>>;

/// The page.
pub(crate) fn page(notebook: &Notebook, info: &PageInfo) -> String {
    let Libraries { plotly, bokeh } = &info.libraries;
    let mut needs = Needs { has_plotly: plotly.is_some(), has_bokeh: bokeh.is_some(), ..Needs::default() };
    let mut body = String::new();
    for (place, cell) in notebook.cells().iter().enumerate() {
        write_cell(&mut body, cell, place, info, &mut needs);
    }
    let own_title = notebook.title();
    let title = own_title.as_deref().unwrap_or(&info.file_name);
    let nonce = &info.nonce;
    let mut page = String::with_capacity(body.len() + 16_384);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"cellctl {}\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{}<main>\n{body}</main>\n{}",
        policy(nonce, &needs),
        env!("CARGO_PKG_VERSION"),
        escape(title),
        include_str!("style.css"),
        header(own_title.is_none(), info),
        footer(info),
    );
    if let Some(library) = plotly.as_ref().filter(|_| needs.figures > 0) {
        let _ = writeln!(page, "<script nonce=\"{nonce}\">{}</script>", library::embedded(library));
    }
    if let Some(library) = bokeh.as_ref().filter(|_| needs.bokeh_plots > 0) {
        // Data to the page: it runs in the frames alone.
        let text = Value::String(library::embedded(library)).to_string().replace('<', "\\u003c");
        let _ = writeln!(page, "<script type=\"application/json\" id=\"bokeh-library\">{text}</script>");
    }
    if needs.figures > 0 || needs.frames > 0 {
        let _ = writeln!(page, "<script nonce=\"{nonce}\">\n{}</script>", include_str!("page.js"));
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// Frames inherit the page's policy, so scripts in them need `unsafe-inline` here; a nonce beside
/// it would switch it off. `unsafe-eval`: some kinds of Plotly figures compile their shaders' code.
fn policy(nonce: &str, needs: &Needs) -> String {
    let mut scripts = match (needs.frames, needs.figures) {
        (0, 0) => "'none'".to_owned(),
        (0, _) => format!("'nonce-{nonce}'"),
        _ => "'unsafe-inline'".to_owned(),
    };
    if needs.figures > 0 || needs.frames > 0 {
        scripts.push_str(" 'unsafe-eval'");
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; \
         media-src data:; font-src data:; form-action 'none'; base-uri 'none'"
    )
}

/// `titled`: the notebook has no heading of its own, so the file's name becomes one.
fn header(titled: bool, info: &PageInfo) -> String {
    let outcome = match info.failed.as_slice() {
        [] if info.done == info.cells => "<span class=\"chip good\">all cells ran</span>".to_owned(),
        [] => format!("<span class=\"chip bad\">stopped after {} of {} cells</span>", info.done, info.cells),
        [_] => "<span class=\"chip bad\">1 cell failed</span>".to_owned(),
        many => format!("<span class=\"chip bad\">{} cells failed</span>", many.len()),
    };
    let elapsed = time(u64::try_from(info.elapsed.as_millis()).unwrap_or(u64::MAX));
    let python =
        info.python.as_deref().map(|python| format!("<span class=\"chip\">{}</span>", escape(python)));
    let name = escape(&info.file_name);
    let name = if titled { format!("<h1>{name}</h1>") } else { format!("<p class=\"file\">{name}</p>") };
    format!(
        "<header>\n{name}\n<p class=\"chips\">{outcome}\
         <span class=\"chip\">{} of {} cells</span><span class=\"chip\">{elapsed}</span>{}</p>\n</header>\n",
        info.done,
        info.cells,
        python.unwrap_or_default(),
    )
}

fn footer(info: &PageInfo) -> String {
    let mut text = String::from("<footer>\n");
    match &info.report {
        None => text.push_str("<p>Made by cellblock.</p>\n"),
        Some(report) => {
            text.push_str(
                "<details>\n<summary>Made by cellblock, in a sandbox. What it enforced</summary>\n<table>\n",
            );
            for line in &report.barriers {
                let _ = writeln!(
                    text,
                    "<tr class=\"{state}\"><td>{} {state}</td><td>{}</td><td>{}</td></tr>",
                    state_mark(line.state),
                    escape(line.barrier.name()),
                    escape(&line.detail),
                    state = state_name(line.state),
                );
            }
            text.push_str("</table>\n</details>\n");
        }
    }
    text + "</footer>\n"
}

fn write_cell(page: &mut String, cell: &Value, place: usize, info: &PageInfo, needs: &mut Needs) {
    let source = joined(&cell["source"]);
    match cell["cell_type"].as_str() {
        Some("markdown") => {
            let html = markdown::render(&source, &cell["attachments"]);
            let _ = write!(page, "<section class=\"text\">\n{html}</section>\n");
        }
        Some("code") => {
            let count = cell["execution_count"].as_u64().map_or(" ".to_owned(), |count| count.to_string());
            let class = if info.failed.contains(&(place + 1)) { "code failed" } else { "code" };
            let code = highlight::python(&source);
            let _ = write!(
                page,
                "<section class=\"{class}\">\n<div class=\"row\"><span class=\"prompt\">In [{count}]</span>\
                 <pre class=\"source\"><code>{code}</code></pre></div>\n"
            );
            for (number, output) in cell["outputs"].as_array().into_iter().flatten().enumerate() {
                outputs::write(page, output, (place, number), &info.charts, needs);
            }
            page.push_str("</section>\n");
        }
        _ => {
            let _ = writeln!(page, "<section class=\"raw\"><pre>{}</pre></section>", escape(&source));
        }
    }
}

/// Text as it can stand in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // NUL and other controls have no place in HTML.
            c if c.is_control() && !"\n\t".contains(c) => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
