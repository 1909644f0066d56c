//! Python scripts as notebooks: `# %%` begins a cell, `# %% [markdown]` one of text, which is what
//! Spyder, VS Code and jupytext agree on.

use serde_json::{Value, json};

use super::Notebook;

/// Cuts a script into cells; without markers it is one.
pub(crate) fn notebook(code: &str) -> Notebook {
    let mut cells: Vec<(Kind, Vec<&str>)> = vec![(Kind::Code, Vec::new())];
    for line in code.lines() {
        match marker(line) {
            Some(kind) => cells.push((kind, Vec::new())),
            None => cells.last_mut().expect("there is one from the start").1.push(line),
        }
    }
    let cells = cells.into_iter().filter(|(_, lines)| lines.iter().any(|line| !line.trim().is_empty()));
    Notebook::new(cells.map(|(kind, lines)| cell(kind, &lines)).collect())
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Markdown,
}

fn marker(line: &str) -> Option<Kind> {
    let rest = line.strip_prefix('#')?.trim_start().strip_prefix("%%")?;
    // `# %%time` is a magic that somebody has commented out.
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let text = ["[markdown]", "[md]"].iter().any(|tag| rest.contains(tag));
    Some(if text { Kind::Markdown } else { Kind::Code })
}

fn cell(kind: Kind, lines: &[&str]) -> Value {
    match kind {
        Kind::Code => {
            let source = lines.join("\n");
            json!({
                "cell_type": "code",
                "metadata": {},
                "execution_count": null,
                "outputs": [],
                "source": source.trim_matches('\n'),
            })
        }
        Kind::Markdown => {
            let uncommented = lines.iter().map(|line| {
                let text = line.strip_prefix('#').unwrap_or(line);
                text.strip_prefix(' ').unwrap_or(text)
            });
            let source = uncommented.collect::<Vec<_>>().join("\n");
            json!({"cell_type": "markdown", "metadata": {}, "source": source.trim_matches('\n')})
        }
    }
}
