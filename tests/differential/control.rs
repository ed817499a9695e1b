//! Loops and branches in random graphs: how they are made, and what bounds their results.

use lehr::ir::eval::{EvalCx, EvalError};
use lehr::ir::graph::{Builder, ParamKind, Value};
use lehr::ir::ops::{BinaryOp, Case, CompareOp, Op, Reduce, ReduceOp, Reverse, Scan, UnaryOp, While};
use lehr::ir::{Array, DType, Dim, Literal, Type};

use crate::bound::{Bound, Rules, analyse};
use crate::generate::Generator;

impl Generator {
    /// A scan over rows, with a carry of their type.
    pub(crate) fn scan(&mut self, dtype: DType) -> Option<()> {
        let xs = self.ranked(dtype, 1)?;
        let shape = self.b.ty(xs).shape.clone();
        let (length, row) = (shape[0].clone(), Type::new(dtype, shape[1..].iter().cloned()));
        let init = self.of(dtype, &row.shape)?;
        let seen = self.of(dtype, &row.shape)?;
        let mut body = self.region("scan");
        let mut values: Vec<Value> =
            ["k", "c", "x"].iter().map(|name| body.param(*name, ParamKind::Input, row.clone())).collect();
        self.operations(&mut body, &mut values, row.rank());
        let carry = self.of_type(&body, &values, &row);
        body.output("c", carry);
        let last = *values.last()?;
        body.output("y", last);
        let axes = self.subset(body.ty(last).rank());
        let folded = body.op(Reduce { op: ReduceOp::Max, axes }.into(), &[last]).ok()?;
        body.output("z", folded);
        let scan = Scan { body: body.into_region(), consts: 1, carries: 1, length, reverse: self.r.one_in(2) };
        self.add(scan, &[seen, init, xs])
    }

    /// A loop with a counter, which ends after a few iterations.
    pub(crate) fn while_loop(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let seen = self.like(x)?;
        let ty = self.b.ty(x).clone();
        let start = self.b.constant(Array::from_literal(Literal::from(0i32)));
        let params = |body: &mut Builder| -> Vec<Value> {
            let counter = Type::new(DType::I32, Vec::<Dim>::new());
            let types = [("k", &ty), ("x", &ty), ("i", &counter)];
            types.iter().map(|(name, ty)| body.param(*name, ParamKind::Input, (*ty).clone())).collect()
        };
        let mut cond = self.region("cond");
        let p = params(&mut cond);
        let limit = cond.constant(Array::from_literal(Literal::from(self.r.below(4) as i32)));
        let go = cond.compare(CompareOp::Lt, p[2], limit).ok()?;
        cond.output("go", go);
        let mut body = self.region("body");
        let p = params(&mut body);
        let mut values = p[..2].to_vec();
        self.operations(&mut body, &mut values, ty.rank());
        let next = self.of_type(&body, &values, &ty);
        let one = body.constant(Array::from_literal(Literal::from(1i32)));
        let count = body.add(p[2], one).ok()?;
        body.output("x", next);
        body.output("i", count);
        self.add(While { cond: cond.into_region(), body: body.into_region(), consts: 1 }, &[seen, x, start])
    }

    /// A choice between branches that give the same types.
    pub(crate) fn case(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let y = self.like(x)?;
        let index = self.of(DType::I32, &[])?;
        let ty = self.b.ty(x).clone();
        let mut branches = smallvec::SmallVec::new();
        for _ in 0..1 + self.r.below(3) {
            let mut body = self.region("branch");
            let mut values: Vec<Value> =
                ["x", "y"].iter().map(|name| body.param(*name, ParamKind::Input, ty.clone())).collect();
            self.operations(&mut body, &mut values, ty.rank());
            let (a, b) = (self.of_type(&body, &values, &ty), self.of_type(&body, &values[1..], &ty));
            body.output("a", a);
            body.output("b", b);
            branches.push(body.into_region());
        }
        self.add(Case { branches }, &[index, x, y])
    }

    fn region(&self, name: &str) -> Builder {
        let mut body = Builder::new(name);
        body.set_facts(self.b.facts().clone());
        body
    }

    fn operations(&mut self, body: &mut Builder, values: &mut Vec<Value>, rank: usize) {
        for _ in 0..1 + self.r.below(4) {
            let (p, q) = (*self.r.pick(values), *self.r.pick(values));
            let op: Op = match self.r.below(4) {
                0 => (*self.r.pick(UnaryOp::ALL)).into(),
                1 => Reverse { axes: self.subset(rank) }.into(),
                _ => (*self.r.pick(BinaryOp::ALL)).into(),
            };
            let operands: &[Value] = if matches!(op, Op::Binary(_)) { &[p, q] } else { &[p] };
            if let Ok(v) = body.op(op, operands) {
                values.push(v);
            }
        }
    }

