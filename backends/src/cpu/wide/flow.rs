//! One group of a stream as instructions: registers by linear scan, with what does not vary as memory operands where no
//! register is left for it.

use smallvec::SmallVec;

use super::Width;
use super::assembler::{Src, frame};
use super::emitter::Emitter;
use super::extremes::Extreme;
use super::segment::{Bin, Element, Node, Op, Order, Step, V};
use super::size::Size;
use super::stream::{Base, Fixed, Group, Stream};
use super::vector::allocatable;
use super::{WideError, segment};
use iced_x86::MemoryOperand;

/// Registers while a stream's operations are emitted.
pub(super) struct Flow {
    /// For each value the operations of the loop that use it, in order.
    uses: Vec<SmallVec<[u32; 4]>>,
    register: Vec<Option<u8>>,
    slot: Vec<Option<i32>>,
    owner: [Option<V>; 32],
    /// Registers that keep their meaning over the whole loop.
    kept: u32,
    /// The registers of partial results, by their place in the frame.
    pub(super) partials: Vec<(i32, Vec<u8>)>,
    /// The sizes of the elements of the same.
    partial_sizes: Vec<Size>,
    /// Folds by maximum and minimum that need no choice.
    extremes: Vec<Extreme>,
    /// Loads that are operands of the one operation that uses them.
    folded: Vec<bool>,
}

/// Turns selections by a comparison that nothing else uses into one operation: of what is compared, a minimum or maximum.
pub(super) fn choose<'k>(mut nodes: Vec<Node<'k>>) -> Vec<Node<'k>> {
    let mut uses = vec![0_u32; nodes.len()];
    nodes.iter().flat_map(|n| &n.args).for_each(|a| uses[a.0 as usize] += 1);
    for i in 0..nodes.len() {
        let size = nodes[i].size;
        if let (Op::Select(_), &[mask, a, b]) = (&nodes[i].op, nodes[i].args.as_slice())
            && uses[mask.0 as usize] == 1
            && let Op::Compare(order, element) = nodes[mask.0 as usize].op
        {
            let [x, y] = [nodes[mask.0 as usize].args[0], nodes[mask.0 as usize].args[1]];
            nodes[i] = match extreme(order, element, [x, y, a, b]) {
                Some((op, args)) => Node::new(Op::Bin(op), size, SmallVec::from_iter(args)),
                None => Node::new(Op::Choose(order, element), size, SmallVec::from_iter([x, y, a, b])),
            };
            // What nobody uses any more is left out.
            nodes[mask.0 as usize] = Node::new(Op::Const(0), element.size(), SmallVec::new());
        }
    }
    nodes
}

/// The minimum or maximum that `x` and `y` compare so ? `a` : `b` is: these instructions are made of a comparison and give their second
/// operand where it does not hold, so NaN and zeros of either sign come out the same.
fn extreme(order: Order, element: Element, [x, y, a, b]: [V; 4]) -> Option<(Bin, [V; 2])> {
    // The smaller one first where it holds.
    let [x, y] = match (element, order) {
        (Element::Float(_), Order::Lt) => [x, y],
        (Element::Float(_), Order::Gt) => [y, x],
        _ => return None,
    };
    match [a, b] {
        args if args == [x, y] => Some((Bin::Min, args)),
        args if args == [y, x] => Some((Bin::Max, args)),
        _ => None,
    }
}

