//! Tiles of the convolution in assembly: one or two windows and four filters, from taps to stored values.

use core::mem::offset_of;

use super::finish::Landings;
use crate::kernels::gather::{TILE, Taps};
use crate::kernels::params::Requant;

/// What a call works on. Filters go by four (a quad); for each quad, all windows. Calls change it.
#[repr(C, align(8))]
pub struct Tile {
    /// First tap of `[kernel row][window]`.
    pub rows: *const [*const i8; TILE],
    /// Kernel rows, at least 1.
    pub row_count: usize,
    /// Adjacent taps of a row, a multiple of 8 and not 0, plus how many bytes of a tail come before its taps, 0 if there are no
    /// tails.
    pub len: usize,
    /// Eight bytes per window that end with the taps after the only row's.
    pub tails: *const [i8; 8],
    /// First tap of adjacent windows of one row of all taps.
    pub input: *const i8,
    /// First tap of the quad's first filter.
    pub weights: *const i8,
    /// From filter to filter.
    pub taps: usize,
    /// Quads, at least 1.
    pub quads: usize,
    /// Biases from the first filter on.
    pub bias: *const i32,
    /// Multipliers from the first filter on.
    pub multiplier: *const i32,
    /// Shifts from the first filter on.
    pub shift: *const u8,
    /// Where the first filter's result for the first window goes.
    pub place: *mut i8,
    /// Bytes from window to window.
    pub step: usize,
    /// Turns over the windows per quad, at least 1: windows, or pairs of windows.
    pub turns: usize,
    /// [`Landings::shift_base`] of `landings`.
    shift_base: i32,
    /// Bias, multiplier and left shift of a quad.
    tables: [[i32; 4]; 3],
    /// Loaded together with the tables before them.
    landings: Landings,
}

impl Tile {
    /// A tile without windows and filters.
    pub fn new(landings: Landings) -> Self {
        Self {
            rows: core::ptr::null(),
            row_count: 1,
            len: 0,
            tails: core::ptr::null(),
            input: core::ptr::null(),
            weights: core::ptr::null(),
            taps: 0,
            quads: 0,
            bias: core::ptr::null(),
            multiplier: core::ptr::null(),
            shift: core::ptr::null(),
            place: core::ptr::null_mut(),
            step: 0,
            turns: 0,
            shift_base: landings.shift_base(),
            tables: [[0; 4]; 3],
            landings,
        }
    }

    /// Takes `quads` times four filters of `taps` taps from `first` on.
    #[inline(always)]
    pub fn set_filters(&mut self, weights: &[i8], q: &Requant<'_>, taps: usize, (first, quads): (usize, usize)) {
        self.weights = weights.as_ptr().wrapping_add(first * taps);
        self.taps = taps;
        self.quads = quads;
        self.bias = q.bias.as_ptr().wrapping_add(first);
        self.multiplier = q.multiplier.as_ptr().wrapping_add(first);
        self.shift = q.shift.as_ptr().wrapping_add(first);
    }

    /// Takes the windows from `first` on.
    #[inline(always)]
    pub fn set_windows(&mut self, taps: &Taps, first: usize) {
        self.rows = taps.rows.as_ptr().cast::<*const i8>().wrapping_add(first).cast();
        self.row_count = taps.row_count;
        self.len = taps.len | ((8 - taps.tail) & 7);
        self.tails = taps.tails.as_ptr().wrapping_add(first);
    }
}

/// Eight taps of two windows and four filters; see [`row`].
macro_rules! last_eight {
    ($back:literal, $add:literal) => {
        concat!("vld1.8 {{d0}}, [r2]", $back, "\n", "vld1.8 {{d4}}, [r3]", $back, "\n", pair!(pair_8, $add),)
    };
}

