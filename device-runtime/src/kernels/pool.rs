//! Pooling.

use super::check;
use super::isa::Isa;
use super::params::{Landing, Pool2d, ShapeError};
use super::requantize::requantize_once;
use super::windows::{Span, Windows};

/// Largest value under each window, per channel. Taps outside the input are skipped; a window with no tap inside gives
/// -128. Scale and zero point of the input carry over.
///
/// # Errors
/// A [`ShapeError`] that names the argument whose length does not match `p`.
pub fn max_pool_s8(isa: Isa, p: &Pool2d, input: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    check::pool(p, input, output)?;
    match isa {
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => largest(p, input, output, super::neon::raise),
        _ => largest(p, input, output, raise),
    }
    Ok(())
}

/// `raise` is [`raise`].
#[inline(always)]
fn largest(p: &Pool2d, input: &[i8], output: &mut [i8], raise: impl Fn(&mut [i8], &[i8])) {
    let channels = usize::from(p.output.c).max(1);
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        pixel.fill(i8::MIN);
        for_each_tap(p, window, input, |taps| raise(pixel, taps));
    }
}

/// Raises values to those of `taps`, which are as many or none.
#[inline(always)]
pub(super) fn raise(values: &mut [i8], taps: &[i8]) {
    for (y, &x) in values.iter_mut().zip(taps) {
        *y = x.max(*y);
    }
}

/// Mean over each window, per channel: `requantize(sum(x - input_zero_point), multiplier, shift, landing)`.
///
/// Taps outside the input count as the zero point, so the divisor is the full window; its reciprocal and both scales are
/// in `multiplier` and `shift`.
///
/// # Errors
/// A [`ShapeError`] that names the argument whose length does not match `p`.
#[allow(clippy::too_many_arguments)]
pub fn avg_pool_s8(
    isa: Isa,
    p: &Pool2d,
    input_zero_point: i8,
    multiplier: i32,
    shift: u8,
    landing: Landing,
    input: &[i8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::pool(p, input, output)?;
    let mean = Mean { p, input_zero_point, multiplier, shift, landing, input };
    match isa {
        #[cfg(arm_dsp)]
        Isa::ArmDsp => mean.all(output, super::arm_dsp::sum_row),
        #[cfg(arm_neon)]
        Isa::ArmNeon => mean.all(output, super::arm_dsp::sum_row),
        #[cfg(arm_mve)]
        Isa::ArmMve => mean.all(output, super::arm_mve::sum_row),
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => mean.all(output, super::neon::sum_row),
        _ => mean.all(output, sum_row),
    }
    Ok(())
}

/// One mean pooling.
struct Mean<'a> {
    p: &'a Pool2d,
    input_zero_point: i8,
    multiplier: i32,
    shift: u8,
    landing: Landing,
    input: &'a [i8],
}

