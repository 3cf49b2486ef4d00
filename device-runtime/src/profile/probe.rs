//! Finding out on the board itself how long each class of step takes: a few small steps of every class, timed on the
//! board's clock, draw the coefficients away from a prior.

use core::fmt;

use crate::board::{Clock, ClockError, check_clock};
use crate::bundle::{ChannelTables, Op};
use crate::kernels::{
    Add, Attention, Conv2d, Isa, Landing, LayerNorm, Pool2d, Requant, Shape, ShapeError, Window, add_in_place_s8,
    attention_s8, avg_pool_s8, conv2d_s8, depthwise_s8, layer_norm_s8, lut_in_place_s8, max_pool_s8, softmax_s8,
    transpose_s8,
};

use super::fit::{FitOptions, Sample};
use super::model::LatencyModel;
use super::trace::reading_ticks;
use super::work::{OpClass, Work};

/// Bytes of memory that [`probe_classes`] works in.
pub const PROBE_BYTES: usize = INPUT + OUTPUT + SCRATCH;
/// Weights that [`probe_classes`] reads, from the memory that holds a bundle's.
pub const PROBE_WEIGHTS: usize = 4608;

const INPUT: usize = 1024;
const OUTPUT: usize = 1024;
const SCRATCH: usize = largest_scratch_bytes().next_multiple_of(4);

const fn largest_scratch_bytes() -> usize {
    let (mut most, mut index) = (0, 0);
    while index < STEPS.len() {
        let bytes = STEPS[index].scratch_bytes();
        if bytes > most {
            most = bytes;
        }
        index += 1;
    }
    most
}

/// Channels of the requantization tables.
const CHANNELS: usize = 32;

/// Why a board could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ClassProbeError {
    /// The clock failed its self-test.
    Clock(ClockError),
    /// A step took no tick however often it was repeated.
    TooCoarse,
    /// The memory to work in is too small or not aligned to 4 bytes.
    Memory {
        /// Bytes needed.
        need_bytes: usize,
    },
    /// Too few weights were given.
    Weights {
        /// Bytes needed.
        need_bytes: usize,
    },
    /// A kernel refused its arguments.
    Kernel(ShapeError),
}

impl fmt::Display for ClassProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(error) => error.fmt(f),
            Self::TooCoarse => f.write_str("the clock is too coarse to time a step"),
            Self::Memory { need_bytes } => write!(f, "the probe needs {need_bytes} bytes aligned to 4"),
            Self::Weights { need_bytes } => write!(f, "the probe needs {need_bytes} bytes of weights to read"),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ClassProbeError {}

const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };
const SUM: Add = Add { a_multiplier: 1 << 14, b_multiplier: 1 << 14, offset: 1 << 14, shift: 15, lo: -128, hi: 127 };
const TABLES: ChannelTables = ChannelTables { bias: 0, multiplier: 0, shift: 0, landing: WIDE };
const THREE: Window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };
const INNER: Window = Window { pad: [0, 0], ..THREE };

const fn conv(input: [u16; 3], output: [u16; 3], window: Window, groups: u16, residual: Option<Add>) -> Op {
    let [input, output] = [Shape::new(input[0], input[1], input[2]), Shape::new(output[0], output[1], output[2])];
    let geometry = Conv2d { input, output, window, groups, pad_value: 0 };
    if groups > 1 && groups == input.c {
        return Op::Depthwise { geometry, weights: 0, tables: TABLES, residual };
    }
    Op::Conv2d { geometry, weights: 0, tables: TABLES, residual }
}

const fn pool(input: u16, channels: u16, output: u16, kernel: u8) -> Pool2d {
    let window = Window { kernel: [kernel; 2], stride: [1; 2], pad: [0; 2], dilation: [1; 2] };
    Pool2d { input: Shape::new(input, input, channels), output: Shape::new(output, output, channels), window }
}

const fn average(geometry: Pool2d) -> Op {
    Op::AvgPool { geometry, input_zero_point: 0, multiplier: 1 << 30, shift: 34, landing: WIDE }
}

const fn norm(shape: Shape) -> Op {
    Op::LayerNorm { shape, table: 0, epsilon: 0, shift: 36, landing: WIDE }
}

const fn attention(tokens: u16, heads: u16, features: u16) -> Op {
    let all = heads * features;
    Op::Attention(Attention {
        input: Shape::new(1, tokens, 3 * all),
        heads,
        key_features: features,
        value_features: features,
        first: [0, all, 2 * all],
        pitch: [features; 3],
        score_multiplier: 1 << 18,
        multiplier: 1 << 30,
        shift: 30,
        landing: WIDE,
    })
}