impl<'k> Emitter<'k> {
    /// The registers of a main loop, with what they hold all through it.
    pub(super) fn start_flow(&mut self, stream: &Stream<'k, '_>) -> Flow {
        let mut flow = self.masked_flow(stream);
        flow.folded = foldable(stream, &flow, self.size);
        let all = allocatable(self.width, self.size);
        let mut free: Vec<u8> = all.rev().collect();
        let needed = pressure(stream, &flow) + if self.width == Width::Avx2 { 3 } else { 2 };
        // Partial results come first: they are on the path from iteration to iteration.
        for node in stream.nodes {
            let Op::Partial(at) = &node.op else { continue };
            if free.len() >= needed.min(6) + stream.partials {
                let registers: Vec<u8> = free.drain(free.len() - stream.partials..).collect();
                for (i, r) in registers.iter().enumerate() {
                    let from = self.whole_partial(at.offset, node.size, i);
                    self.v_load_lanes(node.size, *r, from);
                    flow.kept |= 1 << r;
                }
                flow.partials.push((at.offset, registers));
                flow.partial_sizes.push(node.size);
            }
        }
        flow.extremes = self.start_extremes(stream, &flow);
        let mut fixed: Vec<(usize, usize)> = (0..stream.nodes.len())
            .filter(|i| stream.fixed[*i].is_some() && !flow.uses[*i].is_empty())
            .map(|i| (flow.uses[i].len(), i))
            .collect();
        fixed.sort_by_key(|(uses, i)| (std::cmp::Reverse(*uses), *i));
        let room = free.len().saturating_sub(needed);
        for ((_, i), r) in fixed.into_iter().take(room).zip(free) {
            self.load_fixed(stream, i, r);
            flow.kept |= 1 << r;
            flow.give(V(i as u32), r);
        }
        flow
    }

    /// Writes partial results back to the frame.
    pub(super) fn end_flow(&mut self, stream: &Stream<'k, '_>, flow: Flow) {
        self.end_extremes(&flow.extremes, &flow.partials);
        for ((offset, registers), size) in flow.partials.iter().zip(&flow.partial_sizes) {
            for (i, r) in registers.iter().enumerate() {
                let to = self.whole_partial(*offset, *size, i);
                self.v_store_lanes(*size, to, *r);
            }
        }
        debug_assert!(flow.is_over() && flow.uses.len() == stream.nodes.len());
    }

    /// The registers of a group that stands alone.
    pub(super) fn masked_flow(&mut self, stream: &Stream<'k, '_>) -> Flow {
        let n = stream.nodes.len();
        let mut uses: Vec<SmallVec<[u32; 4]>> = vec![SmallVec::new(); n];
        // What nobody uses, uses nothing.
        for (i, node) in stream.nodes.iter().enumerate().rev().filter(|(i, _)| stream.varies[*i]) {
            if !uses[i].is_empty() || matches!(node.op, Op::Store(_) | Op::KeepPartial(..)) {
                node.values().iter().for_each(|a| uses[a.0 as usize].push(i as u32));
            }
        }
        uses.iter_mut().for_each(|u| u.reverse());
        Flow {
            uses,
            register: vec![None; n],
            slot: vec![None; n],
            owner: [None; 32],
            kept: 0,
            partials: Vec::new(),
            partial_sizes: Vec::new(),
            extremes: Vec::new(),
            folded: vec![false; n],
        }
    }

    /// Emits one group.
    pub(super) fn flow(&mut self, stream: &Stream<'k, '_>, flow: &mut Flow, group: Group) -> Result<(), WideError> {
        for (i, node) in stream.nodes.iter().enumerate() {
            let gives = !matches!(node.op, Op::Store(_) | Op::KeepPartial(..));
            if !stream.varies[i] || (gives && flow.uses[i].is_empty()) || flow.folded[i] {
                continue;
            }
            self.flow_node(stream, flow, i, group)?;
            for arg in &node.args {
                if flow.next_use(*arg, i).is_none() {
                    self.let_go(flow, *arg);
                }
            }
        }
        Ok(())
    }

