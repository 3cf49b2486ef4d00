#include "board.h"

#include <stddef.h>

/* CMSDK APB UART. */
typedef struct {
    volatile uint32_t data;
    volatile uint32_t state; /* bit 0: transmit buffer full */
    volatile uint32_t control; /* bit 0: transmitter on */
    volatile uint32_t interrupt;
    volatile uint32_t divider;
} Uart;

/* CMSDK APB timer: counts down and reloads. */
typedef struct {
    volatile uint32_t control; /* bit 0: on */
    volatile uint32_t value;
    volatile uint32_t reload;
} Timer;

#define UART0 ((Uart *)0x40004000u)
#define TIMER0 ((Timer *)0x40000000u)

/* Upper bits of the time, and the ticks at the last reading; no interrupt reads the timer. */
static uint64_t ticks;
static uint32_t last;

void board_start(void) {
    UART0->divider = 16;
    UART0->control = 1;
    TIMER0->reload = UINT32_MAX;
    TIMER0->value = UINT32_MAX;
    TIMER0->control = 1;
    last = 0;
}

void board_write(const char *text, uint32_t len) {
    for (uint32_t i = 0; i < len; i++) {
        while (UART0->state & 1u) {
        }
        UART0->data = (uint8_t)text[i];
    }
}

uint64_t board_now(void *context) {
    (void)context;
    uint32_t now = UINT32_MAX - TIMER0->value;
    ticks += now - last; /* modulo 2^32: right if read at least every 171 seconds */
    last = now;
    return ticks;
}

/* Semihosting SYS_EXIT_EXTENDED with ADP_Stopped_ApplicationExit. */
void board_exit(uint32_t status) {
    const uint32_t block[2] = {0x20026u, status};
    for (;;) {
        register uint32_t operation __asm__("r0") = 0x20u;
        register const uint32_t *argument __asm__("r1") = block;
        __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
    }
}
