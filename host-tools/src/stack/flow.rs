//! How deep the stack is at every instruction of one function.

use std::collections::BTreeMap;

use super::image::Image;
use super::thumb::{Effect, Instruction, SP};

/// The frame pointer of Rust's and Clang's code.
const FRAME: u8 = 7;
/// Depth that no function of a microcontroller has: its stack grows in a loop.
const ENDLESS_BYTES: i32 = 1 << 24;

/// Whom a function calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callee {
    /// The function that starts there.
    At(u32),
    /// What a register holds.
    Register,
}

/// What one function needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Most bytes of stack that the function itself has in use.
    pub own_bytes: u32,
    /// Most bytes that are in use while it calls each callee.
    pub calls: BTreeMap<Callee, u32>,
}

/// Follows all branches of the function that starts at `start`. Code that only a table leads to runs at the depth at which
/// the table is used.
///
/// # Errors
/// Where and why the depth cannot be told, in words.
pub fn follow(image: &Image<'_>, start: u32) -> Result<Needs, String> {
    let (end, listing) = (image.end(start), image.listing(start));
    let mut walk = Walk { image, start, end, listing, depth: BTreeMap::new(), table: None };
    let mut needs = Needs::default();
    walk.run(vec![(start, 0)], &mut needs)?;
    while let Some(depth) = walk.table {
        let mut rest = walk.listing.iter().map(|&(address, _)| address);
        let is_left = |address: &u32| !walk.depth.contains_key(address) && !image.is_start(*address);
        let Some(next) = rest.find(is_left) else { break };
        walk.run(vec![(next, depth)], &mut needs)?;
    }
    Ok(needs)
}

struct Walk<'i, 'f> {
    image: &'i Image<'f>,
    start: u32,
    /// First address behind the function.
    end: u32,
    listing: Vec<(u32, Instruction)>,
    /// Bytes in use before each instruction that was reached.
    depth: BTreeMap<u32, i32>,
    /// Most bytes in use where a table is jumped through.
    table: Option<i32>,
}

impl Walk<'_, '_> {
    fn run(&mut self, mut open: Vec<(u32, i32)>, needs: &mut Needs) -> Result<(), String> {
        while let Some((mut address, mut depth)) = open.pop() {
            // Instructions that may be left out.
            let mut conditional = 0;
            let mut is_behind_call = false;
            while self.depth.get(&address).is_none_or(|&known| known < depth) {
                // A call that never returns is the end of its function.
                if is_behind_call && address >= self.end {
                    break;
                }
                if address != self.start && self.image.is_start(address) {
                    note(needs, Callee::At(address), depth);
                    break;
                }
                let Some(Instruction { bytes, effect }) = self.image.instruction(address) else {
                    break;
                };
                self.depth.insert(address, depth);
                if depth > ENDLESS_BYTES {
                    return Err(self.fault(address, "its stack grows in a loop"));
                }
                let after = self.after(address, depth, effect)?;
                needs.own_bytes = needs.own_bytes.max(after.max(depth) as u32);
                self.visit(effect, depth, needs, &mut open);
                let ends = matches!(
                    effect,
                    Effect::Jump(_) | Effect::JumpRegister | Effect::Table | Effect::Return(_) | Effect::Trap
                );
                if matches!(effect, Effect::Return(_)) && after != 0 {
                    return Err(self.fault(address, &format!("it leaves with {after} bytes on the stack")));
                }
                let is_conditional = conditional > 0;
                conditional = match effect {
                    Effect::IfThen(count) => count,
                    _ => conditional.saturating_sub(1),
                };
                if ends && !is_conditional {
                    break;
                }
                depth = match (is_conditional, ends) {
                    (true, true) => depth,
                    (true, false) => depth.max(after),
                    _ => after,
                };
                is_behind_call = matches!(effect, Effect::Call(_) | Effect::CallRegister);
                address = address.wrapping_add(bytes);
            }
        }
        Ok(())
    }

    /// Notes calls, and where else the function goes on.
    fn visit(&mut self, effect: Effect, depth: i32, needs: &mut Needs, open: &mut Vec<(u32, i32)>) {
        match effect {
            Effect::CallRegister => note(needs, Callee::Register, depth),
            Effect::Table | Effect::JumpRegister => {
                self.table = self.table.max(Some(depth));
                // A call in place of a return finds the stack as the caller left it.
                if effect == Effect::JumpRegister && depth == 0 {
                    note(needs, Callee::Register, depth);
                }
            }
            Effect::Call(target) | Effect::Jump(target) | Effect::Branch(target) => {
                let is_call = matches!(effect, Effect::Call(_));
                let is_inside = target > self.start && target < self.end;
                // Armv6-M has no other far branch within a function than a call.
                match is_inside && !self.image.is_start(target) {
                    true => open.push((target, depth)),
                    false if target == self.start && !is_call => open.push((target, depth)),
                    false => note(needs, Callee::At(target), depth),
                }
            }
            _ => {}
        }
    }

    /// Bytes in use after an instruction.
    fn after(&self, address: u32, depth: i32, effect: Effect) -> Result<i32, String> {
        let unknown = || self.fault(address, "it sets its stack pointer to what is not known before it runs");
        match effect {
            Effect::Moves(bytes) | Effect::Return(bytes) => Ok(depth - bytes),
            Effect::SetsSp { from } => self.held(address, from).ok_or_else(unknown),
            Effect::AddsToSp { from, sign } => {
                self.number(address, from).map(|value| depth - sign * value).ok_or_else(unknown)
            }
            Effect::Loses => Err(unknown()),
            _ => Ok(depth),
        }
    }

