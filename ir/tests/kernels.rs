//! The kernels of `tests/kernels`: they parse, verify, read back, run to the expected numbers, and run the same in parts.
//!
//! Comment lines above a kernel say what to run it on and what must come out:
//!
//! ```text
//! ; size n = 2500
//! ; input x = sin(a, b, scale, offset)    element i is scale*sin(a*i + b) + offset
//! ; input x = iota(start, step)           element i is start + step*i
//! ; input x = output                      the buffer of this name that the kernel before has written
//! ; tolerance 2e-6
//! ; expect y[0..3] = 1.5 2 2.5
//! ; expect sum y = 10.25
//! ; expect sum_of_squares y = 40.5
//! ```
//!
//! Generators compute in `f64` and round to the buffer's dtype. Buffers without `input` start as zeros.
//! An element may differ by the tolerance times the greater of its magnitude and the root mean square of the buffer,
//! a sum by the tolerance times the sum of the magnitudes. The numbers come from NumPy, in `f64` on the rounded inputs.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use lehr_ir::facts::Facts;
use lehr_ir::kernel::Kernel;
use lehr_ir::kernel::interpret::{BufferData, Functions, Program};
use lehr_ir::kernel::verify::{report, verify};

#[test]
fn tanh_chain() {
    check("tanh_chain.lehr", 1);
}

#[test]
fn softmax_row() {
    check("softmax_row.lehr", 1);
}

#[test]
fn layer_norm_backward() {
    check("layer_norm_backward.lehr", 2);
}

#[test]
fn adam_multi() {
    check("adam_multi.lehr", 1);
}

#[test]
fn attention_causal() {
    check("attention_causal.lehr", 1);
}

fn check(file: &str, kernels: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kernels").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parsed = Kernel::parse_all(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let scripts = scripts(&text);
    assert_eq!((parsed.len(), scripts.len()), (kernels, kernels), "{file}");
    let mut outputs = BTreeMap::new();
    for (kernel, script) in parsed.iter().zip(&scripts) {
        if let Err(errors) = verify(kernel, &Facts::default()) {
            panic!("{file}\n{}", report(kernel, &errors));
        }
        assert_eq!(Kernel::parse(&kernel.to_string()).as_ref(), Ok(kernel), "{file}");
        for functions in [Functions::Recipe, Functions::Reference] {
            run(kernel, script, functions, &mut outputs);
        }
    }
}

/// The directives above one kernel.
#[derive(Default)]
struct Script {
    sizes: BTreeMap<String, i64>,
    inputs: BTreeMap<String, String>,
    tolerance: f64,
    expected: Vec<(Expect, Vec<f64>)>,
}

enum Expect {
    Elements(String, Range<usize>),
    Sum(String),
    SumOfSquares(String),
}

fn scripts(text: &str) -> Vec<Script> {
    let mut done = Vec::new();
    let mut current = Script::default();
    for line in text.lines() {
        if line.starts_with("kernel ") {
            done.push(std::mem::take(&mut current));
        }
        let Some(directive) = line.strip_prefix("; ") else { continue };
        let (head, value) = directive.split_once(" = ").unwrap_or((directive, ""));
        let words: Vec<&str> = head.split(' ').collect();
        match words.as_slice() {
            ["size", name] => {
                current.sizes.insert(name.to_string(), value.parse().expect("an integer"));
            }
            ["input", name] => {
                current.inputs.insert(name.to_string(), value.to_owned());
            }
            ["tolerance", x] => current.tolerance = x.parse().expect("a number"),
            ["expect", what @ ..] => {
                let what = match what {
                    ["sum", name] => Expect::Sum(name.to_string()),
                    ["sum_of_squares", name] => Expect::SumOfSquares(name.to_string()),
                    [slice] => elements(slice).expect("name[low..high]"),
                    _ => panic!("unknown directive: {line}"),
                };
                current.expected.push((what, numbers(value, ' ')));
            }
            _ => {}
        }
    }
    done
}

