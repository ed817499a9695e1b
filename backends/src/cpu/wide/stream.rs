//! Streams: vectorised loops over straight-line code in which nothing runs lane by lane, which is where kernels spend their time.
//!
//! - What does not vary is computed ahead of the loop; what does is a list of operations for one group of lanes ([`flow`](super::flow)).
//! - Memory is addressed by pointers that are worked out ahead, plus the axis in `r15`.
//! - The main loop runs several whole groups without a mask and keeps a reduction's partial results in registers, one for
//!   each vector of virtual lanes. What is left runs group by group under a mask, with the partial results in the frame.

use iced_x86::{Code, Register};
use lehr_ir::dim::Dim;
use lehr_ir::kernel::{AxisKind, Loop, Memory, Stmt};

use super::WideError;
use super::assembler::{Label, Src, at, frame, indexed};
use super::emitter::Emitter;
use super::segment::{Access, At, Bin, Node, Op, Step, V};
use super::size::Size;
use super::vector::SCRATCH;

/// General registers that hold pointers.
const POINTERS: [Register; 8] = [
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// The most vectors of virtual lanes that stay in registers.
const MOST_PARTIALS: usize = 8;

/// Iterations of a slow loop that are of no matter.
const FEW: i64 = 16;

/// The least iterations that are worth a part of a vector more, so that the others are aligned.
const LONG: i64 = 256;

/// Operations of all groups in the main loop, about: few enough to decode once and to assemble quickly.
const MOST_OPS: usize = 64;

/// Where an element of memory is, less the axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub(super) base: Base,
    pub(super) offset: i32,
    pub(super) size: u32,
}

/// A pointer in a register or in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Register(Register),
    Frame(i32),
}

/// Where a value that does not vary is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fixed {
    /// These bits in every element.
    Const(u64),
    /// A vector of the frame.
    Vector(i32),
}

/// The list of a stream's operations with what is known before its loops.
pub(super) struct Stream<'k, 's> {
    pub(super) nodes: &'s [Node<'k>],
    /// For each node where its value is, if that does not vary and a varying one uses it.
    pub(super) fixed: Vec<Option<Fixed>>,
    /// Whether a node is part of the loop.
    pub(super) varies: Vec<bool>,
    /// The address of each load and store.
    pub(super) addresses: Vec<Option<Address>>,
    /// The vectors of virtual lanes of reductions; 0 without any.
    pub(super) partials: usize,
}

/// One group of lanes of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    /// The group of this number in the main loop, whole.
    Whole(usize),
    /// Under the mask of the active lanes.
    Masked,
}

impl<'k> Emitter<'k> {
    /// Whether these operations can be a stream, in groups of so many lanes.
    pub(super) fn is_stream(&self, nodes: &[Node<'k>], group: usize) -> bool {
        let width = self.lanes();
        group == width
            && nodes.iter().all(|n| match &n.op {
                Op::Const(_) | Op::Home(_) | Op::Splat(_) | Op::Bin(_) | Op::Un(_) => true,
                Op::Compare(..) | Op::Fma | Op::Select(_) | Op::Choose(..) => true,
                Op::Counter | Op::Uniform(_) => true,
                Op::Load(access) => access.step == Step::Same || access.step == Step::Unit,
                Op::Store(access) => access.step == Step::Unit && (access.granted || access.guard.is_always()),
                Op::Partial(at) | Op::KeepPartial(at, _) => {
                    let lanes = at.mask + 1;
                    at.shift == n.size.shift()
                        && at.plus.is_none()
                        && (width as i64..=(MOST_PARTIALS * width) as i64).contains(&lanes)
                }
                Op::Save(_) | Op::Each(..) | Op::Rotate(_) | Op::First => false,
            })
    }

    /// Notes an innermost loop that is slow.
    pub(super) fn not_a_stream(&mut self, l: &'k Loop, nodes: &[Node<'k>]) -> Result<(), WideError> {
        let few = l.extent.as_const().is_some_and(|n| n <= FEW);
        if few || !self.only_if_it_pays {
            return Ok(());
        }
        let each = nodes.iter().find_map(|n| match &n.op {
            Op::Each(each, _) => Some(each.what()),
            _ => None,
        });
        Err(WideError::NoGain(each.unwrap_or("the loop cannot be vectorised")))
    }