    /// Instructions before an address, from the last one up.
    fn before(&self, address: u32) -> impl Iterator<Item = (u32, Effect)> {
        let end = self.listing.partition_point(|&(place, _)| place < address);
        self.listing[..end].iter().rev().map(|&(place, instruction)| (place, instruction.effect))
    }

    /// Depth of the stack that a register points to before an instruction: most bytes between it and the stack on entry.
    /// Understands what compilers put right before they set the stack pointer.
    fn held(&self, address: u32, register: u8) -> Option<i32> {
        let (place, effect) = self.before(address).next()?;
        match effect {
            Effect::Address { to, from: SP, add } if to == register => Some(self.depth.get(&place)? - add),
            Effect::Address { to, from, add } if to == register => Some(self.held(place, from)? - add),
            Effect::Aligns { to, bits } if to == register => self.aligned(place, register, bits),
            // Armv6-M clears bits by shifting them out.
            Effect::ShiftsLeft { to, bits } if to == register => match self.before(place).next()? {
                (place, Effect::ShiftsRight { to, bits: same }) if (to, same) == (register, bits) => {
                    self.aligned(place, register, bits)
                }
                _ => None,
            },
            _ if register == FRAME => self.frame(address),
            _ => None,
        }
    }

    /// [`Walk::held`] with as many of the lowest bits cleared, which lie below what was held.
    fn aligned(&self, address: u32, register: u8, bits: u32) -> Option<i32> {
        self.held(address, register)?.checked_add(1i32.checked_shl(bits)? - 1)
    }

    /// Depth that the frame pointer points to, which a function sets once.
    fn frame(&self, address: u32) -> Option<i32> {
        let mut depths = self.before(address).filter_map(|(place, effect)| match effect {
            Effect::Address { to: FRAME, from: SP, add } => Some(self.depth.get(&place).map(|depth| depth - add)),
            _ => None,
        });
        let depth = depths.next()??;
        depths.next().is_none().then_some(depth)
    }

    /// The number that a register was set to right before an instruction.
    fn number(&self, address: u32, register: u8) -> Option<i32> {
        let mut effects = self.before(address).map(|(_, effect)| effect);
        match effects.next()? {
            Effect::Literal { to, address } if to == register => self.image.constant(address).map(|word| word as i32),
            Effect::Low { to, value } if to == register => Some(value as i32),
            Effect::High { to, value } if to == register => match effects.next()? {
                Effect::Low { to, value: low } if to == register => Some((value << 16 | low) as i32),
                _ => None,
            },
            _ => None,
        }
    }

    fn fault(&self, address: u32, what: &str) -> String {
        format!("{} at {address:#x}: {what}", self.image.name(self.start))
    }
}

fn note(needs: &mut Needs, callee: Callee, depth: i32) {
    let most = needs.calls.entry(callee).or_default();
    *most = (*most).max(depth as u32);
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::program;
    use super::*;

    fn needs_of(words: &[u16]) -> Result<Needs, String> {
        let elf = program(&[("main", words), ("other", &[0x4770])], &[]);
        let image = Image::of(&elf).unwrap();
        follow(&image, 0x100)
    }

    #[test]
    fn depth_is_that_of_the_deepest_branch_and_of_each_call() {
        let words = [
            0xb5f0, // push {r4, r5, r6, r7, lr}
            0xb108, // cbz r0, over the next two
            0xb0a0, // sub sp, #128
            0xb020, // add sp, #128
            0xb003, // add sp, #12
            0xb083, // sub sp, #12
            0xf000, 0xf801, // bl other
            0xbdf0, // pop {r4, r5, r6, r7, pc}
        ];
        let needs = needs_of(&words).unwrap();
        assert_eq!(needs.own_bytes, 20 + 128);
        assert_eq!(needs.calls, [(Callee::At(0x112), 20)].into());
    }

    #[test]
    fn code_behind_a_table_is_followed_at_its_depth() {
        let words = [
            0xb510, // push {r4, lr}
            0xb082, // sub sp, #8
            0xe8df, 0xf000, // tbb [pc, r0]
            0xb081, // sub sp, #4
            0xb001, // add sp, #4
            0xb002, // add sp, #8
            0xbd10, // pop {r4, pc}
        ];
        assert_eq!(needs_of(&words).unwrap().own_bytes, 20);
    }

    #[test]
    fn a_conditional_return_goes_on_with_its_frame() {
        let words = [
            0xb510, // push {r4, lr}
            0xbf08, // it eq
            0xbd10, // popeq {r4, pc}
            0xb084, // sub sp, #16
            0xb004, // add sp, #16
            0xbd10, // pop {r4, pc}
        ];
        assert_eq!(needs_of(&words).unwrap().own_bytes, 24);
    }

    #[test]
    fn a_frame_is_aligned_at_the_cost_of_what_aligning_may_take() {
        let words = [
            0xb580, // push {r7, lr}
            0xaf00, // add r7, sp, #0
            0xf1ad, 0x0420, // sub.w r4, sp, #32
            0xf36f, 0x0403, // bfc r4, #0, #4
            0x46a5, // mov sp, r4
            0x46bd, // mov sp, r7
            0xbd80, // pop {r7, pc}
        ];
        assert_eq!(needs_of(&words).unwrap().own_bytes, 8 + 32 + 15);
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        // sub.w sp, sp, r0: as many bytes as the caller says
        let said = needs_of(&[0xb580, 0xebad, 0x0d00, 0x46bd, 0xbd80]).unwrap_err();
        assert!(said.contains("main at 0x102"), "{said}");
        // A loop that pushes.
        assert!(needs_of(&[0xb401, 0xe7fd]).unwrap_err().contains("grows in a loop"));
        // push {r4, lr}; bx lr
        assert!(needs_of(&[0xb510, 0x4770]).unwrap_err().contains("leaves with 8 bytes"));
    }
}
