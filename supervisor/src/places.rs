//! How many clients there can be: many in all, fewer of one tenant, and always room for operators, so
//! that nobody who is merely allowed can keep an operator from ending what they do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cellblock_proto::id::TenantId;

use crate::tenants::{Tenant, Whose};

/// Clients at once, where nobody says otherwise. Each costs two buffers and a descriptor.
pub(crate) const MAX: u32 = 1024;

/// Of those, one in so many is kept for operators.
const RESERVED_SHARE: usize = 16;

/// Clients at once of a user who is not served: he is told so, over and over.
const MAX_PER_STRANGER: u32 = 8;

/// All places of this daemon.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    most: usize,
    operators: usize,
    others: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// One place in use.
#[derive(Debug)]
pub(crate) struct Place {
    tenant: TenantId,
    operator: bool,
    places: Places,
}

impl Places {
    /// So many.
    pub(crate) fn new(most: usize) -> Self {
        Places(Arc::new(Mutex::new(State { most, operators: 0, others: 0, by_tenant: HashMap::new() })))
    }

    /// A place for a client of that tenant; `None` is a user who is not served.
    ///
    /// # Errors
    /// There is none; what to tell the client.
    pub(crate) fn take(&self, uid: u32, tenant: Option<&Tenant>) -> Result<Place, String> {
        let operator = tenant.is_some_and(|tenant| tenant.operator);
        let id = tenant.map_or_else(|| TenantId::of_user(uid), |tenant| tenant.id.clone());
        let mut state = self.lock();
        let limit = if operator { state.most } else { state.most - state.most / RESERVED_SHARE };
        if state.operators + state.others >= limit {
            return Err("too many connections: close some, or send requests over one".to_owned());
        }
        let own = state.by_tenant.get(&id).copied().unwrap_or(0);
        let most = tenant.map_or(MAX_PER_STRANGER, |tenant| tenant.limits.connections);
        if most != 0 && own >= most as usize {
            let who =
                tenant.map_or_else(|| format!("user {uid} has"), |tenant| Whose(tenant, false).to_string());
            return Err(format!(
                "{who} {own} connections, the most that may be (max_connections): close some, or send requests \
                 over one"
            ));
        }
        *state.by_tenant.entry(id.clone()).or_default() += 1;
        *state.count(operator) += 1;
        Ok(Place { tenant: id, operator, places: self.clone() })
    }

    /// How many clients there are.
    #[cfg(test)]
    fn taken(&self) -> usize {
        let state = self.lock();
        state.operators + state.others
    }

    /// How many of a tenant's there are.
    pub(crate) fn taken_by(&self, tenant: &TenantId) -> usize {
        self.lock().by_tenant.get(tenant).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, operator: bool) -> &mut usize {
        if operator { &mut self.operators } else { &mut self.others }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        *state.count(self.operator) -= 1;
        if let Some(own) = state.by_tenant.get_mut(&self.tenant) {
            *own -= 1;
        }
        // Users come and go; the list is of those who are there.
        state.by_tenant.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::{Served, Tenants};

    #[test]
    fn one_tenant_has_few_places_and_all_together_leave_room_for_operators() {
        let tenants = Tenants::open(None, &Served { uids: Vec::new(), all: true }).unwrap();
        let places = Places::new(MAX as usize);
        let take = |uid: u32| places.take(uid, tenants.of(uid).as_deref());
        let most = tenants.of(1).unwrap().limits.connections;
        let mut held = Vec::new();
        for user in 1..=7 {
            for _ in 0..most {
                held.push(take(user).unwrap());
            }
        }
        let refused = take(1).unwrap_err();
        assert!(refused.contains("tenant \"uid-1\" has 128 connections"), "{refused}");
        assert_eq!((places.taken_by(&TenantId::of_user(1)), places.taken()), (128, 7 * 128));
        for _ in 0..64 {
            held.push(take(8).unwrap());
        }
        assert!(take(8).unwrap_err().contains("too many connections"));
        for _ in 0..64 {
            held.push(take(0).unwrap());
        }
        assert!(take(0).is_err());
        drop(held);
        assert!(places.lock().by_tenant.is_empty());
        let strangers: Vec<_> = (0..MAX_PER_STRANGER).map(|_| places.take(9, None).unwrap()).collect();
        assert!(places.take(9, None).unwrap_err().contains("user 9 has 8 connections"));
        drop(strangers);
        assert_eq!(places.taken(), 0);
    }
}
