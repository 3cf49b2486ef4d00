//! Loops over filters: sums of products of three windows, or of one.

use core::arch::naked_asm;

/// Windows of one block.
pub const WINDOWS: usize = 3;
/// Filters of one block at most.
pub const CHUNK: usize = 64;

/// Sums of a block, bias excluded.
pub type Sums = [[i32; CHUNK]; WINDOWS];

/// Filters over windows.
#[repr(C)]
pub struct Block {
    /// Taps of each window, adjacent.
    pub windows: [*const i8; WINDOWS],
    pub weights: *const i8,
    /// Taps per window and weights per filter, at least 1.
    pub taps: usize,
    /// Turns: pairs of filters, or groups of four; at least 1.
    pub turns: usize,
    /// Where the first window's sums go.
    pub sums: *mut i32,
    /// Bytes from the first filter of a turn to the next one; anything but `taps` allows only one turn.
    pub filter_step: usize,
}

macro_rules! three_windows {
    ($(#[$doc:meta])* $name:ident, [$($start:literal),*], [$($turn:literal),*], $end:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(block: &Block) {
            naked_asm!(
                ".cpu cortex-m55",
                ".macro stitchkit_vectors",
                "vldrb.u8 q0, [r1], #16",
                "vldrb.u8 q1, [r3], #16",
                "vldrb.u8 q2, [r5], #16",
                "vmladava.s8 r0, q0, q2",
                "vldrb.u8 q3, [r7], #16",
                "vmladava.s8 r2, q1, q2",
                "vldrb.u8 q2, [r9], #16",
                "vmladava.s8 r4, q0, q3",
                "vmladava.s8 r6, q1, q3",
                "vmladava.s8 r8, q0, q2",
                "vmladava.s8 r10, q1, q2",
                ".endm",
                "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
                "ldm r0, {{r5, r7, r9}}",
                "ldrd r1, r11, [r0, #12]",
                "ldrd r4, r12, [r0, #20]",
                "ldr r3, [r0, #28]",
                // On the stack: the windows, the end of the sums, from the end of a filter read in whole vectors to its own,
                // and the rounds of three vectors.
                "add r4, r12, r4, lsl #3",
                "and r6, r11, #15",
                "cmp r6, #0",
                "it ne",
                "subne r6, r6, #16",
                "mov r8, #48",
                "udiv r8, r11, r8",
                "sub sp, sp, #24",
                "stm sp, {{r5, r7, r9}}",
                "strd r4, r6, [sp, #12]",
                "str r8, [sp, #20]",
                "add r3, r3, r1",
                "1:",
                "ldm sp, {{r5, r7, r9}}",
                "mov r0, #0",
                "mov r2, #0",
                "mov r4, #0",
                "mov r6, #0",
                "mov r8, #0",
                "mov r10, #0",
                $($start,)*
                "2:",
                $($turn,)*
                $end,
                "strd r4, r6, [r12, #256]",
                "strd r8, r10, [r12, #512]",
                "strd r0, r2, [r12], #8",
                "ldrd r4, r6, [sp, #12]",
                "add r1, r3, r6",
                "add r3, r1, r11",
                "cmp r12, r4",
                "bne 1b",
                "add sp, sp, #24",
                "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
                ".purgem stitchkit_vectors",
            )
        }
    };
}

three_windows! {
    /// Sums of two filters per turn over three windows of any number of taps.
    ///
    /// # Safety
    /// Windows and filters have `taps` readable bytes each; `sums` points into [`Sums`], with two places per turn.
    three_windows, ["dlstp.8 lr, r11"], ["stitchkit_vectors"], "letp lr, 2b"
}
three_windows! {
    /// As [`three_windows`], for a multiple of 48 taps.
    ///
    /// # Safety
    /// As [`three_windows`].
    three_windows_of_48s, ["ldr lr, [sp, #20]", "dls lr, lr"],
    ["stitchkit_vectors", "stitchkit_vectors", "stitchkit_vectors"], "le lr, 2b"
}

