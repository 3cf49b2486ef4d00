use std::process::Command;

use super::Effect::{
    Address, AddsToSp, Aligns, Branch, Call, CallRegister, High, IfThen, Jump, JumpRegister, Literal, Loses, Low,
    Moves, Plain, Return, SetsSp, ShiftsLeft, ShiftsRight, Table, Trap,
};
use super::*;

/// Instructions as people write them, as the machine reads them, and what they do.
const SNIPPETS: &[(&str, &[u16], Effect)] = &[
    ("push {r4, r7, lr}", &[0xb590], Moves(-12)),
    ("pop {r4, r7, pc}", &[0xbd90], Return(12)),
    ("pop {r0, r1}", &[0xbc03], Moves(8)),
    ("sub sp, #100", &[0xb099], Moves(-100)),
    ("add sp, #508", &[0xb07f], Moves(508)),
    ("stmdb sp!, {r8, r9, r10, r11}", &[0xe92d, 0x0f00], Moves(-16)),
    ("ldmia.w sp!, {r4, r8, pc}", &[0xe8bd, 0x8110], Return(12)),
    ("ldmia.w sp!, {r4, r8}", &[0xe8bd, 0x0110], Moves(8)),
    ("ldmia.w sp, {r0, r1, pc}", &[0xe89d, 0x8003], Table),
    ("str.w r8, [sp, #-4]!", &[0xf84d, 0x8d04], Moves(-4)),
    ("ldr.w r8, [sp], #4", &[0xf85d, 0x8b04], Moves(4)),
    ("ldr.w pc, [sp], #4", &[0xf85d, 0xfb04], Return(4)),
    ("ldr.w pc, [sp, #40]", &[0xf8dd, 0xf028], Table),
    ("strd r0, r1, [sp, #-16]!", &[0xe96d, 0x0104], Moves(-16)),
    ("ldrd r0, r1, [sp], #16", &[0xe8fd, 0x0104], Moves(16)),
    ("ldrd r0, r1, [sp, #16]", &[0xe9dd, 0x0104], Plain),
    ("sub.w sp, sp, #1024", &[0xf5ad, 0x6d80], Moves(-1024)),
    ("subw sp, sp, #3604", &[0xf6ad, 0x6d14], Moves(-3604)),
    ("add.w sp, sp, #0x2000", &[0xf50d, 0x5d00], Moves(0x2000)),
    ("sub.w sp, sp, r4", &[0xebad, 0x0d04], AddsToSp { from: 4, sign: -1 }),
    ("add sp, r6", &[0x44b5], AddsToSp { from: 6, sign: 1 }),
    ("mov sp, r7", &[0x46bd], SetsSp { from: 7 }),
    ("mov.w sp, r4", &[0xea4f, 0x0d04], SetsSp { from: 4 }),
    ("mov r7, sp", &[0x466f], Address { to: 7, from: SP, add: 0 }),
    ("add r7, sp, #12", &[0xaf03], Address { to: 7, from: SP, add: 12 }),
    ("sub.w r4, r7, #28", &[0xf1a7, 0x041c], Address { to: 4, from: 7, add: -28 }),
    ("subs r6, r7, #7", &[0x1ffe], Address { to: 6, from: 7, add: -7 }),
    ("subs r6, #5", &[0x3e05], Address { to: 6, from: 6, add: -5 }),
    ("bfc r4, #0, #4", &[0xf36f, 0x0403], Aligns { to: 4, bits: 4 }),
    ("lsrs r4, r4, #4", &[0x0924], ShiftsRight { to: 4, bits: 4 }),
    ("lsls r4, r4, #4", &[0x0124], ShiftsLeft { to: 4, bits: 4 }),
    ("lsls r4, r3, #4", &[0x011c], Plain),
    ("bic r4, r4, #15", &[0xf024, 0x040f], Aligns { to: 4, bits: 4 }),
    ("vpush {d8-d11}", &[0xed2d, 0x8b08], Moves(-32)),
    ("vpop {s16-s19}", &[0xecbd, 0x8a04], Moves(16)),
    ("vstmdb sp!, {s16}", &[0xed2d, 0x8a01], Moves(-4)),
    ("vstrw.32 q0, [sp, #-16]!", &[0xed2d, 0x1f04], Moves(-16)),
    ("vldrw.u32 q0, [sp], #32", &[0xecbd, 0x1f08], Moves(32)),
    ("blx r3", &[0x4798], CallRegister),
    ("bx lr", &[0x4770], Return(0)),
    ("bx r3", &[0x4718], JumpRegister),
    ("mov pc, lr", &[0x46f7], Return(0)),
    ("mov pc, r2", &[0x4697], Table),
    ("add pc, r2", &[0x4497], Table),
    ("tbb [pc, r1]", &[0xe8df, 0xf001], Table),
    ("tbh [pc, r1, lsl #1]", &[0xe8df, 0xf011], Table),
    ("ite eq", &[0xbf0c], IfThen(2)),
    ("movs r0, #1", &[0x2001], Low { to: 0, value: 1 }),
    ("movw r0, #0x1234", &[0xf241, 0x2034], Low { to: 0, value: 0x1234 }),
    ("movt r0, #0x2000", &[0xf2c2, 0x0000], High { to: 0, value: 0x2000 }),
    ("udf #0", &[0xde00], Trap),
    ("udf.w #0", &[0xf7f0, 0xa000], Trap),
    ("msr msp, r0", &[0xf380, 0x8808], Loses),
    ("msr primask, r0", &[0xf380, 0x8810], Plain),
    ("ldr.w sp, [r0]", &[0xf8d0, 0xd000], Loses),
    ("cmp sp, r0", &[0x4585], Plain),
    ("tst.w r1, #1", &[0xf011, 0x0f01], Plain),
    ("strh.w r2, [r7, #-46]", &[0xf827, 0x2c2e], Plain),
    ("ldm r0!, {r1, r2}", &[0xc806], Plain),
    ("clrm {r0, r1, apsr}", &[0xe89f, 0x8003], Plain),
    ("nop", &[0xbf00], Plain),
    ("dls lr, r0", &[0xf040, 0xe001], Plain),
    ("smull r0, r1, r2, r3", &[0xfb82, 0x0103], Plain),
    ("vmov d0, r0, r1", &[0xec41, 0x0b10], Plain),
];

