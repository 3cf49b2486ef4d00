//! Convolutions whose weights are packed: copied once into the order in which the kernels of one ISA read them.
//!
//! Only with feature `std`, since the copy takes memory. The kernels read windows from an image of the input: a copy with the padding
//! around it, in which windows are at fixed distances or laid together in blocks. Some read the input itself where it has no borders
//! to care for.

// Processors without such kernels have the types alone, which then pack nothing.
#![cfg_attr(not(any(neon, target_arch = "x86_64")), allow(dead_code))]

#[cfg(neon)]
mod blocks;
mod layout;
mod order;
mod place;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::vec::Vec;

#[cfg(neon)]
pub(super) use blocks::{Block, Blocks, LARGEST, block_windows};
pub(super) use layout::Layout;
#[cfg(neon)]
pub(super) use layout::Line;
pub use order::Panels;
use place::{Place, extents};

use super::check;
#[cfg(any(neon, target_arch = "x86_64"))]
use super::isa;
use super::isa::Isa;
use super::params::{Add, Conv2d, Landing, Requant, ShapeError};
use super::scales::{FRACTION, pre_shift};

/// Which filters a convolution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filters {
    /// Over all channels: weights as in [`conv2d_s8`](super::conv2d_s8).
    Dense,
    /// One for each channel: weights as in [`depthwise_s8`](super::depthwise_s8).
    Depthwise,
}

/// A convolution with packed weights; gives the bytes of [`conv2d_s8`](super::conv2d_s8) or
/// [`depthwise_s8`](super::depthwise_s8).
#[derive(Debug, Clone)]
pub struct PackedConv {
    isa: Isa,
    filters: Filters,
    conv: Conv2d,
    residual: Option<Add>,
    place: Place,
    panels: Arc<Panels>,
    tables: Tables,
}

/// Bytes behind an image that a kernel may read, for a row filled with zeros.
const SLACK: usize = 16;
/// Largest image: bigger ones come of windows that hardly touch the input.
const MAX_IMAGE_BYTES: usize = 64 << 20;

/// Requantization of all output channels, whole panels of them, in the order in which the kernel has its sums.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// Biases, with what the kernel's form of the activations adds taken off.
    pub bias: Vec<i32>,
    /// Multipliers.
    pub multiplier: Vec<i32>,
    /// Right shifts of the upper half of the product, 1 to 31; on Arm left shifts of twice that half to [`FRACTION`].
    pub shift: Vec<i32>,
    /// Bits by which sums are shifted left first; see [`pre_shift`].
    pub bits: u32,
    /// Zero point and clamp.
    pub landing: Landing,
}

/// What a kernel takes, apart from activations.
pub(super) struct Operands<'a, L = Layout> {
    pub layout: &'a L,
    pub panels: &'a [i8],
    pub tables: &'a Tables,
    pub residual: Option<&'a Add>,
    /// Output channels.
    pub channels: usize,
    /// First window.
    pub first: usize,
}

/// The forms that packed weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    filters: Filters,
    /// Output channels side by side.
    channels: usize,
    /// Adjacent taps of a channel.
    taps: usize,
    /// Kernel rows are filled with zeros to a multiple of so many taps.
    row: usize,
    /// What activations are combined with by exclusive or: 0, or -128 where the kernel takes them without sign.
    flip: i8,
    /// Whether the kernel takes weights of -128.
    takes_lowest: bool,
    /// Whether tables hold every pair of channels twice, for the pairs of two windows.
    has_pairs: bool,
}

impl Form {
    /// The form that the kernels of `isa` take on this processor; `None` if they take none.
    fn of(isa: Isa, filters: Filters) -> Option<Self> {
        let form =
            |channels, taps, row| Self { filters, channels, taps, row, flip: 0, takes_lowest: true, has_pairs: false };
        match (isa, filters) {
            #[cfg(neon)]
            (Isa::Neon | Isa::NeonDot | Isa::NeonI8mm, _) => Some(match (isa::neon_level(isa), filters) {
                (super::neon::Level::Base, Filters::Dense) => Self { takes_lowest: false, ..form(8, 2, 4) },
                (super::neon::Level::Dot, Filters::Dense) => form(8, 4, 4),
                (super::neon::Level::Matrix, Filters::Dense) => Self { has_pairs: true, ..form(8, 8, 8) },
                (super::neon::Level::Base, Filters::Depthwise) => Self { takes_lowest: false, ..form(8, 1, 3) },
                (_, Filters::Depthwise) => form(8, 4, 4),
            }),
            #[cfg(target_arch = "x86_64")]
            (Isa::Vnni, _) if isa::vnni_is_present() => Some(Self { flip: i8::MIN, ..form(16, 4, 4) }),
            _ => {
                let _ = form;
                None
            }
        }
    }
}

