//! The command line. Doc comments are the help text.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use sandbox_profiles::ids::RANGE;

use crate::log::Format;

/// Below lie the users of the system, its services and root; and the range must end before the id
/// that stands for none.
const FIRST_UIDS: RangeInclusive<i64> = 65536..=(u32::MAX - RANGE - 1) as i64;

/// Run notebook code in isolated Python workers
///
/// Listens on a Unix socket for notebooks to run (`proto/README.md` describes what is spoken there)
/// and gives each notebook one sandboxed Python process. Workers outlive a restart of the daemon.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "cellblockd", version)]
pub(crate) struct Args {
    /// Directory for the socket, the lock and the workers' control sockets
    ///
    /// Default: /run/cellblock as root, else $XDG_RUNTIME_DIR/cellblock, else /tmp/cellblock-UID.
    /// With --private, the daemon's process id is added, so that it meets no other daemon.
    #[arg(long, value_name = "DIR", env = "CELLBLOCK_RUNTIME_DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Socket to listen on, at most 107 bytes long [default: RUNTIME_DIR/cellblockd.sock]
    #[arg(long, value_name = "PATH", env = "CELLBLOCK_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Directory for the notebooks' files
    ///
    /// Default: /var/lib/cellblock as root, else $XDG_STATE_HOME/cellblock, else
    /// ~/.local/state/cellblock.
    /// With --private: RUNTIME_DIR/state, which is removed when the daemon ends.
    #[arg(long, value_name = "DIR", env = "CELLBLOCK_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Directory for what is made once per Python environment [default: STATE_DIR/python]
    ///
    /// Compiled modules and the list of fonts. Several daemons of one user may share it.
    #[arg(long, value_name = "DIR", env = "CELLBLOCK_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Python to run notebooks with: a program, or an environment's bin/python [default: python3]
    ///
    /// It needs IPython. It is found by reading files and never run outside a sandbox.
    #[arg(long, value_name = "PATH", env = "CELLBLOCK_PYTHON")]
    pub(crate) python: Option<PathBuf>,

    /// Directory of profiles, one NAME.toml each, besides those that are built in
    ///
    /// `cellctl profile ls` lists them all. A file of the same name replaces a built-in profile.
    #[arg(long, value_name = "DIR", env = "CELLBLOCK_PROFILES")]
    pub(crate) profiles: Option<PathBuf>,

    /// The cellblock-shim of this build [default: beside this program, else on PATH]
    #[arg(long, value_name = "PATH", env = "CELLBLOCK_SHIM")]
    pub(crate) shim: Option<PathBuf>,

    /// Also serve this user id (our own and 0 are always served); may be repeated
    ///
    /// It is a tenant of its own, `uid-UID`, with notebooks of its own. It must also be able to reach the
    /// socket: see --socket-group.
    #[arg(long, value_name = "UID")]
    pub(crate) allow_uid: Vec<u32>,

    /// Group of the socket, by name or number: its members can connect to it
    ///
    /// Connecting is not being served: see --serve-group, --allow-uid and --tenants. Without this, only
    /// our own group can connect.
    #[arg(long, value_name = "GROUP", env = "CELLBLOCK_SOCKET_GROUP")]
    pub(crate) socket_group: Option<String>,

    /// Serve everybody who can connect, each user id as a tenant of its own
    ///
    /// Who can connect is decided by the socket's mode alone: the members of --socket-group.
    #[arg(long, env = "CELLBLOCK_SERVE_GROUP")]
    pub(crate) serve_group: bool,

    /// File of tenants: which users are one, which are operators, and what each may use
    ///
    /// `docs/tenants.md` describes it. It is read when the daemon starts.
    #[arg(long, value_name = "FILE", env = "CELLBLOCK_TENANTS")]
    pub(crate) tenants: Option<PathBuf>,

