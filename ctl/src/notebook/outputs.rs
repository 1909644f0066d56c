//! What a cell puts out, as nbformat wants it.
//!
//! Follows nbclient where Jupyter leaves a choice: text of one stream is merged while nothing
//! comes between, `clear_output(wait=True)` clears when the next output arrives, and a display
//! under an id that was seen before also replaces the earlier ones, in whatever cell they are.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cellblock_proto::execution::{Bundle, End, Outcome, Output, StreamName};
use serde_json::{Map, Value, json};

use super::Notebook;
use super::text::Utf8Decoder;
use crate::ending::describe;
use crate::show::one_line;

/// Puts the outputs of one cell after the other into a notebook.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    cell: usize,
    /// `clear_output(wait=True)` was called and nothing has come since.
    clear_next: bool,
    stdout: Utf8Decoder,
    stderr: Utf8Decoder,
    /// By display id: (cell, place among its outputs).
    displays: HashMap<String, Vec<(usize, usize)>>,
}

impl Collector {
    /// What follows belongs to this cell.
    pub(crate) fn begin(&mut self, cell: usize) {
        *self = Collector { cell, displays: std::mem::take(&mut self.displays), ..Collector::default() };
    }

    /// Takes an output; its bytes are in `payload`.
    pub(crate) fn apply(&mut self, notebook: &mut Notebook, output: &Output, payload: &[u8]) {
        match output {
            Output::Stream { name } => {
                let text = self.decoder(*name).decode(payload);
                self.add_text(notebook, *name, &text);
            }
            Output::Display { bundle, display_id, update } => {
                let (data, metadata) = (data(bundle, payload), metadata(bundle, payload));
                if let Some(id) = display_id {
                    self.update(notebook, id, &data, &metadata);
                }
                if !update {
                    let output = json!({"output_type": "display_data", "data": data, "metadata": metadata});
                    self.add_display(notebook, output, display_id.as_deref());
                }
            }
            Output::Result { bundle, execution_count } => {
                let output = json!({
                    "output_type": "execute_result",
                    "execution_count": execution_count,
                    "data": data(bundle, payload),
                    "metadata": metadata(bundle, payload),
                });
                self.add_display(notebook, output, None);
            }
            Output::Error(report) => self.add(
                notebook,
                json!({
                    "output_type": "error",
                    "ename": report.name,
                    "evalue": report.value,
                    "traceback": report.traceback,
                }),
            ),
            Output::ClearOutput { wait: true } => self.clear_next = true,
            Output::ClearOutput { wait: false } => self.clear(notebook),
            Output::InputRequest { .. } => {}
            Output::Truncated { .. } | Output::Notice { .. } => {
                if let Some(words) = words(output) {
                    self.add_text(notebook, StreamName::Stderr, &words);
                }
            }
        }
    }

    /// The cell has ended. An end that Python could not report leaves its mark here, so that who
    /// reads the notebook later sees why the output stops.
    pub(crate) fn finish(&mut self, notebook: &mut Notebook, outcome: &Outcome) {
        for name in [StreamName::Stdout, StreamName::Stderr] {
            let rest = self.decoder(name).finish();
            self.add_text(notebook, name, &rest);
        }
        notebook.set_execution_count(self.cell, outcome.execution_count);
        let Some((name, sentence)) = describe(outcome) else { return };
        let outputs = notebook.outputs_mut(self.cell).map_or(&[][..], |outputs| outputs);
        let told = outputs.iter().any(|output| output["output_type"] == "error");
        // IPython tells some errors (a misused magic, an exception group) on stderr alone.
        let on_stderr = matches!(outcome.end, End::Error { .. })
            && outputs.iter().any(|output| output["output_type"] == "stream" && output["name"] == "stderr");
        if !told && !on_stderr {
            let traceback = [format!("{name}: {sentence}")];
            self.add(
                notebook,
                json!({"output_type": "error", "ename": name, "evalue": sentence, "traceback": traceback}),
            );
        } else if told && !matches!(outcome.end, End::Error { .. }) {
            self.add_text(notebook, StreamName::Stderr, &format!("[cellblock] {sentence}\n"));
        }
    }

