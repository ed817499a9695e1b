use lehr_ir::Literal;
use lehr_ir::bindings::Bindings;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::interpret::{self, BufferData};
use lehr_ir::plan::BufferId;

use super::tiled::Tiling;
use super::*;
use crate::gpu::harness::{self, Memory};

mod cooperative;

/// A generator of test cases: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const LEFT: BufferId = BufferId(0);
const RIGHT: BufferId = BufferId(1);
const OUT: BufferId = BufferId(2);

/// A view of a matrix with digits and, for the result, without places that coincide.
fn view(r: &mut Random, buffer: BufferId, [batch, rows, columns]: [usize; 3], whole: bool) -> (Matrix, usize) {
    let digits = |size: usize, r: &mut Random| -> Vec<usize> {
        let split = [2, 3, 4, 5].into_iter().find(|d| size > *d && size.is_multiple_of(*d) && r.below(3) == 0);
        split.map_or(vec![size], |d| if r.below(2) == 0 { vec![d, size / d] } else { vec![size / d, d] })
    };
    let sizes = if whole {
        [vec![batch], digits(rows, r), vec![columns]]
    } else {
        [batch, rows, columns].map(|n| digits(n, r))
    };
    let mut places: Vec<(usize, usize)> = Vec::new();
    sizes.iter().enumerate().for_each(|(i, all)| all.iter().enumerate().for_each(|(j, _)| places.push((i, j))));
    // Mostly in order, sometimes in any.
    if r.below(2) == 0 {
        (1..places.len()).for_each(|i| places.swap(i, r.below(i + 1)));
    }
    let mut strides = [vec![0; sizes[0].len()], vec![0; sizes[1].len()], vec![0; sizes[2].len()]];
    let mut stride = 1;
    for &(i, j) in places.iter().rev() {
        // Operands may repeat.
        if !whole && r.below(12) == 0 {
            continue;
        }
        strides[i][j] = stride;
        stride *= sizes[i][j].max(1);
        if r.below(6) == 0 {
            stride += r.pick(&[1, 4]);
        }
    }
    let offset = r.pick(&[0, 0, 0, 1, 4]);
    let of = |i: usize| {
        let dims = sizes[i].iter().zip(&strides[i]).map(|(n, s)| (Dim::from(*n as i64), Dim::from(*s as i64)));
        Digits::new(dims).expect("few digits")
    };
    let last: usize = sizes.iter().flatten().zip(strides.iter().flatten()).map(|(n, s)| n.saturating_sub(1) * s).sum();
    let matrix = Matrix { buffer, offset: Dim::from(offset as i64), batch: of(0), row: of(1), column: of(2) };
    (matrix, offset + last + 1)
}

fn contract(r: &mut Random, dtype: DType, [batch, m, n, k]: [usize; 4]) -> (Contract, [usize; 3]) {
    let (a, a_len) = view(r, LEFT, [batch, m, k], false);
    let (b, b_len) = view(r, RIGHT, [batch, k, n], false);
    let (c, c_len) = view(r, OUT, [batch, m, n], true);
    let size = |n: usize| Dim::from(n as i64);
    let contract = Contract { dtype, batch: size(batch), m: size(m), n: size(n), k: size(k), a, b, c, epilogue: None };
    (contract, [a_len, b_len, c_len])
}

fn bytes(dtype: DType, x: &[f64]) -> Vec<u8> {
    match dtype {
        DType::F64 => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 | DType::BF16 => {
            x.iter().flat_map(|x| (Literal::from_f64(dtype, *x).bits()[0] as u16).to_le_bytes()).collect()
        }
        _ => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
    }
}

fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DType::F16 | DType::BF16 => {
            let number = |b: &[u8; 2]| Literal::from_bits(dtype, [u16::from_le_bytes(*b).into(), 0]).to_f64();
            bytes.as_chunks().0.iter().map(number).collect()
        }
        _ => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
    }
}