    /// Emits a loop over `axis` between two places of the frame.
    pub(super) fn stream(&mut self, l: &'k Loop, nodes: &[Node<'k>], from: i32, to: i32) -> Result<(), WideError> {
        let (again, tail, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        let counter = Register::R15;
        self.asm.rm(Code::Mov_r64_rm64, counter, frame(from));
        self.asm.rm(Code::Cmp_r64_rm64, counter, frame(to));
        self.asm.jump(Code::Jge_rel32_64, done);
        let (stream, saved) = self.prepare(l, nodes)?;
        let aligned = to_align(&stream, l);
        let (whole, rest) = self.groups(&stream, l, aligned.is_some());
        let width = self.lanes() as i32;
        self.asm.rm(Code::Mov_r64_rm64, counter, frame(from));
        let (main, masked) = (self.asm.label(), self.asm.label());
        if let Some(address) = aligned {
            self.head(address, to, main, masked);
        }
        if whole > 0 {
            let step = whole as i32 * width;
            self.asm.bind(main);
            self.asm.rm(Code::Mov_r64_rm64, Register::R14, frame(to));
            self.asm.ri(Code::Sub_rm64_imm32, Register::R14, step);
            self.asm.rr(Code::Cmp_r64_rm64, counter, Register::R14);
            self.asm.jump(Code::Jg_rel32_64, tail);
            let mut flow = self.start_flow(&stream);
            self.asm.bind(again);
            for group in 0..whole {
                self.flow(&stream, &mut flow, Group::Whole(group))?;
            }
            self.asm.ri(Code::Add_rm64_imm32, counter, step);
            self.asm.rr(Code::Cmp_r64_rm64, counter, Register::R14);
            self.asm.jump(Code::Jle_rel32_64, again);
            self.end_flow(&stream, flow);
        }
        self.asm.bind(tail);
        if rest {
            self.asm.rm(Code::Mov_r64_rm64, Register::R14, frame(to));
            self.asm.rr(Code::Sub_r64_rm64, Register::R14, counter);
            self.asm.jump(Code::Jle_rel32_64, done);
            self.asm.constant(Register::RAX, i64::from(width));
            self.asm.rr(Code::Cmp_r64_rm64, Register::R14, Register::RAX);
            self.asm.rr(Code::Cmovg_r64_rm64, Register::R14, Register::RAX);
            self.asm.bind(masked);
            self.v_activate();
            let mut flow = self.masked_flow(&stream);
            self.flow(&stream, &mut flow, Group::Masked)?;
            debug_assert!(flow.is_over());
            self.asm.rr(Code::Add_r64_rm64, counter, Register::R14);
            self.asm.jump(Code::Jmp_rel32_64, if aligned.is_some() { main } else { tail });
        }
        self.asm.bind(done);
        saved.into_iter().for_each(|place| self.frame.give_vector(place));
        Ok(())
    }

    /// Goes to the masked group with as many lanes as there are before an access is at a whole vector, so that the main loop's
    /// vectors do not straddle cache lines: arrays start at multiples of 16 bytes as a rule.
    fn head(&mut self, address: Address, to: i32, main: Label, masked: Label) {
        let first = self.stream_memory(address, Group::Masked);
        self.asm.rm(Code::Lea_r64_m, Register::R14, first);
        self.asm.r(Code::Neg_rm64, Register::R14);
        // Fewer elements than a vector has, whatever their size.
        let vector = self.lanes() as i32 * address.size as i32;
        self.asm.ri(Code::And_rm64_imm32, Register::R14, vector - 1);
        self.asm.ri(Code::Shr_rm64_imm8, Register::R14, address.size.trailing_zeros() as i32);
        self.asm.jump(Code::Je_rel32_64, main);
        self.asm.rm(Code::Mov_r64_rm64, Register::RAX, frame(to));
        self.asm.rr(Code::Sub_r64_rm64, Register::RAX, Register::R15);
        self.asm.rr(Code::Cmp_r64_rm64, Register::R14, Register::RAX);
        self.asm.rr(Code::Cmovg_r64_rm64, Register::R14, Register::RAX);
        self.asm.jump(Code::Jmp_rel32_64, masked);
    }

    /// How many groups the main loop runs at a time, 0 for no main loop, and whether anything may be left.
    fn groups(&self, stream: &Stream<'k, '_>, l: &Loop, aligned: bool) -> (usize, bool) {
        let width = self.lanes() as i64;
        let ops = stream.varies.iter().filter(|v| **v).count().max(1);
        let least = stream.partials.max(1);
        let mut groups = least;
        while groups < 8 && 2 * groups * ops <= MOST_OPS {
            groups *= 2;
        }
        let Some(extent) = known_extent(l) else { return (groups, true) };
        if aligned {
            // What is before the first whole vector makes that something is left whatever the step, so it should be little.
            while groups > least && 16 * groups as i64 * width > extent {
                groups /= 2;
            }
            return (groups, true);
        }
        while groups > least && (extent < groups as i64 * width || extent % (groups as i64 * width) != 0) {
            groups /= 2;
        }
        if extent < groups as i64 * width {
            return (0, true);
        }
        (groups, extent % (groups as i64 * width) != 0)
    }

    /// Emits what does not vary, and works out pointers.
    fn prepare<'s>(&mut self, l: &Loop, nodes: &'s [Node<'k>]) -> Result<(Stream<'k, 's>, Vec<i32>), WideError> {
        let mut stream = Stream {
            nodes,
            fixed: vec![None; nodes.len()],
            varies: vec![false; nodes.len()],
            addresses: vec![None; nodes.len()],
            partials: 0,
        };
        for (i, node) in nodes.iter().enumerate() {
            stream.varies[i] = match &node.op {
                Op::Load(access) => access.step != Step::Same,
                Op::Store(_) | Op::Partial(_) | Op::KeepPartial(..) | Op::Counter => true,
                _ => node.args.iter().any(|a| stream.varies[a.0 as usize]),
            };
            if let Op::Partial(at) = &node.op {
                stream.partials = stream.partials.max((at.mask as usize + 1) / self.lanes());
            }
        }
        let saved = self.ahead(&mut stream)?;
        self.place_stream_vars(&stream);
        self.pointers(l, &mut stream)?;
        Ok((stream, saved))
    }

    /// Emits what does not vary; what varying operations use of it goes to places of the frame, which are given back later.
    fn ahead(&mut self, stream: &mut Stream<'k, '_>) -> Result<Vec<i32>, WideError> {
        let mut used = vec![false; stream.nodes.len()];
        for (node, _) in stream.nodes.iter().zip(&stream.varies).filter(|(_, varies)| **varies) {
            node.args.iter().for_each(|a| used[a.0 as usize] = true);
        }
        let (mut nodes, mut moved, mut saved) = (Vec::new(), vec![V(0); stream.nodes.len()], Vec::new());
        for (i, node) in stream.nodes.iter().enumerate().filter(|(i, _)| !stream.varies[*i]) {
            match node.op {
                Op::Const(bits) => stream.fixed[i] = Some(Fixed::Const(bits)),
                Op::Home(place) => stream.fixed[i] = Some(Fixed::Vector(place)),
                _ => {}
            }
            let args = node.args.iter().map(|a| moved[a.0 as usize]).collect();
            moved[i] = V(nodes.len() as u32);
            nodes.push(Node { op: node.op.clone(), size: node.size, args, values: node.values });
            if used[i] && stream.fixed[i].is_none() {
                let place = self.frame.take_vector();
                stream.fixed[i] = Some(Fixed::Vector(place));
                saved.push(place);
                nodes.push(Node::new(Op::Save(place), node.size, smallvec::smallvec![moved[i]]));
            }
        }
        if !saved.is_empty() {
            self.emit_nodes(&nodes)?;
        }
        Ok(saved)
    }

    /// Tells index expressions where the variables are that the loop's take, none of which varies.
    fn place_stream_vars(&mut self, stream: &Stream<'k, '_>) {
        self.index_vars.clear();
        for (node, _) in stream.nodes.iter().zip(&stream.varies).filter(|(_, varies)| **varies) {
            for (var, v) in node.index_vars() {
                let place = match stream.fixed[v.0 as usize] {
                    Some(Fixed::Vector(place)) => place,
                    Some(Fixed::Const(bits)) => {
                        let place = self.frame.words(1);
                        self.asm.constant(Register::RAX, bits.cast_signed());
                        self.asm.mr(Code::Mov_rm64_r64, frame(place), Register::RAX);
                        place
                    }
                    None => continue,
                };
                if self.index_vars.iter().all(|(known, _)| *known != var) {
                    self.index_vars.push((var, place));
                }
            }
        }
    }

    /// The addresses of all accesses; those that differ by a constant share a pointer.
    fn pointers(&mut self, l: &Loop, stream: &mut Stream<'k, '_>) -> Result<(), WideError> {
        let mut pointers: Vec<(Memory, Dim)> = Vec::new();
        let mut which: Vec<(usize, usize, i32, u32)> = Vec::new();
        for (i, node) in stream.nodes.iter().enumerate().filter(|(i, _)| stream.varies[*i]) {
            let (Op::Load(access) | Op::Store(access)) = &node.op else { continue };
            let (rest, offset) = constant_apart(access, l)?;
            let key = (access.memory, rest);
            let pointer = pointers.iter().position(|p| *p == key).unwrap_or_else(|| {
                pointers.push(key);
                pointers.len() - 1
            });
            let size = access.dtype.size() as u32;
            let offset = i32::try_from(offset * i64::from(size))
                .map_err(|_| WideError::Invalid("an offset that is too large"))?;
            which.push((i, pointer, offset, size));
        }
        // The registers are used while indices are worked out, so the pointers go to them together.
        let (mut bases, mut places) = (Vec::new(), Vec::new());
        for (i, (memory, rest)) in pointers.iter().enumerate() {
            let size = self.kernel.memory_dtype(*memory).map_or(4, |d| d.size() as u32);
            let place = self.frame.words(1);
            self.index(rest)?;
            self.base(*memory)?;
            self.asm.rm(Code::Lea_r64_m, Register::RAX, indexed(Register::RCX, Register::RAX, size, 0));
            self.asm.mr(Code::Mov_rm64_r64, frame(place), Register::RAX);
            bases.push(POINTERS.get(i).map_or(Base::Frame(place), |r| Base::Register(*r)));
            places.push(place);
        }
        for (place, r) in places.iter().zip(POINTERS) {
            self.asm.rm(Code::Mov_r64_rm64, r, frame(*place));
        }
        for (i, pointer, offset, size) in which {
            stream.addresses[i] = Some(Address { base: bases[pointer], offset, size });
        }
        Ok(())
    }

    /// A memory operand of a group; changes `rax` where the pointer is in the frame.
    pub(super) fn stream_memory(&mut self, address: Address, group: Group) -> iced_x86::MemoryOperand {
        let lanes = self.lanes() as i32;
        let group = if let Group::Whole(group) = group { group as i32 } else { 0 };
        let offset = address.offset + group * lanes * address.size as i32;
        let base = match address.base {
            Base::Register(r) => r,
            Base::Frame(place) => {
                self.asm.rm(Code::Mov_r64_rm64, Register::RAX, frame(place));
                Register::RAX
            }
        };
        indexed(base, Register::R15, address.size, offset)
    }

    /// The axis in each lane of a group.
    pub(super) fn stream_counter(&mut self, d: u8, group: Group) {
        let before = if let Group::Whole(group) = group { (group * self.lanes()) as i32 } else { 0 };
        self.asm.rm(Code::Lea_r64_m, Register::RAX, at(Register::R15, before));
        self.v_splat_register(Size::Eight, SCRATCH, Register::RAX);
        let numbers = Src::Memory(frame(self.counter_numbers));
        self.v_bin_with(Bin::IAdd, Size::Eight, d, SCRATCH, numbers);
    }

    /// The partial results that a masked group folds into.
    pub(super) fn stream_partial(&mut self, at_: &At) -> iced_x86::MemoryOperand {
        self.asm.rr(Code::Mov_r64_rm64, Register::RAX, Register::R15);
        self.asm.ri(Code::And_rm64_imm32, Register::RAX, at_.mask as i32);
        indexed(Register::RSP, Register::RAX, 1 << at_.shift, at_.offset)
    }

    /// A whole vector of partial results in the frame.
    pub(super) fn whole_partial(&self, offset: i32, size: Size, i: usize) -> iced_x86::MemoryOperand {
        at(Register::RSP, offset + (i * self.lanes()) as i32 * size.bytes() as i32)
    }
}

