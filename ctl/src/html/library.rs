//! Script libraries out of the environment that the notebook ran with, so that the page needs no network.

use std::fs;
use std::path::{Path, PathBuf};

/// Larger than any of them (Plotly's has 4.8 MB): something else must not be put into the page.
const LIBRARY_BYTES: u64 = 32 << 20;

/// What draws Plotly's figures.
const PLOTLY: &str = "plotly/package_data/plotly.min.js";

/// What draws Bokeh's: the core, and the parts that layouts with widgets and tables need.
const BOKEH: [&str; 3] = ["bokeh.min.js", "bokeh-widgets.min.js", "bokeh-tables.min.js"];
const BOKEH_FOLDER: &str = "bokeh/server/static/js";

/// The libraries that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Libraries {
    pub(crate) plotly: Option<String>,
    pub(crate) bokeh: Option<String>,
}

impl Libraries {
    /// Reads them from the interpreter's environment; the interpreter is not run for it.
    pub(crate) fn find(python: Option<&Path>) -> Self {
        let folders = package_folders(python);
        let read = |name: &str| folders.iter().find_map(|folder| read(&folder.join(name)));
        let bokeh = || {
            let core = read(&format!("{BOKEH_FOLDER}/{}", BOKEH[0]))?;
            let parts = BOKEH[1..].iter().filter_map(|name| read(&format!("{BOKEH_FOLDER}/{name}")));
            Some(std::iter::once(core).chain(parts).collect::<Vec<_>>().join("\n;\n"))
        };
        Libraries { plotly: read(PLOTLY), bokeh: bokeh() }
    }
}

/// A script as it can stand in a script element, whatever its text. The library is the operator's; all
/// the same it must neither end its own element nor begin a comment in which that end is not seen.
pub(super) fn embedded(script: &str) -> String {
    // Both stand in strings and regular expressions alone, where the backslash changes nothing.
    script.replace("</script", "<\\/script").replace("<!--", "\\x3C!--")
}

/// Where packages are, best first: the named interpreter's, else that of the environment, else `python3`'s.
fn package_folders(python: Option<&Path>) -> Vec<PathBuf> {
    let named = python.map(Path::to_owned);
    let configured = || std::env::var_os("CELLBLOCK_PYTHON").map(PathBuf::from);
    let python = named.or_else(configured).unwrap_or_else(|| PathBuf::from("python3"));
    let program = if python.components().count() > 1 { Some(python) } else { on_path(&python) };
    let Some(program) = program.and_then(|program| std::path::absolute(program).ok()) else {
        return Vec::new();
    };
    // An environment's bin/python is a link to the system's: the environment itself comes first.
    let real = fs::canonicalize(&program).ok();
    let roots = [Some(program), real].into_iter().flatten();
    roots.filter_map(|program| Some(program.parent()?.parent()?.join("lib"))).flat_map(below).collect()
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn below(lib: PathBuf) -> Vec<PathBuf> {
    let versions = fs::read_dir(lib).into_iter().flatten().flatten();
    let versions = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    let folders =
        versions.flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.path().join(name)));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn read(file: &Path) -> Option<String> {
    fs::metadata(file).ok().filter(|found| found.len() <= LIBRARY_BYTES)?;
    fs::read_to_string(file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_environment_of_the_interpreter() {
        let temp = tempfile::tempdir().unwrap();
        let packages = temp.path().join("lib/python3.11/site-packages");
        for (name, text) in [
            (PLOTLY.to_owned(), "plotly"),
            (format!("{BOKEH_FOLDER}/{}", BOKEH[0]), "core"),
            (format!("{BOKEH_FOLDER}/{}", BOKEH[2]), "tables"),
        ] {
            let file = packages.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::create_dir(temp.path().join("bin")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/env", temp.path().join("bin/python")).unwrap();
        let found = Libraries::find(Some(&temp.path().join("bin/python")));
        assert_eq!(found.plotly.as_deref(), Some("plotly"));
        assert_eq!(found.bokeh.as_deref(), Some("core\n;\ntables"));
        let none = Libraries::find(Some(&temp.path().join("no/bin/python")));
        assert!(none.plotly.is_none() && none.bokeh.is_none(), "{none:?}");
    }

    #[test]
    fn a_script_cannot_end_its_element() {
        assert_eq!(embedded("'</script><!--<script>'"), "'<\\/script>\\x3C!--<script>'");
    }
}