    fn flow_node(&mut self, stream: &Stream<'k, '_>, flow: &mut Flow, i: usize, group: Group) -> Result<(), WideError> {
        let node = &stream.nodes[i];
        let size = node.size;
        let mut e = Emission { e: self, stream, flow, i, group };
        if e.extreme() {
            return Ok(());
        }
        match (&node.op, node.values()) {
            (Op::Bin(op), &[a, b]) => {
                let swap = commutes(*op) && e.in_memory(a) && !e.in_memory(b);
                let (a, b) = if swap { (b, a) } else { (a, b) };
                let a = e.register(a);
                let b = e.operand(b);
                let d = e.result(None);
                e.e.v_bin_with(*op, size, d, a, b);
            }
            (Op::Un(op), &[a]) => {
                let a = e.register(a);
                let d = e.result(None);
                e.e.v_un(*op, size, d, a);
            }
            (Op::Compare(order, element), &[a, b]) => {
                let (a, b) = (e.register(a), e.register(b));
                let d = e.result(None);
                e.e.v_compare(*order, *element, d, a, b);
            }
            (Op::Choose(order, element), &[x, y, a, b]) => e.choose((*order, *element), [x, y, a, b]),
            (Op::Fma, &[a, b, c]) => e.fma(a, b, c),
            (Op::Select(mask), &[m, a, b]) => {
                let (m, a, b) = (e.register(m), e.register(a), e.register(b));
                let d = e.result(None);
                e.e.v_select(*mask, size, d, m, a, b);
            }
            (Op::Counter, _) => {
                let d = e.result(None);
                e.e.stream_counter(d, group);
            }
            (Op::Load(access), _) => {
                let d = e.result(None);
                let address = stream.addresses[i].ok_or(WideError::Invalid("an access without address"))?;
                let from = e.e.stream_memory(address, group);
                e.e.v_load_elements(access.dtype, d, from, group == Group::Masked);
            }
            (Op::Store(access), &[a]) => {
                let a = e.register(a);
                let address = stream.addresses[i].ok_or(WideError::Invalid("an access without address"))?;
                let to = e.e.stream_memory(address, group);
                e.e.v_store_elements(access.dtype, to, a, group == Group::Masked);
            }
            (Op::Partial(at), _) => match e.partial(at.offset) {
                Some(r) => e.flow.give(V(i as u32), r),
                None => {
                    let d = e.result(None);
                    let from = e.partial_memory(at, size);
                    e.e.v_load_lanes(size, d, from);
                }
            },
            (Op::KeepPartial(at, active), &[a]) => {
                let a = e.register(a);
                match e.partial(at.offset) {
                    Some(r) => e.e.v_move(r, a),
                    None => {
                        let to = e.partial_memory(at, size);
                        if *active && group == Group::Masked {
                            e.e.v_store_active(size, to, a);
                        } else {
                            e.e.v_store_lanes(size, to, a);
                        }
                    }
                }
            }
            (_, _) => return Err(WideError::Invalid("an operation without vector form in a stream")),
        }
        Ok(())
    }

    fn load_fixed(&mut self, stream: &Stream<'k, '_>, i: usize, r: u8) {
        let size = stream.nodes[i].size;
        match stream.fixed[i] {
            Some(Fixed::Const(bits)) => {
                let from = self.asm.pooled_word(size, bits);
                self.v_splat(size, r, from);
            }
            Some(Fixed::Vector(place)) => self.v_load(r, frame(place)),
            None => {}
        }
    }

    /// Gives back what a value has, unless it is kept.
    fn let_go(&mut self, flow: &mut Flow, v: V) {
        if let Some(r) = flow.register[v.0 as usize]
            && !(flow.is_kept(r) && flow.owner[usize::from(r)] == Some(v) && !flow.is_partial(r))
        {
            flow.register[v.0 as usize] = None;
            flow.owner[usize::from(r)] = None;
        }
        if let Some(slot) = flow.slot[v.0 as usize].take() {
            self.frame.give_vector(slot);
        }
    }
}

/// The emission of one operation.
struct Emission<'e, 'k, 's, 'n> {
    e: &'e mut Emitter<'k>,
    stream: &'s Stream<'k, 'n>,
    flow: &'s mut Flow,
    i: usize,
    group: Group,
}

