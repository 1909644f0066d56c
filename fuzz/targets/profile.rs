//! A profile's text is a profile or an error that can be shown and points into the text; what is
//! accepted has been checked. The text may stand on itself by any name, and on what is built in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_profiles::{LIMITS, Need, Profile, builtin_text};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Under the names of what is built in there is nothing else; all other names are the text's own,
    // so that chains that lead back are met too.
    let bases = |name: &str| Ok(builtin_text(name).is_none().then(|| text.to_owned()));
    match Profile::parse("fuzzed", text, &bases) {
        Ok(profile) => {
            for limit in &LIMITS {
                let value = limit.get(&profile.limits);
                assert!((limit.least..=limit.most).contains(&value), "{}: {profile:?}", limit.key);
            }
            for mount in &profile.mounts {
                assert!(mount.source.is_absolute() && mount.target().is_absolute(), "{profile:?}");
                assert!(
                    !["/proc", "/dev", "/workspace", "/tmp", "/cellblock"]
                        .iter()
                        .any(|own| mount.target().starts_with(own))
                );
            }
            let weakened = profile.barriers.iter().filter(|(_, need)| **need == Need::BestEffort);
            assert!(weakened.clone().all(|(barrier, _)| !barrier.is_load_bearing()), "{profile:?}");
            assert_eq!(
                Profile::parse("fuzzed", text, &bases).ok(),
                Some(profile),
                "read twice, two profiles"
            );
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.faults.is_empty());
            for fault in &error.faults {
                assert!(fault.line <= text.matches('\n').count() + 1 && fault.width > 0, "{error}");
            }
        }
    }
});
