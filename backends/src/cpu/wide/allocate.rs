//! Registers for a segment, by linear scan: values live from their definition to their last use; where registers run out, the value
//! whose next use is furthest goes to the frame. Constants and values of the frame are made again rather than kept.

use iced_x86::Register;

use super::assembler::{Src, frame};
use super::emitter::Emitter;
use super::segment::{Each, Node, Op, V};
use super::size::Size;
use super::vector::{SCRATCH, allocatable};
use super::{WideError, Width};

/// Where the values of a segment are.
struct Places {
    /// For each value its uses, in order.
    uses: Vec<Vec<u32>>,
    register: Vec<Option<u8>>,
    slot: Vec<Option<i32>>,
    owner: [Option<V>; 32],
    width: Width,
    size: Size,
}

impl<'k> Emitter<'k> {
    /// Emits the operations of a segment.
    pub(super) fn emit_nodes(&mut self, nodes: &[Node<'k>]) -> Result<(), WideError> {
        let mut places = Places {
            uses: vec![Vec::new(); nodes.len()],
            register: vec![None; nodes.len()],
            slot: vec![None; nodes.len()],
            owner: [None; 32],
            width: self.width,
            size: self.size,
        };
        for (i, node) in nodes.iter().enumerate() {
            for arg in &node.args {
                places.uses[arg.0 as usize].push(i as u32);
            }
        }
        for (i, node) in nodes.iter().enumerate() {
            self.emit_node(nodes, &mut places, i, node)?;
            for arg in &node.args {
                if places.next_use(*arg, i).is_none() {
                    self.forget(nodes, &mut places, *arg);
                }
            }
            // A value that nobody uses.
            if places.uses[i].is_empty() {
                self.forget(nodes, &mut places, V(i as u32));
            }
        }
        Ok(())
    }

    fn emit_node(
        &mut self,
        nodes: &[Node<'k>],
        places: &mut Places,
        i: usize,
        node: &Node<'k>,
    ) -> Result<(), WideError> {
        match &node.op {
            Op::Const(_) | Op::Home(_) | Op::Splat(_) => Ok(()),
            Op::Each(each, varying) => {
                let args: Vec<i32> = node.args.iter().map(|a| self.in_frame(nodes, places, *a)).collect();
                let result = self.frame.take_vector();
                places.slot[i] = Some(result);
                self.place_index_vars(nodes, places, node);
                self.emit_each(each, &args[..usize::from(node.values)], result, *varying)
            }
            Op::Bin(_)
            | Op::Un(_)
            | Op::Compare(..)
            | Op::Fma
            | Op::Select(_)
            | Op::Choose(..)
            | Op::Rotate(_)
            | Op::First
            | Op::Counter
            | Op::Uniform(_)
            | Op::Load(_)
            | Op::Store(_)
            | Op::Partial(_)
            | Op::KeepPartial(..)
            | Op::Save(_) => {
                let mut args = [SCRATCH; 4];
                for (register, arg) in args.iter_mut().zip(node.values()) {
                    *register = self.in_register(nodes, places, i, *arg, &node.args);
                }
                self.place_index_vars(nodes, places, node);
                // Operands that end here leave their registers to the result.
                for arg in &node.args {
                    if places.next_use(*arg, i).is_none() {
                        self.forget(nodes, places, *arg);
                    }
                }
                let result = if matches!(node.op, Op::Store(_) | Op::KeepPartial(..) | Op::Save(_)) {
                    SCRATCH
                } else {
                    let kept: Vec<V> = node.args.iter().copied().filter(|a| places.next_use(*a, i).is_some()).collect();
                    let r = self.free_register(nodes, places, i, &kept);
                    places.give(V(i as u32), r);
                    r
                };
                self.emit_op(&node.op, node.size, result, args)
            }
        }
    }

    /// Tells index expressions where the variables are that a node's take.
    fn place_index_vars(&mut self, nodes: &[Node<'k>], places: &mut Places, node: &Node<'k>) {
        self.index_vars.clear();
        for (var, v) in node.index_vars() {
            let place = self.in_frame(nodes, places, v);
            self.index_vars.push((var, place));
        }
    }

    fn emit_op(&mut self, op: &Op<'k>, size: Size, d: u8, [a, b, c, e]: [u8; 4]) -> Result<(), WideError> {
        match op {
            Op::Bin(op) => self.v_bin(*op, size, d, a, b),
            Op::Un(op) => self.v_un(*op, size, d, a),
            Op::Compare(order, element) => self.v_compare(*order, *element, d, a, b),
            Op::Fma => self.v_fma(size, d, a, b, c),
            Op::Select(mask) => self.v_select(*mask, size, d, a, b, c),
            Op::Choose(order, element) => {
                let [x, y, then] = [a, b, c].map(|r| Src::Register(self.vector(r)));
                self.v_choose((*order, *element), size, d, [x, y], then, e);
            }
            Op::Rotate(n) => self.v_rotate(size, d, a, *n),
            Op::First => self.v_first(size, d, a),
            Op::Counter => self.counter(d),
            Op::Uniform(dim) => {
                self.index(dim)?;
                self.v_splat_register(size, d, Register::RAX);
            }
            Op::Load(access) => self.load_vector(access, d)?,
            Op::Store(access) => self.store_vector(access, a)?,
            Op::Partial(at) => {
                let from = self.partial(at);
                self.v_load_lanes(size, d, from);
            }
            Op::KeepPartial(at, active) => {
                let to = self.partial(at);
                if *active { self.v_store_active(size, to, a) } else { self.v_store_lanes(size, to, a) }
            }
            Op::Save(place) => self.v_store(frame(*place), a),
            Op::Const(_) | Op::Home(_) | Op::Splat(_) | Op::Each(..) => {}
        }
        Ok(())
    }

    /// Puts a value into a register.
    fn in_register(&mut self, nodes: &[Node<'k>], places: &mut Places, i: usize, v: V, pinned: &[V]) -> u8 {
        if let Some(r) = places.register[v.0 as usize] {
            return r;
        }
        let r = self.free_register(nodes, places, i, pinned);
        self.make(nodes, places, v, r);
        places.give(v, r);
        r
    }

    /// Writes a value that has no register to a register.
    fn make(&mut self, nodes: &[Node<'k>], places: &Places, v: V, r: u8) {
        let size = nodes[v.0 as usize].size;
        match (&nodes[v.0 as usize].op, places.slot[v.0 as usize]) {
            (Op::Const(bits), _) => self.v_constant(size, r, *bits),
            (Op::Home(place), _) => self.v_load(r, frame(*place)),
            (Op::Splat(place), _) => self.v_splat(size, r, frame(*place)),
            (_, Some(slot)) => self.v_load(r, frame(slot)),
            // Every other value is in a register or has been spilled.
            (_, None) => {}
        }
    }

    /// The place of a value in the frame, where it is put if it is not there.
    fn in_frame(&mut self, nodes: &[Node<'k>], places: &mut Places, v: V) -> i32 {
        if let Op::Home(place) = nodes[v.0 as usize].op {
            return place;
        }
        if let Some(slot) = places.slot[v.0 as usize] {
            return slot;
        }
        let slot = self.frame.take_vector();
        let r = match places.register[v.0 as usize] {
            Some(r) => r,
            None => {
                self.make(nodes, places, v, SCRATCH);
                SCRATCH
            }
        };
        self.v_store(frame(slot), r);
        places.slot[v.0 as usize] = Some(slot);
        slot
    }

    /// A register that nothing is in, after a spill if need be.
    fn free_register(&mut self, nodes: &[Node<'k>], places: &mut Places, i: usize, pinned: &[V]) -> u8 {
        let all = allocatable(places.width, places.size);
        if let Some(r) = all.clone().find(|r| places.owner[usize::from(*r)].is_none()) {
            return r;
        }
        let furthest = all
            .filter_map(|r| {
                places.owner[usize::from(r)].filter(|v| !pinned.contains(v)).map(|v| (places.next_use(v, i), v, r))
            })
            .max_by_key(|(next, ..)| next.unwrap_or(u32::MAX));
        let Some((next, v, r)) = furthest else { return SCRATCH };
        let made_again = matches!(nodes[v.0 as usize].op, Op::Const(_) | Op::Home(_) | Op::Splat(_));
        if next.is_some() && !made_again && places.slot[v.0 as usize].is_none() {
            let slot = self.frame.take_vector();
            self.v_store(frame(slot), r);
            places.slot[v.0 as usize] = Some(slot);
        }
        places.register[v.0 as usize] = None;
        places.owner[usize::from(r)] = None;
        r
    }

    /// Gives back what a value has.
    fn forget(&mut self, nodes: &[Node<'k>], places: &mut Places, v: V) {
        if let Some(r) = places.register[v.0 as usize].take() {
            places.owner[usize::from(r)] = None;
        }
        if !matches!(nodes[v.0 as usize].op, Op::Home(_))
            && let Some(slot) = places.slot[v.0 as usize].take()
        {
            self.frame.give_vector(slot);
        }
    }

    fn emit_each(&mut self, each: &Each<'k>, args: &[i32], result: i32, varying: bool) -> Result<(), WideError> {
        match each {
            Each::Load(access) => self.load_each(access, args.first().copied(), result),
            Each::Store(access) => self.store_each(access, args.first().copied().unwrap_or(result)),
            Each::Divide { op, dtype } => self.divide_each(*op, *dtype, args, result, varying),
            Each::Index { dim, into } => self.index_each(dim, *into, result, varying),
            Each::Wide { op, dtype, operands, into } => {
                self.wide_each(*op, *dtype, operands, *into, args, result, varying)
            }
            Each::Pick { first, second } => self.pick_each(first, second, args, result),
        }
    }
}

impl Places {
    /// The first use after node `i`.
    fn next_use(&self, v: V, i: usize) -> Option<u32> {
        let uses = &self.uses[v.0 as usize];
        uses.get(uses.partition_point(|u| *u <= i as u32)).copied()
    }

    fn give(&mut self, v: V, r: u8) {
        self.register[v.0 as usize] = Some(r);
        if let Some(owner) = self.owner.get_mut(usize::from(r)) {
            *owner = Some(v);
        }
    }
}
