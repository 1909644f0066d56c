//! Puts the worker's Python and its native library into the shim's binary, so that a shim and its
//! worker can never be of different versions.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    python_files(&here.join("python/cellblock_worker"), Path::new("python/cellblock_worker"), &mut files)?;
    let library = native_library(&here, &out)?;
    files.push((PathBuf::from("libcellblock_native.so"), library));

    let mut list = String::from("&[\n");
    for (name, source) in &files {
        list += &format!("    ({name:?}, include_bytes!({source:?})),\n");
    }
    list += "]\n";
    fs::write(out.join("payload_files.rs"), list)?;
    Ok(())
}

fn python_files(
    folder: &Path,
    name: &Path,
    files: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        if path.is_dir() && !path.ends_with("__pycache__") {
            python_files(&path, &name, files)?;
        } else if path.extension().is_some_and(|extension| extension == "py") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push((name, path));
        }
    }
    Ok(())
}

/// Builds the library by a cargo of its own, in a target folder of its own: a build script cannot
/// depend on a cdylib of the same build. Always optimised: it is on the path of every output.
fn native_library(here: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let manifest = here.join("native/Cargo.toml");
    for source in ["native", "steps/src", "../sandbox-profiles/src", "../checkpoints/src"] {
        println!("cargo:rerun-if-changed={}", here.join(source).display());
    }
    let target = out.join("native");
    let mut build = Command::new(env::var("CARGO")?);
    build.args(["build", "--profile", "archive", "--locked", "--manifest-path"]).arg(&manifest);
    build.arg("--target-dir").arg(&target);
    // Coverage and lint wrappers are for the outer build. Where sources are said to be is for both.
    build.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let places: Vec<_> =
        flags.split('\u{1f}').filter(|flag| flag.starts_with("--remap-path-prefix=")).collect();
    if !places.is_empty() {
        build.env("CARGO_ENCODED_RUSTFLAGS", places.join("\u{1f}"));
    }
    let status = build.status()?;
    if !status.success() {
        return Err(format!("building {} failed: {status}", manifest.display()).into());
    }
    Ok(target.join("archive/libcellblock_native.so"))
}
