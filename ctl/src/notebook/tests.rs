//! What notebooks become: read, filled in, written.

use cellblock_proto::execution::{
    Bundle, Death, End, ErrorReport, NoticeTopic, Output, Part, Span, StreamName, Variables,
};
use serde_json::json;

use super::outputs::Collector;
use super::*;
use crate::ending::outcome;

fn notebook(cells: &[&str]) -> Notebook {
    script::notebook(&cells.iter().map(|code| format!("# %%\n{code}\n")).collect::<String>())
}

fn text(name: StreamName) -> Output {
    Output::Stream { name }
}

/// A bundle over the concatenation of its parts.
fn bundle(parts: &[(&str, &[u8])]) -> (Bundle, Vec<u8>) {
    let (mut bundle, mut payload) = (Bundle::default(), Vec::new());
    for (mime, bytes) in parts {
        let span = Span { offset: payload.len() as u32, length: bytes.len() as u32 };
        bundle.parts.push(Part { mime: (*mime).into(), span });
        payload.extend_from_slice(bytes);
    }
    (bundle, payload)
}

fn shown(id: Option<&str>, update: bool, words: &str) -> (Output, Vec<u8>) {
    let (bundle, payload) = bundle(&[("text/plain", words.as_bytes())]);
    (Output::Display { bundle, display_id: id.map(str::to_owned), update }, payload)
}

fn outputs(notebook: &Notebook, cell: usize) -> &Value {
    &notebook.cells()[cell]["outputs"]
}

#[test]
fn numbers_of_json_outputs_are_kept_to_their_last_digit() {
    let mut document = notebook(&["1"]);
    let text = b"{\"x\":[0.9999999999999999,0.16833333333333333,1e-7]}";
    let (bundle, payload) = bundle(&[("application/json", text)]);
    let mut collector = Collector::default();
    collector.begin(0);
    collector.apply(&mut document, &Output::Display { bundle, display_id: None, update: false }, &payload);
    let written = outputs(&document, 0)[0]["data"]["application/json"].to_string();
    assert_eq!(written.as_bytes(), text);
}

#[test]
fn version_3_becomes_a_valid_4_5() {
    let old = json!({
        "nbformat": 3, "nbformat_minor": 0,
        "metadata": {"name": "old", "kept": [1]},
        "worksheets": [{"cells": [
            {"cell_type": "heading", "level": 2, "metadata": {}, "source": ["Two\n", "lines"]},
            {"cell_type": "code", "language": "python", "collapsed": true, "metadata": {"a": 1},
             "input": ["x = 1\n", "x"], "prompt_number": 7,
             "outputs": [{"output_type": "pyout", "text": ["1"], "prompt_number": 7}]},
            {"cell_type": "markdown", "metadata": {}, "source": "text"},
        ], "metadata": {}}],
    });
    let notebook = Notebook::parse(old.to_string().as_bytes()).unwrap();
    insta::assert_snapshot!(notebook.to_json());
}

#[test]
fn reading_keeps_what_it_does_not_know_and_drops_old_outputs() {
    let stored = json!({
        "cells": [
            {"cell_type": "code", "execution_count": 3, "id": "a", "metadata": {"tags": ["x"], "mine": true},
             "outputs": [{"output_type": "stream", "name": "stdout", "text": "old"}], "source": ["1"], "future": 1},
            {"cell_type": "raw", "id": "b", "metadata": {}, "source": "raw"},
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}, "custom": {"z": 1, "a": 2}},
        "nbformat": 4, "nbformat_minor": 5,
    });
    let notebook = Notebook::parse(stored.to_string().as_bytes()).unwrap();
    let mut expected = stored;
    expected["cells"][0]["outputs"] = json!([]);
    expected["cells"][0]["execution_count"] = Value::Null;
    assert_eq!(serde_json::from_str::<Value>(&notebook.to_json()).unwrap(), expected);
    // The order of keys is kept too, or every run would rewrite the whole file in a diff.
    assert!(notebook.to_json().contains("\"z\": 1,\n   \"a\": 2"));
}