/// What the plan's interpreter computes, on small integers exactly but for the rounding of each result.
/// Places outside of the view keep what they had.
fn expected(c: &Contract, bindings: &Bindings, a: &[f64], b: &[f64], out: &mut [f64]) {
    let n = |d: &Dim| bindings.eval(d).expect("is known");
    let at = |m: &Matrix, batch: i64, row: i64, column: i64| -> usize {
        let of = |d: &Digits, i: i64| d.offset(i, bindings).expect("is known");
        (n(&m.offset) + of(&m.batch, batch) + of(&m.row, row) + of(&m.column, column)) as usize
    };
    for p in 0..n(&c.batch) {
        for i in 0..n(&c.m) {
            for j in 0..n(&c.n) {
                let sum = (0..n(&c.k)).map(|k| a[at(&c.a, p, i, k)] * b[at(&c.b, p, k, j)]).sum::<f64>();
                out[at(&c.c, p, i, j)] = Literal::from_f64(c.dtype, sum).to_f64();
            }
        }
    }
}

/// The device for dispatches that are valid, if there is one that has all that they use.
fn validated(dtype: DType, dispatches: &[Dispatch]) -> Option<&'static harness::Harness> {
    let cooperative = dispatches.iter().any(|d| d.text.contains("coop_mat"));
    dispatches.iter().for_each(|d| harness::validate(&d.text, cooperative || dtype != DType::F32));
    let device = harness::device()?;
    if cooperative && device.matrices.is_none() {
        println!("not executed: the device has no cooperative matrices");
        return None;
    }
    Some(device)
}

fn check(c: &Contract, lens: [usize; 3], bindings: &Bindings, dispatches: &[Dispatch], r: &mut Random) {
    let Some(device) = validated(c.dtype, dispatches) else { return };
    // Small integers, whose sums are exact in any order: every difference is a mistake.
    let mut fill = |n: usize| -> Vec<f64> { (0..n).map(|_| r.below(7) as f64 - 3.0).collect() };
    let (a, mut b, mut out) = (fill(lens[0]), fill(lens[1]), fill(lens[2]));
    if c.b.buffer == LEFT {
        b.clone_from(&a);
    }
    let mut memory = Memory::new();
    for (id, data) in [(LEFT, &a), (RIGHT, &b), (OUT, &out)] {
        memory.insert(id, bytes(c.dtype, data));
    }
    device.run(dispatches, bindings, &mut memory);
    expected(c, bindings, &a, &b, &mut out);
    let got = numbers(c.dtype, &memory[&OUT]);
    let first = got.iter().zip(&out).position(|(a, b)| a != b);
    if let Some(i) = first {
        let texts: Vec<&str> = dispatches.iter().map(|d| &*d.text).collect();
        panic!("{c:?}: element {i} is {} and should be {}\n{}", got[i], out[i], texts.join("\n"));
    }
}

/// An epilogue over a contiguous result: `text` is of a kernel with the buffers `c`, `x` and, if there is a third, `y`.
struct Finishing {
    kernels: Vec<Arc<Kernel>>,
    contract: Contract,
}

const X: BufferId = BufferId(3);
const Y: BufferId = BufferId(4);

/// Bias and a comparison, over the product or beside it.
fn finishing(r: &mut Random, shape: [usize; 4], replaces: bool) -> (Finishing, [usize; 3]) {
    finishing_of(r, DType::F32, shape, replaces)
}

