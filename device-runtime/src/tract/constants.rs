//! A step with its constants located in the shared bytes, and the kernel call it stands for.

use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use std::borrow::Cow;
use std::sync::OnceLock;
use std::thread_local;
use std::vec::Vec;

use super::SharedBytes;
use crate::bundle::{Bundle, ChannelTables, Op};
use crate::exec::value_bytes;
use crate::kernels::{
    Conv2d, Filters, Isa, Landing, LayerNorm, PackedConv, Requant, ShapeError, add_in_place_s8, add_s8, attention_s8,
    avg_pool_s8, concat_s8, conv2d_s8, depthwise_s8, layer_norm_s8, lut_in_place_s8, lut_s8, max_pool_s8, slice_s8,
    softmax_s8, transpose_s8, unwoven, woven_s8,
};

/// What a step computes, the bytes its constants lie in, and where.
pub(super) struct PreparedStep {
    bytes: SharedBytes,
    isa: Isa,
    /// Whether its filters are woven.
    is_woven: bool,
    /// The step's operator.
    pub(super) op: Op,
    /// Weights or lookup table; empty for operators without.
    weights: Range<usize>,
    /// Biases, or the softmax table; empty for operators without.
    words: Range<usize>,
    multipliers: Range<usize>,
    shifts: Range<usize>,
    /// The convolution with packed weights, once [`pack`](Self::pack) was called, where packing helps.
    packed: OnceLock<Option<PackedConv>>,
}

impl PreparedStep {
    /// Finds the constants of step `index`. `None` if the bundle is no view of `bytes` or lacks them.
    pub(super) fn locate(bytes: &SharedBytes, bundle: &Bundle<'_>, index: u16, isa: Isa) -> Option<Self> {
        let step = bundle.step(index)?;
        let whole: &[u8] = (**bytes).as_ref();
        let mut found = Self {
            bytes: bytes.clone(),
            isa,
            is_woven: bundle.is_woven(index),
            op: step.op,
            weights: 0..0,
            words: 0..0,
            multipliers: 0..0,
            shifts: 0..0,
            packed: OnceLock::new(),
        };
        match &step.op {
            Op::Conv2d { geometry, weights, tables, .. } => {
                let len = geometry.taps().checked_mul(usize::from(geometry.output.c))?;
                found.locate_conv(whole, bundle, geometry, *weights, len, tables)?;
            }
            Op::Depthwise { geometry, weights, tables, .. } => {
                let [rows, columns] = geometry.window.kernel;
                let len = usize::from(rows) * usize::from(columns) * usize::from(geometry.input.c);
                found.locate_conv(whole, bundle, geometry, *weights, len, tables)?;
            }
            Op::Lut { table, .. } => found.weights = position(whole, bundle.weights_at(*table, 256)?)?,
            Op::Softmax { table, .. } => found.words = position(whole, bundle.table_at(*table, 256)?)?,
            Op::LayerNorm { shape, table, .. } => {
                found.words = position(whole, bundle.table_at(*table, 2 * usize::from(shape.c))?)?;
            }
            Op::AddConstant { constants, .. } | Op::Concat { constants, .. } => {
                found.weights = position(whole, bundle.weights_at(*constants, value_bytes(&step.op))?)?;
            }
            Op::Add { .. } | Op::MaxPool(_) | Op::AvgPool { .. } | Op::Transpose { .. } => {}
            Op::Attention(_) | Op::Slice { .. } => {}
        }
        Some(found)
    }

    fn locate_conv(
        &mut self,
        whole: &[u8],
        bundle: &Bundle<'_>,
        geometry: &Conv2d,
        weights: u32,
        weights_len: usize,
        tables: &ChannelTables,
    ) -> Option<()> {
        let requant = bundle.requant(geometry, tables)?;
        self.weights = position(whole, bundle.weights_at(weights, weights_len)?)?;
        self.words = position(whole, requant.bias)?;
        self.multipliers = position(whole, requant.multiplier)?;
        self.shifts = position(whole, requant.shift)?;
        Some(())
    }

    /// Packs the weights of a convolution, unless they are. `None` if the bytes changed.
    pub(super) fn pack(&self) -> Option<()> {
        let (filters, geometry, tables, residual) = match &self.op {
            Op::Conv2d { geometry, tables, residual, .. } => (Filters::Dense, geometry, tables, residual),
            Op::Depthwise { geometry, tables, residual, .. } => (Filters::Depthwise, geometry, tables, residual),
            _ => return Some(()),
        };
        if self.packed.get().is_none() {
            let requant = self.requant(tables.landing).ok()?;
            let stored = self.weights().ok()?;
            let weights =
                if self.is_woven { unwoven(stored, geometry.taps()).map(Cow::from) } else { Some(stored.into()) };
            let packed = match weights {
                Some(weights) => {
                    PackedConv::new(self.isa, filters, geometry, &requant, residual.as_ref(), &weights).ok()?
                }
                None => None,
            };
            self.packed.get_or_init(|| packed);
        }
        Some(())
    }

    /// Number of weights or lookup entries.
    pub(super) fn weight_count(&self) -> usize {
        self.weights.len()
    }

    /// Number of biases or softmax entries.
    pub(super) fn word_count(&self) -> usize {
        self.words.len() / size_of::<i32>()
    }

