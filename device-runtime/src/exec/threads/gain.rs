//! Which steps gain from more than one thread.
//!
//! Handing a part to a thread that is awake and waiting for it takes about a microsecond, waking the threads at the start of an
//! inference about thirty (`stitchkit-device threads` measures what comes of it, `--share-from` with other bounds).

use crate::bundle::Op;
use crate::kernels::Isa;

/// Multiply-accumulates of a convolution that take about a microsecond on a fast processor with these kernels and packed weights,
/// several on a slow one: the least that a part is worth a thread for.
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

/// What takes about as long as that in other operators, which are of much the same speed with all kernels; see [`Work`].
const LEAST_OTHER_WORK: u64 = 1 << 15;

/// As many parts of the least size must the steps of a plan have together to be worth waking threads for.
const LEAST_PARTS: u64 = 128;

/// Threads, at most `threads`, that a step is worth if a convolution's is to do `least_work`; 0 cuts every step that can be.
pub fn parts(op: &Op, least_work: u64, threads: usize) -> usize {
    usize::try_from(least_parts(op, least_work)).unwrap_or(usize::MAX).clamp(1, threads)
}

/// Whether a plan of these steps is worth waking threads for.
pub fn is_shared(steps: impl Iterator<Item = Op>, least_work: u64, threads: usize) -> bool {
    let cut = steps.map(|op| least_parts(&op, least_work)).filter(|&parts| parts > 1);
    threads > 1 && cut.fold(0, u64::saturating_add) >= LEAST_PARTS
}

/// Parts of the least size that a step has; 0 if it cannot be cut.
fn least_parts(op: &Op, least_work: u64) -> u64 {
    match work(op) {
        Work::None => 0,
        _ if least_work == 0 => u64::MAX,
        Work::Convolution(macs) => macs / least_work,
        Work::Other(work) => work / LEAST_OTHER_WORK,
    }
}

/// What a step does.
enum Work {
    /// Copies, which are never cut.
    None,
    /// Multiply-accumulates of a dense convolution.
    Convolution(u64),
    /// Table lookups, times 16, or what takes as long.
    Other(u64),
}

fn work(op: &Op) -> Work {
    let outputs = op.output().elements();
    match op {
        Op::Conv2d { .. } => Work::Convolution(op.macs()),
        Op::Depthwise { .. } => Work::Convolution(op.macs().saturating_mul(8)),
        Op::Attention(_) => Work::Other(op.macs().saturating_mul(8)),
        Op::MaxPool(pool) | Op::AvgPool { geometry: pool, .. } => {
            let [rows, columns] = pool.window.kernel.map(u64::from);
            Work::Other(outputs.saturating_mul(8 * rows * columns))
        }
        Op::Add { .. } | Op::AddConstant { .. } | Op::Lut { .. } => Work::Other(outputs.saturating_mul(16)),
        Op::Softmax { .. } | Op::LayerNorm { .. } => Work::Other(outputs.saturating_mul(64)),
        _ => Work::None,
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
        let found = [2048, 4095, 4096, 6144, 60_000].map(|elements| parts(&lut(elements), 16_000, 3));
        assert_eq!(found, [1, 1, 2, 3, 3]);
        assert_eq!((parts(&lut(1), 0, 3), parts(&lut(60_000), 1, 1)), (3, 1));
        assert_eq!(parts(&Op::default(), 0, 3), 1, "a transpose is not cut");
    }

    #[test]
    fn a_plan_of_small_steps_wakes_no_threads() {
        let is_shared = |steps: usize, threads| is_shared((0..steps).map(|_| lut(4096)), 16_000, threads);
        assert!(is_shared(64, 2) && !is_shared(63, 2) && !is_shared(64, 1));
        assert!(!super::is_shared((0..1000).map(|_| lut(4095)), 16_000, 2));
    }
}