impl Emission<'_, '_, '_, '_> {
    /// Emits the operation as part of a fold that needs no choice, if it is one.
    fn extreme(&mut self) -> bool {
        let Group::Whole(_) = self.group else { return false };
        let part = |x: &&Extreme| x.extreme == self.i || x.choice == self.i;
        let Some(fold) = self.flow.extremes.iter().find(part).copied() else { return false };
        let Some(partial) = self.partial(fold.offset) else { return false };
        if let Op::Bin(op) = self.stream.nodes[self.i].op {
            let element = self.register(fold.element);
            self.e.fold_extreme(fold, op, partial, element);
        }
        self.flow.give(V(self.i as u32), partial);
        true
    }

    fn args(&self) -> &[V] {
        &self.stream.nodes[self.i].args
    }

    /// Whether a value is in memory only.
    fn in_memory(&self, v: V) -> bool {
        let at = v.0 as usize;
        self.flow.register[at].is_none()
            && (self.stream.fixed[at].is_some() || self.flow.folded[at] || self.flow.slot[at].is_some())
    }

    /// A value as the last operand of an instruction.
    fn operand(&mut self, v: V) -> Src {
        match self.memory(v) {
            Some(from) => Src::Memory(from),
            None => Src::Register(self.register_of(v)),
        }
    }

    fn register_of(&mut self, v: V) -> iced_x86::Register {
        let r = self.register(v);
        self.e.vector(r)
    }

    fn memory(&mut self, v: V) -> Option<MemoryOperand> {
        let at = v.0 as usize;
        if self.flow.register[at].is_some() {
            return None;
        }
        match (self.stream.fixed[at], self.flow.slot[at], self.stream.addresses[at]) {
            (Some(Fixed::Const(bits)), ..) => Some(self.e.pooled(self.stream.nodes[at].size, bits)),
            (Some(Fixed::Vector(place)), ..) => Some(frame(place)),
            (None, Some(slot), _) => Some(frame(slot)),
            (None, None, Some(address)) if self.flow.folded[at] => Some(self.e.stream_memory(address, self.group)),
            (None, None, _) => None,
        }
    }

    /// A value in a register.
    fn register(&mut self, v: V) -> u8 {
        let at = v.0 as usize;
        if let Some(r) = self.flow.register[at] {
            return r;
        }
        let r = self.free(&[]);
        if self.stream.fixed[at].is_some() {
            self.e.load_fixed(self.stream, at, r);
        } else if let Some(from) = self.memory(v) {
            self.e.v_load(r, from);
        }
        self.flow.give(v, r);
        r
    }

    /// The register of the operation's result: where it is kept, that of an operand which ends here if one is preferred, or any.
    fn result(&mut self, preferred: Option<V>) -> u8 {
        let args: SmallVec<[V; 4]> = self.args().into();
        let i = self.i;
        let ends = |flow: &Flow, v: V| flow.next_use(v, i).is_none();
        let target = self.target().filter(|r| self.flow.owner[usize::from(*r)].is_none_or(|v| ends(self.flow, v)));
        if let Some(r) = target {
            if let Some(v) = self.flow.owner[usize::from(r)].take() {
                self.flow.register[v.0 as usize] = None;
            }
            self.flow.give(V(i as u32), r);
            return r;
        }
        let own = |flow: &Flow, v: V| flow.register[v.0 as usize].filter(|r| !flow.is_kept(*r));
        let mut dying = preferred.into_iter().chain(args.iter().copied());
        let dying = dying.find(|v| ends(self.flow, *v) && own(self.flow, *v).is_some());
        if let Some(v) = dying {
            let r = self.flow.register[v.0 as usize].take().unwrap_or(super::vector::SCRATCH);
            self.flow.give(V(i as u32), r);
            return r;
        }
        let r = self.free(&args);
        self.flow.give(V(i as u32), r);
        r
    }

    /// The register of the partial result that the operation's result becomes.
    fn target(&self) -> Option<u8> {
        let &[user] = self.flow.uses[self.i].as_slice() else { return None };
        match &self.stream.nodes[user as usize].op {
            Op::KeepPartial(at, _) => self.partial(at.offset),
            _ => None,
        }
    }

