//! Depthwise 3x3: sixteen channels of three rows, interleaved so that the nine taps of a channel fill three words.

use core::arch::naked_asm;

/// Channels of a strip.
pub const CHANNELS: usize = 16;
/// Input columns of a strip.
pub const COLUMNS: usize = 14;

/// Per input column and channel: rows 0, 1, 2, then zero.
#[repr(C, align(4))]
pub struct Strip(pub [[[i8; 4]; CHANNELS]; COLUMNS]);

/// Rows to interleave.
#[repr(C)]
pub struct Rows {
    /// First column of each row.
    pub from: [*const i8; 3],
    /// Bytes from column to column of each row.
    pub step: [usize; 3],
    pub to: *mut [[i8; 4]; CHANNELS],
    /// Channels in use, at most sixteen.
    pub lanes: usize,
    /// Columns, at least 1.
    pub count: usize,
}

/// Interleaves three rows.
///
/// # Safety
/// Each row has `lanes` readable bytes at every column, `to` room for `count` columns.
#[unsafe(naked)]
pub unsafe extern "C" fn interleave(rows: *const Rows) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, lr}}",
        "ldm r0, {{r0, r1, r2, r3, r4, r5, r6, r7, r8}}",
        "vmov.i32 q3, #0",
        "vctp.8 r7",
        "dls lr, r8",
        "1:",
        "vpsttt",
        "vldrbt.u8 q0, [r0]",
        "vldrbt.u8 q1, [r1]",
        "vldrbt.u8 q2, [r2]",
        "add r0, r0, r3",
        "vst40.8 {{q0, q1, q2, q3}}, [r6]",
        "add r1, r1, r4",
        "vst41.8 {{q0, q1, q2, q3}}, [r6]",
        "add r2, r2, r5",
        "vst42.8 {{q0, q1, q2, q3}}, [r6]",
        "vst43.8 {{q0, q1, q2, q3}}, [r6]!",
        "le lr, 1b",
        "pop {{r4, r5, r6, r7, r8, pc}}",
    )
}

/// Weights of up to sixteen channels: per kernel column and channel rows 0, 1, 2, then zero. A fourth column of zeros.
#[repr(C, align(4))]
pub struct Weights(pub [[[i8; 4]; CHANNELS]; 4]);

/// Windows in a row. Pointers are those of the first channel.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// The column of the strip that lies one step before the first window.
    pub strip: *const [[i8; 4]; CHANNELS],
    pub to: *mut i8,
    pub weights: *const Weights,
    pub bias: *const i32,
    pub shift: *const u8,
    pub multiplier: *const i32,
    /// Bytes from column to column of a strip: 0, 1, 2 and 3 times.
    pub columns: [u32; 4],
    /// Groups of four channels, at least 1.
    pub groups: usize,
    /// Windows, at least 1.
    pub count: usize,
    pub zero_point: i32,
    /// Bits by which accumulators are shifted left.
    pub bits: u32,
    /// Bytes from place to place.
    pub step: usize,
}

impl Walk {
    /// [`columns`](Self::columns) of every strip and of weights.
    pub const COLUMNS: [u32; 4] = {
        let column = size_of::<[[i8; 4]; CHANNELS]>() as u32;
        [0, column, 2 * column, 3 * column]
    };
}

macro_rules! row_of_windows {
    ($(#[$doc:meta])* $name:ident, $step:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(walk: *mut Walk) {
            naked_asm!(
                ".cpu cortex-m55",
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "mov r12, r0",
                "add r0, r12, #48",
                "ldm r0, {{r8, r9, r11}}",
                // Four channels: weights in q4 to q7, shifts in q2, the columns' addresses in q3.
                "1:",
                "ldm r12, {{r0, r1, r2, r3, r4, r5}}",
                "vldrw.u32 q0, [r12, #24]",
                "vadd.i32 q1, q0, r2",
                "vadd.i32 q3, q0, r0",
                "vldrw.u32 q4, [q1]",
                "vldrw.u32 q5, [q1, #4]",
                "vldrw.u32 q6, [q1, #8]",
                "vldrw.u32 q7, [q1, #12]",
                "vldrb.u32 q2, [r4], #4",
                "rsb r6, r9, #32",
                "vneg.s32 q2, q2",
                "vadd.i32 q2, q2, r6",
                "add r0, r0, #16",
                "add r6, r1, #4",
                "add r2, r2, #16",
                "add r7, r3, #16",
                "add r10, r5, #16",
                "strd r0, r6, [r12]",
                "strd r2, r7, [r12, #8]",
                "strd r4, r10, [r12, #16]",
                "ldr r0, [r12, #44]",
                "dls lr, r0",
                "2:",
                concat!("vldrw.u32 q0, [q3, #", $step, "]!"),
                "vmladav.s8 r0, q0, q4",
                "vldrw.u32 q1, [q3, #4]",
                "vmladav.s8 r2, q1, q5",
                "vldrw.u32 q0, [q3, #8]",
                "vmladav.s8 r4, q0, q6",
                "vldrw.u32 q1, [q3, #12]",
                "vmladav.s8 r6, q1, q7",
                "vldrw.u32 q1, [r3]",
                "vmov q0[2], q0[0], r0, r4",
                "vmov q0[3], q0[1], r2, r6",
                "vadd.i32 q0, q0, q1",
                "vldrw.u32 q1, [r5]",
                "vshl.s32 q0, r9",
                "vmulh.s32 q0, q0, q1",
                "vrshl.s32 q0, q0, q2",
                "vqmovnb.s32 q0, q0",
                "vqadd.s16 q0, q0, r8",
                "vqmovnb.s16 q0, q0",
                "vstrb.32 q0, [r1]",
                "add r1, r1, r11",
                "le lr, 2b",
                "ldr r0, [r12, #40]",
                "subs r0, r0, #1",
                "str r0, [r12, #40]",
                "bne 1b",
                "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
            )
        }
    };
}

row_of_windows! {
    /// Saturated int8 values of a row of windows that are one column apart.
    ///
    /// # Safety
    /// The strip holds three columns for every window, and one more word may be read of the last; every place has four bytes
    /// per group, tables have four entries per group. `walk` is used up.
    row_of_windows, "64"
}
row_of_windows! {
    /// As [`row_of_windows`], two columns apart.
    ///
    /// # Safety
    /// As [`row_of_windows`].
    row_of_wide_windows, "128"
}