/// The same at address 0x1000.
const BRANCHES: &[(&str, &[u16], Effect)] = &[
    ("bl here+0x2000", &[0xf001, 0xfffe], Call(0x3000)),
    ("b here-0x100", &[0xe77e], Jump(0xf00)),
    ("b.w here+0x10000", &[0xf00f, 0xbffe], Jump(0x11000)),
    ("beq here+0x40", &[0xd01e], Branch(0x1040)),
    ("bne.w here-0x2000", &[0xf47d, 0xaffe], Branch(0xffff_f000)),
    ("cbz r0, here+0x20", &[0xb170], Branch(0x1020)),
    ("cbnz r7, here+0x42", &[0xb9ff], Branch(0x1042)),
    ("wls lr, r9, here+0x100", &[0xf049, 0xc07f], Branch(0x1100)),
    ("le lr, here-0x80", &[0xf00f, 0xc043], Plain),
    ("ldr r6, [pc, #0x28]", &[0x4e0a], Literal { to: 6, address: 0x102c }),
    ("ldr.w r6, [pc, #-0x10]", &[0xf85f, 0x6010], Literal { to: 6, address: 0xff4 }),
    ("ldr.w pc, [pc, #0]", &[0xf8df, 0xf000], JumpRegister),
];

fn decoded(address: u32, words: &[u16]) -> Instruction {
    decode(address, words[0], words.get(1).copied()).expect("it is whole")
}

#[test]
fn what_moves_the_stack_pointer_or_leaves_is_told_from_what_does_not() {
    for &(text, words, effect) in SNIPPETS {
        assert_eq!(decoded(0x1000, words), Instruction { bytes: 2 * words.len() as u32, effect }, "{text}");
    }
}

#[test]
fn branches_lead_where_they_should() {
    for &(text, words, effect) in BRANCHES {
        assert_eq!(decoded(0x1000, words).effect, effect, "{text}");
    }
}

#[test]
fn half_an_instruction_is_none() {
    assert_eq!(decode(0, 0xf000, None), None);
}

/// Where GNU's assembler is installed, it agrees with the words above.
#[test]
fn the_assembler_makes_these_words_of_these_lines() {
    let folder = tempfile::tempdir().unwrap();
    let [source, object] = ["snippets.s", "snippets.o"].map(|name| folder.path().join(name));
    let branches = BRANCHES.iter().map(|(text, words, _)| (*text, *words));
    for (text, words) in SNIPPETS.iter().map(|(text, words, _)| (*text, *words)).chain(branches) {
        let line = format!(".syntax unified\n.thumb\n.org 0x1000\nhere: {text}\n");
        std::fs::write(&source, line).unwrap();
        let mut assembler = Command::new("arm-none-eabi-as");
        assembler.args(["-W", "-mthumb", "-march=armv8.1-m.main+dsp+mve.fp+fp.dp", "-o"]).arg(&object).arg(&source);
        let Ok(output) = assembler.output() else {
            return;
        };
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        let file = std::fs::read(&object).unwrap();
        let elf = crate::stack::elf::Elf::parse(&file).unwrap();
        let code = elf.section(".text").unwrap().data;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(code.get(0x1000..0x1000 + bytes.len()), Some(bytes.as_slice()), "{text}");
    }
}
