//! What Thumb instructions do to the stack pointer and to the flow of control, by the Armv8-M Architecture Reference Manual
//! (Armv6-M to Armv8.1-M with the DSP, floating-point and MVE extensions).

/// Number of the stack pointer.
pub const SP: u8 = 13;
const LR: u8 = 14;
const PC: u8 = 15;

/// What an instruction does, as far as the depth of the stack depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing of the following.
    Plain,
    /// Adds to the stack pointer; negative values take memory.
    Moves(i32),
    /// Sets the stack pointer to a register.
    SetsSp {
        /// The register.
        from: u8,
    },
    /// Adds a register to the stack pointer, or subtracts it.
    AddsToSp {
        /// The register.
        from: u8,
        /// 1 or -1.
        sign: i32,
    },
    /// Writes the stack pointer in another way.
    Loses,
    /// Calls an address.
    Call(u32),
    /// Calls what a register holds.
    CallRegister,
    /// Goes to an address.
    Jump(u32),
    /// Goes to an address or on.
    Branch(u32),
    /// Goes to what a register or a literal holds: within the function, or a call in place of a return.
    JumpRegister,
    /// Goes to an entry of a table or to a stored label, within the function.
    Table,
    /// Leaves the function after adding to the stack pointer.
    Return(i32),
    /// Never goes on.
    Trap,
    /// So many instructions that follow may be left out.
    IfThen(u8),
    /// `to = from + add`.
    Address {
        /// Register written.
        to: u8,
        /// Register read.
        from: u8,
        /// Bytes.
        add: i32,
    },
    /// Clears the lowest bits of a register.
    Aligns {
        /// The register.
        to: u8,
        /// How many.
        bits: u32,
    },
    /// Shifts a register left by so many bits.
    ShiftsLeft {
        /// The register.
        to: u8,
        /// How many.
        bits: u32,
    },
    /// Shifts a register right by so many bits.
    ShiftsRight {
        /// The register.
        to: u8,
        /// How many.
        bits: u32,
    },
    /// Loads a word.
    Literal {
        /// Register written.
        to: u8,
        /// Where the word lies.
        address: u32,
    },
    /// Sets a register to a number of 16 bits.
    Low {
        /// Register written.
        to: u8,
        /// The number.
        value: u32,
    },
    /// Sets the upper 16 bits of a register.
    High {
        /// Register written.
        to: u8,
        /// The bits.
        value: u32,
    },
}

/// An instruction at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// 2 or 4.
    pub bytes: u32,
    /// What it does.
    pub effect: Effect,
}

/// The instruction at `address`, whose halfwords are `first` and, if it takes one, `second`; `None` without the latter.
#[must_use]
pub fn decode(address: u32, first: u16, second: Option<u16>) -> Option<Instruction> {
    let first = u32::from(first);
    if first >> 11 < 0b11101 {
        return Some(Instruction { bytes: 2, effect: narrow(address.wrapping_add(4), first) });
    }
    let second = u32::from(second?);
    Some(Instruction { bytes: 4, effect: wide(address.wrapping_add(4), first, second) })
}

/// Bits `from` and up, `count` of them.
const fn bits(word: u32, from: u32, count: u32) -> u32 {
    word >> from & ((1 << count) - 1)
}

const fn register(word: u32, from: u32) -> u8 {
    bits(word, from, 4) as u8
}

/// A signed number of so many bits.
const fn signed(value: u32, width: u32) -> u32 {
    ((value << (32 - width)) as i32 >> (32 - width)) as u32
}

/// Four bytes for each register of a list.
const fn list_bytes(list: u32) -> i32 {
    4 * list.count_ones() as i32
}

