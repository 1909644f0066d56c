//! What a hostile notebook must not reach, and what an honest one must show.

use proptest::prelude::*;
use serde_json::json;

use super::sanitize::sanitize;
use super::*;

fn clean(html: &str) -> String {
    sanitize(html, None).html
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
        libraries: Libraries { plotly: plotly.map(str::to_owned), bokeh: None },
        charts: Charts::new(),
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
        ("<iframe src='javascript:alert(1)'></iframe>x", "x"),
        (
            "<video src='data:video/mp4;base64,AA\" onerror=alert(1)'>x</video>",
            "<video controls></video>[video: data:video/mp4;base64,AA&quot; onerror=alert(1)]x",
        ),
        (
            "<audio autoplay onplay=alert(1) src='data:text/html;base64,AAAA'>",
            "<audio controls></audio>[audio: data:text/html;base64,AAAA]",
        ),
        (
            "<source src=\"data:video/mp4;base64,AAAA\" onerror=alert(1)>",
            "<source src=\"data:video/mp4;base64,AAAA\">",
        ),
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
    let clean = sanitize(table, Some("s0"));
    assert!(!clean.lossy);
    insta::assert_snapshot!(clean.html);
}

#[test]
fn sound_and_film_that_the_page_carries_are_played_and_others_linked() {
    let wav = "data:audio/x-wav;base64,UklGRg==";
    let audio =
        format!("<audio controls autoplay><source src=\"{wav}\" type=\"audio/x-wav\">no player</audio>");
    let whole = sanitize(&audio, Some("s0"));
    assert_eq!(whole.html, format!("<audio controls><source src=\"{wav}\">no player</audio>"));
    assert!(!whole.lossy);
    let film = clean("<video controls width=400><source src=https://x.org/a.mp4></video>");
    let link = "<a href=\"https://x.org/a.mp4\" rel=\"noopener noreferrer\">[video: https://x.org/a.mp4]</a>";
    assert_eq!(film, format!("<video controls width=\"400\"></video>{link}"));
    let frame = sanitize("<iframe width=4 src=https://x.org/></iframe>", Some("s0"));
    assert!(frame.html.starts_with("<a href=\"https://x.org/\"") && !frame.lossy, "{frame:?}");
}

#[test]
fn a_styled_table_keeps_its_colours_in_a_place_of_its_own() {
    let styled = |rule: &str| {
        let html = format!(
            "<style>\n#T_1 td.hot, #T_1_row0 {{ {rule} }}</style><table id=T_1 class='chip x'><td class=hot>1</table>"
        );
        body(display("text/html", json!(html)), None)
    };
    let html = styled("background-color: #fde; color: red");
    assert!(
        html.contains("<style>\n.s0 #u-T_1 td.u-hot,.s0 #u-T_1_row0{background-color: #fde;color: red}"),
        "{html}"
    );
    assert!(html.contains("<div class=\"s0 paper\">"), "{html}");
    assert!(
        html.contains("<table id=\"u-T_1\" class=\"u-chip u-x\"><td class=\"u-hot\">1</td></table>"),
        "{html}"
    );
    assert!(!html.contains("<iframe"), "{html}");
    for rule in ["position: fixed", "background: url(//evil)", "</style><script>1</script>"] {
        let html = styled(rule);
        assert!(html.contains("<iframe class=\"output\" sandbox=\"allow-scripts\""), "{html}");
        assert!(!html.contains("<style") && !html.contains("<script"), "{html}");
    }
}

#[test]
fn names_are_dropped_where_no_sheet_needs_them() {
    let html = body(display("text/html", json!("<p id=bokeh-library class=plotly>x</p>")), None);
    assert!(html.contains("<p>x</p>"), "{html}");
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
fn a_bokeh_plot_runs_in_its_frame_and_its_library_is_on_the_page_once_as_data() {
    let script = "const render_items = [{\"roots\":{\"p1\":\"a\"}}];\nroot.Bokeh.embed";
    let plot = json!({"output_type": "display_data", "metadata": {},
        "data": {"application/javascript": script, bokeh::PLOT: ""}});
    let place = json!({"output_type": "display_data", "metadata": {},
        "data": {"text/html": "<div id=\"a\" data-root-id=\"p1\"></div>"}});
    let mut info = info(None);
    let outputs = json!([place, plot, place, plot]);
    let words = page(&notebook(outputs.clone()), &info);
    assert!(words.contains("A Bokeh plot, not drawn: bokeh is not in the environment"), "{words}");
    info.libraries.bokeh = Some("BOKEH = '</script><script>alert(1)<!--'".into());
    let page = page(&notebook(outputs), &info);
    assert_eq!(page.matches("BOKEH = ").count(), 1);
    assert_eq!(page.matches("<iframe class=\"output\" sandbox=\"allow-scripts\" data-document=").count(), 2);
    // The library as data, and our own.
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2));
    let start = page.find("id=\"bokeh-library\">").unwrap() + 19;
    let data: String =
        serde_json::from_str(&page[start..page[start..].find("</script>").unwrap() + start]).unwrap();
    assert_eq!(data, "BOKEH = '<\\/script><script>alert(1)\\x3C!--'");
}

