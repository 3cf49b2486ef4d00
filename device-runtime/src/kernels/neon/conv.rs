//! Convolution and fully connected layers.

use super::Level;
use super::finish::Finish;
use super::sums::{Dot, EightByEight, Matrix, Paired, Products, Wide};
use super::tiles::{Group, Places};
use crate::kernels::gather::{TILE, Taps, Walk};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`]. The processor has the instructions of `level`.
#[allow(clippy::too_many_arguments)]
pub fn conv2d(
    level: Level,
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, p.taps()).filter(|_| p.taps() != 0) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let finish = Finish::new(q, residual, bits);
    let walk = Walk::new(p, input, scratch);
    let call = Call { p, finish, weights };
    match level {
        Level::Matrix => call.eights::<Matrix>(walk, output),
        Level::Dot => call.eights::<Dot>(walk, output),
        // The exporter writes no such weights.
        Level::Base if weights.contains(&i8::MIN) => call.any_weights(walk, output),
        Level::Base => call.fours::<Paired>(walk, output),
    }
}

struct Call<'a> {
    p: &'a Conv2d,
    finish: Finish<'a>,
    weights: &'a [i8],
}

impl<'a> Call<'a> {
    /// Filters of group `index`, and the input channels they read.
    #[inline(always)]
    fn group(&self, index: usize) -> (Group<'a>, (usize, usize)) {
        let groups = usize::from(self.p.groups).max(1);
        let (inputs, outputs) = (usize::from(self.p.input.c) / groups, usize::from(self.p.output.c) / groups);
        let filters = Group { weights: self.weights, taps: self.p.taps(), first: index * outputs, count: outputs };
        (filters, (index * inputs, inputs))
    }

    /// Calls `turn` for every group with the taps of up to `most` windows at a time and the places of their results.
    #[inline(always)]
    fn for_each_turn(
        &self,
        mut walk: Walk<'_>,
        most: usize,
        output: &mut [i8],
        turn: impl Fn(&Group<'_>, &Taps, Places),
    ) {
        let step = usize::from(self.p.output.c).max(1);
        for pixels in output.chunks_mut(most * step) {
            let windows = walk.advance(most);
            for index in 0..usize::from(self.p.groups).max(1) {
                let (group, inputs) = self.group(index);
                walk.find(inputs);
                let first = pixels.as_mut_ptr().wrapping_add(group.first);
                turn(&group, &walk.taps, Places { first, step, windows });
            }
        }
    }

    #[inline(never)]
    fn fours<P: Products>(&self, walk: Walk<'_>, output: &mut [i8]) {
        self.for_each_turn(walk, 4, output, |group, taps, places| {
            // SAFETY: the processor has the instructions, and the places are those of as many whole pixels.
            unsafe {
                if places.windows == 1 {
                    group.one_window::<P>(&self.finish, taps, places);
                } else {
                    group.four_windows::<P>(&self.finish, taps, places);
                }
            }
        });
    }

    #[inline(never)]
    fn any_weights(&self, walk: Walk<'_>, output: &mut [i8]) {
        self.for_each_turn(walk, 4, output, |group, taps, places| {
            // SAFETY: as above.
            unsafe { group.rest::<Wide>(&self.finish, taps, (0, 0), places) };
        });
    }

    #[inline(never)]
    fn eights<T: EightByEight>(&self, walk: Walk<'_>, output: &mut [i8]) {
        self.for_each_turn(walk, TILE, output, |group, taps, places| {
            // SAFETY: as above.
            unsafe {
                match places.windows {
                    1 => group.one_window::<Dot>(&self.finish, taps, places),
                    2..=4 => group.four_windows::<Dot>(&self.finish, taps, places),
                    _ => group.eight_windows::<T>(&self.finish, taps, places),
                }
            }
        });
    }
}
