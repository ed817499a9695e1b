//! The recipes against f64, their special values, their exact cases and their sizes.

use lehr_ir::kernel::recipes::host::{evaluate, ulp_error};
use lehr_ir::kernel::recipes::{BOUND, Emit, Function, TABLE, emit};
use std::collections::BTreeSet;

mod reference;
use reference::reference;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Checks one value to the bit; any NaN equals any other.
#[track_caller]
fn check(function: Function, args: &[f32], want: f32) {
    let got = evaluate(function, args);
    let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
    assert!(same, "{function:?}{args:?} is {got:e}, not {want:e}");
}

#[test]
fn errors_stay_within_the_table() {
    for row in TABLE.iter().filter(|row| row.arity == 1) {
        for i in 0..(1_u64 << 32) / 65_537 {
            let x = f32::from_bits((i * 65_537) as u32);
            if x < row.domain.0 || x > row.domain.1 {
                continue;
            }
            let error = ulp_error(evaluate(row.function, &[x]), reference(row.function, f64::from(x), 0.0));
            assert!(error <= row.max_ulp, "{}({x:e}) is off by {error} ULP", row.name);
        }
    }
}

#[test]
fn errors_of_two_arguments_stay_within_the_table() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    for row in TABLE.iter().filter(|row| row.arity == 2) {
        for i in 0..100_000 {
            let x = f32::from_bits(if i % 2 == 0 { next() } else { 0x3f00_0000 + next() % 0x0100_0000 });
            let y = match i % 4 {
                0 => f32::from_bits(next()),
                1 => (next() as f32 / 4_294_967_296.0 - 0.5) * 300.0,
                // The exponents that take pow to the ends of the range.
                _ => ((f64::from(next()) / 4_294_967_296.0 - 0.5) * 300.0 / f64::from(x.abs()).log2()) as f32,
            };
            let error = ulp_error(evaluate(row.function, &[x, y]), reference(row.function, f64::from(x), f64::from(y)));
            assert!(error <= row.max_ulp, "{}({x:e}, {y:e}) is off by {error} ULP", row.name);
        }
    }
}

#[test]
fn special_arguments_have_no_error_of_kind_or_sign() {
    let mut values =
        vec![0.0, INF, NAN, 0.5, 1.0, 2.0, 3.0, 4.0, 1.5, 2.5, 0.25, 88.7, 88.8, 104.0, 149.0, 150.0, BOUND];
    values.extend([
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::from_bits(0x7f_ffff),
        f32::MAX,
        8_388_607.5,
        8_388_609.0,
        16_777_217.0,
        3e9,
    ]);
    let values: Vec<f32> =
        values.into_iter().flat_map(|v| [v, v.next_up(), v.next_down()]).flat_map(|v| [v, -v]).collect();
    for row in TABLE {
        for &x in &values {
            if x < row.domain.0 || x > row.domain.1 {
                continue;
            }
            let second: &[f32] = if row.arity == 2 { &values } else { &[0.0] };
            for &y in second {
                let got = evaluate(row.function, &[x, y][..row.arity]);
                let error = ulp_error(got, reference(row.function, f64::from(x), f64::from(y)));
                assert!(error <= row.max_ulp, "{}({x:e}, {y:e}) is {got:e}, off by {error} ULP", row.name);
            }
        }
    }
}

#[test]
fn documented_special_values() {
    let tiny = f32::from_bits(1);
    check(Function::Exp, &[-INF], 0.0);
    check(Function::Exp, &[-103.9], tiny);
    check(Function::Exp, &[0.0], 1.0);
    check(Function::ExpBounded, &[-INF], 0.0);
    check(Function::ExpBounded, &[-103.9], tiny);
    check(Function::ExpBounded, &[0.0], 1.0);
    check(Function::Expm1, &[-0.0], -0.0);
    check(Function::Expm1, &[tiny], tiny);
    check(Function::Log, &[0.0], -INF);
    check(Function::Log, &[-0.0], -INF);
    check(Function::Log, &[-tiny], NAN);
    check(Function::Log, &[1.0], 0.0);
    check(Function::Log1p, &[-0.0], -0.0);
    check(Function::Log1p, &[-1.0], -INF);
    check(Function::Log1p, &[tiny], tiny);
    check(Function::Logistic, &[-INF], 0.0);
    check(Function::Logistic, &[INF], 1.0);
    check(Function::Logistic, &[0.0], 0.5);
    check(Function::Tanh, &[-INF], -1.0);
    check(Function::Tanh, &[-tiny], -tiny);
    check(Function::Cos, &[0.0], 1.0);
    check(Function::Sin, &[INF], NAN);
    check(Function::Tan, &[-INF], NAN);
    check(Function::Rsqrt, &[-0.0], -INF);
    check(Function::Cbrt, &[-27.0], -3.0);
    check(Function::Acosh, &[-1.0], NAN);
    check(Function::Pow, &[NAN, 0.0], 1.0);
    check(Function::Pow, &[1.0, NAN], 1.0);
    check(Function::Pow, &[-1.0, INF], 1.0);
    check(Function::Pow, &[-8.0, 1.0 / 3.0], NAN);
    check(Function::Pow, &[-0.0, -3.0], -INF);
    check(Function::Pow, &[-INF, 0.5], INF);
    check(Function::Pow, &[3.0, 4.0], 81.0);
    check(Function::Atan2, &[-0.0, -0.0], -std::f32::consts::PI);
    check(Function::Atan2, &[0.0, 0.0], 0.0);
    check(Function::Atan2, &[INF, -INF], 3.0 * std::f32::consts::FRAC_PI_4);
}

