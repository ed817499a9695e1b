//! Index expressions in general registers, with sizes, axes and variables read from the frame.

use iced_x86::{Code, MemoryOperand, Register};
use lehr_ir::dim::{Atom, AtomKind, Dim, DimError, Factor, Symbol, Term};
use lehr_ir::kernel::{Guard, Var};

use super::WideError;
use super::assembler::{Label, at, frame, frame_lane};
use super::emitter::{Emitter, Place};

impl Emitter<'_> {
    /// The value of an index expression in `rax`; changes `rcx` and `rdx` too. Inside of a loop over lanes it is that of the lane.
    pub(super) fn index(&mut self, dim: &Dim) -> Result<(), WideError> {
        self.sum(dim, 0)
    }

    /// Jumps where a guard does not hold.
    pub(super) fn unless(&mut self, guard: &Guard, to: Label) -> Result<(), WideError> {
        for dim in &guard.0 {
            self.index(dim)?;
            self.asm.rr(Code::Test_rm64_r64, Register::RAX, Register::RAX);
            self.asm.jump(Code::Js_rel32_64, to);
        }
        Ok(())
    }

    fn sum(&mut self, dim: &Dim, depth: usize) -> Result<(), WideError> {
        if let Some(fault) = dim.fault() {
            return Err(DimError::from(fault).into());
        }
        let mut constant = 0_i64;
        let (mut simple, mut others) = (Vec::new(), Vec::new());
        for term in dim.readable_terms() {
            match term.factors() {
                [] => constant = constant.wrapping_add(term.coefficient()),
                [Factor::Symbol(s)] if term.coefficient() == 1 => simple.push(s.clone()),
                _ => others.push(term),
            }
        }
        let mut empty = true;
        for term in &others {
            if !empty {
                self.keep(depth);
            }
            self.term(term, depth + 1)?;
            if !empty {
                let kept = self.kept(depth);
                self.asm.rm(Code::Add_r64_rm64, Register::RAX, kept);
            }
            empty = false;
        }
        for symbol in &simple {
            let place = self.symbol(symbol)?;
            self.asm.rm(if empty { Code::Mov_r64_rm64 } else { Code::Add_r64_rm64 }, Register::RAX, place);
            empty = false;
        }
        match i32::try_from(constant) {
            _ if empty => self.asm.constant(Register::RAX, constant),
            Ok(0) => {}
            Ok(small) => self.asm.ri(Code::Add_rm64_imm32, Register::RAX, small),
            Err(_) => {
                self.asm.constant(Register::RCX, constant);
                self.asm.rr(Code::Add_r64_rm64, Register::RAX, Register::RCX);
            }
        }
        Ok(())
    }

    fn term(&mut self, term: &Term, depth: usize) -> Result<(), WideError> {
        let mut empty = true;
        for factor in term.factors() {
            match factor {
                Factor::Symbol(s) => {
                    let place = self.symbol(s)?;
                    self.asm.rm(if empty { Code::Mov_r64_rm64 } else { Code::Imul_r64_rm64 }, Register::RAX, place);
                }
                Factor::Atom(atom) => {
                    if !empty {
                        self.keep(depth);
                    }
                    self.atom(atom, depth + 1)?;
                    if !empty {
                        let kept = self.kept(depth);
                        self.asm.rm(Code::Imul_r64_rm64, Register::RAX, kept);
                    }
                }
            }
            empty = false;
        }
        match (term.coefficient(), i32::try_from(term.coefficient())) {
            (c, _) if empty => self.asm.constant(Register::RAX, c),
            (1, _) => {}
            (_, Ok(c)) => self.asm.rri(Code::Imul_r64_rm64_imm32, Register::RAX, Register::RAX, c),
            (c, Err(_)) => {
                self.asm.constant(Register::RCX, c);
                self.asm.rr(Code::Imul_r64_rm64, Register::RAX, Register::RCX);
            }
        }
        Ok(())
    }

    fn atom(&mut self, atom: &Atom, depth: usize) -> Result<(), WideError> {
        let power = atom.rhs().as_const().filter(|d| *d > 0 && (*d as u64).is_power_of_two());
        if let (AtomKind::FloorDiv | AtomKind::Mod, Some(d)) = (atom.kind(), power) {
            self.sum(atom.lhs(), depth)?;
            if atom.kind() == AtomKind::FloorDiv {
                self.asm.ri(Code::Sar_rm64_imm8, Register::RAX, d.trailing_zeros() as i32);
            } else {
                self.asm.constant(Register::RCX, d - 1);
                self.asm.rr(Code::And_r64_rm64, Register::RAX, Register::RCX);
            }
            return Ok(());
        }
        self.sum(atom.lhs(), depth)?;
        self.keep(depth);
        self.sum(atom.rhs(), depth + 1)?;
        self.asm.rr(Code::Mov_r64_rm64, Register::RCX, Register::RAX);
        let lhs = self.kept(depth);
        self.asm.rm(Code::Mov_r64_rm64, Register::RAX, lhs);
        match atom.kind() {
            AtomKind::Min | AtomKind::Max => {
                self.asm.rr(Code::Cmp_r64_rm64, Register::RCX, Register::RAX);
                let code = if atom.kind() == AtomKind::Min { Code::Cmovl_r64_rm64 } else { Code::Cmovg_r64_rm64 };
                self.asm.rr(code, Register::RAX, Register::RCX);
            }
            AtomKind::FloorDiv | AtomKind::Mod => self.floor_divide(atom.kind() == AtomKind::Mod),
        }
        Ok(())
    }

    /// The floored quotient or remainder of `rax` by `rcx`; 0, and no trap, by zero.
    fn floor_divide(&mut self, remainder: bool) {
        let (zero, minus_one, exact, done) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.rr(Code::Test_rm64_r64, Register::RCX, Register::RCX);
        self.asm.jump(Code::Je_rel32_64, zero);
        self.asm.ri(Code::Cmp_rm64_imm8, Register::RCX, -1);
        self.asm.jump(Code::Je_rel32_64, minus_one);
        self.asm.op(Code::Cqo);
        self.asm.r(Code::Idiv_rm64, Register::RCX);
        // Truncation is off by one where there is a remainder of another sign than the divisor's.
        self.asm.rr(Code::Test_rm64_r64, Register::RDX, Register::RDX);
        self.asm.jump(Code::Je_rel32_64, exact);
        self.asm.rr(Code::Mov_r64_rm64, Register::R8, Register::RDX);
        self.asm.rr(Code::Xor_r64_rm64, Register::R8, Register::RCX);
        self.asm.jump(Code::Jns_rel32_64, exact);
        self.asm.ri(Code::Add_rm64_imm32, Register::RAX, -1);
        self.asm.rr(Code::Add_r64_rm64, Register::RDX, Register::RCX);
        self.asm.bind(exact);
        if remainder {
            self.asm.rr(Code::Mov_r64_rm64, Register::RAX, Register::RDX);
        }
        self.asm.jump(Code::Jmp_rel32_64, done);
        self.asm.bind(minus_one);
        if remainder {
            self.asm.rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX);
        } else {
            self.asm.r(Code::Neg_rm64, Register::RAX);
        }
        self.asm.jump(Code::Jmp_rel32_64, done);
        self.asm.bind(zero);
        self.asm.rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX);
        self.asm.bind(done);
    }

    /// Where a symbol's value is.
    fn symbol(&self, symbol: &Symbol) -> Result<MemoryOperand, WideError> {
        if let Some(var) = Var::from_symbol(symbol) {
            let placed = self.index_vars.iter().find(|(v, _)| *v == var).map(|(_, place)| *place);
            return match (placed, self.place(var)?) {
                (Some(place), _) | (None, Place::Home(place)) if self.in_lane => Ok(frame_lane(place, 8)),
                (Some(place), _) | (None, Place::Home(place)) => Ok(frame(place)),
                (None, Place::Wide(wide)) if wide.varying => Ok(frame_lane(wide.offset, 8)),
                (None, Place::Wide(wide)) => Ok(frame(wide.offset)),
                (None, Place::Unset | Place::Here(_) | Place::Const(_)) => {
                    Err(WideError::Invalid("an index takes i64"))
                }
            };
        }
        if let Some(lane) = self.lane.as_ref().filter(|l| self.in_lane && l.axis == symbol) {
            return Ok(frame(lane.current));
        }
        let axis = self.axes.iter().rev().find(|(s, _)| *s == symbol).map(|(_, place)| *place);
        let size = self.kernel.sizes.iter().position(|s| s == symbol).and_then(|i| i32::try_from(i).ok());
        match (axis, size) {
            (Some(place), _) => Ok(frame(place)),
            (None, Some(i)) => Ok(at(Register::RBX, 8 * i)),
            (None, None) => Err(DimError::Unbound(symbol.clone()).into()),
        }
    }

    fn keep(&mut self, depth: usize) {
        let place = self.kept(depth);
        self.asm.mr(Code::Mov_rm64_r64, place, Register::RAX);
    }

    fn kept(&mut self, depth: usize) -> MemoryOperand {
        while self.kept.len() <= depth {
            let place = self.frame.words(1);
            self.kept.push(place);
        }
        frame(self.kept[depth])
    }
}
