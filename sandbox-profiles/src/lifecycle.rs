//! When a worker that has nothing to do is saved and ended, to make room: the table `[lifecycle]`.

/// What a profile says of its workers' lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// How long one may have nothing to do, in seconds; 0 for ever.
    pub idle_seconds: u64,
    /// Which may be evicted: for want of room too, whatever `idle_seconds` says.
    pub evict: Evictable,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle { idle_seconds: 3600, evict: Evictable::Whole }
    }
}

/// Which workers may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evictable {
    /// None.
    Never,
    /// Those all of whose variables can be saved.
    Whole,
    /// Also those that lose variables by it, which are told to the next Execution; after the others.
    Any,
}

/// What one file says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LifecycleLayer {
    pub(crate) idle_seconds: Option<u64>,
    pub(crate) evict: Option<Evictable>,
}

/// The keys of `[lifecycle]`.
pub(crate) const LIFECYCLE_KEYS: [&str; 2] = ["idle_seconds", "evict"];

impl Lifecycle {
    pub(crate) fn apply(&mut self, layer: LifecycleLayer) {
        self.idle_seconds = layer.idle_seconds.unwrap_or(self.idle_seconds);
        self.evict = layer.evict.unwrap_or(self.evict);
    }
}
