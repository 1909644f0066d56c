//! How many clients there can be: many in all, fewer of one user, and always room for operators, so
//! that nobody who is merely allowed can keep an operator from ending what they do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clients at once. Each costs two buffers and a descriptor.
pub(crate) const MAX: u32 = 1024;

/// Of those, kept for operators.
const RESERVED: usize = 64;

/// Clients at once of one user who is no operator.
const MAX_PER_USER: usize = 128;

/// Whether a user may do all: root and our own.
pub(crate) fn is_operator(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// All places of this daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    operators: usize,
    others: HashMap<u32, usize>,
}

/// One place in use.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` for an operator's.
    user: Option<u32>,
    places: Places,
}

impl Places {
    /// A place for a client of that user.
    ///
    /// # Errors
    /// There is none; what to tell the client.
    pub(crate) fn take(&self, uid: u32) -> Result<Place, String> {
        self.take_as(Some(uid).filter(|uid| !is_operator(*uid)))
    }

    fn take_as(&self, user: Option<u32>) -> Result<Place, String> {
        let mut taken = self.lock();
        let others: usize = taken.others.values().sum();
        let limit = if user.is_some() { MAX as usize - RESERVED } else { MAX as usize };
        if others + taken.operators >= limit {
            return Err("too many connections: close some, or send requests over one".to_owned());
        }
        match user {
            None => taken.operators += 1,
            Some(uid) => {
                let own = taken.others.entry(uid).or_default();
                if *own >= MAX_PER_USER {
                    return Err(format!(
                        "user {uid} has {MAX_PER_USER} connections, which is the most that one user can \
                         have: close some, or send requests over one"
                    ));
                }
                *own += 1;
            }
        }
        Ok(Place { user, places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match self.user {
            None => taken.operators -= 1,
            Some(uid) => {
                if let Some(own) = taken.others.get_mut(&uid) {
                    *own -= 1;
                }
                // Users come and go; the list is of those who are there.
                taken.others.retain(|_, own| *own > 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_few_places_and_all_together_leave_room_for_operators() {
        let places = Places::default();
        let mut held = Vec::new();
        for user in 1..=7 {
            for _ in 0..MAX_PER_USER {
                held.push(places.take_as(Some(user)).unwrap());
            }
        }
        let refused = places.take_as(Some(1)).unwrap_err();
        assert!(refused.contains("user 1") && refused.contains("128"), "{refused}");
        for _ in 0..RESERVED {
            held.push(places.take_as(Some(8)).unwrap());
        }
        assert!(places.take_as(Some(8)).unwrap_err().contains("too many connections"));
        for _ in 0..RESERVED {
            held.push(places.take_as(None).unwrap());
        }
        assert!(places.take_as(None).is_err());
        drop(held);
        assert!(places.lock().others.is_empty());
        places.take_as(Some(1)).unwrap();
    }
}
