//! Random dots, gathers and scatters: operations whose operands' shapes follow from their attributes.

use lehr::ir::ops::{Combine, DotDims, Gather, OutOfRange, Scatter};
use lehr::ir::{DType, Dim, Shape};
use smallvec::SmallVec;

use crate::generate::Generator;

type Axes = SmallVec<[usize; 4]>;

/// What each dim of a windowed operand is to the windows.
struct Plan {
    collapsed: Axes,
    batching: Axes,
    map: Axes,
    sizes: Shape,
}

impl Generator {
    pub(crate) fn dot(&mut self, dtype: DType) -> Option<()> {
        let x = self.ranked(dtype, 0)?;
        let shape = self.b.ty(x).shape.clone();
        let mut dims = DotDims::default();
        let mut other: Vec<(Dim, u8, usize)> = Vec::new();
        for (i, d) in shape.iter().enumerate() {
            match self.r.below(4) {
                0 => other.push((d.clone(), 0, i)),
                1 | 2 => other.push((d.clone(), 1, i)),
                _ => {}
            }
        }
        for _ in 0..self.r.below(3) {
            other.push((self.dim(), 2, 0));
        }
        let order = self.permutation(other.len());
        let other: Vec<(Dim, u8, usize)> = order.iter().map(|&i| other[i].clone()).collect();
        for (at, (_, role, axis)) in other.iter().enumerate() {
            match role {
                0 => {
                    dims.lhs_batch.push(*axis);
                    dims.rhs_batch.push(at);
                }
                1 => {
                    dims.lhs_contract.push(*axis);
                    dims.rhs_contract.push(at);
                }
                _ => {}
            }
        }
        let shape: Vec<Dim> = other.into_iter().map(|(d, ..)| d).collect();
        let y = self.of(dtype, &shape)?;
        if self.r.one_in(2) {
            return self.add(dims, &[x, y]);
        }
        let flipped = DotDims {
            lhs_batch: dims.rhs_batch,
            rhs_batch: dims.lhs_batch,
            lhs_contract: dims.rhs_contract,
            rhs_contract: dims.lhs_contract,
        };
        self.add(flipped, &[y, x])
    }

    pub(crate) fn gather(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let shape = self.b.ty(x).shape.clone();
        let plan = self.plan(&shape);
        let (indices, batch, batching) = self.indices(&shape, &plan)?;
        let kept = shape.len() - plan.collapsed.len() - plan.batching.len();
        let offset_dims = self.places(kept, kept + batch.len());
        let op = Gather {
            offset_dims,
            collapsed_slice_dims: plan.collapsed,
            operand_batching_dims: plan.batching,
            start_indices_batching_dims: batching,
            start_index_map: plan.map,
            slice_sizes: plan.sizes,
            mode: *self.r.pick(&OutOfRange::ALL),
        };
        self.add(op, &[x, indices])
    }

    pub(crate) fn scatter(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let shape = self.b.ty(x).shape.clone();
        let plan = self.plan(&shape);
        let (indices, batch, batching) = self.indices(&shape, &plan)?;
        let keeps = |d: &usize| !plan.collapsed.contains(d) && !plan.batching.contains(d);
        let kept: Vec<Dim> = (0..shape.len()).filter(keeps).map(|d| plan.sizes[d].clone()).collect();
        let windows = self.places(kept.len(), kept.len() + batch.len());
        let (mut kept, mut batch) = (kept.into_iter(), batch.into_iter());
        let rank = kept.len() + batch.len();
        let updates: Vec<Dim> =
            (0..rank).filter_map(|d| if windows.contains(&d) { kept.next() } else { batch.next() }).collect();
        let updates = self.of(dtype, &updates)?;
        let op = Scatter {
            update_window_dims: windows,
            inserted_window_dims: plan.collapsed,
            input_batching_dims: plan.batching,
            scatter_indices_batching_dims: batching,
            scatter_dims_to_operand_dims: plan.map,
            mode: *self.r.pick(&OutOfRange::ALL),
            combine: *self.r.pick(&Combine::ALL),
        };
        self.add(op, &[x, indices, updates])
    }

    fn plan(&mut self, shape: &[Dim]) -> Plan {
        let mut plan = Plan { collapsed: Axes::new(), batching: Axes::new(), map: Axes::new(), sizes: Shape::new() };
        for (d, n) in shape.iter().enumerate() {
            let window = match n.as_const() {
                Some(n) if n > 0 => Dim::from(self.r.below(n as usize + 1) as i64),
                _ => n.clone(),
            };
            match self.r.below(5) {
                0 => {
                    plan.batching.push(d);
                    plan.sizes.push(Dim::ONE);
                }
                1 | 2 => {
                    plan.collapsed.push(d);
                    plan.map.push(d);
                    plan.sizes.push(Dim::ONE);
                }
                3 => {
                    plan.map.push(d);
                    plan.sizes.push(window);
                }
                _ => plan.sizes.push(if self.r.one_in(2) { n.clone() } else { window }),
            }
        }
        let order = self.permutation(plan.map.len());
        plan.map = order.iter().map(|&i| plan.map[i]).collect();
        plan
    }

    /// Indices for windows: their value, their batch dims, and which of these run with dims of the operand.
    fn indices(&mut self, shape: &[Dim], plan: &Plan) -> Option<(lehr::ir::graph::Value, Vec<Dim>, Axes)> {
        let free = self.r.below(3);
        let at = self.places(plan.batching.len(), plan.batching.len() + free);
        let mut batching = plan.batching.iter();
        let batch: Vec<Dim> = (0..plan.batching.len() + free)
            .map(|d| match at.contains(&d).then(|| batching.next()).flatten() {
                Some(&b) => shape[b].clone(),
                None => self.dim(),
            })
            .collect();
        let full: Vec<Dim> = batch.iter().cloned().chain([Dim::from(plan.map.len())]).collect();
        let dtype = *self.r.pick(&[DType::I32, DType::I64, DType::U32]);
        Some((self.of(dtype, &full)?, batch, at))
    }

    /// `n` of `rank` places, ascending.
    fn places(&mut self, n: usize, rank: usize) -> Axes {
        let mut places: Axes = self.permutation(rank).into_iter().take(n).collect();
        places.sort_unstable();
        places
    }
}