fn finishing_of(r: &mut Random, dtype: DType, [batch, m, n, k]: [usize; 4], replaces: bool) -> (Finishing, [usize; 3]) {
    let (mut c, mut lens) = contract(r, dtype, [batch, m, n, k]);
    let size = |n: usize| Dim::from(n as i64);
    c.c = Matrix {
        buffer: OUT,
        offset: Dim::ZERO,
        batch: Digits::even(size(batch), size(m * n)),
        row: Digits::even(size(m), size(n)),
        column: Digits::even(size(n), Dim::ONE),
    };
    lens[2] = batch * m * n;
    let (access, store) = if replaces { ("readwrite", "store c[i*n + _column + j], %3") } else { ("read", "") };
    let text = format!(
        "kernel @bias({access} c: {dtype}[rows*n], read x: {dtype}[n], write y: bool[rows*n]) sizes(rows, n, _column, _columns) {{
  parallel i in 0..rows {{
    lane j in 0.._columns {{
      %0 = load c[i*n + _column + j]
      %1 = load x[_column + j]
      %2 = const 0.0 : {dtype}
      %3 = add %0, %1
      %4 = gt %3, %2
      {store}
      store y[i*n + _column + j], %4
    }}
  }}
}}"
    );
    let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    c.epilogue = Some(lehr_ir::plan::Epilogue {
        kernel: 0,
        buffers: [OUT, X, Y].into_iter().collect(),
        sizes: [size(batch * m), size(n), Dim::ZERO, size(n)].into_iter().collect(),
        first_column: 2,
        columns: 3,
    });
    (Finishing { kernels: vec![Arc::new(kernel)], contract: c }, lens)
}

fn check_finishing(f: &Finishing, lens: [usize; 3], dispatches: &[Dispatch], r: &mut Random) {
    let dtype = f.contract.dtype;
    let Some(device) = validated(dtype, dispatches) else { return };
    let mut fill = |n: usize| -> Vec<f64> { (0..n).map(|_| r.below(7) as f64 - 3.0).collect() };
    let n = f.contract.n.as_const().expect("is known") as usize;
    let (a, b, mut out, x) = (fill(lens[0]), fill(lens[1]), fill(lens[2]), fill(n));
    let mut memory = Memory::new();
    for (id, data) in [(LEFT, &a), (RIGHT, &b), (OUT, &out), (X, &x)] {
        memory.insert(id, bytes(dtype, data));
    }
    memory.insert(Y, vec![7; lens[2]]);
    device.run(dispatches, &Bindings::default(), &mut memory);
    expected(&f.contract, &Bindings::default(), &a, &b, &mut out);
    let kernel = &f.kernels[0];
    let sizes = [(lens[2] / n) as i64, n as i64, 0, n as i64];
    let narrow = |x: &[f64]| harness::elements(dtype, &bytes(dtype, x));
    let mut buffers = vec![narrow(&out), narrow(&x), BufferData::from(vec![false; lens[2]])];
    interpret::run(kernel, &sizes, &mut buffers).expect("runs");
    for (id, data) in [(OUT, &buffers[0]), (Y, &buffers[2])] {
        let got = harness::elements(data.dtype(), &memory[&id]);
        assert!(got == *data, "{id}: {got:?}\n{data:?}\n{}", dispatches[0].text);
    }
}

#[test]
fn epilogues_run_in_the_same_dispatch() {
    let mut r = Random(17);
    for shape in [[1, 70, 65, 20], [2, 3, 100, 30], [2, 100, 1, 9], [1, 40, 33, 3000], [3, 33, 17, 0], [1, 1, 1, 1]] {
        for replaces in [false, true] {
            let (f, lens) = finishing(&mut r, shape, replaces);
            let dispatches = dispatches(&f.contract, &f.kernels, None, &target()).expect("has text");
            assert_eq!(dispatches.len(), if shape[3] == 3000 { 2 } else { 1 });
            check_finishing(&f, lens, &dispatches, &mut r);
        }
    }
}

#[test]
fn epilogues_run_with_every_tiling_and_alone() {
    let mut r = Random(19);
    for tiling in [Tiling::SMALL, Tiling::MIDDLE, Tiling::LARGE] {
        let (f, lens) = finishing(&mut r, [2, 129, 130, 12], true);
        let target = target();
        let product = Product::of(&f.contract, Element::of(DType::F32, &target).expect("is there"));
        let finish = Finish::of(&f.contract, &f.kernels, &target);
        assert!(finish.is_some());
        let output = Output { product: &product, parts: None, finish };
        let dispatch = tiled::by(tiling, &product, &output, &target).expect("has text");
        check_finishing(&f, lens, &[dispatch], &mut r);
    }
    // Four storage buffers are too few for both at once.
    let (f, lens) = finishing(&mut r, [1, 20, 30, 40], true);
    let few = WgslTarget { storage_buffers: 4, ..target() };
    let dispatches = dispatches(&f.contract, &f.kernels, None, &few).expect("has text");
    assert_eq!(dispatches.len(), 2);
    check_finishing(&f, lens, &dispatches, &mut r);
}