impl Tables {
    /// `sums` are those of every channel's weights; `bits` as [`pre_shift`] says.
    fn new(q: &Requant<'_>, form: Form, sums: &[i32], bits: u32) -> Self {
        let fill = |values: &mut dyn Iterator<Item = i32>, rest: i32| {
            let mut filled: Vec<i32> = values.take(sums.len()).collect();
            filled.resize(sums.len().next_multiple_of(form.channels), rest);
            if form.has_pairs {
                filled = filled.as_chunks::<2>().0.iter().flat_map(|&[a, b]| [a, b, a, b]).collect();
            }
            filled
        };
        let offset = |sum: i32| i32::from(form.flip).wrapping_mul(sum);
        let shift = |shift: i32| if cfg!(neon) { FRACTION - 1 - shift } else { shift };
        let shifts = q.shift.iter().map(|&by| (i32::from(by) + bits as i32 - 32).clamp(1, 31));
        Self {
            bias: fill(&mut q.bias.iter().zip(sums).map(|(&bias, &sum)| bias.wrapping_add(offset(sum))), 0),
            multiplier: fill(&mut q.multiplier.iter().copied(), 0),
            shift: fill(&mut shifts.map(shift), shift(1)),
            bits,
            landing: q.landing,
        }
    }
}

impl PackedConv {
    /// Packs a convolution for the kernels of `isa`. `None` where nothing is to be gained: those kernels take no packed weights,
    /// or not of this geometry or requantization. [`conv2d_s8`](super::conv2d_s8) or [`depthwise_s8`](super::depthwise_s8) runs it
    /// then.
    ///
    /// # Errors
    /// [`ShapeError::Weights`], [`ShapeError::Table`] or [`ShapeError::Geometry`] if the constants do not fit the geometry.
    pub fn new(
        isa: Isa,
        filters: Filters,
        conv: &Conv2d,
        q: &Requant<'_>,
        residual: Option<&Add>,
        weights: &[i8],
    ) -> Result<Option<Self>, ShapeError> {
        check::require(!conv.input.is_empty() && !conv.output.is_empty(), ShapeError::Geometry)?;
        check::constants(conv, q, weights)?;
        let Some(form) = Form::of(isa, filters) else { return Ok(None) };
        let Some(place) = Place::new(conv, form) else { return Ok(None) };
        let panels = Panels::new(form, place.filter(), weights);
        Ok(panels.and_then(|panels| Self::with_panels(isa, filters, conv, q, residual, Arc::new(panels))))
    }

    /// As [`new`](Self::new), with the weights that another convolution has packed; `None` if they are not of this form too.
    #[must_use]
    pub fn with_panels(
        isa: Isa,
        filters: Filters,
        conv: &Conv2d,
        q: &Requant<'_>,
        residual: Option<&Add>,
        panels: Arc<Panels>,
    ) -> Option<Self> {
        let form = Form::of(isa, filters)?;
        let place = Place::new(conv, form)?;
        let channels = usize::from(conv.output.c);
        let bits = pre_shift(q, channels, conv.taps())?;
        if !panels.fit(form, place.filter(), channels) {
            return None;
        }
        let tables = Tables::new(q, form, panels.sums(), bits);
        Some(Self { isa, filters, conv: *conv, residual: residual.copied(), place, panels, tables })
    }

    /// The packed weights, for other convolutions with the same ones.
    #[must_use]
    pub const fn panels(&self) -> &Arc<Panels> {
        &self.panels
    }

    /// Bytes of the image that [`run`](Self::run) needs; 0 where the input is read where it lies.
    #[must_use]
    pub const fn image_bytes(&self) -> usize {
        self.place.image_bytes()
    }

