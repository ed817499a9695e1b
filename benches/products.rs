//! Matrix products of given shapes: `cargo bench --bench products -- [--threads N] [SPEC ...]`; without a SPEC, reads them from
//! stdin, one a line, which `scripts/products.py` does.
//!
//! A SPEC is `MxKxN`, `BATCH@MxKxN` for a batch, and `:a`, `:b` or `:ab` behind it for operands stored transposed, as in the
//! products of a layer's gradients. Prints one JSON line each:
//! `{"fw":"lehr","name":"128x784x512","ms":…,"min_ms":…,"gflops":…,"n":…}`, where `gflops` belongs to `min_ms`.
//! Results are fresh arrays. Each is checked once, at some elements, against the sum of its products.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lehr::prelude::*;

/// Calls are timed for so long; `scripts/products.py` goes over the shapes in several rounds.
const TIME: Duration = Duration::from_millis(150);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut threads = 2;
    let mut specs = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {}
            "--threads" => {
                threads = args.next().and_then(|n| n.parse().ok()).ok_or("--threads takes a number")?;
            }
            spec => specs.push(Spec::parse(spec)?),
        }
    }
    let given = !specs.is_empty();
    let mut made: Vec<Product> = Vec::new();
    let mut measure = |spec: &Spec| -> Result<(), String> {
        let index = match made.iter().position(|p| p.spec.text == spec.text) {
            Some(index) => index,
            None => {
                made.push(Product::new(spec, threads)?);
                made.len() - 1
            }
        };
        println!("{}", made[index].time()?);
        Ok(())
    };
    for spec in &specs {
        measure(spec)?;
    }
    if !given {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| e.to_string())?;
            measure(&Spec::parse(line.trim())?)?;
        }
    }
    Ok(())
}

/// A product to measure.
#[derive(Clone, Debug)]
struct Spec {
    text: String,
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
    /// Whether the operands are stored transposed.
    turned: [bool; 2],
}

impl Spec {
    fn parse(text: &str) -> Result<Spec, String> {
        let wrong = || format!("`{text}` is not of the form [BATCH@]MxKxN[:a][:b][:ab]");
        let number = |s: &str| s.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (shape, turned) = text.split_once(':').unwrap_or((text, ""));
        let (batch, shape) = shape.split_once('@').unwrap_or(("1", shape));
        let sizes = shape.split('x').map(number).collect::<Result<Vec<usize>, String>>()?;
        let [m, k, n] = sizes[..] else { return Err(wrong()) };
        if !["", "a", "b", "ab"].contains(&turned) {
            return Err(wrong());
        }
        let turned = [turned.contains('a'), turned.contains('b')];
        Ok(Spec { text: text.to_owned(), batch: number(batch)?, m, k, n, turned })
    }

    /// Rows, columns and whether it is stored transposed, of A and of B.
    fn operands(&self) -> [(usize, usize, bool); 2] {
        [(self.m, self.k, self.turned[0]), (self.k, self.n, self.turned[1])]
    }
}

/// A compiled product with its operands.
struct Product {
    spec: Spec,
    exe: Executable,
    inputs: Vec<Array>,
}

impl Product {
    fn new(spec: &Spec, threads: usize) -> Result<Product, String> {
        let operand = |name: &str, key: u64, (rows, columns, turned): (usize, usize, bool)| {
            let (rows, columns) = if turned { (columns, rows) } else { (rows, columns) };
            let mut shape = vec![rows, columns];
            if spec.batch > 1 {
                shape.insert(0, spec.batch);
            }
            let x = Tensor::input(name, F32, shape.as_slice());
            (if turned { x.swap_axes(-1, -2) } else { x }, init::normal(Key::new(key), &shape, 0.0, 1.0))
        };
        let [a, b] = spec.operands();
        let ((a, x), (b, y)) = (operand("a", 1, a), operand("b", 2, b));
        let options = Options::default().threads(threads);
        let function = Function::new("product").output("c", &a.matmul(&b));
        let mut exe = function.compile(options).map_err(|e| e.to_string())?;
        let inputs = vec![x, y];
        let first = exe.run(inputs.as_slice()).map_err(|e| e.to_string())?;
        check(spec, &inputs, &first.arrays()[0])?;
        Ok(Product { spec: spec.clone(), exe, inputs })
    }

    fn time(&mut self) -> Result<String, String> {
        let mut call = || -> Result<f64, String> {
            let start = Instant::now();
            let result = self.exe.run(self.inputs.as_slice()).map_err(|e| e.to_string())?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            drop(result);
            Ok(ms)
        };
        let (mut times, start) = (Vec::with_capacity(4096), Instant::now());
        call()?;
        while times.len() < 5 || (times.len() < 2000 && start.elapsed() < TIME) {
            times.push(call()?);
        }
        times.sort_by(f64::total_cmp);
        let (min, ms) = (times[0], times[times.len() / 2]);
        let Spec { text, batch, m, k, n, .. } = &self.spec;
        let gflops = 2.0 * (batch * m * k * n) as f64 / (min * 1e6);
        Ok(format!(
            "{{\"fw\":\"lehr\",\"name\":\"{text}\",\"ms\":{ms:.6},\"min_ms\":{min:.6},\"gflops\":{gflops:.1},\"n\":{}}}",
            times.len()
        ))
    }
}

/// Compares some elements with the sums of their products.
fn check(spec: &Spec, inputs: &[Array], result: &Array) -> Result<(), String> {
    let [Some(a), Some(b), Some(c)] = [&inputs[0], &inputs[1], result].map(|x| x.as_slice::<f32>()) else {
        return Err(format!("{}: the result is of type {}", spec.text, result.dtype()));
    };
    let at = |data: &[f32], (rows, columns, turned): (usize, usize, bool), item: usize, i: usize, j: usize| {
        let index = if turned { j * rows + i } else { i * columns + j };
        f64::from(data[item * rows * columns + index])
    };
    let [left, right] = spec.operands();
    for (item, i, j) in [(0, 0, 0), (spec.batch / 2, spec.m / 3, spec.n / 2), (spec.batch - 1, spec.m - 1, spec.n - 1)]
    {
        let products = (0..spec.k).map(|p| at(a, left, item, i, p) * at(b, right, item, p, j));
        let (want, size) = products.fold((0.0, 0.0), |(sum, size), x: f64| (sum + x, size + x.abs()));
        let got = f64::from(c[(item * spec.m + i) * spec.n + j]);
        let error = (got - want).abs();
        if error.is_nan() || error > 1e-6 * size {
            return Err(format!("{}: element ({item}, {i}, {j}) is {got}, not {want}", spec.text));
        }
    }
    Ok(())
}