/// A row's taps of two windows and four filters, up to label 15: 32 at a time, then 16, then 8, as bits of `lr` say. `$back` is
/// `!` where the taps behind them are read next. Rows of less than 32 taps are at label 18, [`short_row`].
macro_rules! row {
    ($back:literal) => {
        concat!(
            "lsrs r1, lr, #5\n",
            "beq 18f\n",
            "vld1.8 {{d0-d3}}, [r2]!\n",
            "vld1.8 {{d4-d7}}, [r3]!\n",
            pair!(pair_32, "vpaddl"),
            "subs r1, r1, #1\n",
            "beq 13f\n",
            "12:\n",
            "vld1.8 {{d0-d3}}, [r2]!\n",
            "vld1.8 {{d4-d7}}, [r3]!\n",
            pair!(pair_32, "vpadal"),
            "subs r1, r1, #1\n",
            "bne 12b\n",
            "13:\n",
            // Carry: sixteen more; minus: eight more.
            "lsls r1, lr, #28\n",
            "bcc 14f\n",
            "vld1.8 {{d0-d1}}, [r2]!\n",
            "vld1.8 {{d4-d5}}, [r3]!\n",
            pair!(pair_16, "vpadal"),
            "14:\n",
            "bpl 15f\n",
            last_eight!($back, "vpadal"),
        )
    };
}

/// First rows of less than 32 taps.
macro_rules! short_row {
    ($back:literal) => {
        concat!(
            "18:\n",
            "lsls r1, lr, #28\n",
            "bcc 19f\n",
            "vld1.8 {{d0-d1}}, [r2]!\n",
            "vld1.8 {{d4-d5}}, [r3]!\n",
            pair!(pair_16, "vpaddl"),
            "b 14b\n",
            "19:\n",
            last_eight!($back, "vpaddl"),
            "b 15b\n",
        )
    };
}