fn target() -> WgslTarget {
    harness::device().map_or(WgslTarget { f64: true, ..WgslTarget::default() }, |d| d.target)
}

#[test]
fn random_products_are_exact() {
    let mut r = Random(7);
    let sizes = [0, 1, 2, 3, 7, 8, 9, 16, 31, 33, 48, 64, 70, 100];
    for _ in 0..60 {
        let shape = [r.pick(&[1, 1, 2, 3]), r.pick(&sizes), r.pick(&sizes), r.pick(&sizes)];
        let (c, lens) = contract(&mut r, DType::F32, shape);
        let dispatches = dispatches(&c, &[], None, &target()).expect("has text");
        check(&c, lens, &Bindings::default(), &dispatches, &mut r);
    }
}

#[test]
fn every_tiling_is_exact() {
    let mut r = Random(11);
    for (tiling, deep) in [
        (Tiling::SMALL, false),
        (Tiling::MIDDLE, false),
        (Tiling::LARGE, false),
        (Tiling::MIDDLE, true),
        (Tiling::LARGE, true),
    ] {
        for shape in [[1, 130, 129, 37], [2, 64, 128, 64], [1, 9, 200, 8]] {
            let (c, lens) = contract(&mut r, DType::F32, shape);
            let element = Element::of(c.dtype, &target()).expect("is there");
            let product = Product::of(&c, element);
            let output = Output { product: &product, parts: None, finish: None };
            let tiling = if deep { tiling.deepened(element, &target()) } else { tiling };
            let dispatch = tiled::by(tiling, &product, &output, &target()).expect("has text");
            check(&c, lens, &Bindings::default(), &[dispatch], &mut r);
        }
    }
}

#[test]
fn long_sums_are_cut() {
    let mut r = Random(5);
    for shape in [[1, 33, 40, 3000], [2, 1, 50, 1100], [1, 4, 2, 5000], [3, 12, 64, 512]] {
        let (c, lens) = contract(&mut r, DType::F32, shape);
        let dispatches = dispatches(&c, &[], None, &target()).expect("has text");
        assert_eq!(dispatches.len(), 2, "{shape:?}");
        check(&c, lens, &Bindings::default(), &dispatches, &mut r);
    }
}

#[test]
fn doubles_where_there_are() {
    let mut r = Random(3);
    let target = target();
    for shape in [[2, 33, 40, 50], [1, 1, 50, 100]] {
        let (c, lens) = contract(&mut r, DType::F64, shape);
        match dispatches(&c, &[], None, &target) {
            Ok(dispatches) => check(&c, lens, &Bindings::default(), &dispatches, &mut r),
            Err(e) => assert!(!target.f64, "{e}"),
        }
    }
    let (c, _) = contract(&mut r, DType::F64, [1, 2, 3, 4]);
    let refused = dispatches(&c, &[], None, &WgslTarget::default()).expect_err("has no f64");
    assert_eq!(refused.to_string(), "the WGSL printer does not support f64 in a contraction");
}

/// With the device's own 16-bit floats, if it has them, and without.
fn targets() -> impl Iterator<Item = WgslTarget> {
    let target = target();
    [target, WgslTarget { f16: false, ..target }].into_iter().take(if target.f16 { 2 } else { 1 })
}

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