impl Mean<'_> {
    /// `sum_row` adds `N` adjacent channels of positions that lie a step apart; see [`sum_row`].
    #[inline(always)]
    fn all<const N: usize>(&self, output: &mut [i8], sum_row: impl Fn(&mut [i32; N], &[i8], usize, usize) -> bool) {
        let channels = usize::from(self.p.output.c).max(1);
        let mut windows = Windows::new(&self.p.window, self.p.input, self.p.output);
        for pixel in output.chunks_exact_mut(channels) {
            let (rows, columns) = self.merged(windows.pass());
            let zero_points = i32::from(self.input_zero_point).wrapping_mul((rows.count * columns.count) as i32);
            for first in (0..channels).step_by(N) {
                // The last channels are summed with some before them: a whole block ends with its position.
                let first = first.min(channels.saturating_sub(N));
                let sums = self.sums((rows, columns), first, &sum_row);
                for (y, sum) in pixel.iter_mut().skip(first).zip(sums) {
                    *y = requantize_once(sum.wrapping_sub(zero_points), self.multiplier, self.shift, self.landing);
                }
            }
        }
    }

    /// Rows as wide as the input follow one another: they are one long row.
    #[inline(always)]
    fn merged(&self, (rows, columns): (Span, Span)) -> (Span, Span) {
        let is_one = columns.count == usize::from(self.p.input.w) && self.p.window.dilation == [1, 1];
        match rows.count * columns.count {
            all @ 1..256 if is_one => (Span { count: 1, ..rows }, Span { count: all, ..columns }),
            _ => (rows, columns),
        }
    }

    /// Sums of the channels from `first` on, at most `N`, over the taps inside the input.
    #[inline(always)]
    fn sums<const N: usize>(
        &self,
        (rows, columns): (Span, Span),
        first: usize,
        sum_row: impl Fn(&mut [i32; N], &[i8], usize, usize) -> bool,
    ) -> [i32; N] {
        let [row_step, column_step] = self.p.window.dilation.map(usize::from);
        let channels = usize::from(self.p.input.c);
        let step = column_step * channels;
        let mut sums = [0i32; N];
        for row in 0..rows.count {
            let position = (rows.start + row * row_step) * usize::from(self.p.input.w) + columns.start;
            let mut taps = self.input.get(position * channels + first..).unwrap_or(&[]);
            if sum_row(&mut sums, taps, step, columns.count) {
                continue;
            }
            // Fewer channels than a block.
            for _ in 0..columns.count {
                sums.iter_mut().zip(taps).for_each(|(sum, &x)| *sum = sum.wrapping_add(x.into()));
                taps = taps.get(step..).unwrap_or(&[]);
            }
        }
        sums
    }
}

/// Adds four channels of `count` positions, `step` bytes apart from the start of `taps` on, to `sums`; at most 255 positions.
/// Returns false, with `sums` as they were, if there are none or `taps` does not hold four channels of each.
#[inline(always)]
fn sum_row(sums: &mut [i32; 4], mut taps: &[i8], step: usize, count: usize) -> bool {
    if count == 0 || taps.len() < (count - 1) * step + 4 {
        return false;
    }
    for _ in 0..count {
        let Some(four) = taps.first_chunk::<4>() else { return true };
        sums[0] = sums[0].wrapping_add(four[0].into());
        sums[1] = sums[1].wrapping_add(four[1].into());
        sums[2] = sums[2].wrapping_add(four[2].into());
        sums[3] = sums[3].wrapping_add(four[3].into());
        taps = taps.get(step..).unwrap_or(&[]);
    }
    true
}