    /// The register of a partial result in this group.
    fn partial(&self, offset: i32) -> Option<u8> {
        let Group::Whole(group) = self.group else { return None };
        let (_, registers) = self.flow.partials.iter().find(|(place, _)| *place == offset)?;
        registers.get(group % registers.len()).copied()
    }

    fn partial_memory(&mut self, at: &segment::At, size: Size) -> MemoryOperand {
        match self.group {
            Group::Whole(group) => self.e.whole_partial(at.offset, size, group % self.stream.partials.max(1)),
            Group::Masked => self.e.stream_partial(at),
        }
    }

    /// A register that nothing is in, after a spill if need be. Operands of the operation stay where they are.
    fn free(&mut self, also: &[V]) -> u8 {
        let all = allocatable(self.e.width, self.e.size);
        let flow = &mut *self.flow;
        if let Some(r) = all.clone().find(|r| flow.owner[usize::from(*r)].is_none() && !flow.is_kept(*r)) {
            return r;
        }
        let args = &self.stream.nodes[self.i].args;
        let furthest = all
            .filter(|r| !flow.is_kept(*r))
            .filter_map(|r| flow.owner[usize::from(r)].map(|v| (v, r)))
            .filter(|(v, _)| !args.contains(v) && !also.contains(v) && v.0 as usize != self.i)
            .max_by_key(|(v, _)| flow.next_use(*v, self.i).unwrap_or(u32::MAX));
        let Some((v, r)) = furthest else { return super::vector::SCRATCH };
        let at = v.0 as usize;
        if flow.next_use(v, self.i).is_some() && self.stream.fixed[at].is_none() && flow.slot[at].is_none() {
            let slot = self.e.frame.take_vector();
            self.e.v_store(frame(slot), r);
            flow.slot[at] = Some(slot);
        }
        flow.register[at] = None;
        flow.owner[usize::from(r)] = None;
        r
    }

    fn choose(&mut self, compare: (Order, Element), [x, y, a, b]: [V; 4]) {
        let size = self.stream.nodes[self.i].size;
        let (x, b) = (self.register_of(x), self.register(b));
        let x = Src::Register(x);
        let y = if self.e.width == Width::Avx2 { Src::Register(self.register_of(y)) } else { self.operand(y) };
        let a = self.operand(a);
        // Loads for one operand may not take the place of another, so the result comes last.
        let d = self.result(None);
        self.e.v_choose(compare, size, d, [x, y], a, b);
    }

    fn fma(&mut self, a: V, b: V, c: V) {
        let size = self.stream.nodes[self.i].size;
        // At most one operand stays in memory: the addend, as in a polynomial, or a factor.
        let ends = |s: &Self, v: V| s.flow.next_use(v, s.i).is_none();
        if self.in_memory(c) {
            let factors = [self.register(a), self.register(b)];
            let preferred = if ends(self, a) { a } else { b };
            match self.memory(c) {
                Some(from) => {
                    let d = self.result(Some(preferred));
                    self.e.v_fma_memory(size, d, factors, from, true);
                }
                None => self.fma_registers(a, b, c),
            }
        } else if self.in_memory(b) || self.in_memory(a) {
            let (a, b) = if self.in_memory(b) { (a, b) } else { (b, a) };
            let rest = [self.register(a), self.register(c)];
            match self.memory(b) {
                Some(from) => {
                    let d = self.result(Some(c));
                    self.e.v_fma_memory(size, d, rest, from, false);
                }
                None => self.fma_registers(a, b, c),
            }
        } else {
            self.fma_registers(a, b, c);
        }
    }

    fn fma_registers(&mut self, a: V, b: V, c: V) {
        let (x, y, z) = (self.register(a), self.register(b), self.register(c));
        let d = self.result(Some(c));
        let size = self.stream.nodes[self.i].size;
        self.e.v_fma(size, d, x, y, z);
    }
}

