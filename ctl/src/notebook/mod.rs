//! A notebook as a document: nbformat 4 JSON, of which everything unknown is kept as it is.
//!
//! Old files (nbformat 3) are converted when read, scripts are cut into cells. Running fills in
//! outputs through [`outputs::Collector`]; nothing here talks to a daemon.

pub(crate) mod outputs;
pub(crate) mod script;
pub(crate) mod text;
mod v3;

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::fault::Fault;

/// A notebook, without the outputs it was stored with.
#[derive(Clone, Debug)]
pub(crate) struct Notebook {
    /// nbformat 4; `cells` is an array of objects (checked when read).
    document: Map<String, Value>,
}

/// What is needed to run a code cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodeCell {
    /// Its place among all cells.
    pub(crate) index: usize,
    pub(crate) source: String,
    pub(crate) id: Option<String>,
    /// It carries the tag `raises-exception`: an exception is what its author expects.
    pub(crate) may_raise: bool,
}

impl Notebook {
    /// Reads `.ipynb`; any other file is taken for a Python script.
    pub(crate) fn read(path: &Path) -> Result<Self, Fault> {
        let bytes = std::fs::read(path).map_err(Fault::file("read", path))?;
        if path.extension().is_some_and(|extension| extension == "ipynb") {
            return Notebook::parse(&bytes)
                .map_err(|error| Fault::usage(format!("cannot use `{}`: {error}", path.display())));
        }
        let code = String::from_utf8(bytes)
            .map_err(|_| Fault::usage(format!("cannot use `{}`: it is not UTF-8 text", path.display())))?;
        Ok(script::notebook(&code))
    }

