//! The store as a whole, in folders of their own.

mod archives;
mod corruption;
mod crashes;
mod histories;
mod offers;
mod saving;
mod support;
