use super::*;
use std::os::unix::fs::symlink;

use rustix::thread::CapabilitySet;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn binary(path: &Path) {
    write(path, "\u{7f}ELF");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn search(path: &[PathBuf]) -> Search {
    Search { path: path.to_vec(), home: Some("/nobody/home".into()), covered: &[] }
}

fn sources(found: &Found) -> Vec<&Path> {
    found.interpreter.trees.iter().map(|tree| tree.source.as_path()).collect()
}

#[test]
fn installation_outside_usr_is_its_prefix_behind_all_links() {
    let temp = temp();
    let real = temp.path().join("versions/3.12/bin/python3.12");
    binary(&real);
    fs::create_dir(temp.path().join("bin")).unwrap();
    let link = temp.path().join("bin/python3");
    symlink("../versions/3.12/bin/python3.12", &link).unwrap();
    let found = find(&link, &search(&[])).unwrap();
    assert_eq!(found.interpreter.program, real);
    assert_eq!(sources(&found), [temp.path().join("versions/3.12")]);
    assert_eq!(found.environment, None);
}

#[test]
fn python_behind_a_folder_that_may_not_be_searched_is_not_called_missing() {
    // Not even root may search it then.
    let mut own = rustix::thread::capabilities(None).unwrap();
    own.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    rustix::thread::set_capabilities(None, own).unwrap();
    let temp = temp();
    let closed = temp.path().join("closed");
    binary(&closed.join("python/bin/python3"));
    let link = temp.path().join("python3");
    symlink("closed/python/bin/python3", &link).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    for program in [closed.join("python/bin/python3"), link] {
        let error = find(&program, &search(&[])).unwrap_err().to_string();
        let said =
            format!("no Python at {} that this user may run: {} may", program.display(), closed.display());
        assert!(error.starts_with(&said), "{error}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let missing = find(&closed.join("none"), &search(&[])).unwrap_err();
    assert!(matches!(missing, InterpreterError::Missing { .. }), "{missing}");
}

#[test]
fn environment_brings_itself_and_its_base_and_keeps_its_own_path() {
    let temp = temp();
    let base = temp.path().join("base");
    binary(&base.join("bin/python3.11"));
    symlink("python3.11", base.join("bin/python3")).unwrap();
    let venv = temp.path().join("venv");
    fs::create_dir_all(venv.join("lib/python3.11/site-packages")).unwrap();
    write(&venv.join("pyvenv.cfg"), &format!("home = {}\nversion = 3.11.7\n", base.join("bin").display()));
    fs::create_dir(venv.join("bin")).unwrap();
    symlink(base.join("bin/python3"), venv.join("bin/python")).unwrap();
    let found = find(&venv.join("bin/python"), &search(&[])).unwrap();
    assert_eq!(found.interpreter.program, venv.join("bin/python"));
    assert_eq!(sources(&found), [base.as_path(), venv.as_path()]);
    assert_eq!(found.environment.as_deref(), Some(venv.as_path()));
    assert!(found.packages.contains(&venv.join("lib/python3.11/site-packages")));
}

#[test]
fn environment_inside_its_base_is_one_tree() {
    let temp = temp();
    let base = temp.path().join("base");
    binary(&base.join("bin/python3"));
    let venv = base.join("envs/mine");
    write(&venv.join("pyvenv.cfg"), &format!("home = {}\n", base.join("bin").display()));
    fs::create_dir(venv.join("bin")).unwrap();
    symlink(base.join("bin/python3"), venv.join("bin/python")).unwrap();
    let found = find(&venv.join("bin/python"), &search(&[])).unwrap();
    assert_eq!(sources(&found), [base.as_path()]);
}

#[test]
fn environment_of_the_systems_python_needs_itself_alone() {
    let temp = temp();
    let venv = temp.path().join("venv");
    write(&venv.join("pyvenv.cfg"), "home = /usr/bin\n");
    fs::create_dir(venv.join("bin")).unwrap();
    symlink("/usr/bin/env", venv.join("bin/python3")).unwrap();
    let found = find(&venv.join("bin/python3"), &search(&[])).unwrap();
    assert_eq!(sources(&found), [venv.as_path()]);
}

#[test]
fn pyenv_script_leads_to_the_version_it_means() {
    let temp = temp();
    let root = temp.path().join("pyenv");
    write(&root.join("shims/python3"), "#!/usr/bin/env bash\n");
    write(&root.join("version"), "3.12.1\n");
    let real = root.join("versions/3.12.1/bin/python3");
    binary(&real);
    let found = find(Path::new("python3"), &search(&[root.join("shims")])).unwrap();
    assert_eq!(found.interpreter.program, real);
    assert_eq!(sources(&found), [root.join("versions/3.12.1")]);
}

#[test]
fn missing_not_executable_and_script_are_told_apart() {
    let temp = temp();
    let missing = temp.path().join("bin/python3");
    assert!(matches!(find(&missing, &search(&[])), Err(InterpreterError::Missing { .. })));
    binary(&missing);
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(find(&missing, &search(&[])), Err(InterpreterError::NotExecutable { .. })));
    write(&missing, "#!/bin/sh\n");
    assert!(matches!(find(&missing, &search(&[])), Err(InterpreterError::Script { .. })));
    let error = find(Path::new("no-such-python"), &search(&[])).unwrap_err().to_string();
    assert!(error.contains("no-such-python") && error.contains("--python"), "{error}");
}

#[test]
fn home_folder_is_never_shown_as_a_whole() {
    let temp = temp();
    let home = temp.path().join("me");
    binary(&home.join("bin/python3"));
    let search = Search { path: Vec::new(), home: Some(home.clone()), covered: &[] };
    let error = find(&home.join("bin/python3"), &search).unwrap_err();
    assert!(matches!(error, InterpreterError::TooWide { .. }), "{error}");
}

#[test]
fn circle_of_links_is_an_error() {
    let temp = temp();
    let bin = temp.path().join("venv/bin");
    write(&temp.path().join("venv/pyvenv.cfg"), "home = /usr/bin\n");
    fs::create_dir_all(&bin).unwrap();
    symlink("b", bin.join("a")).unwrap();
    symlink("a", bin.join("b")).unwrap();
    assert!(find(&bin.join("a"), &search(&[])).is_err());
}

#[test]
fn environment_that_the_sandbox_would_cover_is_refused_with_the_reason() {
    let temp = temp();
    let program = temp.path().join("bin/python3");
    binary(&program);
    let search = Search { covered: &["/"], ..search(&[]) };
    assert!(matches!(find(&program, &search), Err(InterpreterError::Covered { covered: "/", .. })));
}
