//! End-to-end tests: the real programs, real Python. One binary, a module per theme.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod admission;
mod attacks;
mod bad_input;
mod barriers;
mod bench;
mod browser;
mod checkpoints;
mod cli;
mod concurrency;
mod drain;
mod endings;
mod eviction;
mod files;
mod files_hostile;
mod full_disk;
mod hostile;
mod hostile_frames;
mod isolation;
mod kept;
mod leaks;
mod limits;
mod observe;
mod order;
mod outputs;
mod profiles;
mod quota;
mod reconcile;
mod requests;
mod slow_reader;
mod survival;
mod systemd;
mod tenant_profiles;
mod tenants;
mod terminal;
mod tiers;
mod time_travel;
mod upgrade;
mod warm;