    /// First host user id of the range of 65536 that workers use, as root only
    #[arg(long, value_name = "UID", env = "CELLBLOCK_FIRST_UID",
          value_parser = clap::value_parser!(u32).range(FIRST_UIDS))]
    pub(crate) first_uid: Option<u32>,

    /// Where to make the workers' cgroups: auto, none, or a group of v2 that is ours, e.g. /cellblock
    ///
    /// With auto, below the daemon's own group when that was delegated to it (systemd's Delegate=), else,
    /// as root, below the top. Without cgroups the daemon itself watches memory and processor time.
    #[arg(long, value_name = "WHERE", env = "CELLBLOCK_CGROUP", default_value = "auto",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) cgroup: String,

    /// Where the anchor comes from, the process that workers are children of
    ///
    /// With start, the one that listens in RUNTIME_DIR is used, and one is started where there is none. With
    /// find, it is never started here: it is a unit of its own, to which --first-uid and --cgroup are told.
    #[arg(long, value_name = "HOW", env = "CELLBLOCK_ANCHOR", default_value = "start")]
    pub(crate) anchor: AnchorFrom,

    /// Whether workers may be forked from warm interpreters (zygotes), as their profiles say
    ///
    /// A zygote is a Python that has imported what a profile's `preload` names; a worker forked from it is
    /// there in milliseconds. `spares` of a profile are forked before anybody asks. With off, every worker is
    /// a fresh Python. Default: on, but off with --private.
    #[arg(long, value_name = "SWITCH", env = "CELLBLOCK_WARM_START")]
    pub(crate) warm_start: Option<Switch>,

    /// How many cells may run at once, over all notebooks [default: 4 per processor, at least 8]
    ///
    /// Others wait, notebook by notebook in the order in which they have asked; `cellctl ls` shows them as
    /// waiting. The default is more than one per processor because cells also wait: for files, for input,
    /// for sleep. One that waits keeps its place. A profile can have a cap of its own besides:
    /// `max_running`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_running: Option<u32>,

    /// How to write the log: auto, text, json or journald
    ///
    /// It goes to standard error, and to the journal with fields of its own (CELLBLOCK_NOTEBOOK and others)
    /// when standard error is the journal's. The environment variable CELLBLOCK_LOG takes a filter such as
    /// `debug`, or `info,audit=debug`.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "CELLBLOCK_LOG_FORMAT",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) log_format: Format,

    /// Serve GET /metrics and GET /healthz over HTTP at this loopback address, e.g. 127.0.0.1:9464
    ///
    /// For a Prometheus on this machine. Every local user can read what is there; it names profiles and
    /// tenants, never a notebook. `cellctl metrics` shows the same without it.
    #[arg(long, value_name = "ADDRESS", env = "CELLBLOCK_METRICS_ADDRESS")]
    pub(crate) metrics_address: Option<SocketAddr>,

    /// Add a line of JSON to this file for each deed: who opened, ran, restored, deleted what, and who was denied
    ///
    /// It is made for its owner alone. When it is moved away, a new one is begun. Without it the log has these
    /// lines, with the target `audit`.
    #[arg(long, value_name = "FILE", env = "CELLBLOCK_AUDIT_LOG")]
    pub(crate) audit_log: Option<PathBuf>,

    /// How many workers may live at once, over all notebooks [default: no cap]
    ///
    /// When there are as many, who wants one waits until an idle one has been saved and ended; when all are
    /// at work he is told so, and when to try again. A tenant that is no operator has three quarters of them at most,
    /// unless the file of --tenants gives it a cap of its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_workers: Option<u32>,

    /// Evict idle workers while less than this part of the machine's memory is available, in percent; 0 for never
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(..=90))]
    pub(crate) min_available: u8,

    /// Evict idle workers while tasks wait for memory for more than this part of the time, in percent; 0 for never
    ///
    /// As the kernel says in /proc/pressure/memory, of the last ten seconds; where it does not, only
    /// --min-available counts.
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) max_stalled: u8,

    /// How long cells that run have when the daemon is drained, in seconds [default: 30, but 0 with --private]
    ///
    /// SIGTERM and SIGINT drain it, and so does `cellctl drain`: new Executions are refused, and what is being saved
    /// is finished. A second signal hurries. What still runs then goes on without it, for the next daemon; the exit
    /// code is 75. SIGHUP hands over at once, whatever runs.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) drain_seconds: Option<u32>,

    /// Be the daemon of one program: end, with all workers, when standard input ends
    ///
    /// Prints the line `ready SOCKET` when it listens.
    #[arg(long)]
    pub(crate) private: bool,

    /// Print the line `ready SOCKET` when listening, without --private too
    #[arg(long)]
    pub(crate) print_ready: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Where the anchor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AnchorFrom {
    /// Found, or else started.
    Start,
    /// Found.
    Find,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn range_of_workers_has_neither_system_users_nor_no_user_in_it() {
        for (uid, is_allowed) in [
            (0, false),
            (1000, false),
            (65535, false),
            (65536, true),
            (4_294_901_758, true),
            (4_294_901_759, false),
        ] {
            let parsed = Args::try_parse_from(["cellblockd", "--first-uid", &u32::to_string(&uid)]);
            assert_eq!(parsed.is_ok(), is_allowed, "{uid}");
            if let Err(error) = parsed {
                assert!(error.to_string().contains("65536..=4294901758"), "{error}");
            }
        }
    }
}
