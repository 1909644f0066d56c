//! Bokeh's plots: a script that embeds a document into elements that came as an output before it.

use serde_json::Value;

use super::outputs::Needs;
use super::{escape, frame};
use crate::notebook::joined;

/// A plot; its script stands beside it.
pub(crate) const PLOT: &str = "application/vnd.bokehjs_exec.v0+json";

/// The library on its way into a notebook; the page brings its own.
pub(crate) const LOADING: &str = "application/vnd.bokehjs_load.v0+json";

/// What `output_notebook()` shows meanwhile, and the place that waits for a plot.
const LOADING_WORDS: &str = "bk-notebook-logo";
const PLACE: &str = "data-root-id=";

/// Whether an output is a part of another one, and nothing to see by itself.
pub(crate) fn is_scaffold(data: &Value) -> bool {
    let html = data.get("text/html").map(joined).unwrap_or_default();
    let place = html.contains(PLACE) && html.trim().starts_with("<div") && html.matches('<').count() == 2;
    data.get(LOADING).is_some() || place || html.contains(LOADING_WORDS)
}

/// The plot in a frame; `None` when its script is none of Bokeh's.
pub(super) fn plot(data: &Value, needs: &mut Needs) -> Option<String> {
    let script = data.get("application/javascript").map(joined)?;
    let places: String =
        places(&script)?.iter().map(|id| format!("<div id=\"{}\"></div>", escape(id))).collect();
    let script = script.replace("</script", "<\\/script");
    Some(frame::with_bokeh(&format!("{places}<script>{script}</script>"), needs))
}

/// The ids of the elements that the script draws into.
fn places(script: &str) -> Option<Vec<String>> {
    let (_, after) = script.split_once("const render_items = ")?;
    let items: Value = serde_json::Deserializer::from_str(after).into_iter().next()?.ok()?;
    let roots = items.as_array()?.iter().filter_map(|item| item["roots"].as_object());
    let ids = roots.flat_map(|roots| roots.values()).filter_map(Value::as_str);
    Some(ids.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCRIPT: &str = "(function(root) {\n  const docs_json = {\"d\":{\"x\":\"</script><script>alert(1)\"}};\n  \
        const render_items = [{\"docid\":\"d\",\"roots\":{\"p1\":\"a-1\\\"><script>\"},\"root_ids\":[\"p1\"]}];\n  \
        void root.Bokeh.embed.embed_items_notebook(docs_json, render_items);\n})(window);";

    #[test]
    fn a_plot_brings_its_place_and_stays_in_its_frame() {
        let mut needs = Needs::default();
        let html = plot(&json!({PLOT: {}, "application/javascript": SCRIPT}), &mut needs).unwrap();
        assert_eq!((needs.frames, needs.bokeh_plots), (1, 1));
        assert_eq!(html.matches('<').count(), 2, "{html}");
        assert!(html.starts_with("<iframe class=\"output\" sandbox=\"allow-scripts\" data-document="));
        assert_eq!(plot(&json!({PLOT: {}, "application/javascript": "alert(1)"}), &mut needs), None);
    }

    #[test]
    fn what_only_holds_a_plot_is_no_output() {
        let place = "\n  <div id=\"a\" data-root-id=\"p1\" style=\"display: contents;\"></div>\n";
        assert!(is_scaffold(&json!({"text/html": place})));
        assert!(is_scaffold(&json!({LOADING: "", "application/javascript": "x"})));
        assert!(is_scaffold(&json!({"text/html": "<a class=\"bk-notebook-logo\"></a>Loading BokehJS ..."})));
        assert!(!is_scaffold(&json!({"text/html": "<div data-root-id=1>text <b>x</b></div>"})));
        assert!(!is_scaffold(&json!({PLOT: {}})));
    }
}
