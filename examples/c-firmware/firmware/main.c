/* Opens the bundle, measures the board, chooses a plan, verifies every plan against its golden vectors, and prints the logits of
 * every test input for comparison with the host. Returns 0 if all is well. */

#include <string.h>

#include "../stitchkit.h"
#include "board.h"

extern const uint8_t bundle_start[], bundle_end[], inputs_start[], inputs_end[];

/* C99 has no static assertions; an array of negative size is an error in any C. */
#define ASSERT_AT_COMPILE_TIME(name, condition) typedef char name[(condition) ? 1 : -1]
ASSERT_AT_COMPILE_TIME(handle_has_the_size_that_the_library_was_built_for,
                       sizeof(StkBundle) == STK_BUNDLE_WORDS * sizeof(size_t));
ASSERT_AT_COMPILE_TIME(status_is_32_bits, sizeof(StkStatus) == sizeof(uint32_t));

#define ARENA_BYTES (96u * 1024u)
/* On a board with tightly coupled memory this would lie there. */
#define FAST_BYTES (2u * 1024u)

static uint8_t arena[ARENA_BYTES] __attribute__((aligned(STK_ALIGNMENT)));
static uint8_t fast[FAST_BYTES] __attribute__((aligned(STK_ALIGNMENT)));
static StkBundle bundle;
static StkSession session;
static StkInfo info;

static void text(const char *words) {
    board_write(words, (uint32_t)strlen(words));
}

static void number(int64_t value) {
    char digits[20];
    uint32_t len = 0;
    uint64_t left = value < 0 ? (uint64_t)-value : (uint64_t)value;
    do {
        digits[sizeof digits - ++len] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0) {
        text("-");
    }
    board_write(digits + sizeof digits - len, len);
}

static void failed(const char *what, StkStatus status, const StkDetail *detail) {
    text(what);
    text(": ");
    text(stk_status_text(status));
    if (detail != NULL) {
        text(", index ");
        number(detail->index);
        text(", need ");
        number(detail->need);
        text(", have ");
        number(detail->have);
    }
    text("\n");
}

static int report_open(void) {
    StkDetail detail;
    StkStatus status = stk_open(&bundle, bundle_start, (size_t)(bundle_end - bundle_start), &detail);
    if (status == STK_STATUS_OK) {
        status = stk_info(&bundle, &info);
    }
    if (status != STK_STATUS_OK) {
        failed("open", status, &detail);
        return 1;
    }
    text("bundle: ");
    board_write(info.name, (uint32_t)info.name_len);
    text(", ");
    number((int64_t)info.bundle_bytes);
    text(" bytes, ");
    number(info.plan_count);
    text(" plans\n");
    return 0;
}

static int choose(void) {
    const StkClock clock = {board_now, NULL, BOARD_CLOCK_HZ};
    StkLimits limits = {0, 0, ARENA_BYTES, 10, 0};
    StkChoice choice;
    StkDetail detail;
    StkStatus status = stk_probe(&bundle, arena, sizeof arena, &clock, &limits.cost_per_second);
    if (status != STK_STATUS_OK) {
        failed("probe", status, NULL);
        return 1;
    }
    status = stk_select(&bundle, &limits, &choice, &detail);
    if (status != STK_STATUS_OK) {
        failed("select", status, &detail);
        return 1;
    }
    StkPlan plan;
    if (stk_plan(&bundle, choice.plan, &plan) != STK_STATUS_OK || plan.arena_bytes != choice.arena_bytes) {
        return 1;
    }
    text("choice: plan ");
    number(choice.plan);
    text(" (");
    board_write(plan.path, (uint32_t)plan.path_len);
    text("), ");
    number(choice.arena_bytes);
    text(" bytes of arena, ");
    number(choice.accuracy_ppm);
    text(" ppm\n");

    /* Limits that nothing meets are told apart, with numbers. */
    limits.ram_bytes = 16;
    status = stk_select(&bundle, &limits, &choice, &detail);
    failed("with 16 bytes", status, &detail);
    if (status != STK_STATUS_OUT_OF_MEMORY || detail.have != 16) {
        return 1;
    }
    limits.ram_bytes = ARENA_BYTES;
    limits.deadline_us = 1;
    status = stk_select(&bundle, &limits, &choice, &detail);
    failed("within 1 us", status, &detail);
    return status != STK_STATUS_DEADLINE_TOO_SHORT;
}

static int verify(uint16_t plan) {
    StkDetail detail;
    StkStatus status = stk_switch(&session, plan, &detail);
    for (size_t vector = 0; status == STK_STATUS_OK && vector < info.golden_count; vector++) {
        const int8_t *given, *wanted, *output;
        int8_t *input;
        size_t len;
        if ((status = stk_golden(&bundle, plan, vector, &given, &wanted)) != STK_STATUS_OK ||
            (status = stk_input(&session, &input, &len)) != STK_STATUS_OK) {
            break;
        }
        memcpy(input, given, len);
        status = stk_run(&session, &output, &len, &detail);
        if (status == STK_STATUS_OK && memcmp(output, wanted, len) != 0) {
            text("golden: other logits\n");
            return 1;
        }
    }
    if (status != STK_STATUS_OK) {
        failed("golden", status, &detail);
        return 1;
    }
    text("golden: plan ");
    number(plan);
    text(", ");
    number((int64_t)info.golden_count);
    text(" vectors equal\n");
    return 0;
}

