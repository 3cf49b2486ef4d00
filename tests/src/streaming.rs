//! Running bundles from storage, with a record of every byte that was read.

use std::error::Error;

use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Op, Plan, StreamedBundle};
use stitchkit_runtime::exec::{StreamError, StreamExecutor, StreamMemory, StreamNeeds};
use stitchkit_runtime::kernels::{Conv2d, Isa};
use stitchkit_runtime::storage::{Source, StorageError};

use crate::Rng;
use crate::builder::infer;

/// A source over a slice that counts how often each byte was read.
///
/// With `OVERLAPS` it behaves as DMA does: the bytes arrive after `work` has run.
#[derive(Debug)]
pub struct Recorder<'a, const OVERLAPS: bool> {
    content: &'a [u8],
    /// Reads per byte of the content, up to 255.
    pub counts: Vec<u8>,
    /// Reads so far.
    pub reads: usize,
    /// Reads until one fails; `None` for never.
    pub fail_in: Option<usize>,
}

impl<'a, const OVERLAPS: bool> Recorder<'a, OVERLAPS> {
    /// A source of `content` that has read nothing.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self { content, counts: vec![0; content.len()], reads: 0, fail_in: None }
    }

    /// Forgets what was read.
    pub fn reset(&mut self) {
        self.counts.fill(0);
        self.reads = 0;
    }

    fn transfer(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.reads += 1;
        if let Some(left) = self.fail_in.as_mut() {
            *left -= 1;
            if *left == 0 {
                self.fail_in = None;
                return Err(StorageError::Device { offset, code: 7 });
            }
        }
        let (at, len) = (offset as usize, buffer.len());
        let outside =
            StorageError::OutOfBounds { offset, len_bytes: len as u32, capacity_bytes: self.content.len() as u32 };
        buffer.copy_from_slice(self.content.get(at..at + len).ok_or(outside)?);
        self.counts[at..at + len].iter_mut().for_each(|count| *count = count.saturating_add(1));
        Ok(())
    }
}

impl<const OVERLAPS: bool> Source for Recorder<'_, OVERLAPS> {
    const OVERLAPS: bool = OVERLAPS;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.transfer(offset, buffer)
    }

    fn read_while<R>(&mut self, offset: u32, buffer: &mut [u8], work: impl FnOnce() -> R) -> Result<R, StorageError> {
        if !OVERLAPS {
            self.read(offset, buffer)?;
            return Ok(work());
        }
        // Bytes on their way: nobody may look at them yet.
        buffer.fill(0xA5);
        let done = work();
        self.transfer(offset, buffer)?;
        Ok(done)
    }
}

/// Bytes on a 16-byte boundary, filled with what no result should depend on.
fn garbage(len: usize) -> AlignedBytes {
    let mut bytes = AlignedBytes::new(len);
    bytes.as_mut_slice().fill(0x5A);
    bytes
}

/// One inference from storage in a window of `window_bytes`.
///
/// # Errors
/// As the executor.
pub fn infer_streamed(
    bundle: &StreamedBundle<'_>,
    source: impl Source,
    (plan, isa): (u16, Isa),
    window_bytes: usize,
    input: &[i8],
) -> Result<Vec<i8>, StreamError> {
    let arena_bytes = bundle.bundle().plan(plan).map_or(0, |record| record.arena_bytes as usize);
    let (mut arena, mut window) = (garbage(arena_bytes), garbage(window_bytes));
    let memory = StreamMemory { arena: arena.as_mut_slice(), window: window.as_mut_slice() };
    let mut executor = StreamExecutor::with_isa(bundle, source, plan, memory, isa)?;
    executor.input()?.copy_from_slice(input);
    executor.run().map(<[i8]>::to_vec)
}

/// A plan that was streamed with the results it has in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamedPlan {
    /// What streaming it takes.
    pub needs: StreamNeeds,
    /// The window used.
    pub window_bytes: usize,
    /// Reads of the source per inference.
    pub reads: usize,
}

