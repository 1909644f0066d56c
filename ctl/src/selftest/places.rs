//! What attacks are told of and controls may touch: a folder of our own that anybody may enter, with
//! files anybody may read, and listeners on the host's loopback that take what comes and say nothing.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// What stands in the files; an attack that changes them is seen.
const CANARY: &str = "nobody but its owner changes this\n";

/// All of it; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Places {
    folder: TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    _abstract: UnixListener,
    _named: UnixListener,
    name: String,
}

impl Places {
    /// In `/var/tmp`, which, unlike `/tmp`, no sandbox covers with its own: what is not seen of it
    /// there is not seen because of the private root.
    pub(super) fn make() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cellblock-attacks-").tempdir_in("/var/tmp")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["canary", "secret"] {
            let path = folder.path().join(name);
            fs::write(&path, CANARY)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        fs::create_dir(folder.path().join("control"))?;
        let name = format!("cellblock-attacks-{}", folder.path().display());
        let address = SocketAddr::from_abstract_name(&name)?;
        Ok(Places {
            tcp: TcpListener::bind("127.0.0.1:0")?,
            udp: UdpSocket::bind("127.0.0.1:0")?,
            _abstract: UnixListener::bind_addr(&address)?,
            _named: UnixListener::bind(folder.path().join("named"))?,
            folder,
            name,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where controls run.
    pub(super) fn control(&self) -> PathBuf {
        self.folder().join("control")
    }

    pub(super) fn canary_is_untouched(&self) -> bool {
        fs::read_to_string(self.folder().join("canary")).is_ok_and(|text| text == CANARY)
    }

    pub(super) fn given(&self) -> Map<String, Value> {
        let port = |address: io::Result<std::net::SocketAddr>| address.map_or(0, |found| found.port());
        let given = json!({
            "folder": self.folder(),
            "canary": self.folder().join("canary"),
            "secret": self.folder().join("secret"),
            "abstract": self.name,
            "port": port(self.tcp.local_addr()),
            "udp_port": port(self.udp.local_addr()),
        });
        if let Value::Object(given) = given { given } else { Map::new() }
    }
}
