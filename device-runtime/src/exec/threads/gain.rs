//! Which steps gain from more than one thread.
//!
//! Handing a part to a thread that is awake and waiting for it takes about a microsecond, waking the threads at the start of an
//! inference about thirty (`stitchkit-device threads` measures what comes of it, `--share-from` with other bounds).

use crate::bundle::Op;
use crate::kernels::Isa;

/// Multiply-accumulates of a matrix product that take about a microsecond on a fast processor with these kernels, several on a
/// slow one: the least that a part of a step is worth a thread for.
pub const fn least_work(isa: Isa) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Vnni => 1 << 18,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => 1 << 15,
        #[cfg(neon)]
        Isa::NeonDot | Isa::NeonI8mm => 1 << 16,
        _ => 1 << 14,
    }
}

/// As many parts of the least size must the steps of a plan have together to be worth waking threads for.
const LEAST_PARTS: u64 = 128;

/// Threads, at most `threads`, that a step is worth if each is to do `least_work`; 0 cuts every step that can be.
pub fn parts(op: &Op, least_work: u64, threads: usize) -> usize {
    let parts = match work(op) {
        0 => 1,
        work => work.checked_div(least_work).unwrap_or(u64::MAX),
    };
    usize::try_from(parts).unwrap_or(usize::MAX).clamp(1, threads)
}

/// Whether a plan of these steps is worth waking threads for.
pub fn is_shared(steps: impl Iterator<Item = Op>, least_work: u64, threads: usize) -> bool {
    let cut = steps.filter(|op| parts(op, least_work, threads) > 1);
    threads > 1 && cut.map(|op| work(&op)).fold(0, u64::saturating_add) >= least_work.saturating_mul(LEAST_PARTS)
}

/// What a step takes, in multiply-accumulates of a matrix product; rather too little for what kernels differ in.
fn work(op: &Op) -> u64 {
    let outputs = op.output().elements();
    match op {
        Op::Conv2d { .. } => op.macs(),
        Op::Depthwise { .. } | Op::Attention(_) => op.macs().saturating_mul(8),
        Op::MaxPool(pool) | Op::AvgPool { geometry: pool, .. } => {
            let [rows, columns] = pool.window.kernel.map(u64::from);
            outputs.saturating_mul(8 * rows * columns)
        }
        Op::Add { .. } | Op::AddConstant { .. } | Op::Lut { .. } => outputs.saturating_mul(16),
        Op::Softmax { .. } | Op::LayerNorm { .. } => outputs.saturating_mul(64),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Shape;

    fn lut(elements: u16) -> Op {
        Op::Lut { shape: Shape::new(1, 1, elements), table: 0 }
    }

    #[test]
    fn a_step_gets_as_many_threads_as_it_has_parts_of_the_least_size() {
        let found = [1000, 1999, 2000, 3000, 60_000].map(|elements| parts(&lut(elements), 16_000, 3));
        assert_eq!(found, [1, 1, 2, 3, 3]);
        assert_eq!((parts(&lut(1), 0, 3), parts(&lut(60_000), 1, 1)), (3, 1));
        assert_eq!(parts(&Op::default(), 0, 3), 1, "a transpose is not cut");
    }

    #[test]
    fn a_plan_of_small_steps_wakes_no_threads() {
        let is_shared = |steps: usize, threads| is_shared((0..steps).map(|_| lut(2000)), 16_000, threads);
        assert!(is_shared(64, 2) && !is_shared(63, 2) && !is_shared(64, 1));
        assert!(!super::is_shared((0..1000).map(|_| lut(1999)), 16_000, 2));
    }
}
