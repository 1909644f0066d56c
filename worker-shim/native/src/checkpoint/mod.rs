//! The worker's part of checkpoints: what a snapshot child saves, and how a restored worker gets it back.
//!
//! Saving: the pickle stream is brought into a form in which a change stays where it was made (`normalise`),
//! cut where its content says so (`chunks`), and offered together with the buffers (`offering`): hashed in
//! place, and only what the store does not have is copied. Restoring: the stream is turned back
//! (`denormalise`), and the buffers are mapped from the packs they lie in (`extents`).
//!
//! Deliberately absent: any lock, thread or call into Python (all of it runs in a forked child, or without the
//! interpreter's lock), and any file name (the worker sees the store only through descriptors).

mod chunks;
mod denormalise;
mod exports;
mod extents;
mod normalise;
mod offering;
mod opcodes;
mod pages;

#[cfg(test)]
mod stream_tests;