/// `pc` is what the instruction reads as such.
fn narrow(pc: u32, word: u32) -> Effect {
    let low = bits(word, 0, 3) as u8;
    let imm8 = bits(word, 0, 8);
    match word >> 8 {
        0x00..=0x07 if low == bits(word, 3, 3) as u8 => Effect::ShiftsLeft { to: low, bits: bits(word, 6, 5) },
        0x08..=0x0f if low == bits(word, 3, 3) as u8 => Effect::ShiftsRight { to: low, bits: bits(word, 6, 5) },
        0x1c..=0x1f => {
            let imm3 = bits(word, 6, 3) as i32;
            Effect::Address { to: low, from: bits(word, 3, 3) as u8, add: if word & 0x200 == 0 { imm3 } else { -imm3 } }
        }
        0x20..=0x27 => Effect::Low { to: bits(word, 8, 3) as u8, value: imm8 },
        0x30..=0x3f => {
            let to = bits(word, 8, 3) as u8;
            Effect::Address { to, from: to, add: if word & 0x800 == 0 { imm8 as i32 } else { -(imm8 as i32) } }
        }
        0x44 | 0x46 => high_registers(word, low | (bits(word, 7, 1) << 3) as u8),
        0x47 if word & 0x80 != 0 => Effect::CallRegister,
        0x47 if register(word, 3) == LR => Effect::Return(0),
        0x47 => Effect::JumpRegister,
        0x48..=0x4f => Effect::Literal { to: bits(word, 8, 3) as u8, address: (pc & !3).wrapping_add(4 * imm8) },
        0xa8..=0xaf => Effect::Address { to: bits(word, 8, 3) as u8, from: SP, add: 4 * imm8 as i32 },
        0xb0 => {
            let bytes = 4 * bits(word, 0, 7) as i32;
            Effect::Moves(if word & 0x80 == 0 { bytes } else { -bytes })
        }
        0xb4 | 0xb5 => Effect::Moves(-list_bytes(bits(word, 0, 9))),
        0xbc => Effect::Moves(list_bytes(imm8)),
        0xbd => Effect::Return(list_bytes(bits(word, 0, 9))),
        0xb1 | 0xb3 | 0xb9 | 0xbb => Effect::Branch(pc.wrapping_add(bits(word, 9, 1) << 6 | bits(word, 3, 5) << 1)),
        0xbf if word & 0xf != 0 => Effect::IfThen(4 - (word & 0xf).trailing_zeros() as u8),
        0xd0..=0xdd => Effect::Branch(pc.wrapping_add(signed(imm8 << 1, 9))),
        0xde => Effect::Trap,
        0xe0..=0xe7 => Effect::Jump(pc.wrapping_add(signed(bits(word, 0, 11) << 1, 12))),
        _ => Effect::Plain,
    }
}

/// `add` and `mov` of any two registers.
fn high_registers(word: u32, to: u8) -> Effect {
    let from = register(word, 3);
    match (word >> 8, to) {
        (0x46, PC) if from == LR => Effect::Return(0),
        (_, PC) => Effect::Table,
        (0x46, SP) => Effect::SetsSp { from },
        (0x46, _) => Effect::Address { to, from, add: 0 },
        (_, SP) => Effect::AddsToSp { from, sign: 1 },
        _ => Effect::Plain,
    }
}

fn wide(pc: u32, first: u32, second: u32) -> Effect {
    match first >> 9 {
        0x74 if first & 0x40 == 0 => load_or_store_list(first, second),
        0x74 => load_or_store_two(first, second),
        0x75 => shifted_register(first, second),
        _ if is_coprocessor(first as u16) => coprocessor(first, second),
        0x78..=0x7b if second & 0x8000 != 0 => control(pc, first, second),
        0x78..=0x7b if first & 0x200 == 0 => modified_immediate(first, second),
        0x78..=0x7b => plain_immediate(first, second),
        0x7c => load_or_store(pc, first, second),
        // Products and register operations.
        _ if register(second, 8) == SP => Effect::Loses,
        _ => Effect::Plain,
    }
}

