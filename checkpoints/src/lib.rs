//! A notebook's checkpoints: the store on disk, and how a snapshot is offered to it.
//!
//! [`offer`] is the protocol between a snapshot child and the store process; it and [`hash`] are all that is left
//! without the feature `store`. A [`Reader`] reads the folder `checkpoints/` of a notebook, a [`Store`] is its one
//! writer. `docs/checkpoint-format.md` describes the files, for other programs.
//!
//! What comes from a worker, from an exported file or from the disk is checked before it is used. Nothing here
//! unpickles: the stream is bytes.

pub mod hash;
pub mod offer;
#[cfg(feature = "store")]
mod store;

#[cfg(feature = "store")]
pub use store::*;