#[test]
fn files_that_cannot_be_run_are_refused_by_name() {
    let refused = |text: &str| Notebook::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(refused("{").starts_with("it is not JSON"));
    assert_eq!(refused("[]"), "it is not a notebook: the file is not an object");
    assert_eq!(refused("{}"), "it is not a notebook: it has no `nbformat`");
    assert_eq!(refused(r#"{"nbformat": 2}"#), "it is of nbformat 2; 3 and 4 are known");
    assert_eq!(
        refused(r#"{"nbformat": 4, "cells": [1]}"#),
        "it is not a notebook: `cells` is not a list of cells"
    );
    let r = r#"{"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"language": "R"}}}"#;
    assert_eq!(refused(r), "its language is `R`; cellblock runs Python");
}

#[test]
fn a_code_cell_whose_source_is_no_text_is_refused_by_number() {
    for source in [json!(5), Value::Null, json!({"a": 1}), json!(["1", 5])] {
        let text = json!({"cell_type": "markdown", "source": 5});
        let four = json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
            text, {"cell_type": "code", "metadata": {}, "source": source},
        ]});
        let three = json!({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [
            {"cells": [text, {"cell_type": "code", "input": source}]},
        ]});
        for document in [four, three] {
            let error = Notebook::parse(document.to_string().as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "the source of cell 2 is neither text nor a list of lines", "{source}");
        }
    }
    let file = tempfile::Builder::new().suffix(".ipynb").tempfile().unwrap();
    let wrong = r#"{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}"#;
    std::fs::write(file.path(), wrong).unwrap();
    let fault = Notebook::read(file.path()).unwrap_err();
    assert_eq!(fault.exit(), crate::exit::Exit::Usage);
    assert!(fault.to_string().contains(".ipynb`: the source of cell 1 is"), "{fault}");
}

#[test]
fn scripts_are_cut_at_their_markers() {
    let notebook = script::notebook(
        "import os\n# %%\nx = 1\n\n# %%time\n# %% [markdown]\n# # Title\n#\n# words\n#%%\n\n# %% named\nx\n",
    );
    let cells: Vec<_> =
        notebook.cells().iter().map(|cell| (cell["cell_type"].clone(), joined(&cell["source"]))).collect();
    assert_eq!(
        cells,
        [
            (json!("code"), "import os".to_owned()),
            (json!("code"), "x = 1\n\n# %%time".to_owned()),
            (json!("markdown"), "# Title\n\nwords".to_owned()),
            (json!("code"), "x".to_owned()),
        ]
    );
    assert_eq!(notebook.title().as_deref(), Some("Title"));
}

#[test]
fn blank_and_skipped_cells_are_not_run() {
    let stored = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [
        {"cell_type": "code", "metadata": {}, "source": " \n"},
        {"cell_type": "code", "metadata": {"tags": ["skip-execution"]}, "source": "1"},
        {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": ["1/", "0"]},
    ]});
    let notebook = Notebook::parse(stored.to_string().as_bytes()).unwrap();
    let cell = CodeCell { index: 2, source: "1/0".into(), id: None, may_raise: true };
    assert_eq!(notebook.code_cells(), [cell]);
}

#[test]
fn text_of_one_stream_is_merged_until_something_comes_between() {
    let mut notebook = notebook(&["x"]);
    let mut collector = Collector::default();
    collector.begin(0);
    let euro = "€".as_bytes();
    collector.apply(&mut notebook, &text(StreamName::Stdout), b"10%\r");
    collector.apply(&mut notebook, &text(StreamName::Stdout), &euro[..1]);
    collector.apply(&mut notebook, &text(StreamName::Stdout), &euro[1..]);
    collector.apply(&mut notebook, &text(StreamName::Stderr), b"careful\n");
    collector.apply(&mut notebook, &text(StreamName::Stdout), b"end");
    collector.finish(&mut notebook, &outcome(End::Ok, Variables::Kept));
    assert_eq!(
        *outputs(&notebook, 0),
        json!([
            {"output_type": "stream", "name": "stdout", "text": "10%\r€"},
            {"output_type": "stream", "name": "stderr", "text": "careful\n"},
            {"output_type": "stream", "name": "stdout", "text": "end"},
        ])
    );
    assert_eq!(notebook.cells()[0]["execution_count"], 1);
}