fn load_or_store_list(first: u32, second: u32) -> Effect {
    let (base, is_load, writes_back) = (register(first, 0), first & 0x10 != 0, first & 0x20 != 0);
    // CLRM: the program counter as base.
    if base == PC {
        return Effect::Plain;
    }
    let bytes = match bits(first, 7, 2) {
        0b01 => list_bytes(second),
        _ => -list_bytes(second),
    };
    let moves = if writes_back && base == SP { bytes } else { 0 };
    match second {
        _ if is_load && second & 0x2000 != 0 => Effect::Loses,
        _ if is_load && second & 0x8000 != 0 && moves > 0 => Effect::Return(moves),
        _ if is_load && second & 0x8000 != 0 => Effect::Table,
        _ if moves != 0 => Effect::Moves(moves),
        _ => Effect::Plain,
    }
}

/// Two registers, exclusive access and branches by table.
fn load_or_store_two(first: u32, second: u32) -> Effect {
    if first & 0xfff0 == 0xe8d0 && second & 0xffe0 == 0xf000 {
        return Effect::Table;
    }
    let bytes = 4 * bits(second, 0, 8) as i32;
    match register(first, 0) == SP && first & 0x20 != 0 {
        true => Effect::Moves(if first & 0x80 == 0 { -bytes } else { bytes }),
        false => Effect::Plain,
    }
}

fn shifted_register(first: u32, second: u32) -> Effect {
    let (to, base, from) = (register(second, 8), register(first, 0), register(second, 0));
    let is_shifted = second & 0x70f0 != 0;
    match bits(first, 5, 4) {
        // ORR without a first operand is MOV.
        2 if base == PC && to == SP && !is_shifted => Effect::SetsSp { from },
        2 if base == PC && to != PC && !is_shifted && from != PC => Effect::Address { to, from, add: 0 },
        8 if to == SP && base == SP && !is_shifted => Effect::AddsToSp { from, sign: 1 },
        13 if to == SP && base == SP && !is_shifted => Effect::AddsToSp { from, sign: -1 },
        _ if to == SP => Effect::Loses,
        _ => Effect::Plain,
    }
}

/// Floating point, MVE and coprocessors: only loads and stores that write their base back matter.
fn coprocessor(first: u32, second: u32) -> Effect {
    if first & 0x200 != 0 || first & 0x20 == 0 || register(first, 0) != SP {
        return Effect::Plain;
    }
    let bytes = match second >> 8 & 0xf {
        // VPUSH, VPOP.
        0xa | 0xb => 4 * bits(second, 0, 8),
        // VLDR and VSTR of MVE.
        0xe | 0xf if second & 0x1000 != 0 => bits(second, 0, 7) << bits(second, 7, 2),
        _ => return Effect::Loses,
    };
    Effect::Moves(if first & 0x80 == 0 { -(bytes as i32) } else { bytes as i32 })
}

fn modified_immediate(first: u32, second: u32) -> Effect {
    let (to, from) = (register(second, 8), register(first, 0));
    let value = expand(bits(first, 10, 1) << 11 | bits(second, 12, 3) << 8 | bits(second, 0, 8)) as i32;
    match bits(first, 5, 4) {
        _ if to == PC => Effect::Plain,
        8 => add(to, from, value),
        13 => add(to, from, value.wrapping_neg()),
        _ if to == SP => Effect::Loses,
        // BIC.
        1 if to == from && (value as u32).wrapping_add(1).is_power_of_two() => {
            Effect::Aligns { to, bits: (value as u32).count_ones() }
        }
        _ => Effect::Plain,
    }
}

fn add(to: u8, from: u8, value: i32) -> Effect {
    match (to, from) {
        (SP, SP) => Effect::Moves(value),
        (SP, _) => Effect::Loses,
        _ => Effect::Address { to, from, add: value },
    }
}

/// `ThumbExpandImm` of the manual.
const fn expand(imm12: u32) -> u32 {
    let byte = imm12 & 0xff;
    match imm12 >> 8 {
        0 => byte,
        1 => byte << 16 | byte,
        2 => byte << 24 | byte << 8,
        3 => byte << 24 | byte << 16 | byte << 8 | byte,
        _ => (imm12 & 0x7f | 0x80).rotate_right(imm12 >> 7),
    }
}

