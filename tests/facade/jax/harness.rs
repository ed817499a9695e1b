//! One program: its derivatives, its run on a backend, and the comparison with JAX's answers.

use std::collections::BTreeMap;

use lehr::ir::Dim;
use lehr::prelude::*;

use super::Program;

/// What JAX gives for a program.
pub(super) struct Answers {
    points: Array,
    values: Array,
    grads: Array,
    hessian: Option<Array>,
}

/// The answers of every program in a file.
pub(super) fn load(path: &str) -> BTreeMap<String, Answers> {
    let mut parts: BTreeMap<String, [Option<Array>; 2]> = BTreeMap::new();
    for (member, array) in lehr::data::load_npz(path).unwrap_or_else(|e| panic!("{e}")) {
        let (name, part) = member.split_once('/').unwrap_or_else(|| panic!("{member} is no NAME/PART"));
        let slot = match part {
            "rows" => 0,
            "values" => 1,
            _ => panic!("{member} is of no known part"),
        };
        parts.entry(name.to_owned()).or_default()[slot] = Some(array);
    }
    let answers = |(name, parts): (String, [Option<Array>; 2])| match parts {
        [Some(rows), Some(values)] => {
            let answers = Answers::new(&rows, values);
            (name, answers)
        }
        _ => panic!("{name} lacks its rows or its values"),
    };
    parts.into_iter().map(answers).collect()
}

impl Answers {
    /// Takes apart rows of points, gradients and, if there are more, of the Hessian.
    fn new(rows: &Array, values: Array) -> Self {
        let (batch, size) = (values.shape()[0], rows.shape()[1]);
        let all = numbers(rows);
        let part = |from: usize, to: usize| {
            let elements = all[from * size..to * size].to_vec();
            Array::new(&[to - from, size], elements).unwrap_or_else(|e| panic!("{e}"))
        };
        let hessian = match rows.shape()[0] - 2 * batch {
            0 => None,
            n => {
                assert_eq!(n, size, "a Hessian is square");
                Some(part(2 * batch, 2 * batch + n))
            }
        };
        Self { points: part(0, batch), grads: part(batch, 2 * batch), values, hessian }
    }
}

/// How far a number may be from JAX's: `relative · |wanted| + absolute`.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

impl Tolerance {
    fn of(dtype: DType) -> Self {
        match dtype {
            // Both round about as often, in another order: a few hundred roundings of 1e-16 are far within.
            F64 => Self { relative: 1e-10, absolute: 1e-12 },
            // The wanted numbers are those of f64, so this is the rounding of the whole program in f32.
            _ => Self { relative: 2e-4, absolute: 2e-5 },
        }
    }

    fn allows(self, got: f64, want: f64) -> bool {
        // Infinities and NaN have to be where JAX has them.
        got == want
            || (got.is_nan() && want.is_nan())
            || (got - want).abs() <= self.relative * want.abs() + self.absolute
    }
}

