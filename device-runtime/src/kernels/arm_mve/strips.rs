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

/// Constants of up to sixteen channels.
#[repr(C, align(4))]
pub struct Constants {
    /// Per kernel column and channel: rows 0, 1, 2, then zero. A fourth column of zeros.
    pub weights: [[[i8; 4]; CHANNELS]; 4],
    /// Of four channels each: biases, multipliers, 32 less shifts less `bits`.
    pub scales: [[[i32; 4]; 3]; CHANNELS / 4],
}

/// Windows in a row.
#[repr(C)]
pub struct Walk {
    pub strip: *const Strip,
    /// Bytes from window to window of the strip.
    pub strip_step: usize,
    pub to: *mut i8,
    /// Bytes from place to place.
    pub step: usize,
    /// Groups of four channels, at least 1.
    pub groups: usize,
    /// Windows, at least 1.
    pub count: usize,
    pub zero_point: i32,
    /// Bits by which accumulators are shifted left.
    pub bits: u32,
}

/// Saturated int8 values of a row of windows.
///
/// # Safety
/// The strip holds three columns for every window, and one more word may be read of the last; every place has four bytes
/// per group. `walk` is used up.
#[unsafe(naked)]
pub unsafe extern "C" fn row_of_windows(walk: *mut Walk, constants: *const Constants) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "mov r12, r0",
        "mov r10, r1",
        "ldr r8, [r12, #24]",
        "ldr r9, [r12, #28]",
        "ldr r11, [r12, #16]",
        // Offsets of four columns, for each of four channels; the last column meets zero weights.
        "mov r0, #64",
        "mov r2, #0",
        "mov r4, #128",
        "mov r6, #192",
        "vmov q4[2], q4[0], r2, r4",
        "vmov q4[3], q4[1], r0, r6",
        "mov r0, #4",
        "vadd.i32 q5, q4, r0",
        "vadd.i32 q6, q5, r0",
        "vadd.i32 q7, q6, r0",
        "1:",
        "ldr r1, [r12]",
        "ldr r7, [r12, #8]",
        "mov r3, r10",
        "add r5, r10, #256",
        "dls lr, r11",
        "2:",
        "vldrw.u32 q0, [r3, q4]",
        "vldrw.u32 q1, [r1, q4]",
        "vmladav.s8 r0, q0, q1",
        "vldrw.u32 q2, [r3, q5]",
        "vldrw.u32 q3, [r1, q5]",
        "vmladav.s8 r2, q2, q3",
        "vldrw.u32 q0, [r3, q6]",
        "vldrw.u32 q1, [r1, q6]",
        "vmladav.s8 r4, q0, q1",
        "vldrw.u32 q2, [r3, q7]",
        "vldrw.u32 q3, [r1, q7]",
        "vmladav.s8 r6, q2, q3",
        "vldrw.u32 q1, [r5], #16",
        "vmov q0[2], q0[0], r0, r4",
        "vmov q0[3], q0[1], r2, r6",
        "vldrw.u32 q2, [r5], #16",
        "vadd.i32 q0, q0, q1",
        "vldrw.u32 q3, [r5], #16",
        "vshl.s32 q0, r9",
        "vmulh.s32 q0, q0, q2",
        "vrshl.s32 q0, q0, q3",
        "vadd.i32 q0, q0, r8",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [r7], #4",
        "add r1, r1, #16",
        "add r3, r3, #16",
        "le lr, 2b",
        "ldm r12, {{r0, r1, r2, r3}}",
        "ldr r4, [r12, #20]",
        "add r0, r0, r1",
        "add r2, r2, r3",
        "subs r4, r4, #1",
        "str r0, [r12]",
        "str r2, [r12, #8]",
        "str r4, [r12, #20]",
        "bne 1b",
        "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}
