//! A supervisor that comes back: of our build, of another that we understand, or of one that we do not.

use std::os::fd::AsFd;

use cellblock_proto::codec::Codec;
use cellblock_proto::frame::Kind;
use cellblock_proto::link;
use cellblock_proto::shim::{Event, EventBody};
use rustix::net::SendFlags;

use super::Shim;

impl Shim {
    /// Begins anew for the connection that asked, in a language that both of us speak.
    pub(super) fn resume(&mut self, request: u32, build: &str, their_link: u32, taken: u64) {
        let is_another = build != self.spec.build;
        if is_another && !link::is_understood(their_link) {
            let own = &self.spec.build;
            let reason = format!(
                "the supervisor is of build {build} and speaks link {their_link}; this shim is of {own} and \
                 understands {} to {}",
                link::LINK_MIN,
                link::LINK_MAX
            );
            return self.refuse_in_json(request, reason);
        }
        self.outbox.rewind(taken, is_another);
        if let Some(control) = &mut self.control {
            control.resumed = true;
        }
        let state = self.state();
        self.outbox.push_loose(request, EventBody::State(state), Vec::new());
    }

    /// At once, and nothing of what is kept: whoever it is cannot read that.
    fn refuse_in_json(&self, request: u32, reason: String) {
        let event = Event { seq: 0, body: EventBody::Refused { reason } };
        let (Some(control), Ok(frame)) = (&self.control, Codec::Json.frame(Kind::Event, request, &event))
        else {
            return;
        };
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        // There is room for it: it is the first on this connection.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(control.socket.as_fd(), &bytes, flags);
    }
}