    /// Runs the convolution. With a residual the output holds the second operand beforehand. `image` may be overwritten.
    ///
    /// # Errors
    /// A [`ShapeError`] that names the slice whose length does not fit; `output` is then untouched.
    pub fn run(&self, input: &[i8], image: &mut [i8], output: &mut [i8]) -> Result<(), ShapeError> {
        check::shape(self.conv.output, output.len(), ShapeError::Output)?;
        self.draw(input, image)?.run(0, output)
    }

    /// Draws the image, so that [`Drawn::run`] can compute parts of the output, on several threads if need be.
    ///
    /// # Errors
    /// [`ShapeError::Input`], or [`ShapeError::Scratch`] if `image` is shorter than [`image_bytes`](Self::image_bytes).
    pub fn draw<'x>(&'x self, input: &'x [i8], image: &'x mut [i8]) -> Result<Drawn<'x>, ShapeError> {
        check::shape(self.conv.input, input.len(), ShapeError::Input)?;
        let image = image.get_mut(..self.image_bytes()).ok_or(ShapeError::Scratch)?;
        let source = match &self.place {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: weights have a form for these kernels only where the processor has the instructions.
            Place::Apart(layout) => unsafe { super::vnni::draw(layout, &self.conv, input, image) },
            #[cfg(not(target_arch = "x86_64"))]
            Place::Apart(layout) => layout.source(&self.conv, input, image),
            #[cfg(neon)]
            Place::Together(blocks) => super::neon::draw(isa::neon_level(self.isa), blocks, &self.conv, input, image),
        };
        Ok(Drawn { packed: self, source })
    }
}

/// A packed convolution and what its windows lie in.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'x> {
    packed: &'x PackedConv,
    source: &'x [i8],
}

impl Drawn<'_> {
    /// Output positions.
    #[must_use]
    pub const fn windows(&self) -> usize {
        self.packed.conv.output.positions()
    }

    /// Output channels.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.packed.conv.output.c as usize
    }

    /// Parts of the output begin at positions that this divides.
    #[must_use]
    pub const fn granule(&self) -> usize {
        self.packed.place.granule()
    }

    /// Computes the output's positions from `first` on, as many as `output` holds.
    ///
    /// # Errors
    /// [`ShapeError::Output`] unless these are positions of the output, and begin and, but for the last ones, end at multiples of the
    /// [`granule`](Self::granule).
    pub fn run(&self, first: usize, output: &mut [i8]) -> Result<(), ShapeError> {
        let PackedConv { isa, place, panels, tables, residual, .. } = self.packed;
        let channels = self.channels().max(1);
        let (windows, granule) = (output.len() / channels, self.granule().max(1));
        let end = first.checked_add(windows).ok_or(ShapeError::Output)?;
        let is_whole = output.len().is_multiple_of(channels) && first.is_multiple_of(granule);
        let is_inside = end == self.windows() || (end < self.windows() && end.is_multiple_of(granule));
        check::require(is_whole && is_inside, ShapeError::Output)?;
        let (panels, residual, source) = (panels.weights(), residual.as_ref(), self.source.as_ptr());
        match place {
            Place::Apart(layout) => {
                let operands = Operands { layout, panels, tables, residual, channels, first };
                run_apart(*isa, self.packed.filters, &operands, source, output)
            }
            #[cfg(neon)]
            Place::Together(layout) => {
                let operands = Operands { layout, panels, tables, residual, channels, first };
                super::neon::conv2d_packed(isa::neon_level(*isa), &operands, source, output);
                Ok(())
            }
        }
    }
}

/// Runs windows at fixed distances.
fn run_apart(
    isa: Isa,
    filters: Filters,
    operands: &Operands<'_>,
    source: *const i8,
    output: &mut [i8],
) -> Result<(), ShapeError> {
    match (isa, filters) {
        #[cfg(neon)]
        (Isa::Neon | Isa::NeonDot | Isa::NeonI8mm, Filters::Depthwise) => {
            super::neon::depthwise_packed(isa::neon_level(isa), operands, source, output);
            Ok(())
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: weights have a form for these kernels only where the processor has the instructions.
        (Isa::Vnni, _) => unsafe {
            match filters {
                Filters::Dense => super::vnni::conv2d_packed(operands, source, output),
                Filters::Depthwise => super::vnni::depthwise_packed(operands, source, output),
            }
            Ok(())
        },
        _ => {
            let _ = (operands, source, output);
            Err(ShapeError::Geometry)
        }
    }
}
