//! Which build we are, to our shims. Tests have a daemon call itself another, to see an upgrade; release builds do
//! not even know the variables' names.

use cellblock_proto::{BUILD, link};

/// The build that shims are told.
pub(crate) fn build() -> String {
    #[cfg(debug_assertions)]
    if let Ok(build) = std::env::var("CELLBLOCK_TEST_BUILD") {
        return build;
    }
    BUILD.to_owned()
}

/// The version of the link that shims are told.
pub(crate) fn link() -> u32 {
    #[cfg(debug_assertions)]
    if let Some(link) = std::env::var("CELLBLOCK_TEST_LINK").ok().and_then(|link| link.parse().ok()) {
        return link;
    }
    link::LINK
}
