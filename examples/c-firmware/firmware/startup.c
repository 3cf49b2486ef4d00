/* Vector table and the way from reset to main. */

#include <stdint.h>

#include "board.h"

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

int main(void);
void reset(void);

/* Exit status of a processor fault. */
#define FAULT_STATUS 102u

static void fault(void) {
    board_exit(FAULT_STATUS);
}

/* What the processor reads at address 0: the first stack pointer, then the handlers; reserved entries are zero. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    &stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};

/* Coprocessor access control: the FPU is off after reset, and the compiler uses it. */
#define CPACR (*(volatile uint32_t *)0xE000ED88u)

__attribute__((used)) void reset(void) {
    CPACR |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    board_start();
    board_exit((uint32_t)main());
}