/// As [`three_windows`], for at most 16 taps.
///
/// # Safety
/// As [`three_windows`].
#[unsafe(naked)]
pub unsafe extern "C" fn three_windows_of_16(block: &Block) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "vpush {{d8, d9}}",
        "ldm r0, {{r4, r5, r6, r7, r8, r9, r10, r11}}",
        "vctp.8 r8",
        "vpsttt",
        "vldrbt.u8 q2, [r4]",
        "vldrbt.u8 q3, [r5]",
        "vldrbt.u8 q4, [r6]",
        "mov r1, r7",
        "add r3, r7, r11",
        "lsl r5, r8, #1",
        "mov r7, r10",
        "dls lr, r9",
        "1:",
        "vpstt",
        "vldrbt.u8 q0, [r1]",
        "vldrbt.u8 q1, [r3]",
        "add r1, r1, r5",
        "vmladav.s8 r0, q0, q2",
        "vmladav.s8 r2, q1, q2",
        "add r3, r3, r5",
        "vmladav.s8 r4, q0, q3",
        "vmladav.s8 r6, q1, q3",
        "vmladav.s8 r8, q0, q4",
        "vmladav.s8 r10, q1, q4",
        "strd r4, r6, [r7, #256]",
        "strd r8, r10, [r7, #512]",
        "strd r0, r2, [r7], #8",
        "le lr, 1b",
        "vpop {{d8, d9}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}

/// As [`three_windows`], for 17 to 32 taps.
///
/// # Safety
/// As [`three_windows`].
#[unsafe(naked)]
pub unsafe extern "C" fn three_windows_of_32(block: &Block) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "vpush {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "ldm r0, {{r4, r5, r6, r7, r8, r9, r10, r11}}",
        "sub r12, r8, #16",
        "vctp.8 r12",
        "vldrb.u8 q2, [r4]",
        "vldrb.u8 q4, [r5]",
        "vldrb.u8 q6, [r6]",
        "vpsttt",
        "vldrbt.u8 q3, [r4, #16]",
        "vldrbt.u8 q5, [r5, #16]",
        "vldrbt.u8 q7, [r6, #16]",
        "mov r1, r7",
        "add r3, r7, r11",
        "lsl r5, r8, #1",
        "mov r7, r10",
        "dls lr, r9",
        "1:",
        "vldrb.u8 q0, [r1]",
        "vpst",
        "vldrbt.u8 q1, [r1, #16]",
        "vmladav.s8 r0, q0, q2",
        "vmladav.s8 r4, q0, q4",
        "vmladav.s8 r8, q0, q6",
        "vmladava.s8 r0, q1, q3",
        "vldrb.u8 q0, [r3]",
        "vmladava.s8 r4, q1, q5",
        "vmladava.s8 r8, q1, q7",
        "vpst",
        "vldrbt.u8 q1, [r3, #16]",
        "vmladav.s8 r2, q0, q2",
        "vmladav.s8 r6, q0, q4",
        "vmladav.s8 r10, q0, q6",
        "vmladava.s8 r2, q1, q3",
        "vmladava.s8 r6, q1, q5",
        "vmladava.s8 r10, q1, q7",
        "add r1, r1, r5",
        "add r3, r3, r5",
        "strd r4, r6, [r7, #256]",
        "strd r8, r10, [r7, #512]",
        "strd r0, r2, [r7], #8",
        "le lr, 1b",
        "vpop {{d8, d9, d10, d11, d12, d13, d14, d15}}",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}

/// Sums of four filters per turn over the first window.
///
/// # Safety
/// As [`three_windows`], with four places per turn in the first window's sums.
#[unsafe(naked)]
pub unsafe extern "C" fn one_window(block: &Block) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldrd r1, r11, [r0, #12]",
        "ldrd r10, r12, [r0, #20]",
        "ldr r8, [r0]",
        "1:",
        "mov r9, r8",
        "add r3, r1, r11",
        "add r5, r3, r11",
        "add r7, r5, r11",
        "mov r0, #0",
        "mov r2, #0",
        "mov r4, #0",
        "mov r6, #0",
        "dlstp.8 lr, r11",
        "2:",
        "vldrb.u8 q0, [r9], #16",
        "vldrb.u8 q1, [r1], #16",
        "vldrb.u8 q2, [r3], #16",
        "vmladava.s8 r0, q0, q1",
        "vldrb.u8 q3, [r5], #16",
        "vmladava.s8 r2, q0, q2",
        "vldrb.u8 q1, [r7], #16",
        "vmladava.s8 r4, q0, q3",
        "vmladava.s8 r6, q0, q1",
        "letp lr, 2b",
        "stm r12!, {{r0, r2, r4, r6}}",
        // Back from the end of the vectors to that of the filter.
        "add r7, r11, #15",
        "bic r7, r7, #15",
        "sub r7, r3, r7",
        "add r1, r7, r11, lsl #1",
        "add r1, r1, r11",
        "subs r10, r10, #1",
        "bne 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}