/// Streams every plan of `file` with every variant of the kernels and a random input, and compares logits and bytes read with
/// what the plan has in place. The window lies between the smallest (`share` 0) and the largest that is of use (1).
///
/// # Errors
/// What differs, or why the bundle or a plan was refused.
pub fn stream_all_plans<const OVERLAPS: bool>(
    file: &[u8],
    share: f64,
    seed: u32,
) -> Result<Vec<StreamedPlan>, Box<dyn Error>> {
    let bytes = AlignedBytes::copy_of(file);
    let bundle = Bundle::parse(bytes.as_slice())?;
    let mut source = Recorder::<OVERLAPS>::new(file);
    let mut records = vec![0; StreamedBundle::record_bytes(&mut source, 0)? as usize];
    let streamed = StreamedBundle::open(&mut source, 0, &mut records)?;
    let input = Rng::new(seed).vector(bundle.meta().input.len());
    let mut runs = Vec::new();
    for (plan, record) in (0..bundle.plan_count()).zip(bundle.plans()) {
        let needs = StreamExecutor::<Recorder<'_, OVERLAPS>>::needs(streamed.bundle(), plan).ok_or("no such plan")?;
        let span = f64::from(needs.whole_window_bytes - needs.least_window_bytes);
        let window_bytes = needs.least_window_bytes as usize + (share * span) as usize;
        let want = infer(&bundle, plan, Isa::Reference, &input);
        for &isa in Isa::available() {
            source.reset();
            let got = infer_streamed(&streamed, &mut source, (plan, isa), window_bytes, &input)?;
            let with = format!("plan {plan}, {}, window of {window_bytes} bytes", isa.name());
            if got != want {
                return Err(format!("{with}: other logits than in place").into());
            }
            if source.counts != own_bytes(file, &bundle, &record) {
                return Err(format!("{with}: reads other bytes than the plan's own, each once").into());
            }
            let read: u64 = source.counts.iter().map(|&count| u64::from(count)).sum();
            if read != needs.read_bytes {
                return Err(format!("{with}: read {read} bytes, {} promised", needs.read_bytes).into());
            }
        }
        runs.push(StreamedPlan { needs, window_bytes, reads: source.reads });
    }
    Ok(runs)
}

/// How often each byte of the file must be read for one inference: what the plan's steps name, nothing else.
///
/// # Panics
/// If the bundle is not valid.
#[must_use]
pub fn own_bytes(file: &[u8], bundle: &Bundle<'_>, plan: &Plan<'_>) -> Vec<u8> {
    let [weights, tables, shifts] = [*b"WGHT", *b"TABL", *b"SHFT"].map(|tag| section_offset(file, tag));
    let mut counts = vec![0; file.len()];
    let mut add = |from: usize, len: usize| counts[from..from + len].iter_mut().for_each(|count| *count += 1);
    for placed in bundle.steps_of(plan) {
        match placed.step.op {
            Op::Conv2d { geometry, weights: at, tables: t, .. }
            | Op::Depthwise { geometry, weights: at, tables: t, .. } => {
                let channels = usize::from(geometry.output.c);
                add(weights + at as usize, taps(&geometry) * channels);
                add(tables + 4 * t.bias as usize, 4 * channels);
                add(tables + 4 * t.multiplier as usize, 4 * channels);
                add(shifts + t.shift as usize, channels);
            }
            Op::Lut { table, .. } => add(weights + table as usize, 256),
            Op::Softmax { table, .. } => add(tables + 4 * table as usize, 1024),
            Op::LayerNorm { shape, table, .. } => add(tables + 4 * table as usize, 8 * usize::from(shape.c)),
            Op::AddConstant { shape, constants, .. } => add(weights + constants as usize, shape.len()),
            Op::Concat { input, before, after, constants } => {
                let tokens = usize::from(before) + usize::from(after);
                add(weights + constants as usize, tokens * usize::from(input.c));
            }
            _ => {}
        }
    }
    counts
}

/// Holds for depthwise convolutions too: one input channel per group.
fn taps(geometry: &Conv2d) -> usize {
    let [rows, columns] = geometry.window.kernel.map(usize::from);
    rows * columns * usize::from(geometry.input.c / geometry.groups)
}

/// Where the section with this tag lies in the file.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn section_offset(file: &[u8], tag: [u8; 4]) -> usize {
    let row = file[32..].chunks_exact(20).find(|row| row[..4] == tag).expect("the section is there");
    u32::from_le_bytes(*row[8..].first_chunk().expect("20 bytes")) as usize
}