/// The extent of a loop, where all of it runs and that is known: a launch runs any part of the outermost loop.
fn known_extent(l: &Loop) -> Option<i64> {
    if l.kind == AxisKind::Parallel { None } else { l.extent.as_const() }
}

/// The access whose vectors should not straddle cache lines: of the pointer that most accesses go through, the last of them,
/// which is the store where there is one. None for a reduction, whose virtual lanes are tied to the iterations, and for a short loop.
fn to_align(stream: &Stream<'_, '_>, l: &Loop) -> Option<Address> {
    if stream.partials > 0 || known_extent(l).is_some_and(|n| n < LONG) {
        return None;
    }
    let accesses = stream.nodes.iter().zip(&stream.addresses).filter_map(|(node, address)| match &node.op {
        Op::Load(access) | Op::Store(access) => address.map(|a| (access.memory, a)),
        _ => None,
    });
    let accesses: Vec<(Memory, Address)> = accesses.collect();
    let through = |base: Base| accesses.iter().filter(|(_, a)| a.base == base).count();
    // Tiles start at a line.
    let (memory, address) = accesses.iter().max_by_key(|(_, a)| through(a.base))?;
    matches!(memory, Memory::Buffer(_)).then_some(*address)
}

/// Whether a loop's body is straight-line code.
pub(super) fn is_straight(l: &Loop) -> bool {
    l.body.iter().all(|s| matches!(s, Stmt::Let { .. } | Stmt::Store { .. }))
}

/// An access's index less the axis and a constant, and the constant.
fn constant_apart(access: &Access<'_>, l: &Loop) -> Result<(Dim, i64), WideError> {
    let rest =
        access.index.split_linear(&l.axis).map(|(_, rest)| rest).ok_or(WideError::Invalid("an index that jumps"))?;
    let mut constant = 0_i64;
    for term in rest.readable_terms() {
        if term.factors().is_empty() {
            constant = constant.wrapping_add(term.coefficient());
        }
    }
    // Far away is a pointer of its own.
    if constant.unsigned_abs() > 1 << 24 {
        return Ok((rest, 0));
    }
    Ok((&rest - &Dim::from(constant), constant))
}
