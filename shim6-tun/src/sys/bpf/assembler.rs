//! Extended BPF instructions, and jumps to places that have a name (RFC 9669).

use std::os::fd::RawFd;

/// A register. R0 has what a call returns, R1 to R5 its arguments, which it destroys; R10 is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many octets a load or store moves.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// When a jump is taken: 64-bit comparisons without sign.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum If {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// 64-bit arithmetic.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Move = 0xb0,
}

/// An operation on memory that no other comes between, 64 bits.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Atomic {
    Add = 0x00,
    /// The register gets what was there.
    Exchange = 0xe1,
    /// Stores if R0 is what is there; R0 gets what was.
    CompareExchange = 0xf1,
}

/// A function of the kernel, by its number.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    MonotonicNanoseconds = 5,
    Processor = 8,
    StorePacket = 9,
    Redirect = 23,
    LoadPacket = 26,
    Hash = 34,
    PullPacket = 39,
    UpdateChecksum = 40,
    AddLinkHeader = 43,
    AdjustRoom = 50,
    LoadHeaders = 68,
    RingOutput = 130,
    RedirectToNeighbour = 152,
}

/// The second operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Value(i32),
    In(Register),
}

impl From<i32> for Operand {
    fn from(value: i32) -> Self {
        Self::Value(value)
    }
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::In(register)
    }
}

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// One instruction as the kernel takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is.
    places: Vec<Option<usize>>,
    /// Jumps, and where they go.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label that is put somewhere later.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Puts a label here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    pub(super) fn alu(&mut self, operation: Alu, destination: Register, operand: impl Into<Operand>) {
        const ALU64: u8 = 0x07;
        self.operate(ALU64 | operation as u8, destination, 0, operand.into());
    }

    /// Turns 16 bits in network byte order into a number.
    pub(super) fn network_to_host(&mut self, register: Register) {
        self.push(0xdc, register, Register::R0, 0, 16);
    }

    pub(super) fn load(&mut self, size: Size, destination: Register, (base, offset): (Register, i16)) {
        self.push(0x61 | size as u8, destination, base, offset, 0);
    }

    pub(super) fn store(&mut self, size: Size, (base, offset): (Register, i16), value: impl Into<Operand>) {
        match value.into() {
            Operand::Value(value) => self.push(0x62 | size as u8, base, Register::R0, offset, value),
            Operand::In(register) => self.push(0x63 | size as u8, base, register, offset, 0),
        }
    }

    pub(super) fn atomic(&mut self, operation: Atomic, (base, offset): (Register, i16), register: Register) {
        self.push(0xdb, base, register, offset, operation as i32);
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(0x05, Register::R0, Register::R0, 0, 0);
    }

    pub(super) fn jump_if(&mut self, condition: If, left: Register, right: impl Into<Operand>, label: Label) {
        const JUMP: u8 = 0x05;
        self.jumps.push((self.code.len(), label));
        self.operate(JUMP | condition as u8, left, 0, right.into());
    }

    /// R1 to R5 are lost, R0 has the result.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(0x85, Register::R0, Register::R0, 0, helper as i32);
    }

    /// A number of 64 bits.
    pub(super) fn load_number(&mut self, destination: Register, number: u64) {
        self.load_wide(destination, Register::R0, number);
    }

    /// A map, by its descriptor.
    pub(super) fn load_map(&mut self, destination: Register, map: RawFd) {
        // The source register says that this is no number but a descriptor.
        self.load_wide(destination, Register::R1, u64::from(map.cast_unsigned()));
    }

    /// R0 becomes what the map has for the key at this place on the stack, or 0. R1 to R5 are lost.
    pub(super) fn look_up(&mut self, map: RawFd, key: i16) {
        self.load_map(Register::R1, map);
        self.alu(Alu::Move, Register::R2, Register::R10);
        self.alu(Alu::Add, Register::R2, i32::from(key));
        self.call(Helper::MapLookup);
    }

    pub(super) fn exit(&mut self) {
        self.push(0x95, Register::R0, Register::R0, 0, 0);
    }

    /// The program. A label that was never placed, or one too far away, makes the kernel refuse it.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (from, label) in self.jumps {
            let distance = self.places[label.0].and_then(|to| i16::try_from(to as isize - from as isize - 1).ok());
            // A jump to itself, which the kernel refuses.
            self.code[from].offset = distance.unwrap_or(-1);
        }
        self.code
    }

    fn operate(&mut self, code: u8, destination: Register, offset: i16, operand: Operand) {
        const FROM_REGISTER: u8 = 0x08;
        match operand {
            Operand::Value(value) => self.push(code, destination, Register::R0, offset, value),
            Operand::In(register) => self.push(code | FROM_REGISTER, destination, register, offset, 0),
        }
    }

    fn load_wide(&mut self, destination: Register, kind: Register, number: u64) {
        self.push(0x18, destination, kind, 0, (number as u32).cast_signed());
        self.push(0, Register::R0, Register::R0, 0, ((number >> 32) as u32).cast_signed());
    }

    fn push(&mut self, code: u8, destination: Register, source: Register, offset: i16, immediate: i32) {
        let (low, high) = if cfg!(target_endian = "little") {
            (destination as u8, source as u8)
        } else {
            (source as u8, destination as u8)
        };
        self.code.push(Instruction {
            code,
            registers: high << 4 | low,
            offset,
            immediate,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_go_forwards_and_backwards_to_their_labels() {
        let mut code = Assembler::default();
        let (start, end) = (code.label(), code.label());
        code.place(start);
        code.alu(Alu::Move, Register::R0, 0);
        code.jump_if(If::Equal, Register::R0, Register::R1, end);
        code.jump(start);
        code.place(end);
        code.exit();
        let code = code.finish();
        let offsets: Vec<_> = code.iter().map(|instruction| instruction.offset).collect();
        assert_eq!(offsets, [0, 1, -3, 0]);
    }

    #[test]
    fn a_wide_number_takes_two_instructions() {
        let mut code = Assembler::default();
        code.load_number(Register::R2, 0x1_0000_0002);
        let code = code.finish();
        let immediates: Vec<_> = code.iter().map(|instruction| instruction.immediate).collect();
        assert_eq!(immediates, [2, 1]);
    }
}