#[test]
fn half_precision_is_summed_in_single_and_rounded_once() {
    let mut r = Random(23);
    let sizes = [0, 1, 2, 3, 7, 8, 9, 16, 31, 33, 48, 64, 70];
    for (dtype, target) in HALVES.into_iter().flat_map(|d| targets().map(move |t| (d, t))) {
        let mut shapes = vec![[1, 33, 40, 3000], [2, 1, 50, 1100], [2, 64, 128, 64], [1, 130, 129, 37]];
        shapes.extend((0..16).map(|_| [r.pick(&[1, 1, 2, 3]), r.pick(&sizes), r.pick(&sizes), r.pick(&sizes)]));
        for shape in shapes {
            let (c, lens) = contract(&mut r, dtype, shape);
            let dispatches = dispatches(&c, &[], None, &target).expect("has text");
            check(&c, lens, &Bindings::default(), &dispatches, &mut r);
        }
    }
}

#[test]
fn epilogues_read_rounded_halves() {
    let mut r = Random(29);
    for (dtype, target) in HALVES.into_iter().flat_map(|d| targets().map(move |t| (d, t))) {
        for shape in [[1, 70, 65, 20], [2, 3, 100, 30], [1, 40, 33, 3000], [3, 33, 17, 0], [1, 1, 1, 1]] {
            for replaces in [false, true] {
                let (f, lens) = finishing_of(&mut r, dtype, shape, replaces);
                let dispatches = dispatches(&f.contract, &f.kernels, None, &target).expect("has text");
                check_finishing(&f, lens, &dispatches, &mut r);
            }
        }
    }
}

#[test]
fn every_choice_takes_halves() {
    let mut r = Random(31);
    for (dtype, target) in HALVES.into_iter().flat_map(|d| targets().map(move |t| (d, t))) {
        for [m, n, k] in [[70, 68, 40], [3, 50, 600]] {
            let (c, lens) = contract(&mut r, dtype, [2, m, n, k]);
            for choice in choice::Choice::all(&c, &target) {
                let dispatches = dispatches(&c, &[], Some(choice), &target).expect("has text");
                check(&c, lens, &Bindings::default(), &dispatches, &mut r);
            }
        }
    }
}

#[test]
fn one_buffer_on_both_sides_is_bound_once() {
    let mut r = Random(1);
    let (mut c, lens) = contract(&mut r, DType::F32, [1, 40, 40, 40]);
    c.b = Matrix { row: c.a.column.clone(), column: c.a.row.clone(), ..c.a.clone() };
    let dispatches = dispatches(&c, &[], None, &target()).expect("has text");
    assert_eq!(dispatches[0].operands.len(), 2);
    check(&c, lens, &Bindings::default(), &dispatches, &mut r);
}

#[test]
fn sizes_that_are_symbols_stand_in_no_text() {
    let mut r = Random(2);
    let dim = |text: &str| text.parse::<Dim>().expect("is a dim");
    let matrix = |buffer, row: &str, column: &str, sizes: [&str; 2]| Matrix {
        buffer,
        offset: Dim::ZERO,
        batch: Digits::even(dim("batch"), dim(row) * dim(sizes[0])),
        row: Digits::even(dim(sizes[0]), dim(row)),
        column: Digits::even(dim(sizes[1]), dim(column)),
    };
    let c = Contract {
        dtype: DType::F32,
        batch: dim("batch"),
        m: dim("m"),
        n: dim("n"),
        k: dim("4*k"),
        a: matrix(LEFT, "4*k", "1", ["m", "4*k"]),
        b: matrix(RIGHT, "n", "1", ["4*k", "n"]),
        c: matrix(OUT, "n", "1", ["m", "n"]),
        epilogue: None,
    };
    let dispatches = dispatches(&c, &[], None, &target()).expect("has text");
    for [batch, m, n, k] in [[1, 1, 1, 1], [2, 65, 70, 5], [3, 64, 64, 16], [1, 3, 0, 4]] {
        let mut bindings = Bindings::default();
        for (name, value) in [("batch", batch), ("m", m), ("n", n), ("k", k)] {
            bindings.bind(&name.parse().expect("is a symbol"), value).expect("is new");
        }
        let len = |x: i64| x as usize;
        let lens = [len(batch * m * 4 * k), len(batch * n * 4 * k), len(batch * m * n)];
        check(&c, lens, &bindings, &dispatches, &mut r);
    }
}

