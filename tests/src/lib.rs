//! The harness of the end-to-end tests: a daemon of the test's own, a client that can also say what
//! no proper client would, and the check that nothing is left behind.
//!
//! Every wait is for a state and bounded ([`wait`]); nothing sleeps. What a test needs from its
//! surroundings comes in environment variables that `cargo xtask test` sets ([`setup`]).

pub mod binaries;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod files;
pub mod leftovers;
pub mod notebook;
pub mod ran;
pub mod setup;
pub mod terminal;
pub mod wait;

/// Makes a `#[test]` per [`setup::Mode`] out of each function that takes a [`setup::Setup`].
#[macro_export]
macro_rules! in_every_mode {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn root_pyenv() {
                $crate::setup::Mode::RootPyenv.with(super::$name);
            }

            #[test]
            fn root_debian() {
                $crate::setup::Mode::RootDebian.with(super::$name);
            }

            #[test]
            fn user_debian() {
                $crate::setup::Mode::UserDebian.with(super::$name);
            }
        })+
    };
}

/// As [`in_every_mode`], for what does not depend on the interpreter: one run as root, one not.
#[macro_export]
macro_rules! as_root_and_user {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn root() {
                $crate::setup::Mode::RootPyenv.with(super::$name);
            }

            #[test]
            fn user() {
                $crate::setup::Mode::UserDebian.with(super::$name);
            }
        })+
    };
}

/// As [`in_every_mode`], for what depends on neither: one run, as whoever runs the tests.
#[macro_export]
macro_rules! in_one_mode {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn here() {
                $crate::setup::Mode::here().with(super::$name);
            }
        })+
    };
}
