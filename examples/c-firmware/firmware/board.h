/* The MPS2 board: console, timer, exit. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Frequency of the peripheral clock. */
#define BOARD_CLOCK_HZ 25000000u

/* Starts console and timer. */
void board_start(void);

/* Writes `len` bytes to the serial console. */
void board_write(const char *text, uint32_t len);

/* Ticks since board_start; `context` is not used. */
uint64_t board_now(void *context);

/* Ends the emulation with this status. */
void board_exit(uint32_t status) __attribute__((noreturn));

#endif