/// A product of whole matrices, row by row.
fn plain(dtype: DType, [m, n, k]: [i64; 3]) -> Contract {
    let matrix = |buffer, [rows, columns]: [i64; 2]| Matrix {
        buffer,
        offset: Dim::ZERO,
        batch: Digits::default(),
        row: Digits::even(Dim::from(rows), Dim::from(columns)),
        column: Digits::even(Dim::from(columns), Dim::ONE),
    };
    let (a, b, c) = (matrix(LEFT, [m, k]), matrix(RIGHT, [k, n]), matrix(OUT, [m, n]));
    let [m, n, k] = [m, n, k].map(Dim::from);
    Contract { dtype, batch: Dim::ONE, m, n, k, a, b, c, epilogue: None }
}

/// The shaders of a product with their workgroups, for snapshots.
fn text(c: &Contract, target: &WgslTarget) -> String {
    let all = dispatches(c, &[], None, target).expect("has text");
    all.iter().map(|d| format!("{}\n// {} workgroups\n", d.text, d.groups)).collect()
}

#[test]
fn snapshots() {
    let product = |m, n, k| plain(DType::F32, [m, n, k]);
    let text = |c: &Contract| text(c, &WgslTarget::default());
    insta::assert_snapshot!("tiles", text(&product(1000, 1024, 512)));
    insta::assert_snapshot!("few", text(&product(1, 4096, 100)));
    insta::assert_snapshot!("parts", text(&product(30, 30, 2048)));
    // Places of an image by taps: rows of two digits, terms of three.
    let digits = |dims: &[(i64, i64)]| {
        Digits::new(dims.iter().map(|(n, s)| (Dim::from(*n), Dim::from(*s)))).expect("few digits")
    };
    let places = product(900, 16, 27);
    let image = Matrix { row: digits(&[(30, 96), (30, 3)]), column: digits(&[(3, 96), (9, 1)]), ..places.a.clone() };
    insta::assert_snapshot!("convolution", text(&Contract { a: image, ..places }));
    let (f, _) = finishing(&mut Random(1), [1, 64, 64, 16], true);
    let all = dispatches(&f.contract, &f.kernels, None, &WgslTarget::default()).expect("has text");
    insta::assert_snapshot!("epilogue", &*all[0].text);
}

#[test]
fn half_precision_snapshots() {
    let own = WgslTarget { f16: true, ..WgslTarget::default() };
    let all = [("f16", DType::F16, own), ("packed_f16", DType::F16, WgslTarget::default()), ("bf16", DType::BF16, own)];
    for (name, dtype, target) in all {
        insta::assert_snapshot!(name, text(&plain(dtype, [32, 40, 16]), &target));
    }
}

#[test]
fn every_choice_computes_the_same() {
    let mut r = Random(11);
    for [m, n, k] in [[70, 66, 40], [3, 50, 600], [33, 40, 520]] {
        let (c, lens) = contract(&mut r, DType::F32, [2, m, n, k]);
        let choices = choice::Choice::all(&c, &target());
        let words: std::collections::BTreeSet<String> = choices.iter().map(choice::Choice::word).collect();
        assert_eq!(words.len(), choices.len(), "names are distinct");
        let default = dispatches(&c, &[], None, &target()).expect("has text");
        assert_eq!(
            default,
            dispatches(&c, &[], Some(choices[0]), &target()).expect("has text"),
            "the first is the default"
        );
        for choice in choices {
            let dispatches = dispatches(&c, &[], Some(choice), &target()).expect("has text");
            check(&c, lens, &Bindings::default(), &dispatches, &mut r);
        }
    }
}

#[test]
fn every_choice_runs_epilogues() {
    let mut r = Random(12);
    for replaces in [true, false] {
        let (f, lens) = finishing(&mut r, [1, 70, 66, 300], replaces);
        for choice in choice::Choice::all(&f.contract, &target()) {
            let dispatches = dispatches(&f.contract, &f.kernels, Some(choice), &target()).expect("has text");
            check_finishing(&f, lens, &dispatches, &mut r);
        }
    }
}
