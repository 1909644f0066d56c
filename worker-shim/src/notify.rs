//! What systemd is told by an anchor that is a unit of its own (`Type=notify`): one datagram.

use std::io;
use std::os::unix::net::UnixDatagram;

/// Says that the anchor listens, and what it has of cgroups. Nothing is said where nobody wants to know.
///
/// # Errors
/// The socket that was named cannot be written to.
pub fn ready(groups: &str) -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text = format!("READY=1\nSTATUS=cgroups: {groups}\n");
    UnixDatagram::unbound()?.send_to(text.as_bytes(), socket).map(drop)
}
