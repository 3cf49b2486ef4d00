/* C interface of the stitchkit runtime. Generated from examples/c-firmware/src by `cargo run -p generate-header`; do not edit.
 *
 * Ownership    The library allocates nothing and frees nothing. Handles (StkBundle, StkSession) are memory of the caller;
 *              there is nothing to close. A bundle handle refers to the bundle's bytes, a session to its bundle handle and its
 *              arena: what is referred to must stay where it is, unchanged, for as long as the handle is used. Pointers that a
 *              function returns point into the bundle or the arena.
 * Threads      A bundle handle never changes after stk_open and may be used by several threads. A session and its arena
 *              belong to one thread at a time. No function blocks or keeps state of its own.
 * Alignment    Bundle bytes and arenas start on a STK_ALIGNMENT-byte boundary. Handles have the alignment of their type.
 * Arguments    Null and misaligned pointers, indices and lengths are checked and refused. What cannot be checked is that
 *              pointers lead to as much memory as their lengths say, and that handles are zeroed (`StkBundle b = {0};`)
 *              before their first use.
 * Linking      Link with --gc-sections. An undefined symbol `stk_panic_is_reachable` would mean that the library can
 *              panic; the symbol is defined nowhere so that the linker proves that it cannot.
 */

#ifndef STITCHKIT_H
#define STITCHKIT_H

#include <stddef.h>
#include <stdint.h>

// Words of a bundle handle.
#define STK_BUNDLE_WORDS 64

// Boundary in bytes on which bundles and arenas start.
#define STK_ALIGNMENT 16

// What became of a call.
enum StkStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    STK_STATUS_OK = 0,
    // A pointer is null.
    STK_STATUS_NULL_POINTER = 1,
    // Bundle, arena or handle do not start on the boundary they need. `need`: the boundary in bytes.
    STK_STATUS_MISALIGNED = 2,
    // The handle is zeroed: `stk_open` or `stk_start` did not succeed on it.
    STK_STATUS_NOT_OPEN = 3,
    // A length or an index is impossible. `need`: the right length, or how many there are.
    STK_STATUS_OUT_OF_RANGE = 4,
    // The bytes are no bundle.
    STK_STATUS_NOT_A_BUNDLE = 5,
    // The bundle was written by another major version of the format. `need`: the version known, `have`: the one found.
    STK_STATUS_VERSION = 6,
    // The file ends early. `need`, `have`: bytes.
    STK_STATUS_TRUNCATED = 7,
    // A checksum does not match. `index`: byte offset of what was summed.
    STK_STATUS_DAMAGED = 8,
    // The bundle breaks a rule of the format. `index`: the record, step, block or plan concerned.
    STK_STATUS_INVALID = 9,
    // The bundle has no such plan. `index`: the plan, `have`: plans present.
    STK_STATUS_NO_SUCH_PLAN = 10,
    // No plan, or not this one, fits the memory. `need`, `have`: bytes.
    STK_STATUS_OUT_OF_MEMORY = 11,
    // Plans fit the memory, but none meets the deadline. `need`: predicted microseconds of the fastest, `have`: usable ones.
    STK_STATUS_DEADLINE_TOO_SHORT = 12,
    // A deadline was given without a speed, or the clock does not run.
    STK_STATUS_SPEED_UNKNOWN = 13,
    // The bundle has no golden vectors or pixel tables, or none of this index.
    STK_STATUS_ABSENT = 14,
    // The bundle's bytes were changed after `stk_open`.
    STK_STATUS_CHANGED = 15,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum StkStatus StkStatus;
#else
typedef uint32_t StkStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A bundle handle: memory of the caller, written by `stk_open`, never changed afterwards. Zero it before its first use.
typedef struct {
    size_t words[STK_BUNDLE_WORDS];
} StkBundle;

// Numbers to a status; the status says which mean something. The others are 0.
typedef struct {
    // What is concerned.
    uint32_t index;
    // What would have been needed.
    uint32_t need;
    // What there was.
    uint32_t have;
} StkDetail;