/// Runs a program and gives all that differs from JAX's answers.
pub(super) fn compare(p: &Program, answers: &Answers, dtype: DType, backend: Backend) -> Result<(), Vec<String>> {
    let Answers { points, values, grads, hessian } = answers;
    let batch = points.shape()[0];
    let mut run = compile(p, batch, hessian.is_some(), dtype, backend).map_err(|e| vec![e.to_string()])?;
    let found = run.run(arguments(p, points, dtype)).map_err(|e| vec![e.to_string()])?;
    let mut faults = Vec::new();
    let mut check = |what: &str, want: &[f64], shape: &[usize]| {
        let got = found.array(what).map_err(|e| e.to_string()).and_then(|array| {
            let got = numbers(array);
            let same = array.shape() == shape;
            if same { Ok(got) } else { Err(format!("its shape is {:?}, not {shape:?}", array.shape())) }
        });
        let got = match got {
            Ok(got) => got,
            Err(e) => return faults.push(format!("{what}: {e}")),
        };
        let tolerance = Tolerance::of(dtype);
        if let Some(i) = (0..want.len()).find(|&i| !tolerance.allows(got[i], want[i])) {
            faults.push(format!("{what}[{i}] is {:e}, JAX's {:e}; {got:?} and {want:?}", got[i], want[i]));
        }
    };
    let first = |all: &Array| numbers(all)[..all.len() / batch].to_vec();
    check("value", &first(values), &values.shape()[1..]);
    check("grad", &first(grads), &grads.shape()[1..]);
    check("values", &numbers(values), values.shape());
    check("grads", &numbers(grads), grads.shape());
    if let Some(hessian) = hessian {
        check("hessian", &numbers(hessian), hessian.shape());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The function of a point and of a batch of points.
fn compile(p: &Program, batch: usize, hessian: bool, dtype: DType, backend: Backend) -> lehr::Result<Executable> {
    let args = p.inputs("a", &[], dtype);
    let rows = p.inputs("b", &[batch], dtype);
    let (value, grads) = p.value_and_grads(&args, dtype);
    let mut f = Function::new(p.name).inputs(&args.iter().chain(&rows).collect::<Vec<_>>());
    f = f.output("value", &value).output("grad", &flat(&grads));
    if hessian {
        // Forward over the first derivative, a column a direction, all directions under `vmap`.
        let columns = vmap(&Tensor::eye(dtype, p.size()), 0, |v| flat(&jvp(&grads, &args, &p.split(v))));
        f = f.output("hessian", &columns.t());
    }
    let (values, grads) = vmap(&rows, 0, |args| {
        let (value, grads) = p.value_and_grads(args, dtype);
        (value, flat(&grads))
    });
    f.output("values", &values).output("grads", &grads).compile(Options::default().backend(backend))
}

impl Program {
    /// The number of elements of all arguments together.
    fn size(&self) -> usize {
        self.shapes.iter().map(|s| s.iter().product::<usize>()).sum()
    }

    fn inputs(&self, prefix: &str, batch: &[usize], dtype: DType) -> Vec<Tensor> {
        let shape = |s: &[usize]| batch.iter().chain(s).copied().map(Dim::from).collect::<Vec<_>>();
        let input = |(i, s): (usize, &Vec<usize>)| Tensor::input(&format!("{prefix}{i}"), dtype, shape(s));
        self.shapes.iter().enumerate().map(input).collect()
    }

    /// The result, and the gradient of its weighted sum by each argument.
    fn value_and_grads(&self, args: &[Tensor], dtype: DType) -> (Tensor, Vec<Tensor>) {
        let value = (self.f)(args);
        // Counts and positions come as integers, as the file has them in floats; floats have to be of the program's own dtype.
        let value = if value.dtype().is_some_and(|d| !d.is_float()) { value.cast(dtype) } else { value };
        let loss = weighted(&value);
        if !self.forward {
            return (value, grad(&loss, &args));
        }
        let slopes = vmap(&Tensor::eye(dtype, self.size()), 0, |v| jvp(&loss, &args, &self.split(v)));
        (value, vec![slopes])
    }

    /// A vector of all elements as arguments.
    fn split(&self, all: &Tensor) -> Vec<Tensor> {
        let mut start = 0;
        let mut part = |s: &Vec<usize>| {
            let end = start + s.iter().product::<usize>();
            all.slice(std::mem::replace(&mut start, end)..end).reshape(s)
        };
        self.shapes.iter().map(&mut part).collect()
    }
}

/// The sum in which the script's weights make every element count for itself.
fn weighted(value: &Tensor) -> Tensor {
    let shape: Vec<usize> = value.shape().iter().filter_map(|d| usize::try_from(d.as_const()?).ok()).collect();
    let weights = (0..shape.iter().product()).map(|i: usize| 0.5 + (37 * i % 101) as f64 / 101.0).collect();
    let weights = Array::new(&shape, weights).unwrap_or_else(|e| panic!("{e}"));
    (value * Tensor::constant(weights).cast_like(value)).sum()
}

fn flat(all: &[Tensor]) -> Tensor {
    Tensor::concat(&all.iter().map(Tensor::flatten).collect::<Vec<_>>(), 0)
}

/// The first point, argument by argument, then all points.
fn arguments(p: &Program, points: &Array, dtype: DType) -> Vec<Array> {
    let (batch, size) = (points.shape()[0], points.shape()[1]);
    assert_eq!(size, p.size(), "{}: the arguments here and in the script have as many elements", p.name);
    let all = numbers(points);
    let array = |shape: &[usize], elements: Vec<f64>| {
        let array = match dtype {
            F32 => Array::new(shape, elements.iter().map(|&x| x as f32).collect()),
            _ => Array::new(shape, elements),
        };
        array.unwrap_or_else(|e| panic!("{e}"))
    };
    let (mut one, mut batched) = (Vec::new(), Vec::new());
    let mut start = 0;
    for shape in &p.shapes {
        let end = start + shape.iter().product::<usize>();
        let with_batch: Vec<usize> = std::iter::once(batch).chain(shape.iter().copied()).collect();
        one.push(array(shape, all[start..end].to_vec()));
        batched.push(array(
            &with_batch,
            (0..batch).flat_map(|b| all[b * size + start..b * size + end].to_vec()).collect(),
        ));
        start = end;
    }
    one.extend(batched);
    one
}

/// The elements of an array of floats.
fn numbers(array: &Array) -> Vec<f64> {
    match (array.as_slice::<f64>(), array.as_slice::<f32>()) {
        (Some(all), _) => all.to_vec(),
        (_, Some(all)) => all.iter().map(|&x| f64::from(x)).collect(),
        _ => panic!("an array of {} is no array of floats", array.dtype()),
    }
}