/* One line per input: `plan P input I: LOGITS`. */
static int print_logits(uint16_t plan) {
    const uint8_t *next = inputs_start;
    for (uint32_t index = 0; (size_t)(inputs_end - next) >= info.input_len; index++, next += info.input_len) {
        int8_t *input;
        const int8_t *output;
        size_t len;
        if (stk_input(&session, &input, NULL) != STK_STATUS_OK) {
            return 1;
        }
        memcpy(input, next, info.input_len);
        if (stk_run(&session, &output, &len, NULL) != STK_STATUS_OK) {
            return 1;
        }
        text("plan ");
        number(plan);
        text(" input ");
        number(index);
        text(":");
        for (size_t i = 0; i < len; i++) {
            text(" ");
            number(output[i]);
        }
        text("\n");
    }
    return 0;
}

/* Wrong use is refused and changes nothing. */
static int misuse(void) {
    StkBundle closed = {{0}};
    StkSession idle = {NULL, NULL, 0, NULL, 0, 0};
    StkInfo ignored;
    StkDetail detail;
    int8_t *input;
    const int8_t *output;
    const size_t bundle_bytes = (size_t)(bundle_end - bundle_start);
    const struct {
        StkStatus got, wanted;
    } calls[] = {
        {stk_open(NULL, bundle_start, bundle_bytes, NULL), STK_STATUS_NULL_POINTER},
        {stk_open(&closed, NULL, bundle_bytes, NULL), STK_STATUS_NULL_POINTER},
        {stk_open((StkBundle *)(void *)(arena + 1), bundle_start, bundle_bytes, NULL), STK_STATUS_MISALIGNED},
        {stk_open(&closed, bundle_start + 1, bundle_bytes - 1, NULL), STK_STATUS_MISALIGNED},
        {stk_open(&closed, bundle_start, 100, &detail), STK_STATUS_TRUNCATED},
        {stk_open(&closed, bundle_start, SIZE_MAX, NULL), STK_STATUS_OUT_OF_RANGE},
        {stk_open(&closed, arena, sizeof arena, NULL), STK_STATUS_NOT_A_BUNDLE},
        {stk_info(&closed, &ignored), STK_STATUS_NOT_OPEN},
        {stk_info(&bundle, NULL), STK_STATUS_NULL_POINTER},
        {stk_plan(&bundle, 9999, NULL), STK_STATUS_NO_SUCH_PLAN},
        {stk_golden(&bundle, 0, 9999, &output, &output), STK_STATUS_ABSENT},
        {stk_start(&idle, &closed, 0, arena, sizeof arena, NULL), STK_STATUS_NOT_OPEN},
        {stk_start(&idle, &bundle, 9999, arena, sizeof arena, NULL), STK_STATUS_NO_SUCH_PLAN},
        {stk_start(&idle, &bundle, 0, arena + 1, sizeof arena - 1, NULL), STK_STATUS_MISALIGNED},
        {stk_start(&idle, &bundle, 0, arena, 16, &detail), STK_STATUS_OUT_OF_MEMORY},
        {stk_start(&idle, &bundle, 0, NULL, 16, NULL), STK_STATUS_NULL_POINTER},
        {stk_start_divided(&idle, &bundle, 0, NULL, 16, arena, sizeof arena, NULL), STK_STATUS_NULL_POINTER},
        {stk_start_divided(&idle, &bundle, 0, fast + 1, 16, arena, sizeof arena, NULL), STK_STATUS_MISALIGNED},
        {stk_input(&idle, &input, NULL), STK_STATUS_NOT_OPEN},
        {stk_run(&idle, &output, NULL, NULL), STK_STATUS_NOT_OPEN},
        {stk_switch(&session, 9999, NULL), STK_STATUS_NO_SUCH_PLAN},
        {stk_quantize_pixels(&bundle, arena, (int8_t *)arena + 64, 1), STK_STATUS_OUT_OF_RANGE},
    };
    const size_t count = sizeof calls / sizeof calls[0];
    for (size_t i = 0; i < count; i++) {
        if (calls[i].got != calls[i].wanted) {
            text("misuse ");
            number((int64_t)i);
            failed("", calls[i].got, NULL);
            return 1;
        }
    }
    text("misuse: ");
    number((int64_t)count);
    text(" wrong calls refused\n");
    return 0;
}

int main(void) {
    StkDetail detail;
    if (report_open() != 0 || choose() != 0) {
        return 1;
    }
    StkStatus status = stk_start(&session, &bundle, 0, arena, sizeof arena, &detail);
    if (status != STK_STATUS_OK) {
        failed("start", status, &detail);
        return 1;
    }
    if (misuse() != 0) {
        return 1;
    }
    for (uint16_t plan = 0; plan < info.plan_count; plan++) {
        if (verify(plan) != 0 || print_logits(plan) != 0) {
            return 1;
        }
    }
    status = stk_start_divided(&session, &bundle, 0, fast, sizeof fast, arena, sizeof arena, &detail);
    if (status != STK_STATUS_OK) {
        failed("start in two memories", status, &detail);
        return 1;
    }
    text("in two memories:\n");
    for (uint16_t plan = 0; plan < info.plan_count; plan++) {
        if (verify(plan) != 0) {
            return 1;
        }
    }
    text("firmware: all well\n");
    return 0;
}
