//! The pages of `docs/` that are made of what the code says, so that they are never written twice:
//! `sandbox-plan.md` whole, and the tables of `profiles.md`. `cargo xtask docs` writes them anew.

#![expect(clippy::unwrap_used, reason = "a page that cannot be read or written is a test that fails")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox_profiles::{
    BUILTINS, Barrier, Host, Interpreter, LIMITS, LimitKey, Need, Profile, Quota, Step, Tree, Unit,
    Workspace, explain, plan,
};

/// Set by `cargo xtask docs`.
const WRITE: &str = "CELLBLOCK_WRITE_DOCS";

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// Compares a page with what it must be, or writes it.
fn check(name: &str, wanted: &str) {
    let path = page(name);
    if std::env::var_os(WRITE).is_some() {
        return fs::write(&path, wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "docs/{name} is not what the code says, from line {}: run `cargo xtask docs`",
        differs.unwrap_or_else(|| found.lines().count().min(wanted.lines().count())) + 1
    );
}

/// A Debian server whose cellblockd is root's, with a virtual environment for notebooks.
fn example_host() -> Host {
    let link = |path: &str| (path.into(), format!("usr{path}").into());
    Host {
        rootful: true,
        system: ["/usr", "/etc/alternatives", "/etc/fonts", "/etc/ssl"].map(PathBuf::from).to_vec(),
        files: ["/etc/ld.so.cache", "/etc/mime.types"].map(PathBuf::from).to_vec(),
        links: ["/bin", "/sbin", "/lib", "/lib64"]
            .map(link)
            .into_iter()
            .chain([("/etc/localtime".into(), "/usr/share/zoneinfo/Etc/UTC".into())])
            .collect(),
        interpreter: Interpreter {
            program: "/opt/notebooks/bin/python".into(),
            trees: vec![Tree { source: "/opt/notebooks".into(), target: "/opt/notebooks".into() }],
        },
        payload: "/run/cellblock/payload".into(),
        cache: Some("/var/lib/cellblock/python/cache".into()),
        workspace: Workspace {
            folder: "/var/lib/cellblock/notebooks/NOTEBOOK/workspace".into(),
            quota: Some(Quota::Project { id: 1_234_567 }),
        },
        slot: 0,
    }
}

/// The reasons of steps that come often, a line each, would hide the rest; so a barrier in one line.
fn barriers(steps: &[Step]) -> String {
    let mut text = "| barrier | steps | when a step fails |\n|---|---|---|\n".to_owned();
    for barrier in Barrier::ALL {
        let own: Vec<_> = steps.iter().filter(|step| step.barrier == barrier).collect();
        let best_effort = own.iter().filter(|step| step.need == Need::BestEffort).count();
        let fails = match (barrier.is_load_bearing(), best_effort) {
            (true, _) => "no sandbox, in every profile",
            (false, 0) => "no sandbox, unless the profile says `best_effort`",
            (false, some) if some == own.len() => "the report says so, unless the profile says `required`",
            _ => "as the step says (`~` is best effort), unless the profile says one for all",
        };
        if !own.is_empty() {
            let _ = writeln!(text, "| {} | {} | {fails} |", barrier.name(), own.len());
        }
    }
    text
}

#[test]
fn the_security_chapter_is_the_explanation_of_the_default_profile() {
    let profile = Profile::builtin_default();
    let steps = plan(&profile, &example_host());
    let text = format!(
        "# The plan of a sandbox\n\n\
         <!-- Written by `cargo xtask docs`; a test keeps it equal to what the code does. -->\n\n\
         A sandbox is what these {count} steps make, in this order. They are those of the profile `default` \
         ({description}) on an example host: a Debian server where root runs cellblockd and notebooks have a \
         virtual environment in `/opt/notebooks`. `cellctl profile explain [NAME]` prints the same for a \
         profile and the host at hand. What is promised of it, and what is not, is in \
         [`security-model.md`](security-model.md).\n\n\
         The columns are: number; who does it (the *shim* outside, the sandbox's *init*, the *worker* before it \
         is Python, and the shim again as *watch*); the barrier it is part of; the step, and why. `~` stands \
         before a step that is best effort: where the host cannot do it, the worker starts and its report says \
         so. Any other step that fails is the end of the start, by the step's name.\n\n\
         ```text\n{plan}```\n\n\
         ## By barrier\n\n{barriers}",
        count = steps.len(),
        description = profile.description,
        plan = explain(&steps),
        barriers = barriers(&steps),
    );
    check("sandbox-plan.md", &text);
}

/// A number as people read it: the greatest unit that leaves a short one.
fn amount(unit: Unit, value: u64) -> String {
    let scales: &[(u64, &str)] = match unit {
        Unit::Bytes => {
            &[(1 << 50, " PiB"), (1 << 40, " TiB"), (1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB")]
        }
        Unit::Milliseconds => {
            &[(86_400_000, " d"), (3_600_000, " h"), (60_000, " min"), (1_000, " s"), (1, " ms")]
        }
        Unit::Count => &[],
    };
    match scales.iter().find(|(scale, _)| value >= *scale && value.is_multiple_of(*scale)) {
        Some((scale, name)) => format!("{}{name}", value / scale),
        None => value.to_string(),
    }
}

fn limits() -> String {
    let defaults = Profile::builtin_default().limits;
    let mut text =
        "| key of `[limits]` | bounds | unit | default | least | most |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for limit in &LIMITS {
        let LimitKey { key, what, unit, least, most, .. } = *limit;
        let [default, least, most] = [limit.get(&defaults), least, most].map(|value| amount(unit, value));
        let unit = match unit {
            Unit::Bytes => "bytes",
            Unit::Milliseconds => "ms",
            Unit::Count => "number",
        };
        let _ = writeln!(text, "| `{key}` | {what} | {unit} | {default} | {least} | {most} |");
    }
    text
}

fn builtins() -> String {
    let profiles = BUILTINS.map(|(name, _)| (name, Profile::builtin(name).unwrap()));
    let mut text = format!(
        "| | {} |\n|---|{}\n",
        profiles.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" | "),
        "---|".repeat(profiles.len())
    );
    let mut row = |what: &str, cell: &dyn Fn(&Profile) -> String| {
        let cells: Vec<_> = profiles.iter().map(|(_, profile)| cell(profile)).collect();
        let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
    };
    row("for", &|profile| profile.description.clone());
    row("network", &|profile| format!("{:?}", profile.network).to_lowercase());
    for limit in &LIMITS {
        row(&format!("`{}`", limit.key), &|profile| amount(limit.unit, limit.get(&profile.limits)));
    }
    text
}

fn barrier_keys() -> String {
    let keys = |is_load_bearing| {
        let keys: Vec<_> = Barrier::ALL
            .into_iter()
            .filter(|barrier| barrier.is_load_bearing() == is_load_bearing)
            .map(|barrier| format!("`{}`", barrier.key()))
            .collect();
        keys.join(", ")
    };
    format!(
        "A profile may require these or make them best effort: {}.\n\n\
         The others stand on these, which are required in every profile: {}.\n",
        keys(false),
        keys(true)
    )
}

#[test]
fn the_tables_of_the_page_on_profiles_are_what_the_code_checks() {
    let mut text = fs::read_to_string(page("profiles.md")).unwrap();
    for (name, content) in [("limits", limits()), ("builtins", builtins()), ("barriers", barrier_keys())] {
        let begin = format!("<!-- {name}: written by `cargo xtask docs` -->\n");
        let from = text.find(&begin).unwrap_or_else(|| panic!("docs/profiles.md lacks the line {begin}"));
        let to = text[from..].find("<!-- end -->").unwrap_or_else(|| panic!("{name} has no end")) + from;
        text.replace_range(from + begin.len()..to, &format!("\n{content}\n"));
    }
    check("profiles.md", &text);
}

#[test]
fn the_page_on_profiles_shows_examples_that_are_taken() {
    let text = fs::read_to_string(page("profiles.md")).unwrap();
    let examples: Vec<_> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let read = Profile::parse("team", example, &|_| Ok(None));
        assert!(read.is_ok(), "{}\n{example}", read.unwrap_err());
    }
}
