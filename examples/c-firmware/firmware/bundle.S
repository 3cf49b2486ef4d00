/* The bundle and test inputs, in flash. BUNDLE and INPUTS are paths, given by the Makefile; INPUTS may be missing. */

    .section .rodata.bundle, "a"
    .balign 16
    .global bundle_start
    .global bundle_end
bundle_start:
    .incbin BUNDLE
bundle_end:

    .section .rodata.inputs, "a"
    .global inputs_start
    .global inputs_end
inputs_start:
#ifdef INPUTS
    .incbin INPUTS
#endif
inputs_end:

    .section .note.GNU-stack, "", %progbits