#[test]
fn a_chart_is_its_picture_or_its_data() {
    let spec = json!({"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "data": {"values": [{"x": 41.5}]}});
    let output = |more: Value| {
        let mut data = json!({"application/vnd.vegalite.v6+json": spec, "text/plain": "alt.Chart(...)"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{"output_type": "display_data", "metadata": {}, "data": data}])
    };
    let shown = |outputs: Value, drawn: Result<&str, &str>| {
        let drawn = drawn.map(str::to_owned).map_err(str::to_owned);
        let info = PageInfo { charts: Charts::from([((1, 0), drawn)]), ..info(None) };
        page(&notebook(outputs), &info)
    };
    let drawn = shown(output(json!({})), Ok("<svg onload=alert(1)>"));
    assert!(drawn.contains("<img src=\"data:image/svg+xml;base64,PHN2Zy"), "{drawn}");
    assert!(!drawn.contains("onload"), "{drawn}");
    let words = shown(output(json!({})), Err("no <pencil>"));
    assert!(words.contains("not drawn: no &lt;pencil&gt;.") && words.contains("<td>41.5</td>"), "{words}");
    let own = shown(output(json!({"image/png": "iVBO"})), Err("unused"));
    assert!(own.contains("<img src=\"data:image/png;base64,iVBO") && !own.contains("unused"), "{own}");
}

#[test]
fn what_only_some_front_ends_show_is_readable() {
    for (mime, data, sign) in [
        ("application/json", json!({"a": 1}), "<div class=\"json\">"),
        ("application/geo+json", json!({"type": "Point"}), "<div class=\"json\">"),
        ("text/latex", json!("$\\frac{a}{b}$"), "<math display=\"block\"><mfrac>"),
        (
            "text/latex",
            json!("\\begin{tikzpicture}<b>"),
            "<div class=\"math\"><pre class=\"latex\">\\begin{tikzpicture}&lt;b&gt;",
        ),
        ("text/markdown", json!("**b** $x$"), "<strong>b</strong> <math"),
        ("application/javascript", json!("element.append(1)"), "sandbox=\"allow-scripts\" srcdoc="),
        (
            "application/pdf",
            json!("JVBE\" onclick=\"x"),
            "href=\"data:application/pdf;base64,JVBEonclick=x\"",
        ),
        ("application/vnd.jupyter.widget-view+json", json!({"model_id": "x"}), "A widget"),
    ] {
        let data = json!([{"output_type": "display_data", "metadata": {}, "data": {mime: data, "text/plain": "<object>"}}]);
        let html = body(data, None);
        assert!(html.contains(sign), "{mime}: {html}");
        assert_eq!(html.matches("<script").count(), 0, "{html}");
    }
    let closed = json!([{"output_type": "display_data", "metadata": {}, "data": {"text/plain": ""}}]);
    assert_eq!(body(closed, None), body(json!([]), None));
    let unknown =
        json!([{"output_type": "display_data", "metadata": {}, "data": {"application/x-<b>": "data"}}]);
    assert!(body(unknown, None).contains("cannot show: application/x-&lt;b&gt;."));
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

proptest! {
    #[test]
    fn whatever_the_html_only_what_is_listed_comes_out(
        html in r#"(<|>|</|/>|<!--|-->|&|;|=|'|"|\{|\}|script|style|svg|iframe|img|src|table|td|onload| |x|é|\x00|javascript:|data:image/png;base64,){0,30}"#
    ) {
        let clean = sanitize(&html, Some("s0"));
        for tag in clean.html.split('<').skip(1) {
            let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
            prop_assert!(["img", "table", "td", "a"].contains(&name.as_str()), "{}", clean.html);
        }
        let tags = clean.html.split('<').skip(1).filter_map(|piece| piece.split_once('>'));
        for (tag, _) in tags {
            prop_assert!(!tag.contains(" onload=") && !tag.contains("javascript:x"), "{}", clean.html);
        }
        prop_assert!(!clean.css.contains('<'), "{}", clean.css);
    }
}