    fn decoder(&mut self, name: StreamName) -> &mut Utf8Decoder {
        match name {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        }
    }

    fn add_text(&mut self, notebook: &mut Notebook, stream: StreamName, text: &str) {
        if text.is_empty() {
            return;
        }
        let name = match stream {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        };
        if !self.clear_next
            && let Some(last) = notebook.outputs_mut(self.cell).and_then(|outputs| outputs.last_mut())
            && last["output_type"] == "stream"
            && last["name"] == name
            && let Some(Value::String(before)) = last.get_mut("text")
        {
            before.push_str(text);
            return;
        }
        self.add(notebook, json!({"output_type": "stream", "name": name, "text": text}));
    }

    fn add_display(&mut self, notebook: &mut Notebook, output: Value, display_id: Option<&str>) {
        self.add(notebook, output);
        let count = notebook.outputs_mut(self.cell).map_or(0, |outputs| outputs.len());
        if let (Some(id), Some(place)) = (display_id, count.checked_sub(1)) {
            self.displays.entry(id.to_owned()).or_default().push((self.cell, place));
        }
    }

    fn add(&mut self, notebook: &mut Notebook, output: Value) {
        if self.clear_next {
            self.clear(notebook);
        }
        if let Some(outputs) = notebook.outputs_mut(self.cell) {
            outputs.push(output);
        }
    }

    fn clear(&mut self, notebook: &mut Notebook) {
        self.clear_next = false;
        if let Some(outputs) = notebook.outputs_mut(self.cell) {
            outputs.clear();
        }
        for places in self.displays.values_mut() {
            places.retain(|(cell, _)| *cell != self.cell);
        }
    }

    fn update(
        &self,
        notebook: &mut Notebook,
        id: &str,
        data: &Map<String, Value>,
        metadata: &Map<String, Value>,
    ) {
        for (cell, place) in self.displays.get(id).into_iter().flatten() {
            let output = notebook.outputs_mut(*cell).and_then(|outputs| outputs.get_mut(*place));
            if let Some(output) = output.and_then(Value::as_object_mut) {
                output.insert("data".into(), Value::Object(data.clone()));
                output.insert("metadata".into(), Value::Object(metadata.clone()));
            }
        }
    }
}

/// A notice or a truncation as the line that people read; `None` for other outputs. It may name
/// variables, which are the code's to choose, so it is cleaned.
pub(crate) fn words(output: &Output) -> Option<String> {
    match output {
        Output::Notice { text, .. } => Some(format!("[cellblock] {}\n", one_line(text))),
        Output::Truncated { stream, dropped_bytes, reason } => {
            let what = match stream {
                Some(StreamName::Stdout) => "stdout",
                Some(StreamName::Stderr) => "stderr",
                None => "output",
            };
            let size = crate::ending::bytes(*dropped_bytes);
            Some(format!("[cellblock] {size} of {what} left out here: {}\n", one_line(reason)))
        }
        _ => None,
    }
}

/// A bundle as nbformat has it: images in base64, JSON as values, the rest as text.
pub(crate) fn data(bundle: &Bundle, payload: &[u8]) -> Map<String, Value> {
    let parts = bundle.parts.iter().filter_map(|part| Some((part, part.span.of(payload)?)));
    parts.map(|(part, bytes)| (part.mime.clone(), datum(&part.mime, bytes))).collect()
}

/// Whether a representation is JSON text. `.json` is Altair's: `application/vnd.vegalite.v6.json`.
pub(crate) fn is_json(mime: &str) -> bool {
    mime == "application/json" || mime.ends_with("+json") || mime.ends_with(".json")
}

fn datum(mime: &str, bytes: &[u8]) -> Value {
    let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
    if is_json(mime) {
        serde_json::from_slice(bytes).unwrap_or_else(|_| text())
    } else if mime.starts_with("image/") && !mime.starts_with("image/svg") {
        Value::String(STANDARD.encode(bytes))
    } else {
        text()
    }
}

fn metadata(bundle: &Bundle, payload: &[u8]) -> Map<String, Value> {
    let bytes = bundle.metadata.and_then(|span| span.of(payload));
    bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}