    /// The last value of a type; there is one.
    fn of_type(&self, body: &Builder, values: &[Value], ty: &Type) -> Value {
        values.iter().copied().rev().find(|&v| body.ty(v) == ty).unwrap_or(values[0])
    }
}

/// Values, and the bound of each.
type Bounded = (Vec<Array>, Vec<Bound>);

/// Results and bounds of a loop or branch; `None` for operations that are no such.
pub(crate) fn control(op: &Op, xs: &[&Array], es: &[&Bound], rules: Rules<'_>) -> Result<Option<Bounded>, EvalError> {
    let mut args: Vec<Array> = xs.iter().map(|&x| x.clone()).collect();
    let mut bounds: Vec<Bound> = es.iter().map(|&e| e.clone()).collect();
    match op {
        Op::Case(case) => {
            let index = args.remove(0).item().map_or(0, |l| l.to_f64() as i64);
            let unsure = bounds.remove(0).is_some_and(|e| e.iter().any(|&e| e > 0.0));
            let mut done = analyse(&case.branches[case.clamp(index)], &args, &bounds, rules)?;
            if unsure {
                done.bounds = done.values.iter().map(|v| Some(vec![f64::INFINITY; v.len()])).collect();
            }
            Ok(Some((done.values, done.bounds)))
        }
        Op::While(l) => {
            loop {
                let go = analyse(&l.cond, &args, &bounds, rules)?;
                if go.values[0].item() != Some(Literal::from(true)) {
                    break;
                }
                let done = analyse(&l.body, &args, &bounds, rules)?;
                args.truncate(l.consts);
                bounds.truncate(l.consts);
                args.extend(done.values);
                bounds.extend(done.bounds);
            }
            Ok(Some((args.split_off(l.consts), bounds.split_off(l.consts))))
        }
        Op::Scan(scan) => scan_rows(scan, args, bounds, rules).map(Some),
        _ => Ok(None),
    }
}

fn scan_rows(
    scan: &Scan,
    mut args: Vec<Array>,
    mut bounds: Vec<Bound>,
    rules: Rules<'_>,
) -> Result<Bounded, EvalError> {
    let cx = EvalCx { bindings: rules.bindings };
    let n = cx.size(&scan.length)?;
    let fixed = scan.consts + scan.carries;
    let (rows, row_bounds) = (args.split_off(fixed), bounds.split_off(fixed));
    let mut stacks: Vec<(Vec<Option<Array>>, Vec<Bound>)> = Vec::new();
    for _ in scan.carries..scan.body.outputs().len() {
        stacks.push((vec![None; n], vec![None; n]));
    }
    for step in 0..n {
        let i = if scan.reverse { n - 1 - step } else { step };
        let (mut xs, mut es) = (args.clone(), bounds.clone());
        for (x, e) in rows.iter().zip(&row_bounds) {
            let shape = &x.shape()[1..];
            let len: usize = shape.iter().product();
            xs.push(Array::from_data(shape, x.data().gather(i * len..(i + 1) * len))?);
            es.push(e.as_ref().map(|e| e[i * len..(i + 1) * len].to_vec()));
        }
        let done = analyse(&scan.body, &xs, &es, rules)?;
        for (k, (value, bound)) in done.values.into_iter().zip(done.bounds).enumerate() {
            if k < scan.carries {
                (args[scan.consts + k], bounds[scan.consts + k]) = (value, bound);
            } else {
                let (values, all) = &mut stacks[k - scan.carries];
                (values[i], all[i]) = (Some(value), bound);
            }
        }
    }
    let (mut values, mut out) = (args.split_off(scan.consts), bounds.split_off(scan.consts));
    for ((rows, bounds), ty) in stacks.into_iter().zip(scan.body.output_types().skip(scan.carries)) {
        let mut shape = cx.sizes(&ty.shape)?;
        let len: usize = shape.iter().product();
        shape.insert(0, n);
        let mut stack = Array::zeros(ty.dtype, &shape);
        let mut all = vec![0.0; n * len];
        for (i, (row, bound)) in rows.into_iter().zip(bounds).enumerate() {
            if let Some(row) = row {
                stack.make_mut().copy_into(i * len, row.data());
            }
            if let Some(bound) = bound {
                all[i * len..(i + 1) * len].copy_from_slice(&bound);
            }
        }
        values.push(stack);
        out.push(Some(all));
    }
    Ok((values, out))
}