// What a bundle is. Texts are UTF-8 in the bundle, not NUL-terminated.
typedef struct {
    // Name of the family.
    const char *name;
    // Bytes of the name.
    size_t name_len;
    // Class names, one per line.
    const char *labels;
    // Bytes of the class names.
    size_t labels_len;
    // Bytes of the bundle.
    size_t bundle_bytes;
    // Values of the input: rows x columns x channels, channels fastest.
    size_t input_len;
    // Values of the output.
    size_t output_len;
    // Golden vectors, 0 if there are none.
    size_t golden_count;
    // `real = input_scale * (q - input_zero_point)`.
    float input_scale;
    // Rows of the input.
    uint16_t input_rows;
    // Columns of the input.
    uint16_t input_columns;
    // Channels of the input.
    uint16_t input_channels;
    // Number of plans, at least 1.
    uint16_t plan_count;
    // The value that stands for zero.
    int8_t input_zero_point;
} StkInfo;

// A plan. The text is UTF-8 in the bundle, not NUL-terminated.
typedef struct {
    // Path through the anchors.
    const char *path;
    // Bytes of the path.
    size_t path_len;
    // Multiply-accumulates of one inference.
    uint64_t macs;
    // Predicted Cortex-M4 instructions of one inference.
    uint64_t cost;
    // Bytes of arena it needs.
    uint32_t arena_bytes;
    // How many of its first bytes were laid out for a fast memory; 0 where the layout knows of none.
    uint32_t fast_bytes;
    // Share of right answers on the evaluation set in parts per million; 0 if unknown.
    uint32_t accuracy_ppm;
    // `real = output_scale * (q - output_zero_point)`.
    float output_scale;
    // The output value that stands for zero.
    int8_t output_zero_point;
} StkPlan;

// What an inference may use.
typedef struct {
    // Time one inference may take in microseconds; 0 for no deadline.
    uint64_t deadline_us;
    // The board's speed from `stk_probe`; 0 for unknown, which only serves without a deadline.
    uint64_t cost_per_second;
    // Bytes of arena available, of the main memory where there are two.
    uint32_t ram_bytes;
    // Reserve kept below the deadline, in percent of it; 10 is a good value.
    uint8_t margin_percent;
    // Bytes of arena available in a faster memory beside the main one; 0 where there is none.
    uint32_t fast_bytes;
} StkLimits;

// The plan chosen.
typedef struct {
    // Predicted time of one inference in microseconds; 0 without a speed.
    uint64_t latency_us;
    // Bytes of arena it needs.
    uint32_t arena_bytes;
    // How many of them lie in the fast memory.
    uint32_t in_fast_bytes;
    // Its accuracy in parts per million.
    uint32_t accuracy_ppm;
    // Index of the plan.
    uint16_t plan;
} StkChoice;

// A free-running counter of the board.
typedef struct {
    // Returns ticks since an arbitrary start, without wrapping; gets `context`.
    uint64_t (*now)(void *context);
    // Passed to `now`.
    void *context;
    // Ticks per second.
    uint32_t hz;
} StkClock;

// A plan in an arena. Its fields belong to the library. Zero it before its first use.
typedef struct {
    const StkBundle *bundle;
    uint8_t *arena;
    size_t arena_bytes;
    uint8_t *fast;
    size_t fast_bytes;
    uint16_t plan;
} StkSession;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Checks the bundle at `bytes` and makes `handle` refer to it. Trailing bytes are ignored. Time is linear in the
// bundle's size, because checksums are computed.
//
// `detail` may be null. On failure the handle is not open.
//
// # Safety
// `handle` leads to memory for a handle; `bytes` to `len` bytes that stay and do not change while the handle is used.
StkStatus stk_open(StkBundle *handle,
                   const uint8_t *bytes,
                   size_t len,
                   StkDetail *detail);

// Tells what the bundle is.
//
// # Safety
// `handle` is zeroed or was opened; `info` leads to writable memory.
StkStatus stk_info(const StkBundle *handle, StkInfo *info);

