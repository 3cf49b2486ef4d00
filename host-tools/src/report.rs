//! What people read: tables, and figures derived from bundles.

pub mod sizes;
pub mod table;