fn plain_immediate(first: u32, second: u32) -> Effect {
    let (to, from) = (register(second, 8), register(first, 0));
    let imm12 = bits(first, 10, 1) << 11 | bits(second, 12, 3) << 8 | bits(second, 0, 8);
    let imm16 = bits(first, 0, 4) << 12 | imm12;
    match bits(first, 4, 5) {
        // The address of something near.
        0b00000 | 0b01010 if from == PC => {
            if to == SP {
                Effect::Loses
            } else {
                Effect::Plain
            }
        }
        0b00000 => add(to, from, imm12 as i32),
        0b01010 => add(to, from, -(imm12 as i32)),
        _ if to == SP => Effect::Loses,
        0b00100 => Effect::Low { to, value: imm16 },
        0b01100 => Effect::High { to, value: imm16 },
        // BFC from bit 0 on.
        0b10110 if from == PC && second & 0x70c0 == 0 => Effect::Aligns { to, bits: bits(second, 0, 5) + 1 },
        _ => Effect::Plain,
    }
}

/// Branches and system instructions.
fn control(pc: u32, first: u32, second: u32) -> Effect {
    let sign = bits(first, 10, 1);
    let near = sign << 20
        | bits(second, 11, 1) << 19
        | bits(second, 13, 1) << 18
        | bits(first, 0, 6) << 12
        | bits(second, 0, 11) << 1;
    let [i1, i2] = [13, 11].map(|bit| bits(second, bit, 1) ^ sign ^ 1);
    let far = sign << 24 | i1 << 23 | i2 << 22 | bits(first, 0, 10) << 12 | bits(second, 0, 11) << 1;
    let far = pc.wrapping_add(signed(far, 25));
    match second & 0x5000 {
        0x5000 => Effect::Call(far),
        0x1000 => Effect::Jump(far),
        // WLS: over a loop without turns. LE and DLS do not leave a loop that goes on.
        0x4000 if first & 0xffc0 == 0xf040 && second & 0xf001 == 0xc001 => {
            Effect::Branch(pc.wrapping_add(bits(second, 1, 10) << 2 | bits(second, 11, 1) << 1))
        }
        0x4000 => Effect::Plain,
        _ if bits(first, 7, 3) != 7 => Effect::Branch(pc.wrapping_add(signed(near, 21))),
        // MSR to a stack pointer.
        _ if first & 0xffe0 == 0xf380 && matches!(second & 0x7f, 8 | 9 | 0x18) => Effect::Loses,
        _ if first & 0xfff0 == 0xf7f0 && second & 0xf000 == 0xa000 => Effect::Trap,
        _ => Effect::Plain,
    }
}

fn load_or_store(pc: u32, first: u32, second: u32) -> Effect {
    let (base, value) = (register(first, 0), register(second, 12));
    let is_word_load = first & 0x170 == 0x50;
    let writes_back = first & 0x80 == 0 && base != PC && second & 0x900 == 0x900;
    let imm8 = bits(second, 0, 8) as i32;
    let moves = match writes_back && base == SP {
        true if second & 0x200 == 0 => -imm8,
        true => imm8,
        false => 0,
    };
    match value {
        PC if is_word_load && base == PC => Effect::JumpRegister,
        // `ldr pc, [sp], #n` pops it.
        PC if is_word_load && moves > 0 && second & 0x400 == 0 => Effect::Return(moves),
        PC if is_word_load => Effect::Table,
        SP if is_word_load => Effect::Loses,
        _ if is_word_load && base == PC => {
            let offset = bits(second, 0, 12);
            let offset = if first & 0x80 == 0 { offset.wrapping_neg() } else { offset };
            Effect::Literal { to: value, address: (pc & !3).wrapping_add(offset) }
        }
        _ if moves != 0 => Effect::Moves(moves),
        _ => Effect::Plain,
    }
}

/// True for instructions of floating point, MVE and coprocessors.
#[must_use]
pub const fn is_coprocessor(first: u16) -> bool {
    first & 0xec00 == 0xec00
}

#[cfg(test)]
mod tests;
