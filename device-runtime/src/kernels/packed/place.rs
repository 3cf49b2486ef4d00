//! Where windows lie in what the kernels of a form read.

#[cfg(neon)]
use super::Filters;
#[cfg(neon)]
use super::blocks::Blocks;
use super::layout::Layout;
use super::order::FilterRows;
use super::{Form, MAX_IMAGE_BYTES};
use crate::kernels::params::Conv2d;

/// Where the windows of a convolution lie.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// At fixed distances.
    Apart(Layout),
    /// In blocks.
    #[cfg(neon)]
    Together(Blocks),
}

impl Place {
    /// `None` if the kernels of the form take no such windows, or windows hardly touch the input.
    pub fn new(p: &Conv2d, form: Form) -> Option<Self> {
        match form.filters {
            #[cfg(neon)]
            Filters::Dense => Blocks::new(p, form).map(Self::Together),
            _ => Layout::new(p, form).map(Self::Apart),
        }
    }

    pub const fn filter(&self) -> FilterRows {
        match self {
            Self::Apart(layout) => layout.filter,
            #[cfg(neon)]
            Self::Together(blocks) => blocks.filter,
        }
    }

    pub const fn image_bytes(&self) -> usize {
        match self {
            Self::Apart(layout) => layout.image_bytes(),
            #[cfg(neon)]
            Self::Together(blocks) => blocks.image_bytes(),
        }
    }

    /// Parts of the output begin at positions that this divides.
    pub const fn granule(&self) -> usize {
        match self {
            Self::Apart(layout) => layout.granule(),
            #[cfg(neon)]
            Self::Together(blocks) => blocks.granule(),
        }
    }
}

/// Rows and columns of the input, with padding, that windows touch; `None` if there are none or too many.
pub fn extents(p: &Conv2d) -> Option<[usize; 2]> {
    let extent = |axis: usize, windows: u16, dilation: usize| {
        let kernel = usize::from(p.window.kernel[axis]).checked_sub(1)?;
        Some(usize::from(windows).checked_sub(1)? * usize::from(p.window.stride[axis]) + kernel * dilation + 1)
    };
    let height = extent(0, p.output.h, p.window.dilation[0].into())?;
    // Kernels take adjacent columns.
    let width = extent(1, p.output.w, 1)?;
    (height.checked_mul(width)? <= MAX_IMAGE_BYTES).then_some([height, width])
}
