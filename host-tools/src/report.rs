//! What people read: tables, the page with plots, and figures derived from bundles.
//!
//! | module | purpose |
//! |---|---|
//! | [`data`] | everything a report shows, as data |
//! | [`bundle_data`] | the same from a bundle alone |
//! | [`work`] | the work of a whole plan, from which boards' latencies are predicted |
//! | [`trace`] | adaptation traces |
//! | [`training`] | the run that trained a family |
//! | [`page`] | the HTML page |
//! | [`results`] | accuracy and cost of every plan, for machines to read |
//! | [`scatter`] | a plot for the terminal |
//! | [`sizes`] | where a bundle's bytes go |
//! | [`table`] | plain text tables |

pub mod bundle_data;
pub mod data;
pub mod page;
pub mod results;
pub mod scatter;
pub mod sizes;
pub mod table;
pub mod trace;
pub mod training;
pub mod work;