/// Calls `visit` with the channels of every tap inside the input.
#[inline(always)]
fn for_each_tap<'a>(p: &Pool2d, (rows, columns): (Span, Span), input: &'a [i8], mut visit: impl FnMut(&'a [i8])) {
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    for row in 0..rows.count {
        let first = (rows.start + row * row_step) * usize::from(p.input.w) + columns.start;
        for column in 0..columns.count {
            let start = (first + column * column_step) * channels;
            visit(input.get(start..start.wrapping_add(channels)).unwrap_or(&[]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::{Shape, Window};
    use super::*;

    const SQUARE: Window = Window { kernel: [2, 2], stride: [2, 2], pad: [0, 0], dilation: [1, 1] };
    const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };

    fn pool(window: Window, input: Shape, output: Shape) -> Pool2d {
        Pool2d { input, output, window }
    }

    #[test]
    fn the_largest_tap_of_each_channel_wins() {
        let p = pool(SQUARE, Shape::new(2, 4, 2), Shape::new(1, 2, 2));
        let input = [1, -1, 2, -2, 9, 0, 0, 9, 3, -3, 4, -4, 0, 0, 0, 0];
        let mut output = [0; 4];
        assert_eq!(max_pool_s8(Isa::best(), &p, &input, &mut output), Ok(()));
        assert_eq!(output, [4, -1, 9, 9]);
    }

    #[test]
    fn every_channel_has_a_maximum_of_its_own() {
        for channels in 1..40u16 {
            let p = pool(SQUARE, Shape::new(2, 2, channels), Shape::new(1, 1, channels));
            let input: Vec<i8> = (0..4 * usize::from(channels)).map(|i| (i * 37 % 251) as u8 as i8).collect();
            let largest = |channel| input.iter().skip(channel).step_by(channels.into()).max().copied();
            let mut output = vec![0; channels.into()];
            for &isa in Isa::available() {
                assert_eq!(max_pool_s8(isa, &p, &input, &mut output), Ok(()));
                let want: Vec<i8> = (0..channels.into()).filter_map(largest).collect();
                assert_eq!(output, want, "{channels} channels, {}", isa.name());
            }
        }
    }

    #[test]
    fn maximum_skips_taps_outside_the_input() {
        let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1, 1], dilation: [1, 1] };
        let p = pool(window, Shape::new(2, 2, 1), Shape::new(2, 2, 1));
        let mut output = [0; 4];
        assert_eq!(max_pool_s8(Isa::best(), &p, &[-100, -90, -80, -70], &mut output), Ok(()));
        assert_eq!(output, [-70; 4]);
    }

    #[test]
    fn mean_counts_outside_taps_as_the_zero_point() {
        let window = Window { kernel: [2, 2], stride: [2, 2], pad: [1, 1], dilation: [1, 1] };
        let p = pool(window, Shape::new(2, 2, 1), Shape::new(1, 1, 1));
        // One tap inside: (30 - 10) / 4 = 5, landing on zero point 3.
        let landing = Landing { zero_point: 3, ..WIDE };
        let mut output = [0];
        let result = avg_pool_s8(Isa::best(), &p, 10, 1 << 30, 32, landing, &[30, 1, 2, 3], &mut output);
        assert_eq!((result, output), (Ok(()), [8]));
    }

    #[test]
    fn mean_rounds_half_up_for_every_channel() {
        let channels = 21;
        let p = pool(SQUARE, Shape::new(2, 2, channels), Shape::new(1, 1, channels));
        // Sums 2 and -2 over four taps: 0.5 becomes 1, -0.5 becomes 0.
        let input: Vec<i8> = (0..4 * usize::from(channels))
            .map(|i| {
                if i >= 2 * usize::from(channels) {
                    0
                } else if i % usize::from(channels) % 2 == 0 {
                    1
                } else {
                    -1
                }
            })
            .collect();
        let mut output = vec![9; usize::from(channels)];
        assert_eq!(avg_pool_s8(Isa::best(), &p, 0, 1 << 30, 32, WIDE, &input, &mut output), Ok(()));
        let want: Vec<i8> = (0..channels).map(|c| i8::from(c % 2 == 0)).collect();
        assert_eq!(output, want);
    }

    #[test]
    fn narrow_inputs_are_summed_to_their_last_channel() {
        for channels in 1..12 {
            for width in 1..6 {
                let window = Window { kernel: [2, width as u8], ..Window::POINT };
                let p = pool(window, Shape::new(2, width, channels), Shape::new(1, 1, channels));
                let positions = 2 * usize::from(width);
                let c = usize::from(channels);
                let input: Vec<i8> = (0..positions * c).map(|i| (i % c) as i8 - (i / c) as i8).collect();
                // The sum itself.
                for &isa in Isa::available() {
                    let mut output = vec![0; c];
                    assert_eq!(avg_pool_s8(isa, &p, 0, 1 << 30, 30, WIDE, &input, &mut output), Ok(()));
                    let want = |c: i32| c * positions as i32 - (positions * (positions - 1) / 2) as i32;
                    let want: Vec<i8> = (0..channels).map(|c| want(c.into()).clamp(-128, 127) as i8).collect();
                    assert_eq!(output, want, "{channels} channels, {width} columns");
                }
            }
        }
    }

    #[test]
    fn impossible_geometry_is_refused() {
        let still = Window { stride: [0, 1], ..SQUARE };
        let one = Shape::new(1, 1, 1);
        assert_eq!(max_pool_s8(Isa::best(), &pool(still, one, one), &[0], &mut [0]), Err(ShapeError::Geometry));
        let changes_channels = pool(SQUARE, one, Shape::new(1, 1, 2));
        assert_eq!(max_pool_s8(Isa::best(), &changes_channels, &[0], &mut [0; 2]), Err(ShapeError::Geometry));
        assert_eq!(max_pool_s8(Isa::best(), &pool(SQUARE, one, one), &[0; 2], &mut [0]), Err(ShapeError::Input));
    }
}
