//! `cellblock-shim`: one binary, five jobs, all of them started by other programs of cellblock.
//!
//! - `--worker` makes it a **shim**: standard input is the supervisor's socket, descriptor 3 the outer
//!   user namespace (and 4 the mount namespace that goes with it, when rootless), then its cgroups. The
//!   first command says whether it is a worker's or a zygote's;
//! - `--anchor` makes it the **anchor**, which outlives the supervisor and starts shims;
//! - `--store` makes it a **store process**, which does one thing with checkpoints (see `store/`);
//! - `--unpack DIR` writes the worker's Python and native code, which this binary carries, so that
//!   versions cannot be mixed, to a folder below DIR and prints the folder's name;
//! - `--probe-quota DIR` prints what the host can do to bound the workspaces below DIR.
//!
//! Invariant: single-threaded in every job. See `sys.rs`.

mod anchor;
mod cgroup;
mod init;
mod notify;
mod outer;
mod payload;
mod pump;
mod sandbox;
mod shim;
mod store;
mod sys;
mod wire;
mod zygote;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cgroup::Wanted;

/// Exit code: it went as it should.
const OK: u8 = 0;
/// Exit code: started with arguments nobody should use.
const USAGE: u8 = 2;
/// Exit code: failed; standard error says why.
const FAILED: u8 = 70;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let job = match arguments.next() {
        None => {
            eprintln!("cellblock-shim is started by cellblockd; use cellctl instead");
            return ExitCode::from(USAGE);
        }
        Some(verb) => {
            let rest: Vec<_> = arguments.collect();
            match verb.to_str() {
                Some("--worker") => shim::run(&rest),
                Some("--store") if rest.is_empty() => store::run(),
                Some("--anchor") => anchor_arguments(&rest).and_then(|anchor| anchor::run(&anchor)),
                Some("--unpack") if rest.len() == 1 => payload::unpack(Path::new(&rest[0])),
                Some("--probe-quota") if rest.len() == 1 => {
                    let answer = sandbox::quota::probe(Path::new(&rest[0]));
                    std::io::stdout().write_all(answer.as_bytes()).context("failed to write")
                }
                Some("--version") => {
                    eprintln!("cellblock-shim {}", cellblock_proto::BUILD);
                    return ExitCode::from(OK);
                }
                _ => {
                    eprintln!("cellblock-shim is started by cellblockd; use cellctl instead");
                    return ExitCode::from(USAGE);
                }
            }
        }
    };
    match job {
        Ok(()) => ExitCode::from(OK),
        Err(error) => {
            eprintln!("cellblock-shim: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// `--socket PATH [--first-uid N] [--cgroup auto|none|PATH]`
fn anchor_arguments(rest: &[OsString]) -> anyhow::Result<anchor::Arguments> {
    let mut socket = None;
    let mut first_uid = None;
    let mut cgroup = Wanted::Auto;
    let mut pairs = rest.chunks_exact(2);
    for pair in pairs.by_ref() {
        let value = &pair[1];
        match pair[0].to_str() {
            Some("--socket") => socket = Some(PathBuf::from(value)),
            Some("--first-uid") => {
                let text = value.to_string_lossy();
                first_uid = Some(text.parse().with_context(|| format!("--first-uid {text:?} is no number"))?);
            }
            Some("--cgroup") => {
                cgroup = match value.to_str() {
                    Some("auto") => Wanted::Auto,
                    Some("none") => Wanted::Nothing,
                    _ => Wanted::Below(PathBuf::from(value)),
                };
            }
            _ => bail!("unknown argument {:?} of --anchor", pair[0]),
        }
    }
    Ok(anchor::Arguments { socket: socket.context("--anchor needs --socket PATH")?, first_uid, cgroup })
}
