//! Loops whose accesses have one condition that does not depend on the lane: two streams, one for where it holds and one for where it
//! does not. A row of a table at an index from memory is such a load, and so is a row of padding.

use iced_x86::Code;
use lehr_ir::kernel::{Guard, Loop, Var};
use smallvec::SmallVec;

use super::WideError;
use super::emitter::{Emitter, Place};
use super::segment::{Each, Node, Op, Step, V};

impl<'k> Emitter<'k> {
    /// Emits the loop as two streams; false where it cannot be.
    pub(super) fn guarded_stream(
        &mut self,
        l: &'k Loop,
        nodes: &[Node<'k>],
        [from, to]: [i32; 2],
        group: usize,
    ) -> Result<bool, WideError> {
        let Some(guard) = self.one_guard(nodes) else { return Ok(false) };
        let (held, failed) = (where_it_holds(nodes), where_it_fails(nodes));
        if !self.is_stream(&held, group) || !self.is_stream(&failed, group) {
            return Ok(false);
        }
        let (otherwise, done) = (self.asm.label(), self.asm.label());
        self.unless(guard, otherwise)?;
        self.stream(l, &held, from, to)?;
        self.asm.jump(Code::Jmp_rel32_64, done);
        self.asm.bind(otherwise);
        self.stream(l, &failed, from, to)?;
        self.asm.bind(done);
        Ok(true)
    }

    /// The guard of all accesses that have one, where it can be looked at ahead of the loop.
    fn one_guard(&self, nodes: &[Node<'k>]) -> Option<&'k Guard> {
        let mut guards = nodes.iter().filter_map(guard);
        let first = guards.next()?;
        let ahead = |v: Var| matches!(self.place(v), Ok(Place::Home(_) | Place::Wide(_)));
        let known = first.0.iter().flat_map(|d| d.symbols()).filter_map(|s| Var::from_symbol(&s)).all(ahead);
        (known && guards.all(|g| g == first)).then_some(first)
    }
}

/// The guard of an access that has one.
fn guard<'k>(node: &Node<'k>) -> Option<&'k Guard> {
    match &node.op {
        Op::Each(Each::Load(access) | Each::Store(access), _) | Op::Store(access) => {
            Some(access.guard).filter(|g| !g.is_always())
        }
        _ => None,
    }
}

fn where_it_holds<'k>(nodes: &[Node<'k>]) -> Vec<Node<'k>> {
    let one = |node: &Node<'k>| match node.op {
        Op::Each(Each::Load(mut access), _) if guard(node).is_some() && access.step != Step::Each => {
            access.granted = true;
            // The value for where it fails is the first operand.
            let args = node.args.iter().skip(1).copied().collect();
            Node { op: Op::Load(access), size: node.size, args, values: 0 }
        }
        Op::Store(mut access) => {
            access.granted = true;
            Node { op: Op::Store(access), ..node.clone() }
        }
        _ => node.clone(),
    };
    nodes.iter().map(one).collect()
}

fn where_it_fails<'k>(nodes: &[Node<'k>]) -> Vec<Node<'k>> {
    let mut values: Vec<V> = Vec::with_capacity(nodes.len());
    let mut rest = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let args: SmallVec<[V; 3]> = node.args.iter().map(|a| values[a.0 as usize]).collect();
        let (value, op) = match (&node.op, guard(node), args.first()) {
            (Op::Each(Each::Load(_), _), Some(_), Some(other)) => (*other, None),
            (Op::Store(_) | Op::Each(Each::Store(_), _), Some(_), _) => (V(i as u32), None),
            (op, ..) => (V(i as u32), Some(op.clone())),
        };
        values.push(value);
        // What nobody uses any more is left out.
        rest.push(match op {
            Some(op) => Node { op, size: node.size, args, values: node.values },
            None => Node::new(Op::Const(0), node.size, SmallVec::new()),
        });
    }
    rest
}