fn elements(slice: &str) -> Option<Expect> {
    let (name, range) = slice.strip_suffix(']')?.split_once('[')?;
    let (low, high) = range.split_once("..")?;
    Some(Expect::Elements(name.to_owned(), low.parse().ok()?..high.parse().ok()?))
}

fn numbers(list: &str, separator: char) -> Vec<f64> {
    list.split(separator).map(|x| x.trim().parse().unwrap_or_else(|e| panic!("{x}: {e}"))).collect()
}

fn run(kernel: &Kernel, script: &Script, functions: Functions, outputs: &mut BTreeMap<String, BufferData>) {
    let sizes: Vec<i64> = kernel.sizes.iter().map(|s| script.sizes[s.as_str()]).collect();
    let program = Program::new(kernel, &sizes, functions).expect("compiles");
    let mut buffers = program.zeros().expect("allocates");
    for (buffer, data) in kernel.buffers.iter().zip(&mut buffers) {
        if let Some(how) = script.inputs.get(&buffer.name) {
            *data = input(how, data, outputs.get(&buffer.name));
        }
    }
    let mut in_parts = buffers.clone();
    program.run(&mut buffers).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));

    // Any partition of the parallel axis, in any order, gives the same bits.
    let third = program.extent() / 3;
    for range in [2 * third..program.extent(), third..2 * third, 0..third] {
        program.run_range(&mut in_parts, range).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    }
    for (buffer, (whole, parts)) in kernel.buffers.iter().zip(buffers.iter().zip(&in_parts)) {
        assert!(whole.same_bits(parts), "{}: {} differs when it is run in parts", kernel.name, buffer.name);
    }

    let named: BTreeMap<&str, Vec<f64>> =
        kernel.buffers.iter().zip(&buffers).map(|(b, data)| (b.name.as_str(), data.to_f64s())).collect();
    assert!(!script.expected.is_empty() && script.tolerance > 0.0, "{}: nothing is expected", kernel.name);
    for (what, want) in &script.expected {
        let (name, got, scale) = match what {
            Expect::Elements(name, range) => {
                let all = &named[name.as_str()];
                let mean_square = all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64;
                (name, all[range.clone()].to_vec(), mean_square.sqrt())
            }
            Expect::Sum(name) => {
                let all = &named[name.as_str()];
                (name, vec![all.iter().sum()], all.iter().map(|x| x.abs()).sum())
            }
            Expect::SumOfSquares(name) => (name, vec![named[name.as_str()].iter().map(|x| x * x).sum()], 0.0),
        };
        assert_eq!(got.len(), want.len(), "{}: {name}", kernel.name);
        for (got, want) in got.iter().zip(want) {
            let allowed = script.tolerance * want.abs().max(scale);
            assert!((got - want).abs() <= allowed, "{}: {name} is {got}, expected {want} ± {allowed}", kernel.name);
        }
    }
    outputs.extend(kernel.buffers.iter().map(|b| b.name.clone()).zip(buffers));
}

/// What a directive says of a buffer, with the dtype and length of `like`.
fn input(how: &str, like: &BufferData, output: Option<&BufferData>) -> BufferData {
    if how == "output" {
        return output.expect("a kernel before has written it").clone();
    }
    let (name, arguments) = how.strip_suffix(')').and_then(|s| s.split_once('(')).expect("a generator");
    let element: Box<dyn Fn(f64) -> f64> = match (name, numbers(arguments, ',').as_slice()) {
        ("sin", &[a, b, scale, offset]) => Box::new(move |i| scale * (a * i + b).sin() + offset),
        ("iota", &[start, step]) => Box::new(move |i| start + step * i),
        _ => panic!("unknown generator: {how}"),
    };
    let values: Vec<f64> = (0..like.len()).map(|i| element(i as f64)).collect();
    BufferData::from_f64s(like.dtype(), &values).expect("a real dtype")
}
