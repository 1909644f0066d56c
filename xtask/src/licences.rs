//! The licences of what is linked into the programs: each asks that its text goes along with copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{cargo, output};

/// Packages of ours whose programs and libraries are given to others.
const GIVEN: [&str; 4] = ["cellblockd", "cellblock-shim", "cellctl", "cellblock-native"];

/// How files with licences begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

/// All packages by others, and below them each text once.
///
/// # Errors
/// cargo does not know the packages, or one of them has no text.
pub(crate) fn of_others() -> Result<String> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", &host]);
    let told: Value =
        serde_json::from_str(&output(&mut command)?).context("failed to read cargo metadata")?;
    let mut list =
        String::from("What of others is linked into the programs; the texts of their licences follow.\n\n");
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&told)? {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        writeln!(list, "{name}: {}", text("license"))?;
        let folder = Path::new(text("manifest_path")).parent().context("a manifest without a folder")?;
        let found = licences(folder)?;
        if found.is_empty() {
            bail!("{name} has no text of its licence in `{}`", folder.display());
        }
        for text in found {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (text, names) in texts {
        let names: Vec<_> = names.into_iter().collect();
        write!(list, "\n{}\n{}:\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end())?;
    }
    Ok(list)
}

/// Packages by others that ours need to run, by name.
fn linked(told: &Value) -> Result<Vec<&Value>> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<&str, &Value> = told["packages"]
        .as_array()
        .context("no packages")?
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&told["resolve"]["nodes"]) {
        let normal = |needed: &Value| list(&needed["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let needed = list(&node["deps"]);
        let needed =
            needed.iter().filter(|needed| normal(needed)).filter_map(|needed| needed["pkg"].as_str());
        needs.insert(node["id"].as_str().unwrap_or_default().to_owned(), needed.map(str::to_owned).collect());
    }
    let is_given = |package: &Value| package["name"].as_str().is_some_and(|name| GIVEN.contains(&name));
    let mut left: Vec<String> =
        packages.iter().filter(|(_, package)| is_given(package)).map(|(id, _)| (*id).to_owned()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        left.extend(needs.get(&id).filter(|_| seen.insert(id.clone())).into_iter().flatten().cloned());
    }
    let mut found: Vec<_> = seen.iter().filter_map(|id| packages.get(id.as_str()).copied()).collect();
    found.retain(|package| !package["source"].is_null());
    found.sort_by_key(|package| (package["name"].to_string(), package["version"].to_string()));
    Ok(found)
}

/// The texts in a package's folder.
fn licences(folder: &Path) -> Result<Vec<String>> {
    let failed = || format!("failed to read `{}`", folder.display());
    let mut found = Vec::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        paths.push(entry.with_context(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            let bytes = fs::read(&path).with_context(failed)?;
            found.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(found)
}