// Tells about plan `plan`; plans are numbered from 0 by rising cost.
//
// # Safety
// `handle` is zeroed or was opened; `info` leads to writable memory.
StkStatus stk_plan(const StkBundle *handle, uint16_t plan, StkPlan *info);

// Turns interleaved pixels, one byte per channel, into int8 input values. Both lengths are the bundle's `input_len`.
//
// # Safety
// `handle` is zeroed or was opened; `pixels` and `input` lead to `len` bytes each, which do not overlap.
StkStatus stk_quantize_pixels(const StkBundle *handle,
                              const uint8_t *pixels,
                              int8_t *input,
                              size_t len);

// Gives golden input `index` and what plan `plan` returns for it, both in the bundle, `input_len` and `output_len` values.
//
// # Safety
// `handle` is zeroed or was opened; `input` and `output` lead to writable pointers.
StkStatus stk_golden(const StkBundle *handle,
                     uint16_t plan,
                     size_t index,
                     const int8_t **input,
                     const int8_t **output);

// Finds the most accurate plan inside the limits; of equally accurate ones the cheapest. `detail` may be null.
//
// # Safety
// `handle` is zeroed or was opened; `limits` is valid; `choice` leads to writable memory.
StkStatus stk_select(const StkBundle *handle,
                     const StkLimits *limits,
                     StkChoice *choice,
                     StkDetail *detail);

// Measures the board's speed by running the cheapest plan in `arena`. Refuses a clock that does not run.
//
// # Safety
// `handle` is zeroed or was opened; `arena` leads to `arena_bytes` bytes that nobody else uses; `clock` is valid and its `now` may be
// called with its `context`; `cost_per_second` leads to writable memory.
StkStatus stk_probe(const StkBundle *handle,
                    uint8_t *arena,
                    size_t arena_bytes,
                    const StkClock *clock,
                    uint64_t *cost_per_second);

// Prepares plan `plan` of an open bundle in `arena`. `detail` may be null. On failure the session is as it was.
//
// # Safety
// `session` leads to memory for a session; `handle` is zeroed or was opened; `arena` to `arena_bytes` initialised bytes. Handle and
// arena stay valid while the session is used, and nobody else uses the arena during its calls.
StkStatus stk_start(StkSession *session,
                    const StkBundle *handle,
                    uint16_t plan,
                    uint8_t *arena,
                    size_t arena_bytes,
                    StkDetail *detail);

// As `stk_start`, on a board with `fast_bytes` bytes of a faster memory at `fast`. A plan that fits there lies there; one that was laid out
// for a fast memory of at most this size lies in both, `StkPlan.fast_bytes` of it in the fast one; any other lies in `arena`.
//
// # Safety
// As `stk_start`; `fast` leads to `fast_bytes` initialised bytes, under the same conditions as the arena, and may be null if there are 0.
StkStatus stk_start_divided(StkSession *session,
                            const StkBundle *handle,
                            uint16_t plan,
                            uint8_t *fast,
                            size_t fast_bytes,
                            uint8_t *arena,
                            size_t arena_bytes,
                            StkDetail *detail);

// Makes plan `plan` the session's; copies no weight. `detail` may be null. On failure the session keeps its plan.
//
// # Safety
// `session` is zeroed or was started.
StkStatus stk_switch(StkSession *session,
                     uint16_t plan,
                     StkDetail *detail);

// Gives the place of the int8 input in the arena, `input_len` values. Running overwrites it: fill it before every run.
//
// # Safety
// `session` is zeroed or was started; `input` leads to a writable pointer, `len` to a writable length or is null.
StkStatus stk_input(StkSession *session,
                    int8_t **input,
                    size_t *len);

// Runs the session's plan on the input in the arena and gives the int8 output, `output_len` values in the arena, valid until the
// next input is filled. `detail` may be null.
//
// # Safety
// `session` is zeroed or was started; `output` leads to a writable pointer, `len` to a writable length or is null.
StkStatus stk_run(StkSession *session,
                  const int8_t **output,
                  size_t *len,
                  StkDetail *detail);

// An English sentence for a status, NUL-terminated, in static memory; for unknown numbers too.
const char *stk_status_text(uint32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STITCHKIT_H */
