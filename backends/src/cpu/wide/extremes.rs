//! Folds by maximum and minimum in a main loop.
//!
//! The instructions forget a NaN in their first operand, so a fold one by one compares and chooses after each, and all of that is on
//! the path from an element to the next. Here a fold takes the instruction alone, and a mask on the side gathers which lanes have met
//! a NaN. After the loop those lanes are NaN.

use iced_x86::{Code, Register};

use super::Width;
use super::assembler::Src;
use super::emitter::Emitter;
use super::flow::Flow;
use super::segment::{Bin, Element, Node, Op, Order, V};
use super::size::Size;
use super::stream::Stream;
use super::vector::SCRATCH;

/// Masks that nothing else uses.
const MASKS: [Register; 4] = [Register::K3, Register::K4, Register::K5, Register::K6];

/// A fold of one element into a partial result: `partial` is NaN ? `partial` : `extreme`(`partial`, element).
#[derive(Clone, Copy, Debug)]
pub(super) struct Extreme {
    /// The node of the instruction.
    pub(super) extreme: usize,
    /// The node of the choice, which is what is kept.
    pub(super) choice: usize,
    pub(super) element: V,
    pub(super) size: Size,
    /// The place of the partial results.
    pub(super) offset: i32,
    mask: Register,
}

impl<'k> Emitter<'k> {
    /// The folds of a stream that can be done so, with empty masks.
    pub(super) fn start_extremes(&mut self, stream: &Stream<'k, '_>, flow: &Flow) -> Vec<Extreme> {
        if self.width != Width::Avx512 {
            return Vec::new();
        }
        let folds = stream.nodes.iter().enumerate().filter_map(|(i, node)| fold(stream.nodes, flow, i, node));
        let found: Vec<Extreme> = folds.zip(MASKS).map(|(fold, mask)| Extreme { mask, ..fold }).collect();
        for Extreme { mask, .. } in &found {
            self.asm.rrr(Code::VEX_Kxorw_kr_kr_kr, *mask, *mask, *mask);
        }
        found
    }

    /// Folds the element in one register into the partial result in another.
    pub(super) fn fold_extreme(&mut self, fold: Extreme, op: Bin, partial: u8, element: u8) {
        let x = Src::Register(self.vector(element));
        self.compare_to_mask(Order::Unordered, Element::Float(fold.size), element, x);
        self.asm.rrr(Code::VEX_Korw_kr_kr_kr, fold.mask, fold.mask, Register::K2);
        self.v_bin(op, fold.size, partial, partial, element);
    }

    /// Makes the lanes that have met a NaN in the partial results NaN: which vector it was does not matter, since the vectors of a
    /// fold are folded into one another.
    pub(super) fn end_extremes(&mut self, extremes: &[Extreme], partials: &[(i32, Vec<u8>)]) {
        for fold in extremes {
            self.asm.rr(Code::VEX_Kmovw_kr_km16, Register::K2, fold.mask);
            let (nan, blend) = match fold.size {
                Size::Four => (u64::from(f32::NAN.to_bits()), Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32),
                Size::Eight => (f64::NAN.to_bits(), Code::EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64),
            };
            self.v_constant(fold.size, SCRATCH, nan);
            for r in partials.iter().filter(|(offset, _)| *offset == fold.offset).flat_map(|(_, registers)| registers) {
                let (r, nan) = (self.vector(*r), Src::Register(self.vector(SCRATCH)));
                self.asm.rrs_k2(blend, r, r, nan);
            }
        }
    }
}

/// The fold that ends in this node, if it keeps an extreme of partial results in registers, which nothing else uses.
fn fold(nodes: &[Node<'_>], flow: &Flow, i: usize, node: &Node<'_>) -> Option<Extreme> {
    let (Op::KeepPartial(at, _), &[choice]) = (&node.op, node.args.as_slice()) else { return None };
    let of = |v: V| &nodes[v.0 as usize];
    let Op::Choose(Order::Unordered, Element::Float(size)) = of(choice).op else { return None };
    let &[x, y, kept, extreme] = of(choice).args.as_slice() else { return None };
    let (Op::Bin(Bin::Max | Bin::Min), &[partial, element]) = (&of(extreme).op, of(extreme).args.as_slice()) else {
        return None;
    };
    let Op::Partial(from) = &of(partial).op else { return None };
    let same = [x, y, kept].iter().all(|v| *v == partial) && from.offset == at.offset && element != partial;
    let alone = flow.uses_of(choice) == [i as u32]
        && flow.uses_of(extreme) == [choice.0]
        && flow.uses_of(partial).iter().all(|u| *u == choice.0 || *u == extreme.0);
    let in_registers = flow.partials.iter().any(|(offset, _)| *offset == at.offset);
    (same && alone && in_registers).then_some(Extreme {
        extreme: extreme.0 as usize,
        choice: choice.0 as usize,
        element,
        size,
        offset: at.offset,
        mask: MASKS[0],
    })
}