/// What is timed. Within a class the shapes differ in what dominates: many taps, many outputs, many borders, one call.
const STEPS: [Op; 36] = [
    conv([1, 1, 256], [1, 1, 16], Window::POINT, 1, None),
    conv([8, 8, 16], [8, 8, 8], Window::POINT, 1, None),
    conv([4, 4, 64], [4, 4, 32], Window::POINT, 1, Some(SUM)),
    conv([16, 16, 4], [16, 16, 4], Window::POINT, 1, None),
    conv([8, 8, 8], [8, 8, 8], THREE, 1, Some(SUM)),
    conv([6, 6, 16], [4, 4, 16], INNER, 1, None),
    conv([4, 4, 32], [2, 2, 16], INNER, 1, None),
    conv([12, 12, 4], [10, 10, 4], INNER, 1, None),
    conv([4, 4, 16], [4, 4, 16], THREE, 1, None),
    conv([12, 12, 3], [12, 12, 4], THREE, 1, None),
    conv([10, 10, 3], [8, 8, 16], INNER, 1, None),
    conv([16, 16, 1], [14, 14, 4], INNER, 1, None),
    conv([16, 16, 3], [16, 16, 4], Window::POINT, 1, None),
    conv([1, 1, 1], [1, 1, 16], Window::POINT, 1, None),
    conv([8, 8, 6], [8, 8, 6], THREE, 2, None),
    conv([8, 8, 8], [8, 8, 8], THREE, 8, None),
    conv([6, 6, 8], [2, 2, 8], Window { kernel: [5, 5], ..INNER }, 8, None),
    conv([8, 8, 6], [8, 8, 6], THREE, 6, None),
    conv([8, 8, 16], [6, 6, 16], INNER, 16, Some(SUM)),
    conv([5, 5, 32], [3, 3, 32], INNER, 32, None),
    Op::Add { shape: Shape::new(1, 1, 1024), add: SUM },
    Op::Add { shape: Shape::new(1, 1, 64), add: SUM },
    Op::MaxPool(pool(8, 16, 7, 2)),
    Op::MaxPool(pool(8, 8, 6, 3)),
    average(pool(8, 16, 1, 8)),
    average(pool(8, 16, 7, 2)),
    Op::Lut { shape: Shape::new(1, 1, 1024), table: 0 },
    Op::Lut { shape: Shape::new(1, 1, 64), table: 0 },
    Op::Softmax { shape: Shape::new(1, 1, 64), table: 0 },
    Op::Softmax { shape: Shape::new(4, 4, 16), table: 0 },
    Op::Transpose { input: Shape::new(8, 8, 16), perm: [1, 0, 2] },
    Op::Transpose { input: Shape::new(8, 8, 16), perm: [2, 0, 1] },
    norm(Shape::new(1, 24, 32)),
    norm(Shape::new(8, 8, 16)),
    attention(10, 4, 8),
    attention(24, 1, 12),
];

/// Measures every class of step with the kernels of `isa` and returns the model that explains the measurements.
///
/// `weights` lie where a bundle's weights lie, so that the speed of that memory counts: [`Bundle::weights`] will do. The
/// time to decode a step's record is not measured here; it is that of the prior, at the speed measured.
///
/// [`Bundle::weights`]: crate::bundle::Bundle::weights
///
/// # Errors
/// [`ClassProbeError`] if the clock does not run or is too coarse, or memory or weights are too small.
pub fn probe_classes(
    isa: Isa,
    weights: &[i8],
    memory: &mut [u8],
    clock: &mut impl Clock,
) -> Result<LatencyModel, ClassProbeError> {
    check_clock(clock).map_err(ClassProbeError::Clock)?;
    let memory = memory.get_mut(..PROBE_BYTES).filter(|memory| memory.as_ptr().align_offset(4) == 0);
    let memory = memory.ok_or(ClassProbeError::Memory { need_bytes: PROBE_BYTES })?;
    let weights = weights.get(..PROBE_WEIGHTS).ok_or(ClassProbeError::Weights { need_bytes: PROBE_WEIGHTS })?;
    let overhead = reading_ticks(clock);
    let prior = LatencyModel::prior(isa);
    let mut measured = [0u64; STEPS.len()];
    for (ps, op) in measured.iter_mut().zip(&STEPS) {
        *ps = time(isa, op, weights, memory, clock, overhead)?;
    }
    let samples = STEPS.iter().zip(measured).map(|(op, ps)| Sample { work: Work::of(op), ps });
    let speed = overall(prior, samples.clone());
    let mut model = *prior;
    for class in OpClass::ALL {
        // The kernel alone was timed, so the prior's cost of a call is added at the measured speed.
        let call = u64::from(prior.class(class).step_ps).saturating_mul(speed.0) / speed.1.max(1);
        let whole = samples.clone().map(|sample| Sample { ps: sample.ps.saturating_add(call), ..sample });
        model.fit_class(class, whole, FitOptions::FEW, speed);
    }
    Ok(model)
}

