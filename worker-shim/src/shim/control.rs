//! The connection to the supervisor.

use std::os::unix::net::UnixStream;

use cellblock_proto::frame::{Frame, FrameReader, Kind};
use rustix::io::Errno;

/// What one read takes at most, in bytes.
const READ_BYTES: usize = 64 << 10;

/// See the module.
pub struct Control {
    pub socket: UnixStream,
    pub reader: FrameReader,
    /// It has said where it wants to go on; nothing is written before, or the first frame would be
    /// cut off by the second beginning.
    pub resumed: bool,
}

impl Control {
    /// The commands that are there; `woken` says that there is something to read. False at the connection's
    /// end.
    pub fn take(&mut self, woken: bool) -> (Vec<Frame>, bool) {
        let goes_on = !woken || self.read();
        let mut frames = Vec::new();
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) if frame.kind == Kind::Command => frames.push(frame),
                Ok(None) => return (frames, goes_on),
                // Not our supervisor; whoever it is goes, and the worker stays.
                Ok(Some(_)) | Err(_) => return (frames, false),
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; READ_BYTES];
        loop {
            match rustix::io::read(&self.socket, &mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.reader.feed(&bytes[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}
