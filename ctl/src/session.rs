//! Which cellblockd a verb talks to: the one named, the one found, or a private one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cellblock_proto::id::TenantId;
use clap::Args;

use crate::client::{ClientError, Connection};
use crate::daemon::{PrivateDaemon, PrivateOptions, StartError};
use crate::fault::Fault;
use crate::signals::Signals;

/// For verbs that need a daemon which is there already.
#[derive(Args, Clone, Debug)]
pub(crate) struct SocketArgs {
    /// Socket of the cellblockd to talk to
    ///
    /// Default: /run/cellblock/cellblockd.sock, then $XDG_RUNTIME_DIR/cellblock/cellblockd.sock,
    /// then /tmp/cellblock-UID/cellblockd.sock.
    #[arg(long, value_name = "PATH", env = "CELLBLOCK_SOCKET", hide_env_values = true)]
    pub(crate) socket: Option<PathBuf>,

    /// See and change this tenant's notebooks, as an operator
    ///
    /// Everybody else is the tenant that he is. `cellctl tenants` lists them.
    #[arg(long, value_name = "NAME", env = "CELLBLOCK_TENANT", hide_env_values = true)]
    pub(crate) tenant: Option<TenantId>,
}

/// For verbs that start a private daemon when they find none.
#[derive(Args, Clone, Debug)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,

    /// Start a cellblockd for this command alone, even when one is running
    ///
    /// It ends with the command, and its notebooks with it. Without a running cellblockd, and with
    /// --python or --profiles, this is what happens anyway.
    #[arg(long)]
    pub(crate) private: bool,

    /// Run the code with this Python, e.g. an environment's bin/python; implies --private
    ///
    /// It needs IPython.
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,

    /// Take profiles from this directory, one NAME.toml each; implies --private
    #[arg(long, value_name = "DIR")]
    pub(crate) profiles: Option<PathBuf>,
}

/// A connection, and the daemon behind it when it is ours.
#[derive(Debug)]
pub(crate) struct Session {
    // Before `private`: the connection closes before the daemon is waited for.
    pub(crate) connection: Connection,
    pub(crate) socket: PathBuf,
    /// As whom, where that is not ourselves.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) private: Option<PrivateDaemon>,
}

impl Session {
    /// Connects to a daemon that is there already.
    pub(crate) fn find(args: &SocketArgs) -> Result<Self, Fault> {
        let candidates = match &args.socket {
            Some(socket) => vec![socket.clone()],
            None => default_sockets(),
        };
        let mut forbidden = None;
        for socket in &candidates {
            match Connection::connect_as(socket, args.tenant.as_ref()) {
                Ok(connection) => {
                    let (socket, tenant) = (socket.clone(), args.tenant.clone());
                    return Ok(Session { connection, socket, tenant, private: None });
                }
                Err(error @ ClientError::Connect { .. }) => {
                    if error.is_forbidden() {
                        forbidden = Some(error);
                    }
                }
                // Somebody answered: what he says matters more than who else may be there.
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(error) = forbidden {
            return Err(error.into());
        }
        let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        Err(Fault::NoSupervisor { tried: tried.join("`, `") })
    }

    /// Connects to a daemon, starting a private one when asked for or when there is none.
    pub(crate) fn find_or_start(args: &DaemonArgs, signals: &Signals) -> Result<Self, Fault> {
        if !args.private && args.python.is_none() && args.profiles.is_none() {
            match Session::find(&args.socket) {
                // Whoever names a socket means that one.
                Err(Fault::NoSupervisor { .. } | Fault::Client(ClientError::Connect { .. }))
                    if args.socket.socket.is_none() => {}
                found => return found,
            }
        }
        let python = args.python.as_deref().map(absolute).transpose()?;
        let profiles = args.profiles.as_deref().map(absolute).transpose()?;
        let daemon = start_private(python, profiles, signals)?;
        let (socket, tenant) = (daemon.socket().to_owned(), args.socket.tenant.clone());
        let connection = Connection::connect_as(&socket, tenant.as_ref())?;
        Ok(Session { connection, socket, tenant, private: Some(daemon) })
    }
}

/// A cellblockd for this command alone.
pub(crate) fn start_private(
    python: Option<PathBuf>,
    profiles: Option<PathBuf>,
    signals: &Signals,
) -> Result<PrivateDaemon, Fault> {
    PrivateDaemon::start(&PrivateOptions { python, profiles }, &|| signals.stopping()).map_err(|error| {
        match error {
            StartError::Unwanted => Fault::Interrupted,
            other => other.into(),
        }
    })
}

/// Absolute, and there; but a link stays a link: an environment's `bin/python` is known by its
/// place, not by what it points at.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    let absolute = std::path::absolute(path).map_err(Fault::file("find", path))?;
    std::fs::metadata(&absolute).map_err(Fault::file("find", path))?;
    Ok(absolute)
}

fn default_sockets() -> Vec<PathBuf> {
    let mut sockets = vec![PathBuf::from("/run/cellblock/cellblockd.sock")];
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        sockets.push(Path::new(&runtime).join("cellblock/cellblockd.sock"));
    }
    // /tmp is everybody's: only a directory that is ours there is believed.
    let uid = rustix::process::getuid();
    let shared = PathBuf::from(format!("/tmp/cellblock-{}", uid.as_raw()));
    if std::fs::symlink_metadata(&shared).is_ok_and(|found| found.is_dir() && found.uid() == uid.as_raw()) {
        sockets.push(shared.join("cellblockd.sock"));
    }
    sockets
}
