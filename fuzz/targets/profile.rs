//! A profile's text is a profile or an error that can be shown; what is accepted has been checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_profiles::Profile;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Profile::parse("fuzzed", text) {
        Ok(profile) => {
            // Below these a worker does not start; `Limits::check` refuses them.
            assert!(profile.limits.memory_bytes >= 64 << 20, "{profile:?}");
            assert!(profile.limits.processes >= 8, "{profile:?}");
            assert_eq!(Profile::parse("fuzzed", text).ok(), Some(profile), "read twice, two profiles");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
