//! nbformat 3 (IPython before 2015) to nbformat 4.5, as `nbformat.v4.convert` does it; without
//! outputs, which are made anew anyway.

use serde_json::{Map, Value, json};

use super::{is_text, joined};

/// Turns a version 3 document into a version 4 one. Parts of the wrong shape are left out.
pub(super) fn upgrade(mut document: Map<String, Value>) -> Map<String, Value> {
    let worksheets = match document.shift_remove("worksheets") {
        Some(Value::Array(worksheets)) => worksheets,
        _ => Vec::new(),
    };
    let cells = worksheets.into_iter().filter_map(|mut sheet| match sheet["cells"].take() {
        Value::Array(cells) => Some(cells),
        _ => None,
    });
    let cells: Vec<Value> = cells
        .flatten()
        .filter_map(|cell| match cell {
            Value::Object(cell) => Some(Value::Object(upgrade_cell(cell))),
            _ => None,
        })
        .collect();
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.shift_remove("name");
        metadata.shift_remove("signature");
        metadata.insert("orig_nbformat".into(), json!(3));
    }
    document.shift_remove("orig_nbformat");
    document.insert("cells".into(), Value::Array(cells));
    document.insert("nbformat".into(), json!(4));
    document.insert("nbformat_minor".into(), json!(5));
    document
}

fn upgrade_cell(mut cell: Map<String, Value>) -> Map<String, Value> {
    let kind = cell.get("cell_type").and_then(Value::as_str).unwrap_or("code").to_owned();
    let metadata = cell.shift_remove("metadata").filter(Value::is_object).unwrap_or_else(|| json!({}));
    let written = cell.get(if kind == "code" { "input" } else { "source" });
    // What is no text stays, so that it is refused like that of a version 4 file.
    let not_text = written.filter(|value| !is_text(value)).cloned();
    let source = written.map(joined).unwrap_or_default();
    let (kind, source) = match kind.as_str() {
        "heading" => {
            let level = cell.get("level").and_then(Value::as_u64).unwrap_or(1).clamp(1, 6);
            let words: Vec<&str> = source.lines().collect();
            ("markdown", format!("{} {}", "#".repeat(level as usize), words.join(" ")))
        }
        "markdown" | "html" => ("markdown", source),
        "raw" => ("raw", source),
        _ => ("code", source),
    };
    let mut upgraded = Map::new();
    upgraded.insert("cell_type".into(), json!(kind));
    upgraded.insert("metadata".into(), metadata);
    if kind == "code" {
        if let Some(collapsed) = cell.shift_remove("collapsed") {
            upgraded["metadata"]["collapsed"] = collapsed;
        }
        upgraded.insert("execution_count".into(), Value::Null);
        upgraded.insert("outputs".into(), json!([]));
    }
    upgraded.insert("source".into(), not_text.unwrap_or_else(|| json!(source)));
    upgraded
}
