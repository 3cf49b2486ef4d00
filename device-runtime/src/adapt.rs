//! Serving the best accuracy that the limits allow, inference after inference.
//!
//! A prediction holds on an idle board. Other tasks, interrupts, a throttled clock or slower flash make every plan slower, so
//! each measured inference corrects the prediction and the next plan is chosen by the corrected one. All arithmetic is in
//! integers; a decision compares a few of them per plan.
//!
//! # The law
//!
//! *Ratio.* `ratio = observed / expected`, where `expected` is the predicted time times the plan's own penalty. Only the median
//! of the last three ratios counts, so a single outlier that did no harm changes nothing.
//!
//! *Slowdown: up at once, down after a hold.* One factor is common to all plans. It rises to the median at once, and to the ratio
//! itself if the deadline was missed. It falls to the largest median seen below 7/8 of it once `hold` inferences in a row were
//! there, and by less than an eighth only after 128 inferences.
//!
//! *Back-off.* `hold` starts at 4. If the slowdown rises by more than an eighth within `4 * hold` inferences after a fall, the
//! fall was premature and `hold` doubles, up to 128; a fall that lasts that long sets it back to 4.
//!
//! *Choice.* The most accurate plan in memory with `expected * slowdown <= deadline - margin`; if none, the fastest. It follows
//! from limits and slowdown alone, so another deadline or another arena takes effect at the next inference.
//!
//! *Refuge.* The inference after a miss runs the fastest plan in memory.
//!
//! *Penalty.* The first inference after a move to a slower plan compares two plans under nearly the same load. If the three
//! ratios before it lay within an eighth of each other, what it takes longer than expected becomes that plan's penalty (1 to 4)
//! and not a slowdown of all plans. Every 128 inferences penalties of plans not running lose half of their excess, so a plan
//! blamed wrongly is tried again.
//!
//! # What holds
//!
//! Let the plan predicted to be fastest in memory be the fastest. The tests of this module check on random ladders and load
//! traces:
//!
//! 1. Two misses in a row happen only if at the second inference no plan in memory met the deadline. No condition on the load.
//! 2. If the load steps up and stays, not on the first inference after a move up, predictions are in proportion and no plan
//!    carries a penalty, then from the third inference on every deadline is met that some plan meets with its margin.
//! 3. If the load falls and stays and no plan carries a penalty, then after at most 2 * 128 + 3 inferences (7 if the back-off is at rest) the plan is the one that
//!    [`select`](crate::select::select) would choose with the load known.
//! 4. Under a constant load with jitter below an eighth there are at most five moves up, plus two per 128 inferences and plan.
//! 5. Lone bursts of equal height cost at most one miss in 20 inferences, plus three.

mod controller;
#[cfg(test)]
mod simulation;
mod slowdown;
mod trace;

pub use controller::Controller;
pub use slowdown::Factor;
pub use trace::Record;
