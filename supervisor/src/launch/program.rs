//! What is executed in a sandbox: the arguments and the whole environment.

use std::ffi::OsString;
use std::path::Path;

use sandbox_profiles::{PATH_IN_SANDBOX, Serializer};

use super::Order;

/// Which code of ours a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Executions.
    Main,
    /// The making of an interpreter's cache, once.
    Prepare,
    /// The forking of workers.
    Zygote,
}

/// `-I`: neither the environment nor the workspace decides what is imported. The cache comes first,
/// because it holds the same modules compiled.
pub(super) fn argv(program: Program, python: String) -> Vec<String> {
    let module = match program {
        Program::Main => "main",
        Program::Prepare => "prepare",
        Program::Zygote => "zygote",
    };
    let code = format!(
        "import os, sys; cache = '/cellblock/cache/lib'; \
         sys.path[:0] = [cache] * os.path.isdir(cache) + ['/cellblock/python']; \
         import cellblock_worker.{module} as m; m.main()"
    );
    vec![python, "-I".to_owned(), "-c".to_owned(), code]
}

/// `ours` is our own environment, of which a worker gets what its profile passes on.
pub(super) fn environment(order: &Order, ours: impl Fn(&str) -> Option<OsString>) -> Vec<(String, String)> {
    let bin = order.python.interpreter.program.parent().unwrap_or(Path::new("/usr/bin"));
    let mut path = PATH_IN_SANDBOX.to_owned();
    if let Some(bin) = bin.to_str().filter(|bin| !PATH_IN_SANDBOX.split(':').any(|dir| dir == *bin)) {
        path = format!("{bin}:{path}");
    }
    let fixed = [
        ("PATH", path.as_str()),
        ("HOME", "/workspace"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
        ("USER", "notebook"),
        ("XDG_CACHE_HOME", "/tmp/.cache"),
        ("MPLCONFIGDIR", "/tmp/.cellblock/matplotlib"),
        ("IPYTHONDIR", "/tmp/.cellblock/ipython"),
        ("MPLBACKEND", "module://matplotlib_inline.backend_inline"),
        ("CELLBLOCK_NATIVE", "/cellblock/libcellblock_native.so"),
        ("CELLBLOCK_CACHE", "/cellblock/cache"),
        ("CELLBLOCK_PROFILE", order.profile_name.as_str()),
    ];
    let preload: Vec<String> = order.profile.preload.iter().map(ToString::to_string).collect();
    let preload = Some(("CELLBLOCK_PRELOAD".to_owned(), preload.join(",")));
    let preload = preload.filter(|_| order.program == Program::Zygote);
    let serializer = order.profile.checkpoints.serializer;
    let serializer = Some(("CELLBLOCK_SERIALIZER".to_owned(), serializer.key().to_owned()))
        .filter(|_| serializer != Serializer::Cellblock);
    let own = fixed
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .chain(preload)
        .chain(serializer);
    let venv = order.python.environment.as_ref().and_then(|root| root.to_str());
    let venv = venv.map(|root| ("VIRTUAL_ENV".to_owned(), root.to_owned()));
    let mut environment: Vec<(String, String)> = own.chain(venv).collect();
    // The profile has the last word, and in it what it sets itself. What is no text is not passed on.
    let passed = order.profile.pass_environment.iter();
    let passed = passed.filter_map(|name| Some((name.clone(), ours(name)?.into_string().ok()?)));
    let set = order.profile.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in passed.chain(set) {
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
    }
    environment
}