#[test]
fn nan_gives_nan() {
    for row in TABLE {
        check(row.function, &[NAN, NAN][..row.arity], NAN);
        check(row.function, &[-NAN, 2.0][..row.arity], NAN);
    }
    check(Function::Pow, &[2.0, NAN], NAN);
    check(Function::Atan2, &[2.0, NAN], NAN);
}

#[test]
fn powers_of_two_are_exact() {
    for k in -149..=127 {
        let power = 2f64.powi(k) as f32;
        check(Function::Exp2, &[k as f32], power);
        check(Function::Log2, &[power], k as f32);
    }
    check(Function::Exp2, &[-150.0], 0.0);
    check(Function::Exp2, &[128.0], INF);
}

#[test]
fn bounded_recipes_have_the_bits_of_the_full_ones() {
    for i in 0..20_000 {
        let x = (i as f32 - 10_000.0) * (BOUND / 10_000.0);
        check(Function::SinBounded, &[x], evaluate(Function::Sin, &[x]));
        check(Function::CosBounded, &[x], evaluate(Function::Cos, &[x]));
        check(Function::TanBounded, &[x], evaluate(Function::Tan, &[x]));
    }
}

#[test]
fn the_measure_sees_errors() {
    assert_eq!(ulp_error(1.0, 1.0), 0.0);
    assert_eq!(ulp_error(1.0f32.next_up(), 1.0), 1.0);
    assert_eq!(ulp_error(f32::from_bits(3), 0.0), 3.0);
    assert_eq!(ulp_error(0.0, -0.0), f64::INFINITY);
    assert_eq!(ulp_error(NAN, 1.0), f64::INFINITY);
    assert_eq!(ulp_error(1.0, f64::NAN), f64::INFINITY);
    assert_eq!(ulp_error(INF, f64::INFINITY), 0.0);
    assert_eq!(ulp_error(INF, 1e300), 0.0);
    assert_eq!(ulp_error(INF, f64::from(f32::MAX)), 1.0);
    assert_eq!(ulp_error(0.0, 1e-60), 1e-60 / 2f64.powi(-149));
}

#[test]
fn the_table_states_sizes_and_order() {
    for (i, row) in TABLE.iter().enumerate() {
        assert_eq!(row.function as usize, i);
        assert_eq!(row.function.recipe().name, row.name);
        let mut counter = Counter::default();
        emit(row.function, &mut counter, &[(), ()][..row.arity]);
        let found = (counter.operations, counter.constants.len());
        assert_eq!((row.operations, row.constants), found, "operations and constants of {}", row.name);
    }
}

/// Counts operations and distinct constants; bitcasts are free.
#[derive(Default)]
struct Counter {
    operations: usize,
    constants: BTreeSet<u32>,
}

macro_rules! counted {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)+) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> $out {
            $(let () = { let _unused = $arg; };)*
            self.operations += 1;
        })+
    };
}

impl Emit for Counter {
    type V = ();
    type M = ();
    fn f32(&mut self, c: f32) {
        self.constants.insert(c.to_bits());
    }
    fn i32(&mut self, c: i32) {
        self.constants.insert(c as u32);
    }
    fn bitcast_to_i32(&mut self, (): ()) {}
    fn bitcast_to_f32(&mut self, (): ()) {}
    counted! {
        add(a: (), b: ()) -> ();
        sub(a: (), b: ()) -> ();
        mul(a: (), b: ()) -> ();
        div(a: (), b: ()) -> ();
        fma(a: (), b: (), c: ()) -> ();
        neg(a: ()) -> ();
        abs(a: ()) -> ();
        sqrt(a: ()) -> ();
        trunc(a: ()) -> ();
        round_even(a: ()) -> ();
        iadd(a: (), b: ()) -> ();
        isub(a: (), b: ()) -> ();
        iand(a: (), b: ()) -> ();
        ior(a: (), b: ()) -> ();
        ixor(a: (), b: ()) -> ();
        ishl(a: (), n: u32) -> ();
        ishr_s(a: (), n: u32) -> ();
        to_i32(a: ()) -> ();
        to_f32(a: ()) -> ();
        lt(a: (), b: ()) -> ();
        le(a: (), b: ()) -> ();
        eq(a: (), b: ()) -> ();
        ine(a: (), b: ()) -> ();
        ilt(a: (), b: ()) -> ();
        and(a: (), b: ()) -> ();
        or(a: (), b: ()) -> ();
        select(m: (), a: (), b: ()) -> ();
    }
}