/// How much slower the board is than the prior, over all steps: numerator and denominator, which fit 32 bits.
fn overall(prior: &LatencyModel, samples: impl Iterator<Item = Sample>) -> (u64, u64) {
    let (mut measured, mut predicted) = (0u64, 0u64);
    for sample in samples {
        let call = u64::from(prior.class(sample.work.class).step_ps);
        let kernel = prior.step_ps(&sample.work).saturating_sub(call);
        measured = measured.saturating_add(sample.ps);
        predicted = predicted.saturating_add(kernel);
    }
    let excess = 32u32.saturating_sub(measured.max(predicted).leading_zeros());
    (measured >> (excess & 63), (predicted >> (excess & 63)).max(1))
}

/// Ticks that a measurement should take at least.
const ENOUGH_TICKS: u64 = 64;
/// Most repetitions.
const MOST_RUNS: u32 = 4096;

/// Picoseconds of one kernel call, after one that is not timed.
fn time(
    isa: Isa,
    op: &Op,
    weights: &[i8],
    memory: &mut [u8],
    clock: &mut impl Clock,
    overhead: u64,
) -> Result<u64, ClassProbeError> {
    run(isa, op, weights, memory).map_err(ClassProbeError::Kernel)?;
    let mut runs = 1u32;
    loop {
        let start = clock.now();
        for _ in 0..runs {
            run(isa, op, weights, memory).map_err(ClassProbeError::Kernel)?;
        }
        let ticks = clock.now().wrapping_sub(start).saturating_sub(overhead);
        if ticks >= ENOUGH_TICKS {
            let ps =
                u128::from(ticks) * 1_000_000_000_000 / u128::from((u64::from(clock.hz()) * u64::from(runs)).max(1));
            return Ok(u64::try_from(ps).unwrap_or(u64::MAX));
        }
        if runs >= MOST_RUNS {
            return Err(ClassProbeError::TooCoarse);
        }
        runs *= 4;
    }
}

static BIAS: [i32; CHANNELS] = [0; CHANNELS];
static MULTIPLIER: [i32; CHANNELS] = [1 << 30; CHANNELS];
static SHIFT: [u8; CHANNELS] = [40; CHANNELS];
/// A softmax table; the values do not change its speed.
static EXPONENTIALS: [i32; 256] = [1 << 8; 256];

/// Calls the kernel of one of [`STEPS`].
fn run(isa: Isa, op: &Op, weights: &[i8], memory: &mut [u8]) -> Result<(), ShapeError> {
    let (input, rest) = memory.split_at_mut_checked(INPUT).ok_or(ShapeError::Input)?;
    let (output, scratch) = rest.split_at_mut_checked(OUTPUT).ok_or(ShapeError::Output)?;
    let input = bytemuck::cast_slice_mut(input).get_mut(..op.input().len()).ok_or(ShapeError::Input)?;
    let output = bytemuck::cast_slice_mut(output).get_mut(..op.output().len()).ok_or(ShapeError::Output)?;
    let q = Requant { bias: &BIAS, multiplier: &MULTIPLIER, shift: &SHIFT, landing: WIDE };
    let weights_of = |len: usize| weights.get(..len).ok_or(ShapeError::Weights);
    match op {
        Op::Conv2d { geometry, residual, .. } => {
            let weights = weights_of(geometry.taps().saturating_mul(usize::from(geometry.output.c)))?;
            conv2d_s8(isa, geometry, &q, residual.as_ref(), input, weights, scratch, output)
        }
        Op::Depthwise { geometry, residual, .. } => {
            let [rows, columns] = geometry.window.kernel.map(usize::from);
            let weights = weights_of(rows * columns * usize::from(geometry.output.c))?;
            depthwise_s8(isa, geometry, &q, residual.as_ref(), input, weights, output)
        }
        Op::Add { add, .. } => add_in_place_s8(isa, add, output, input),
        Op::MaxPool(geometry) => max_pool_s8(isa, geometry, input, output),
        Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing } => {
            avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, input, output)
        }
        Op::Lut { .. } => lut_in_place_s8(weights, output),
        Op::Softmax { shape, .. } => softmax_s8(*shape, &EXPONENTIALS, input, output),
        Op::Transpose { input: shape, perm } => transpose_s8(*shape, *perm, input, output),
        Op::LayerNorm { shape, epsilon, shift, landing, .. } => {
            let norm =
                LayerNorm { gain: &MULTIPLIER, offset: &BIAS, epsilon: *epsilon, shift: *shift, landing: *landing };
            layer_norm_s8(*shape, &norm, input, output)
        }
        Op::Attention(attention) => attention_s8(isa, attention, input, scratch, output),
        // Timed as additions and copies.
        Op::AddConstant { .. } | Op::Concat { .. } | Op::Slice { .. } => Err(ShapeError::Geometry),
    }
}

