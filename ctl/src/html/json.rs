//! JSON as a tree that folds.

use serde_json::Value;

use super::escape;

/// Most values of one tree that are written; a page is for reading.
const VALUES: usize = 2_000;

/// Longest text in it, in characters.
const TEXT_CHARS: usize = 1_000;

/// Depth down to which branches are open.
const OPEN_DEPTH: usize = 2;

/// The value as HTML.
pub(super) fn tree(value: &Value) -> String {
    let mut writer = Writer { left: VALUES, out: String::from("<div class=\"json\">") };
    writer.value(value, "", 0);
    writer.out + "</div>"
}

struct Writer {
    /// Values that may still be written.
    left: usize,
    out: String,
}

impl Writer {
    fn value(&mut self, value: &Value, key: &str, depth: usize) {
        self.left = self.left.saturating_sub(1);
        match value {
            Value::Array(items) if !items.is_empty() => {
                let items = items.iter().enumerate().map(|(place, item)| (place.to_string(), item));
                self.branch(items, &format!("{key}[{}]", value.as_array().map_or(0, Vec::len)), depth);
            }
            Value::Object(fields) if !fields.is_empty() => {
                let entries = fields.iter().map(|(name, field)| (escape(name), field));
                self.branch(entries, &format!("{key}{{{}}}", fields.len()), depth);
            }
            leaf => self.out.push_str(&format!("<div>{key}{}</div>", self::leaf(leaf))),
        }
    }

    fn branch<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (String, &'a Value)>,
        label: &str,
        depth: usize,
    ) {
        let open = if depth < OPEN_DEPTH { " open" } else { "" };
        self.out.push_str(&format!("<details{open}><summary>{label}</summary>"));
        let count = entries.len();
        for (place, (name, value)) in entries.enumerate() {
            if self.left == 0 {
                let more = count - place;
                self.out
                    .push_str(&format!("<div class=\"note\">and {more} more, in the notebook file</div>"));
                break;
            }
            self.value(value, &format!("<b>{name}</b> "), depth + 1);
        }
        self.out.push_str("</details>");
    }
}

fn leaf(value: &Value) -> String {
    let (class, text) = match value {
        Value::String(text) => ("s", text.as_str().into()),
        other => ("n", other.to_string()),
    };
    let mut shown: String = text.chars().take(TEXT_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let quote = if class == "s" { "&quot;" } else { "" };
    format!("<span class=\"{class}\">{quote}{}{quote}</span>", escape(&shown))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_a_tree_that_folds() {
        let value = json!({"a": [1, 2.5, {"deep": [null]}], "<b>": "<script>", "empty": {}});
        insta::assert_snapshot!(tree(&value).replace("><", ">\n<"));
    }

    #[test]
    fn a_large_value_is_cut_and_says_so() {
        let html = tree(&json!([vec![0; 10_000], "x".repeat(5_000)]));
        assert!(html.len() < 200_000 && html.contains("more, in the notebook file"), "{}", html.len());
    }
}
