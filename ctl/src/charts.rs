//! Charts of Altair drawn for the page.
//!
//! Their libraries come from the network, and no package has them as plain files. `vl-convert-python`, where
//! the notebook's environment has it, draws them as SVG; it is run like any other code, in a notebook of its
//! own that is deleted afterwards: not in the user's, whose variables and counts stay as they are.

use std::collections::HashMap;

use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{ExecuteOptions, Output};
use cellblock_proto::id::{ExecutionId, NotebookId};
use serde_json::Value;

use crate::fault::Fault;
use crate::html::{Charts, vega};
use crate::notebook::Notebook;
use crate::runner::{Code, execute, random_suffix};
use crate::session::Session;
use crate::show::one_line;
use crate::signals::Signals;

/// Time for all charts of a notebook; one takes some 30 ms, the first half a second.
const WALL_MS: u64 = 30_000;

/// Most charts of one notebook, and most bytes of their data, that are drawn.
const CHARTS: usize = 100;
const DATA_BYTES: usize = 16 << 20;

/// Most bytes of one picture that go into the page.
const PICTURE_BYTES: usize = 8 << 20;

/// Draws each chart and shows it, or says in words why not: one output per chart, in their order.
const CODE: &str = r"
def draw(charts):
    import json
    from IPython.display import display
    try:
        import vl_convert
    except ImportError:
        vl_convert = None
    for chart in json.loads(charts):
        lite = 'vega-lite' in str(chart.get('$schema', 'vega-lite'))
        try:
            if vl_convert is None:
                raise RuntimeError('vl-convert-python is not in the environment of the notebook')
            svg = (vl_convert.vegalite_to_svg if lite else vl_convert.vega_to_svg)(chart)
            display({'image/svg+xml': svg}, raw=True)
        except Exception as error:
            display({'text/plain': str(error)}, raw=True)
";

/// Draws the charts of the notebook that have no picture yet. What goes wrong is told on the page.
pub(crate) fn draw(
    session: &mut Session,
    document: &Notebook,
    profile: Option<&str>,
    signals: &Signals,
) -> Charts {
    let found = find(document);
    if found.is_empty() || signals.stopping() {
        return HashMap::new();
    }
    let charts = Value::Array(found.iter().map(|(_, chart)| chart.clone()).collect());
    let drawn = run(session, &charts, profile, signals);
    let why_none = drawn.as_ref().err().map(|fault| one_line(&fault.to_string()));
    let mut drawn = drawn.unwrap_or_default().into_iter();
    let missing = || Err(why_none.clone().unwrap_or_else(|| "drawing it took too long".to_owned()));
    found.into_iter().map(|(place, _)| (place, drawn.next().unwrap_or_else(missing))).collect()
}

/// The charts without a picture beside them, by their places.
fn find(document: &Notebook) -> Vec<((usize, usize), Value)> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (cell, content) in document.cells().iter().enumerate() {
        for (number, output) in content["outputs"].as_array().into_iter().flatten().enumerate() {
            let data = &output["data"];
            let has_picture = ["image/svg+xml", "image/png"].iter().any(|mime| data.get(mime).is_some());
            let Some(chart) = vega::chart(data).filter(|_| !has_picture) else { continue };
            bytes += chart.to_string().len();
            if bytes <= DATA_BYTES && found.len() < CHARTS {
                found.push(((cell, number), chart));
            }
        }
    }
    found
}

fn run(
    session: &mut Session,
    charts: &Value,
    profile: Option<&str>,
    signals: &Signals,
) -> Result<Vec<Result<String, String>>, Fault> {
    let suffix = random_suffix()?;
    let notebook: NotebookId = format!("charts-{suffix}").parse().expect("made of letters, digits and -");
    let execution: ExecutionId = format!("charts-{suffix}").parse().expect("made of letters, digits and -");
    session.connection.open_notebook(&notebook, profile)?;
    // JSON's text literals are Python's as well.
    let source = format!("{CODE}\ndraw({})\n", Value::String(charts.to_string()));
    let options = ExecuteOptions { wall_ms: Some(WALL_MS), ..ExecuteOptions::default() };
    let code = Code { notebook: &notebook, execution: &execution, source: &source, options };
    let mut drawn = Vec::new();
    let ended = execute(session, &code, signals, &mut |reply, payload, _| {
        if let Reply::Output(frame) = reply
            && let Output::Display { bundle, .. } = &frame.output
            && let Some(part) = bundle.parts.first()
            && let Some(bytes) = part.span.of(payload)
        {
            let text = String::from_utf8_lossy(bytes).into_owned();
            drawn.push(match part.mime.as_str() {
                "image/svg+xml" if text.len() > PICTURE_BYTES => Err("its picture is too large".to_owned()),
                "image/svg+xml" => Ok(text),
                _ => Err(one_line(text.lines().next().unwrap_or_default())),
            });
        }
        Ok(())
    });
    let _ = session.connection.tell(&Request::Delete { notebook });
    ended?;
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn charts_without_a_picture_are_found_by_their_places() {
        let chart = json!({"$schema": "https://vega.github.io/schema/vega-lite/v6.json"});
        let output = |data: Value| json!({"output_type": "display_data", "metadata": {}, "data": data});
        let mime = "application/vnd.vegalite.v6+json";
        let cells = json!([
            {"cell_type": "markdown", "metadata": {}, "source": ""},
            {"cell_type": "code", "metadata": {}, "execution_count": null, "source": "", "outputs": []},
        ]);
        let document = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells});
        let mut notebook = Notebook::parse(document.to_string().as_bytes()).unwrap();
        notebook.fill(
            1,
            json!([
                output(json!({"text/plain": "1"})),
                output(json!({mime: chart.clone()})),
                output(json!({mime: chart.clone(), "image/png": "iVBO"})),
            ]),
        );
        assert_eq!(find(&notebook), [((1, 1), chart)]);
    }
}
