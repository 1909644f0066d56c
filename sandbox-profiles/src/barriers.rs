//! Barriers by the names that profiles use, and which of them a profile may weaken.

use crate::step::Barrier;

impl Barrier {
    /// All of them, in the order of reports.
    pub const ALL: [Barrier; 21] = [
        Barrier::Namespaces,
        Barrier::UserIds,
        Barrier::Network,
        Barrier::PrivateRoot,
        Barrier::ReadOnlySystem,
        Barrier::Devices,
        Barrier::Proc,
        Barrier::Workspace,
        Barrier::NamespaceQuota,
        Barrier::NestedUserNamespace,
        Barrier::ResourceLimits,
        Barrier::NoNewPrivileges,
        Barrier::Capabilities,
        Barrier::FileDescriptors,
        Barrier::Memory,
        Barrier::Keyring,
        Barrier::Landlock,
        Barrier::Cgroup,
        Barrier::Overlay,
        Barrier::WorkspaceQuota,
        Barrier::Processor,
    ];

    /// Its key in a profile's `[barriers]`, which is also its name on the wire.
    pub fn key(self) -> &'static str {
        match self {
            Barrier::Namespaces => "namespaces",
            Barrier::UserIds => "user_ids",
            Barrier::Network => "network",
            Barrier::PrivateRoot => "private_root",
            Barrier::ReadOnlySystem => "read_only_system",
            Barrier::Devices => "devices",
            Barrier::Proc => "proc",
            Barrier::Workspace => "workspace",
            Barrier::NamespaceQuota => "namespace_quota",
            Barrier::NestedUserNamespace => "nested_user_namespace",
            Barrier::ResourceLimits => "resource_limits",
            Barrier::NoNewPrivileges => "no_new_privileges",
            Barrier::Capabilities => "capabilities",
            Barrier::FileDescriptors => "file_descriptors",
            Barrier::Memory => "memory",
            Barrier::Keyring => "keyring",
            Barrier::Landlock => "landlock",
            Barrier::Cgroup => "cgroup",
            Barrier::Overlay => "overlay",
            Barrier::WorkspaceQuota => "workspace_quota",
            Barrier::Processor => "processor",
        }
    }

    /// The barrier of that key.
    pub fn from_key(key: &str) -> Option<Self> {
        Barrier::ALL.into_iter().find(|barrier| barrier.key() == key)
    }

    /// Whether the others stand on it: what is left without it is no sandbox, so that no profile can
    /// make it best effort. The rest bound what a cell may use, or hold a second time what holds
    /// already, and a host may lack them.
    pub fn is_load_bearing(self) -> bool {
        match self {
            Barrier::Namespaces
            | Barrier::UserIds
            | Barrier::Network
            | Barrier::PrivateRoot
            | Barrier::ReadOnlySystem
            | Barrier::Devices
            | Barrier::Proc
            | Barrier::Workspace
            | Barrier::NestedUserNamespace
            | Barrier::NoNewPrivileges
            | Barrier::Capabilities
            | Barrier::FileDescriptors => true,
            Barrier::NamespaceQuota
            | Barrier::ResourceLimits
            | Barrier::Memory
            | Barrier::Keyring
            | Barrier::Landlock
            | Barrier::Cgroup
            | Barrier::Overlay
            | Barrier::WorkspaceQuota
            | Barrier::Processor => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn on_the_wire(name: &str) -> Result<Barrier, Error> {
        Barrier::deserialize(StrDeserializer::new(name))
    }

    #[test]
    fn keys_are_the_names_on_the_wire_and_none_is_forgotten() {
        for barrier in Barrier::ALL {
            assert_eq!(on_the_wire(barrier.key()).unwrap(), barrier);
            assert_eq!(Barrier::from_key(barrier.key()), Some(barrier));
        }
        // serde names every variant when it is given none of them.
        let known = on_the_wire("?").unwrap_err().to_string();
        assert_eq!(known.split_once("expected").unwrap().1.matches('`').count(), 2 * Barrier::ALL.len());
    }
}