/// Bytes that [`weight_byte_ps`] reads of each memory.
const READ_BYTES: usize = 4096;

/// Picoseconds by which reading a byte where the weights lie is slower than reading one of `memory`: what
/// [`LatencyModel::weight_byte_ps`] stands for. Reads the end of both, in order and once, so that a cache helps neither.
///
/// # Errors
/// [`ClassProbeError::Clock`], or [`ClassProbeError::TooCoarse`] if the time to read does not show on the clock.
pub fn weight_byte_ps(weights: &[i8], memory: &[u8], clock: &mut impl Clock) -> Result<u32, ClassProbeError> {
    check_clock(clock).map_err(ClassProbeError::Clock)?;
    let overhead = reading_ticks(clock);
    let weights = read_byte_ps(bytemuck::cast_slice(weights), clock, overhead)?;
    Ok(weights.saturating_sub(read_byte_ps(memory, clock, overhead)?))
}

fn read_byte_ps(bytes: &[u8], clock: &mut impl Clock, overhead: u64) -> Result<u32, ClassProbeError> {
    let bytes = bytes.get(bytes.len().saturating_sub(READ_BYTES)..).unwrap_or_default();
    let start = clock.now();
    let words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk().map(|word| u32::from_ne_bytes(*word)));
    core::hint::black_box(words.fold(0, u32::wrapping_add));
    let ticks = clock.now().wrapping_sub(start).saturating_sub(overhead);
    if ticks == 0 {
        return Err(ClassProbeError::TooCoarse);
    }
    let ps = u128::from(ticks) * 1_000_000_000_000 / u128::from(clock.hz().max(1)) / (bytes.len() as u128).max(1);
    Ok(u32::try_from(ps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::AlignedBytes;

    /// Ticks once per reading: every measurement takes as long as it is asked to repeat.
    struct Counting(u64);

    impl Clock for Counting {
        fn hz(&self) -> u32 {
            1_000_000
        }
        fn now(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    #[test]
    fn every_step_runs_within_the_probes_memory() {
        let mut memory = AlignedBytes::new(PROBE_BYTES);
        for isa in Isa::available() {
            for op in &STEPS {
                assert_eq!(run(*isa, op, &[1; PROBE_WEIGHTS], memory.as_mut_slice()), Ok(()), "{op:?}");
            }
        }
    }

    #[test]
    fn every_class_is_probed() {
        for class in OpClass::ALL {
            assert!(STEPS.iter().any(|op| Work::of(op).class == class), "{}", class.name());
        }
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let mut memory = AlignedBytes::new(PROBE_BYTES);
        let mut probe = |weights: usize, bytes: usize, clock: &mut Counting| {
            let weights = std::vec![0; weights];
            probe_classes(Isa::best(), &weights, &mut memory.as_mut_slice()[..bytes], clock)
        };
        let weights = ClassProbeError::Weights { need_bytes: PROBE_WEIGHTS };
        assert_eq!(probe(PROBE_WEIGHTS - 1, PROBE_BYTES, &mut Counting(0)), Err(weights));
        let memory = ClassProbeError::Memory { need_bytes: PROBE_BYTES };
        assert_eq!(probe(PROBE_WEIGHTS, PROBE_BYTES - 1, &mut Counting(0)), Err(memory));
        // Two readings are always one tick apart, which is what reading costs: no step takes any time.
        assert_eq!(probe(PROBE_WEIGHTS, PROBE_BYTES, &mut Counting(0)), Err(ClassProbeError::TooCoarse));
    }

    #[test]
    fn this_machine_can_be_measured() {
        let mut memory = AlignedBytes::new(PROBE_BYTES);
        let mut clock = crate::board::SystemClock::default();
        let model = probe_classes(Isa::Reference, &[3; PROBE_WEIGHTS], memory.as_mut_slice(), &mut clock).unwrap();
        assert!(STEPS.iter().all(|op| model.step_ps(&Work::of(op)) > 0));
    }
}