impl Emitter<'_> {
    /// A constant as an operand.
    fn pooled(&mut self, size: Size, bits: u64) -> MemoryOperand {
        let times = (self.width == Width::Avx2).then_some(size.lanes(self.width));
        self.asm.pooled(size, bits, times)
    }
}

impl Flow {
    /// Whether no value has a place in the frame any more.
    pub(super) fn is_over(&self) -> bool {
        self.slot.iter().all(Option::is_none)
    }

    /// The operations that use a value, in order.
    pub(super) fn uses_of(&self, v: V) -> &[u32] {
        &self.uses[v.0 as usize]
    }

    /// The first use after operation `i`.
    fn next_use(&self, v: V, i: usize) -> Option<u32> {
        let uses = &self.uses[v.0 as usize];
        uses.get(uses.partition_point(|u| *u <= i as u32)).copied()
    }

    fn give(&mut self, v: V, r: u8) {
        self.register[v.0 as usize] = Some(r);
        self.owner[usize::from(r)] = Some(v);
    }

    fn is_kept(&self, r: u8) -> bool {
        self.kept >> r & 1 == 1
    }

    fn is_partial(&self, r: u8) -> bool {
        self.partials.iter().any(|(_, registers)| registers.contains(&r))
    }
}

fn commutes(op: Bin) -> bool {
    match op {
        Bin::Add | Bin::Mul | Bin::IAdd | Bin::IMul | Bin::MulLow | Bin::And | Bin::Or | Bin::Xor => true,
        Bin::MaxS | Bin::MaxU | Bin::MinS | Bin::MinU => true,
        Bin::Sub | Bin::Div | Bin::Max | Bin::Min | Bin::Scale | Bin::ISub => false,
        Bin::AndNot | Bin::Shl | Bin::ShrU | Bin::ShrS => false,
    }
}

/// Loads of neighbours that one operation takes from memory, with no store to the same memory on the way.
fn foldable(stream: &Stream<'_, '_>, flow: &Flow, size: Size) -> Vec<bool> {
    let fold = |i: usize, node: &Node<'_>| {
        let Op::Load(access) = &node.op else { return false };
        let &[user] = flow.uses[i].as_slice() else { return false };
        let user_node = &stream.nodes[user as usize];
        let takes = match user_node.op {
            Op::Bin(op) => user_node.args[1] == V(i as u32) || commutes(op),
            Op::Fma => true,
            _ => false,
        };
        let free = stream.nodes[i..user as usize]
            .iter()
            .all(|n| if let Op::Store(store) = &n.op { store.memory != access.memory } else { true });
        let near = stream.addresses[i].is_some_and(|a| matches!(a.base, Base::Register(_)));
        // What an instruction takes from memory is a whole vector.
        let whole = access.dtype.size() == size.bytes() as usize;
        access.step == Step::Unit && whole && takes && free && near && stream.varies[i]
    };
    stream.nodes.iter().enumerate().map(|(i, node)| fold(i, node)).collect()
}

/// The most varying values that live at once.
fn pressure(stream: &Stream<'_, '_>, flow: &Flow) -> usize {
    let (mut live, mut most) = (0_usize, 0_usize);
    for (i, node) in stream.nodes.iter().enumerate().filter(|(i, _)| stream.varies[*i]) {
        let held = |v: usize| stream.varies[v] && !flow.folded[v] && !matches!(stream.nodes[v].op, Op::Partial(_));
        let mut seen: SmallVec<[V; 4]> = SmallVec::new();
        for arg in node.values() {
            if held(arg.0 as usize) && flow.next_use(*arg, i).is_none() && !seen.contains(arg) {
                live = live.saturating_sub(1);
                seen.push(*arg);
            }
        }
        if held(i) && !flow.uses[i].is_empty() {
            live += 1;
            most = most.max(live);
        }
    }
    most
}