    /// Calls the kernel. `operands` are the inputs in order, less the one whose memory `output` already is: the second for a
    /// fused residual, which must be so; the first for additions and lookups, which may.
    ///
    /// # Errors
    /// [`ShapeError`] if a length does not fit or the bytes changed.
    pub(super) fn run(&self, operands: &[&[i8]], output: &mut [i8]) -> Result<(), ShapeError> {
        let isa = self.isa;
        if let (Some(Some(packed)), [input]) = (self.packed.get(), operands) {
            return with_room(packed.image_bytes(), |room| packed.run(input, bytemuck::cast_slice_mut(room), output));
        }
        match (&self.op, operands) {
            (Op::Conv2d { geometry, tables, .. }, [input]) if self.is_woven => {
                let (requant, weights) = (self.requant(tables.landing)?, self.weights()?);
                with_room(geometry.scratch_bytes(), |room| {
                    woven_s8(isa, geometry, &requant, input, weights, room, output)
                })
            }
            (Op::Conv2d { geometry, tables, residual, .. }, [input]) => {
                let requant = self.requant(tables.landing)?;
                let weights = self.weights()?;
                with_room(geometry.scratch_bytes(), |room| {
                    conv2d_s8(isa, geometry, &requant, residual.as_ref(), input, weights, room, output)
                })
            }
            (Op::Depthwise { geometry, tables, residual, .. }, [input]) => {
                let requant = self.requant(tables.landing)?;
                depthwise_s8(isa, geometry, &requant, residual.as_ref(), input, self.weights()?, output)
            }
            (Op::Add { add, .. }, [a, b]) => add_s8(isa, add, a, b, output),
            (Op::Add { add, .. }, [b]) => add_in_place_s8(isa, add, output, b),
            (Op::MaxPool(geometry), [input]) => max_pool_s8(isa, geometry, input, output),
            (Op::AvgPool { geometry, input_zero_point, multiplier, shift, landing }, [input]) => {
                avg_pool_s8(isa, geometry, *input_zero_point, *multiplier, *shift, *landing, input, output)
            }
            (Op::Lut { .. }, [input]) => lut_s8(self.weights()?, input, output),
            (Op::Lut { .. }, []) => lut_in_place_s8(self.weights()?, output),
            (Op::Softmax { shape, .. }, [input]) => softmax_s8(*shape, self.words(&self.words)?, input, output),
            (Op::Transpose { input: shape, perm }, [input]) => transpose_s8(*shape, *perm, input, output),
            (Op::LayerNorm { shape, epsilon, shift, landing, .. }, [input]) => {
                let table = self.words(&self.words)?;
                let (gain, offset) = table.split_at_checked(usize::from(shape.c)).ok_or(ShapeError::Table)?;
                let norm = LayerNorm { gain, offset, epsilon: *epsilon, shift: *shift, landing: *landing };
                layer_norm_s8(*shape, &norm, input, output)
            }
            (Op::Attention(attention), [input]) => {
                with_room(attention.scratch_bytes(), |room| attention_s8(isa, attention, input, room, output))
            }
            (Op::AddConstant { add, .. }, [input]) => add_s8(isa, add, input, self.weights()?, output),
            (Op::AddConstant { add, .. }, []) => add_in_place_s8(isa, add, output, self.weights()?),
            (Op::Concat { input: shape, before, .. }, [input]) => {
                concat_s8(usize::from(*before) * usize::from(shape.c), self.weights()?, input, output)
            }
            (Op::Slice { input: shape, first, output: part }, [input]) => {
                slice_s8(*shape, *first, *part, input, output)
            }
            _ => Err(ShapeError::SecondInput),
        }
    }

    fn part(&self, range: &Range<usize>) -> Option<&[u8]> {
        (*self.bytes).as_ref().get(range.clone())
    }

    fn weights(&self) -> Result<&[i8], ShapeError> {
        self.part(&self.weights).map(bytemuck::cast_slice).ok_or(ShapeError::Weights)
    }

    fn words(&self, range: &Range<usize>) -> Result<&[i32], ShapeError> {
        self.part(range).and_then(|part| bytemuck::try_cast_slice(part).ok()).ok_or(ShapeError::Table)
    }

    fn requant(&self, landing: Landing) -> Result<Requant<'_>, ShapeError> {
        Ok(Requant {
            bias: self.words(&self.words)?,
            multiplier: self.words(&self.multipliers)?,
            shift: self.part(&self.shifts).ok_or(ShapeError::Table)?,
            landing,
        })
    }
}

thread_local! {
    /// Room for the scratch of one operator at a time: the largest that this thread has run.
    static ROOM: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `operator` with so many bytes, aligned to 4, of any content.
fn with_room<T>(bytes: usize, operator: impl FnOnce(&mut [u8]) -> T) -> T {
    ROOM.with_borrow_mut(|words| {
        if words.len() * size_of::<u32>() < bytes {
            words.resize(bytes.div_ceil(size_of::<u32>()), 0);
        }
        operator(bytemuck::cast_slice_mut(words))
    })
}

/// Where `part` lies in `whole`, in bytes; `None` if it does not.
fn position<T: bytemuck::NoUninit>(whole: &[u8], part: &[T]) -> Option<Range<usize>> {
    let part: &[u8] = bytemuck::cast_slice(part);
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start.checked_add(part.len())?;
    whole.get(range.clone()).map(|_| range)
}

/// Two steps are equal if they compute the same on the same bytes.
impl PartialEq for PreparedStep {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::addr_eq((*self.bytes).as_ref().as_ptr(), (*other.bytes).as_ref().as_ptr())
            && self.op == other.op
            && self.is_woven == other.is_woven
    }
}

impl Eq for PreparedStep {}

impl fmt::Debug for PreparedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedStep").field("op", &self.op).field("weights", &self.weights).finish_non_exhaustive()
    }
}
