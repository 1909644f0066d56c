//! Vega and Vega-Lite charts, which is what Altair makes: found in an output, and shown as a picture
//! that was drawn for the page, else by what is in them.

use serde_json::{Map, Value};

use super::{escape, json};
use crate::notebook::joined;

/// Rows and columns of a chart's data that are shown in place of it.
const ROWS: usize = 10;
const COLUMNS: usize = 12;

/// The chart in an output's data, when it is one.
pub(crate) fn chart(data: &Value) -> Option<Value> {
    let bundle = data.as_object()?;
    let is_chart = |mime: &str| {
        ["application/vnd.vega.", "application/vnd.vegalite."].iter().any(|start| mime.starts_with(start))
    };
    if let Some((_, chart)) = bundle.iter().find(|(mime, _)| is_chart(mime)) {
        // Some versions of Altair have it as JSON under a name that does not say so.
        return match chart.as_str() {
            Some(text) => serde_json::from_str(text).ok(),
            None => Some(chart.clone()),
        };
    }
    // Altair's HTML loads the libraries from the network and calls a function with the chart.
    let html = bundle.get("text/html").map(joined).filter(|html| html.contains("vegaEmbed"))?;
    let (_, after) = html.split_once("})({")?;
    let chart: Value =
        serde_json::Deserializer::from_str(&html[html.len() - after.len() - 1..]).into_iter().next()?.ok()?;
    chart["$schema"].as_str().is_some_and(|schema| schema.contains("/vega")).then_some(chart)
}

/// What can be read of a chart that was not drawn, and why it was not.
pub(super) fn words(chart: &Value, why: &str) -> String {
    let title = title(chart).map_or(String::new(), |title| format!(" “{}”", escape(&title)));
    let mut html = format!("<p class=\"note\">An Altair chart{title}, not drawn: {}.</p>", escape(why));
    if let Some(rows) = rows(chart) {
        html.push_str(&table(rows));
    }
    html + "<details><summary class=\"note\">The chart as Vega-Lite</summary>"
        + &json::tree(chart)
        + "</details>"
}

/// The chart's title.
pub(crate) fn title(chart: &Value) -> Option<String> {
    let title = &chart["title"];
    let text = title.as_str().or_else(|| title["text"].as_str())?;
    Some(text.chars().take(200).collect())
}

fn rows(chart: &Value) -> Option<&Vec<Value>> {
    let own = chart["data"]["values"].as_array();
    let named = || chart["datasets"].as_object()?.values().find_map(Value::as_array);
    own.or_else(named).filter(|rows| rows.iter().any(Value::is_object))
}

fn table(rows: &[Value]) -> String {
    let empty = Map::new();
    let columns: Vec<&String> =
        rows.iter().find_map(Value::as_object).unwrap_or(&empty).keys().take(COLUMNS).collect();
    let head: String = columns.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
    let cell = |value: &Value| match value {
        Value::String(text) => escape(&text.chars().take(60).collect::<String>()),
        Value::Null => String::new(),
        other => escape(&other.to_string().chars().take(60).collect::<String>()),
    };
    let row = |row: &Value| {
        let cells: String =
            columns.iter().map(|name| format!("<td>{}</td>", cell(&row[name.as_str()]))).collect();
        format!("<tr>{cells}</tr>")
    };
    let body: String = rows.iter().take(ROWS).map(row).collect();
    let more = match rows.len().saturating_sub(ROWS) {
        0 => String::new(),
        more => format!("<p class=\"note\">and {more} more rows</p>"),
    };
    format!("<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "title": {"text": "<b>"},
            "data": {"name": "d"}, "datasets": {"d": [{"x": "<script>", "y": 1}, {"x": null, "y": 2.5}]}})
    }

    #[test]
    fn a_chart_is_found_by_its_type_and_in_altairs_html() {
        assert_eq!(chart(&json!({"application/vnd.vegalite.v6+json": spec()})), Some(spec()));
        assert_eq!(chart(&json!({"application/vnd.vegalite.v6.json": spec().to_string()})), Some(spec()));
        let html =
            format!("<script>(function(s, o){{ vegaEmbed(s) }})({}, {{\"mode\": 1}});</script>", spec());
        assert_eq!(chart(&json!({"text/html": html})), Some(spec()));
        assert_eq!(chart(&json!({"text/html": "<script>vegaEmbed; (x})({1"})), None);
        assert_eq!(chart(&json!({"text/html": "<b>x</b>"})), None);
    }

    #[test]
    fn a_chart_that_is_not_drawn_is_its_data() {
        let html = words(&spec(), "there is no <pencil>");
        assert!(html.contains("“&lt;b&gt;”, not drawn: there is no &lt;pencil&gt;."), "{html}");
        assert!(html.contains("<tr><td>&lt;script&gt;</td><td>1</td></tr>"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }
}
