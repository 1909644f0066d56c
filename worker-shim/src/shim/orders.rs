//! What a shim is started with: descriptors, and the first command.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use cellblock_proto::frame::FrameReader;
use cellblock_proto::shim::{Command, StartSpec, ZygoteSpec};

use super::PROGRAM_FD;
use crate::cgroup::Folder;
use crate::sys;

/// The descriptors behind our program's, by what they are for.
pub fn cgroups(kinds: &[OsString]) -> anyhow::Result<Vec<Folder>> {
    let mut groups = Vec::new();
    for (number, kind) in (PROGRAM_FD + 1..).zip(kinds) {
        let descriptor =
            sys::inherited(number).with_context(|| format!("descriptor {number} must be a cgroup"))?;
        let folder = kind.to_str().and_then(|kind| Folder::parse(kind, descriptor));
        groups.push(folder.context("an unknown kind of cgroup")?);
    }
    Ok(groups)
}

/// What a shim can be told to be.
pub enum First {
    Worker(Box<StartSpec>),
    Zygote(Box<ZygoteSpec>),
}

/// The first command on the socket.
pub fn first_command(socket: &UnixStream, reader: &mut FrameReader) -> anyhow::Result<First> {
    let frame = loop {
        if let Some(frame) = reader.next_frame()? {
            break frame;
        }
        let mut bytes = [0; 16 << 10];
        match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut bytes))? {
            0 => bail!("the supervisor went away before it said what to start"),
            count => reader.feed(&bytes[..count]),
        }
    };
    let (build, first) = match frame.message()? {
        Command::Start(spec) => (spec.build.clone(), First::Worker(spec)),
        Command::Zygote(spec) => (spec.start.build.clone(), First::Zygote(spec)),
        _ => bail!("the first command must be Start or Zygote"),
    };
    // Tests have supervisors that call themselves another; what they start is of that build too.
    if build != cellblock_proto::BUILD && !cfg!(debug_assertions) {
        bail!("the supervisor is of build {build}, this shim of {}", cellblock_proto::BUILD);
    }
    Ok(first)
}
