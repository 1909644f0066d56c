//! The wire of cellblock: frames, codecs, messages and versions. No logic and no I/O lives here.
//!
//! There are three hops, and each speaks in [`frame::Frame`]s:
//!
//! ```text
//! client  ── Request ──▶ cellblockd ── Command ──▶ shim ── WorkerCommand ──▶ worker
//! client  ◀── Reply ──── cellblockd ◀── Event ──── shim ◀── WorkerEvent ──── worker
//! ```
//!
//! `README.md` beside this crate is the protocol on one page, written for somebody who wants to
//! write a client in another language; `vectors/` holds the golden frames that define it.
//!
//! Invariant: the types here derive serde and nothing else gives them a wire form, so that both
//! codecs carry the same thing. No `flatten`, no untagged or internally tagged enums, no
//! `serde_json::Value`: bincode cannot carry them. Free JSON travels as payload bytes.

pub mod anchor;
pub mod checkpoint;
pub mod client;
pub mod codec;
pub mod execution;
pub mod frame;
pub mod id;
pub mod info;
pub mod link;
pub mod names;
pub mod notebook;
pub mod operations;
pub mod options;
pub mod path;
pub mod query;
pub mod request;
pub mod shim;
pub mod store;
pub mod worker;

/// The lowest protocol version this build can speak.
pub const PROTOCOL_MIN: u16 = 1;
/// The highest protocol version this build can speak; both sides use the highest that both know.
pub const PROTOCOL_MAX: u16 = 1;

/// Identifies the hops between our own programs: the release, and a number raised whenever one of
/// those hops changes. A supervisor drains a shim of another build instead of guessing at it; the
/// client hop is the stable one.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+10");