#[test]
fn representations_take_the_form_jupyter_gives_them() {
    let mut notebook = notebook(&["x"]);
    let mut collector = Collector::default();
    collector.begin(0);
    let (bundle, payload) = bundle(&[
        ("text/plain", b"<Figure>"),
        ("image/png", b"\x89PNG"),
        ("image/svg+xml", b"<svg/>"),
        ("application/vnd.plotly.v1+json", br#"{"data":[]}"#),
    ]);
    collector.apply(&mut notebook, &Output::Result { bundle, execution_count: 4 }, &payload);
    assert_eq!(
        *outputs(&notebook, 0),
        json!([{"output_type": "execute_result", "execution_count": 4, "data": {
            "text/plain": "<Figure>",
            "image/png": "iVBORw==",
            "image/svg+xml": "<svg/>",
            "application/vnd.plotly.v1+json": {"data": []},
        }, "metadata": {}}])
    );
}

#[test]
fn a_part_outside_its_payload_is_left_out() {
    let (mut bundle, payload) = bundle(&[("text/plain", b"ok"), ("text/html", b"bad")]);
    bundle.parts[1].span = Span { offset: u32::MAX, length: u32::MAX };
    assert_eq!(outputs::data(&bundle, &payload).keys().collect::<Vec<_>>(), ["text/plain"]);
}

#[test]
fn updating_a_display_changes_it_in_earlier_cells_too() {
    let mut notebook = notebook(&["x", "y"]);
    let mut collector = Collector::default();
    let mut show = |collector: &mut Collector, (output, payload): (Output, Vec<u8>)| {
        collector.apply(&mut notebook, &output, &payload);
    };
    collector.begin(0);
    show(&mut collector, shown(Some("a"), false, "one"));
    collector.begin(1);
    show(&mut collector, shown(Some("b"), false, "other"));
    show(&mut collector, shown(Some("a"), true, "two"));
    assert_eq!(outputs(&notebook, 0)[0]["data"]["text/plain"], "two");
    assert_eq!(outputs(&notebook, 1).as_array().unwrap().len(), 1);
    assert_eq!(outputs(&notebook, 1)[0]["data"]["text/plain"], "other");
}

#[test]
fn clear_output_clears_at_once_or_with_the_next_output() {
    let mut notebook = notebook(&["x"]);
    let mut collector = Collector::default();
    collector.begin(0);
    let stream = text(StreamName::Stdout);
    let said = |words: &str| json!([{"output_type": "stream", "name": "stdout", "text": words}]);
    collector.apply(&mut notebook, &stream, b"one");
    collector.apply(&mut notebook, &Output::ClearOutput { wait: true }, b"");
    assert_eq!(*outputs(&notebook, 0), said("one"));
    collector.apply(&mut notebook, &stream, b"two");
    assert_eq!(*outputs(&notebook, 0), said("two"));
    collector.apply(&mut notebook, &Output::ClearOutput { wait: false }, b"");
    assert_eq!(*outputs(&notebook, 0), json!([]));
}

#[test]
fn an_update_after_clear_output_finds_nothing_to_change() {
    let mut notebook = notebook(&["x"]);
    let mut collector = Collector::default();
    collector.begin(0);
    for (output, payload) in [
        shown(Some("a"), false, "one"),
        (Output::ClearOutput { wait: false }, Vec::new()),
        shown(None, false, "kept"),
        shown(Some("a"), true, "two"),
    ] {
        collector.apply(&mut notebook, &output, &payload);
    }
    assert_eq!(outputs(&notebook, 0)[0]["data"]["text/plain"], "kept");
}

#[test]
fn ends_that_python_could_not_report_are_written_down() {
    let mut notebook = notebook(&["x", "y"]);
    let mut collector = Collector::default();
    collector.begin(0);
    let notice =
        Output::Notice { topic: NoticeTopic::VariablesLost, text: "df was lost".into(), names: vec![] };
    collector.apply(&mut notebook, &notice, b"");
    let died = End::WorkerDied(Death::Signalled { signal: 11 });
    collector.finish(&mut notebook, &outcome(died, Variables::Lost { names: vec!["df".into()] }));
    collector.begin(1);
    let report = ErrorReport { name: "KeyboardInterrupt".into(), ..ErrorReport::default() };
    collector.apply(&mut notebook, &Output::Error(report), b"");
    collector.finish(&mut notebook, &outcome(End::TimedOut { limit_ms: 1_500 }, Variables::Kept));
    insta::assert_snapshot!(notebook.to_json());
}
