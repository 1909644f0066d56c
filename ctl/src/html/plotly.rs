//! Plotly figures: their data on the page, where page.js lets the library draw them.

use serde_json::Value;

/// The mime type of a figure.
pub(crate) const MIME: &str = "application/vnd.plotly.v1+json";

/// A figure as an element that page.js draws into.
pub(super) fn figure(value: &Value) -> String {
    // Inside a script element only `<` can end it or begin a comment; in JSON it stands in strings
    // alone, where it can be written as an escape.
    let json = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    format!("<div class=\"plotly\"><script type=\"application/json\">{json}</script></div>")
}

/// The figure's title.
pub(crate) fn title(figure: &Value) -> Option<String> {
    let title = &figure["layout"]["title"];
    let text = title["text"].as_str().or_else(|| title.as_str())?;
    Some(text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figure_data_cannot_end_its_element() {
        let html = figure(&json!({"data": [{"text": "</script><script>alert(1)</script><!--"}]}));
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script>").count(), 1);
        assert!(!html.contains("<!--"));
        let start = html.find("json\">").unwrap() + 6;
        let json = &html[start..html.find("</script>").unwrap()];
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["data"][0]["text"], "</script><script>alert(1)</script><!--");
    }
}