    /// Reads the JSON of nbformat 3 or 4.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotebookError> {
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let Value::Object(document) = serde_json::from_slice(text).map_err(NotebookError::Json)? else {
            return Err(NotebookError::Shape { what: "the file is not an object" });
        };
        let document = match document.get("nbformat").and_then(Value::as_u64) {
            Some(4) => document,
            Some(3) => v3::upgrade(document),
            Some(found) => return Err(NotebookError::Version { found }),
            None => return Err(NotebookError::Shape { what: "it has no `nbformat`" }),
        };
        let mut notebook = Notebook { document };
        let cells = notebook.document.get("cells").and_then(Value::as_array);
        if !cells.is_some_and(|cells| cells.iter().all(Value::is_object)) {
            return Err(NotebookError::Shape { what: "`cells` is not a list of cells" });
        }
        notebook.refuse_other_languages()?;
        notebook.refuse_sources_that_are_no_text()?;
        notebook.add_missing_ids();
        notebook.strip_outputs();
        Ok(notebook)
    }

    /// A document of ours, from cells that are right.
    fn new(cells: Vec<Value>) -> Self {
        let mut document = Map::new();
        document.insert("cells".into(), Value::Array(cells));
        document.insert(
            "metadata".into(),
            json!({"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}),
        );
        document.insert("nbformat".into(), json!(4));
        document.insert("nbformat_minor".into(), json!(5));
        let mut notebook = Notebook { document };
        notebook.add_missing_ids();
        notebook
    }

    pub(crate) fn cells(&self) -> &[Value] {
        self.document.get("cells").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The cells to run: code, not blank, not tagged `skip-execution`, as nbclient has it.
    pub(crate) fn code_cells(&self) -> Vec<CodeCell> {
        let code = self.cells().iter().enumerate().filter(|(_, cell)| cell["cell_type"] == "code");
        code.filter(|(_, cell)| !has_tag(cell, "skip-execution"))
            .map(|(index, cell)| CodeCell {
                index,
                source: joined(&cell["source"]),
                id: cell["id"].as_str().map(str::to_owned),
                may_raise: has_tag(cell, "raises-exception"),
            })
            .filter(|cell| !cell.source.trim().is_empty())
            .collect()
    }

    /// The title: the first heading of the first Markdown cell that has one.
    pub(crate) fn title(&self) -> Option<String> {
        let markdown = self.cells().iter().filter(|cell| cell["cell_type"] == "markdown");
        let heading = |cell: &Value| {
            let text = joined(&cell["source"]);
            text.lines().find_map(|line| {
                let words = line.trim_start().strip_prefix('#')?.trim_matches(['#', ' ']).trim();
                (!words.is_empty()).then(|| words.replace(['*', '`'], ""))
            })
        };
        markdown.take(5).find_map(heading)
    }

    pub(crate) fn set_execution_count(&mut self, cell: usize, count: u32) {
        if let Some(cell) = self.cell_mut(cell) {
            // 0 means that the code never began.
            cell.insert("execution_count".into(), if count == 0 { Value::Null } else { json!(count) });
        }
    }

    fn outputs_mut(&mut self, cell: usize) -> Option<&mut Vec<Value>> {
        self.cell_mut(cell)?.get_mut("outputs")?.as_array_mut()
    }

    #[cfg(test)]
    pub(crate) fn fill(&mut self, cell: usize, outputs: Value) {
        self.cell_mut(cell).expect("there is such a cell").insert("outputs".into(), outputs);
    }

    /// Says which Python made the outputs, unless the notebook says so already.
    /// `python` is as in a notebook's status: `CPython 3.11.7, IPython 9.18.1`.
    pub(crate) fn set_language_info(&mut self, python: Option<&str>) {
        let metadata = self.document.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if metadata.contains_key("language_info") {
            return;
        }
        let mut info = json!({
            "codemirror_mode": {"name": "ipython", "version": 3},
            "file_extension": ".py",
            "mimetype": "text/x-python",
            "name": "python",
            "nbconvert_exporter": "python",
            "pygments_lexer": "ipython3",
        });
        let version = python.and_then(|text| text.split([' ', ',']).nth(1));
        if let Some(version) = version {
            info["version"] = json!(version);
        }
        metadata.insert("language_info".into(), info);
    }

    /// The file's text as Jupyter writes it: indented by one, with a final newline.
    pub(crate) fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&self.document, &mut serializer)
            .expect("a JSON value has a JSON form, and a Vec takes it");
        bytes.push(b'\n');
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }

    fn cell_mut(&mut self, index: usize) -> Option<&mut Map<String, Value>> {
        self.document.get_mut("cells")?.get_mut(index)?.as_object_mut()
    }

    fn refuse_other_languages(&self) -> Result<(), NotebookError> {
        let metadata = &self.document.get("metadata").unwrap_or(&Value::Null);
        let named = [&metadata["language_info"]["name"], &metadata["kernelspec"]["language"]];
        match named.into_iter().find_map(Value::as_str) {
            Some(name) if !name.is_empty() && !name.to_lowercase().contains("python") => {
                Err(NotebookError::Language { found: name.chars().take(40).collect() })
            }
            _ => Ok(()),
        }
    }

    /// A cell that is not run because nobody can read it must not look like one that was.
    fn refuse_sources_that_are_no_text(&self) -> Result<(), NotebookError> {
        let wrong = |cell: &Value| {
            cell["cell_type"] == "code" && cell.get("source").is_some_and(|source| !is_text(source))
        };
        match self.cells().iter().position(wrong) {
            Some(index) => Err(NotebookError::Source { cell: index + 1 }),
            None => Ok(()),
        }
    }

    /// Since nbformat 4.5 a cell without id is invalid; hand-made notebooks often lack them.
    fn add_missing_ids(&mut self) {
        if self.document.get("nbformat_minor").and_then(Value::as_u64).unwrap_or(0) < 5 {
            return;
        }
        let Some(cells) = self.document.get_mut("cells").and_then(Value::as_array_mut) else { return };
        let taken: Vec<String> =
            cells.iter().filter_map(|cell| cell["id"].as_str().map(str::to_owned)).collect();
        let mut fresh = (1..).map(|n| format!("cell-{n}")).filter(|id| !taken.contains(id));
        for cell in cells.iter_mut().filter_map(Value::as_object_mut) {
            if !cell.contains_key("id") {
                cell.insert("id".into(), fresh.next().map_or(Value::Null, Value::from));
            }
        }
    }

    fn strip_outputs(&mut self) {
        let Some(cells) = self.document.get_mut("cells").and_then(Value::as_array_mut) else { return };
        let code = cells.iter_mut().filter(|cell| cell["cell_type"] == "code");
        for cell in code.filter_map(Value::as_object_mut) {
            cell.insert("execution_count".into(), Value::Null);
            cell.insert("outputs".into(), json!([]));
            if let Some(metadata) = cell.get_mut("metadata").and_then(Value::as_object_mut) {
                // Times of another run; nbclient writes them anew, we do not.
                metadata.shift_remove("execution");
            }
        }
    }
}

/// nbformat's "multiline string": a string, or a list of strings.
pub(crate) fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

/// Whether [`joined`] leaves nothing out.
fn is_text(value: &Value) -> bool {
    match value {
        Value::Array(lines) => lines.iter().all(Value::is_string),
        other => other.is_string(),
    }
}

fn has_tag(cell: &Value, tag: &str) -> bool {
    cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|found| found == tag))
}

/// Why a file is not a notebook that can be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotebookError {
    #[error("it is not JSON ({0})")]
    Json(serde_json::Error),
    #[error("it is not a notebook: {what}")]
    Shape { what: &'static str },
    #[error("the source of cell {cell} is neither text nor a list of lines")]
    Source { cell: usize },
    #[error("it is of nbformat {found}; 3 and 4 are known")]
    Version { found: u64 },
    #[error("its language is `{found}`; cellblock runs Python")]
    Language { found: String },
}

#[cfg(test)]
mod tests;
