//! Names that cross the wire. Each is checked where it is read and carried as its type afterwards:
//! a [`NotebookId`] can be used in a path, because nothing else can be one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id in bytes.
pub const ID_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("bad {what} id {shown:?}: use 1 to {ID_BYTES} of the characters {allowed}")]
pub struct IdError {
    what: &'static str,
    shown: String,
    allowed: &'static str,
}

fn check(what: &'static str, text: &str, extra: &str, allowed: &'static str) -> Result<(), IdError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
    if (1..=ID_BYTES).contains(&text.len()) && text.chars().all(legal) {
        return Ok(());
    }
    // The text is hostile and may be megabytes long: show the beginning, escaped by {:?}.
    Err(IdError { what, shown: text.chars().take(40).collect(), allowed })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $extra:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                check($what, &text, $extra, $allowed)?;
                Ok($name(text))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $name::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The durable name of a notebook. It becomes a directory name, hence the narrow alphabet.
    NotebookId, "notebook", "_-", "A-Z a-z 0-9 _ -"
}

id! {
    /// Who owns notebooks: a user, or some. It becomes a directory name.
    TenantId, "tenant", "_-", "A-Z a-z 0-9 _ -"
}

impl TenantId {
    /// Who the daemon itself is: its own user, and root.
    pub fn operator() -> Self {
        TenantId("operator".to_owned())
    }

    /// A user who is a tenant of his own.
    pub fn of_user(uid: u32) -> Self {
        TenantId(format!("uid-{uid}"))
    }
}

id! {
    /// One run of code, named by the client so that sending it twice runs it once.
    ExecutionId, "execution", "_-.:", "A-Z a-z 0-9 _ - . :"
}

id! {
    /// One live worker; chosen by the supervisor, names its control socket.
    WorkerId, "worker", "_-", "A-Z a-z 0-9 _ -"
}
