//! Plotly figures: the library that draws them, and their data on the page.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The mime type of a figure.
pub(super) const MIME: &str = "application/vnd.plotly.v1+json";

/// Larger than any plotly.min.js (4.8 MB): something else must not be put into the page.
const LIBRARY_BYTES: u64 = 32 << 20;

/// A figure as an element that page.js draws into.
pub(super) fn figure(value: &Value) -> String {
    // Inside a script element only `<` can end it or begin a comment; in JSON it stands in strings
    // alone, where it can be written as an escape.
    let json = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    format!("<div class=\"plotly\"><script type=\"application/json\">{json}</script></div>")
}

/// Reads plotly.min.js from the interpreter's environment; the interpreter is not run for it.
pub(crate) fn find_library(python: Option<&Path>) -> Option<String> {
    let named = python.map(Path::to_owned);
    let configured = || std::env::var_os("CELLBLOCK_PYTHON").map(PathBuf::from);
    let python = named.or_else(configured).unwrap_or_else(|| PathBuf::from("python3"));
    let program = if python.components().count() > 1 { python } else { on_path(&python)? };
    // An environment's bin/python is a link to the system's: the environment itself comes first.
    let real = std::fs::canonicalize(&program).ok();
    let roots = [Some(std::path::absolute(&program).ok()?), real];
    roots.into_iter().flatten().find_map(|program| read_below(program.parent()?.parent()?))
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn read_below(root: &Path) -> Option<String> {
    let packages = std::fs::read_dir(root.join("lib")).ok()?.flatten().flat_map(|entry| {
        let version = entry.file_name().to_string_lossy().starts_with("python3");
        ["site-packages", "dist-packages"]
            .into_iter()
            .filter(move |_| version)
            .map(move |name| entry.path().join(name))
    });
    let library = |packages: PathBuf| packages.join("plotly/package_data/plotly.min.js");
    let fits = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|found| found.len() <= LIBRARY_BYTES);
    packages.map(library).find(fits).and_then(|file| std::fs::read_to_string(file).ok())
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

    #[test]
    fn the_library_is_found_in_the_environment_of_the_interpreter() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("lib/python3.11/site-packages/plotly/package_data");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir(temp.path().join("bin")).unwrap();
        std::fs::write(folder.join("plotly.min.js"), "plotly").unwrap();
        std::os::unix::fs::symlink("/usr/bin/env", temp.path().join("bin/python")).unwrap();
        assert_eq!(find_library(Some(&temp.path().join("bin/python"))).as_deref(), Some("plotly"));
        assert_eq!(find_library(Some(&temp.path().join("no/bin/python"))), None);
    }
}
