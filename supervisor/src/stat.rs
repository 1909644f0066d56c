//! `/proc/PID/stat`: what the kernel says of a process in one line, see proc_pid_stat(5).

use std::fs;

/// Fields, counted from the one behind the name, which may have blanks and brackets in it.
pub(crate) const STATE: usize = 0;
pub(crate) const PARENT: usize = 1;
pub(crate) const USER_TICKS: usize = 11;
pub(crate) const SYSTEM_TICKS: usize = 12;
/// Of children that were waited for.
pub(crate) const CHILDREN_USER_TICKS: usize = 13;
pub(crate) const CHILDREN_SYSTEM_TICKS: usize = 14;
pub(crate) const THREADS: usize = 17;
pub(crate) const START_TICKS: usize = 19;
pub(crate) const VIRTUAL_BYTES: usize = 20;
pub(crate) const RESIDENT_PAGES: usize = 21;

/// The line of one process, at one moment.
#[derive(Debug)]
pub(crate) struct Stat(String);

impl Stat {
    /// Of `self`, or a process by its id; `None` when it has gone.
    pub(crate) fn read(process: &str) -> Option<Self> {
        fs::read_to_string(format!("/proc/{process}/stat")).ok().map(Stat)
    }

    /// One of its fields.
    pub(crate) fn text(&self, field: usize) -> Option<&str> {
        self.0.rsplit_once(')')?.1.split_ascii_whitespace().nth(field)
    }

    /// One of them that is a number.
    pub(crate) fn number(&self, field: usize) -> Option<u64> {
        self.text(field)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = Stat("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 999 4096 5\n".to_owned());
        assert_eq!((stat.text(STATE), stat.number(PARENT), stat.number(STATE)), (Some("S"), Some(1), None));
        let numbers = [USER_TICKS, SYSTEM_TICKS, CHILDREN_SYSTEM_TICKS, THREADS, START_TICKS, VIRTUAL_BYTES];
        let numbers = numbers.map(|field| stat.number(field).unwrap());
        assert_eq!(numbers, [111, 222, 14, 17, 999, 4096]);
        assert_eq!((stat.number(RESIDENT_PAGES), stat.number(RESIDENT_PAGES + 1)), (Some(5), None));
        let own = Stat::read("self").unwrap();
        assert!(own.number(RESIDENT_PAGES).unwrap() > 0 && own.number(PARENT).is_some());
        assert!(Stat::read("4294967295").is_none());
    }
}
