//! Training of stitched families on the host.
//!
//! | module | purpose |
//! |---|---|
//! | [`engine`] | reverse mode over the float graph: compiled programs, parameters, gradients |

pub mod engine;