/// [`pairs`] and [`pairs_shifted`].
macro_rules! pairs {
    ($(#[$doc:meta])* $name:ident, $shift:literal) => {
        tile_function!(
            $(#[$doc])*
            $name,
            enter!(),
            "ldr lr, [r0, #{len}]",
            "10:",
            tables!(),
            "ldr r1, [r0, #{taps}]",
            "ldr r4, [r0, #{weights}]",
            "ldr r10, [r0, #{rows}]",
            "ldr r11, [r0, #{turns}]",
            "ldr r12, [r0, #{place}]",
            "add r5, r4, r1",
            "add r6, r5, r1",
            "add r7, r6, r1",
            "11:",
            "mov r8, r10",
            "ldr r9, [r0, #{row_count}]",
            "add r10, r10, #8",
            "ldrd r2, r3, [r8], #32",
            row!(""),
            "15:",
            "subs r9, r9, #1",
            "beq 16f",
            "ldrd r2, r3, [r8], #32",
            "lsrs r1, lr, #5",
            "bne 12b",
            "b 13b",
            "16:",
            "ands r1, lr, #7",
            "beq 17f",
            "ldr r2, [r0, #{tails}]",
            "ldr r3, [r0, #{rows}]",
            "sub r3, r10, r3",
            "sub r3, r3, #8",
            "add r2, r2, r3, lsl #1",
            "vld1.8 {{d0}}, [r2]!",
            "vld1.8 {{d4}}, [r2]",
            "sub r4, r4, r1",
            "sub r5, r5, r1",
            "sub r6, r6, r1",
            "sub r7, r7, r1",
            pair!(pair_8, "vpadal"),
            "17:",
            "ldr r1, [r0, #{step}]",
            finish_pair!($shift, "r2"),
            // Every filter ends where the next begins.
            "mov r7, r6",
            "mov r6, r5",
            "mov r5, r4",
            "ldr r4, [r0, #{weights}]",
            "vst1.32 {{d0[0]}}, [r12], r1",
            "vst1.32 {{d0[1]}}, [r12], r1",
            "subs r11, r11, #1",
            "bne 11b",
            next_quad!(),
            short_row!(""),
        );
    };
}

pairs!(
    /// All filters for pairs of windows. Adds two products in 16 bits: exact unless some weight is -128. There are no bits to
    /// shift sums by.
    ///
    /// # Safety
    /// The processor has the vectors; all pointers of `tile` are good for what it says, with `2 * turns` windows.
    pairs,
    "// "
);
pairs!(
    /// [`pairs`] with bits to shift sums by.
    ///
    /// # Safety
    /// As [`pairs`].
    pairs_shifted,
    "vshl.s32"
);

/// [`adjacent`] and [`adjacent_shifted`].
macro_rules! adjacent {
    ($(#[$doc:meta])* $name:ident, $shift:literal) => {
        tile_function!(
            $(#[$doc])*
            $name,
            enter!(),
            "ldr lr, [r0, #{len}]",
            "ldr r8, [r0, #{taps}]",
            "ldr r10, [r0, #{step}]",
            "10:",
            tables!(),
            "ldr r9, [r0, #{weights}]",
            "ldr r3, [r0, #{input}]",
            "ldr r11, [r0, #{turns}]",
            "ldr r12, [r0, #{place}]",
            "11:",
            "mov r2, r3",
            "add r3, r3, r8",
            "mov r4, r9",
            "add r5, r4, r8",
            "add r6, r5, r8",
            "add r7, r6, r8",
            row!("!"),
            "15:",
            finish_pair!($shift, "r1"),
            "subs r11, r11, #1",
            "vst1.32 {{d0[0]}}, [r12], r10",
            "vst1.32 {{d0[1]}}, [r12], r10",
            "bne 11b",
            next_quad!(),
            short_row!("!"),
        );
    };
}

adjacent!(
    /// [`pairs`] for windows that follow one another at [`Tile::input`] and have one row of [`Tile::taps`] taps, which is also
    /// their [`Tile::len`].
    ///
    /// # Safety
    /// As [`pairs`].
    adjacent,
    "// "
);
adjacent!(
    /// [`adjacent`] with bits to shift sums by.
    ///
    /// # Safety
    /// As [`pairs`].
    adjacent_shifted,
    "vshl.s32"
);

tile_function!(
    /// All filters for windows one by one. Exact for all weights.
    ///
    /// # Safety
    /// The processor has the vectors; all pointers of `tile` are good for what it says, with `turns` windows.
    singles,
    enter!(),
    "ldr lr, [r0, #{len}]",
    "10:",
    tables!(),
    "ldr r10, [r0, #{rows}]",
    "ldr r11, [r0, #{turns}]",
    "ldr r12, [r0, #{place}]",
    "11:",
    "ldr r1, [r0, #{taps}]",
    "ldr r4, [r0, #{weights}]",
    "ldr r9, [r0, #{row_count}]",
    "mov r8, r10",
    "add r5, r4, r1",
    "add r6, r5, r1",
    "add r7, r6, r1",
    "add r10, r10, #4",
    "vmov.i32 q8, #0",
    "vmov.i32 q9, #0",
    "vmov.i32 q10, #0",
    "vmov.i32 q11, #0",
    // Kernel rows.
    "12:",
    "ldr r2, [r8], #32",
    "lsrs r1, lr, #5",
    "beq 14f",
    "13:",
    "vld1.8 {{d0-d3}}, [r2]!",
    single!(single_32),
    "subs r1, r1, #1",
    "bne 13b",
    "14:",
    "ands r1, lr, #24",
    "beq 16f",
    "15:",
    "vld1.8 {{d0}}, [r2]!",
    single!(single_8),
    "subs r1, r1, #8",
    "bne 15b",
    "16:",
    "subs r9, r9, #1",
    "bne 12b",
    "ands r1, lr, #7",
    "beq 17f",
    "ldr r2, [r0, #{tails}]",
    "ldr r3, [r0, #{rows}]",
    "sub r3, r10, r3",
    "sub r3, r3, #4",
    "add r2, r2, r3, lsl #1",
    "vld1.8 {{d0}}, [r2]",
    "sub r4, r4, r1",
    "sub r5, r5, r1",
    "sub r6, r6, r1",
    "sub r7, r7, r1",
    single!(single_8),
    "17:",
    "ldr r1, [r0, #{step}]",
    "add r2, r0, #{tables}",
    "vpadd.i32 d16, d16, d17",
    "vpadd.i32 d18, d18, d19",
    "vpadd.i32 d20, d20, d21",
    "vpadd.i32 d22, d22, d23",
    "vpadd.i32 d0, d16, d18",
    "vpadd.i32 d1, d20, d22",
    "vldmia r2, {{d16-d27}}",
    "vadd.i32 q0, q0, q8",
    "vshl.s32 q0, q0, q11",
    "vqdmulh.s32 q0, q0, q9",
    "vrshl.s32 q0, q0, q10",
    "vqmovn.s32 d0, q0",
    "vqadd.s16 d0, d0, d24",
    "vqmovn.s16 d0, q0",
    "vmax.s8 d0, d0, d26",
    "vmin.s8 d0, d0, d27",
    "vst1.32 {{d0[0]}}, [r12], r1",
    "subs r11, r11, #1",
    "bne 11b",
    next_quad!(),
);
