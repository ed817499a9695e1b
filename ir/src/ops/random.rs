//! `random_bits`: counter-based random bits.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, add_batch, check_equal, not_linear,
    one, partial,
};
use crate::array::Array;
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::{self, Shape, Type};

/// Random bits that are a pure function of a key and a position.
///
/// Element `i` (its row-major position, 64 bits) is `threefry2x32(key, [high word of i, low word of i])`:
/// the first word for `u32`; both, the first one high, for `u64`.
///
/// # Shapes
/// The operand is `u32[…, 2]`; its leading dims are the first dims of `shape`.
/// Each key fills its own block of the remaining dims, with positions counted from 0 in each block.
/// # Gradient
/// None: integers do not vary.
/// # Numerics
/// Exact, and the same on every backend and thread count.
/// # Errors
/// A dtype other than `u32` and `u64`; a key of another form.
/// # Source
/// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011: Threefry-2x32 with 20 rounds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RandomBits {
    /// `u32` or `u64`.
    pub dtype: DType,
    /// The result's shape.
    pub shape: Shape,
}

/// The rotation of each round, repeated after eight.
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
/// Rounds; the key is injected after every fourth.
const ROUNDS: usize = 20;
/// The constant that makes the third key word from the other two.
const PARITY: u32 = 0x1BD1_1BDA;

/// Two words of 32 random bits: the Threefry-2x32 block cipher with 20 rounds of a counter under a key.
///
/// ```
/// use lehr_ir::ops::random::threefry2x32;
/// assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
/// ```
#[inline(always)]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let [x, y, z] = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let [odd, even] = [[0, 1, 2, 3].map(|i| ROTATIONS[i]), [4, 5, 6, 7].map(|i| ROTATIONS[i])];
    // Written out: of a loop over rounds inside a loop over counters, compilers make no vector code.
    let w = inject(counter, [x, y], 0);
    let w = inject(four_rounds(w, odd), [y, z], 1);
    let w = inject(four_rounds(w, even), [z, x], 2);
    let w = inject(four_rounds(w, odd), [x, y], 3);
    let w = inject(four_rounds(w, even), [y, z], 4);
    inject(four_rounds(w, odd), [z, x], 5)
}

#[inline(always)]
fn four_rounds([mut a, mut b]: [u32; 2], rotations: [u32; 4]) -> [u32; 2] {
    for rotation in rotations {
        a = a.wrapping_add(b);
        b = b.rotate_left(rotation) ^ a;
    }
    [a, b]
}

#[inline(always)]
fn inject([a, b]: [u32; 2], key: [u32; 2], number: u32) -> [u32; 2] {
    [a.wrapping_add(key[0]), b.wrapping_add(key[1]).wrapping_add(number)]
}

/// [`threefry2x32`] of `N` counters at once, in a form that compilers turn into vector code (a loop over straight-line code): all first
/// words, then all second.
///
/// ```
/// use lehr_ir::ops::random::{threefry2x32, threefry2x32_lanes};
/// let [a, b] = threefry2x32_lanes([7, 9], [[0, 0], [4, 5]]);
/// assert_eq!([a[1], b[1]], threefry2x32([7, 9], [0, 5]));
/// ```
#[inline(always)]
pub fn threefry2x32_lanes<const N: usize>(key: [u32; 2], counters: [[u32; N]; 2]) -> [[u32; N]; 2] {
    let [mut a, mut b] = counters;
    for (a, b) in a.iter_mut().zip(&mut b) {
        [*a, *b] = threefry2x32(key, [*a, *b]);
    }
    [a, b]
}

/// [`threefry2x32`] in scalar operations on `u32` variables.
fn emit_threefry(e: &mut dyn MapEmitter, key: [Var; 2], counter: [Var; 2]) -> [Var; 2] {
    let word = |e: &mut dyn MapEmitter, w: u32| e.literal(Literal::from(w));
    let parity = word(e, PARITY);
    let third = e.apply(ScalarOp::Xor, &[key[0], key[1]]);
    let schedule = [key[0], key[1], e.apply(ScalarOp::Xor, &[third, parity])];
    let mut a = e.apply(ScalarOp::Add, &[counter[0], schedule[0]]);
    let mut b = e.apply(ScalarOp::Add, &[counter[1], schedule[1]]);
    for round in 0..ROUNDS {
        a = e.apply(ScalarOp::Add, &[a, b]);
        let (left, right) = (word(e, ROTATIONS[round % 8]), word(e, 32 - ROTATIONS[round % 8]));
        let (high, low) = (e.apply(ScalarOp::Shl, &[b, left]), e.apply(ScalarOp::Shr, &[b, right]));
        let rotated = e.apply(ScalarOp::Or, &[high, low]);
        b = e.apply(ScalarOp::Xor, &[rotated, a]);
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            a = e.apply(ScalarOp::Add, &[a, schedule[injection % 3]]);
            b = e.apply(ScalarOp::Add, &[b, schedule[(injection + 1) % 3]]);
            let count = word(e, injection as u32);
            b = e.apply(ScalarOp::Add, &[b, count]);
        }
    }
    [a, b]
}

impl RandomBits {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { dtype: r.dtype("dtype")?, shape: r.dims("shape")?.into() })
    }
}

impl Operation for RandomBits {
    fn name(&self) -> &str {
        "random_bits"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_name("dtype", self.dtype.name()).with_dims("shape", &self.shape)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let key = operands[0];
        if !matches!(self.dtype, DType::U32 | DType::U64) {
            return Err(Rule::new(
                format!("random bits come as u32 or u64, not {}", self.dtype),
                "ask for u32 or u64 and convert",
            ));
        }
        let (leading, last) = match key.shape.split_last() {
            Some((last, leading)) if key.dtype == DType::U32 && leading.len() <= self.shape.len() => (leading, last),
            _ => {
                return Err(Rule::new(
                    "the key must be u32[…, 2], with leading dims that are the first of the shape",
                    "pass a key of two u32 words, or one for each block of the shape",
                ));
            }
        };
        check_equal("key words", last, &Dim::from(2), facts)?;
        leading.iter().zip(&self.shape).try_for_each(|(a, b)| check_equal("dims", a, b, facts))?;
        one(Type { dtype: self.dtype, shape: self.shape.clone() })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let unsupported = |dtype| EvalError::Unsupported { op: self.name().to_owned(), dtype };
        let keys = operands[0].as_slice::<u32>().ok_or_else(|| unsupported(operands[0].dtype()))?;
        let shape = cx.sizes(&self.shape)?;
        let block: usize = shape[operands[0].rank() - 1..].iter().product();
        let words = keys
            .chunks_exact(2)
            .flat_map(|key| (0..block as u64).map(|i| threefry2x32([key[0], key[1]], [(i >> 32) as u32, i as u32])));
        let out = match self.dtype {
            DType::U32 => Array::new(&shape, words.map(|[a, _]| a).collect::<Vec<_>>()),
            DType::U64 => Array::new(&shape, words.map(|[a, b]| u64::from(a) << 32 | u64::from(b)).collect::<Vec<_>>()),
            other => return Err(unsupported(other)),
        };
        Ok(SmallVec::from_iter([out?]))
    }

    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(partial(None))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(not_linear(self.name()))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        if !batched[0] {
            let v = b.op(self.clone().into(), operands)?;
            return Ok(SmallVec::from_iter([add_batch(b, v, size)?]));
        }
        let mut op = self.clone();
        op.shape.insert(0, size.clone());
        Ok(SmallVec::from_iter([b.op(op.into(), operands)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let leading = e.operand_shape(0).len() - 1;
        let key = [0, 1].map(|word| {
            let at: Vec<Dim> = index[..leading].iter().cloned().chain([Dim::from(word)]).collect();
            e.operand(0, &at)
        });
        let strides = ty::strides(&self.shape);
        let position: Dim = (leading..index.len()).map(|d| &index[d] * &strides[d]).sum();
        let position = e.index_value(&position);
        let bits = e.literal(Literal::from(32i64));
        let high = e.apply(ScalarOp::Shr, &[position, bits]);
        let counter = [high, position].map(|w| e.apply(ScalarOp::Convert(DType::U32), &[w]));
        let [a, b] = emit_threefry(e, key, counter);
        if self.dtype == DType::U32 {
            return a;
        }
        let [a, b] = [a, b].map(|w| e.apply(ScalarOp::Convert(DType::U64), &[w]));
        let bits = e.literal(Literal::from(32u64));
        let a = e.apply(ScalarOp::Shl, &[a, bits]);
        e.apply(ScalarOp::Or, &[a, b])
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use smallvec::smallvec;

    fn random(dtype: DType, shape: &[i64]) -> RandomBits {
        RandomBits { dtype, shape: shape.iter().map(|&d| d.into()).collect() }
    }

    fn key(words: &[u32]) -> Array {
        let shape = if words.len() == 2 { vec![2] } else { vec![words.len() / 2, 2] };
        Array::new(&shape, words.to_vec()).unwrap()
    }

    #[test]
    fn known_answers() {
        // The known-answer vectors of the authors' Random123 distribution for threefry2x32 with 20 rounds.
        let rows = [
            ([0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]),
            ([u32::MAX; 2], [u32::MAX; 2], [0x1cb9_96fc, 0xbb00_2be7]),
            ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3], [0xc492_3a9c, 0x483d_f7a0]),
        ];
        for (key, counter, want) in rows {
            assert_eq!(threefry2x32(key, counter), want);
        }
    }

    #[test]
    fn elements_are_words_of_their_position() {
        let out = run(&random(DType::U32, &[2, 3]), &[&key(&[7, 9])]);
        let words = out.as_slice::<u32>().unwrap();
        assert_eq!(words[5], threefry2x32([7, 9], [0, 5])[0]);
        let wide = run(&random(DType::U64, &[6]), &[&key(&[7, 9])]);
        let [a, b] = threefry2x32([7, 9], [0, 5]);
        assert_eq!(wide.as_slice::<u64>().unwrap()[5], u64::from(a) << 32 | u64::from(b));
        assert_eq!(run(&random(DType::U32, &[]), &[&key(&[0, 0])]).as_slice::<u32>(), Some(&[0x6b20_0159][..]));
    }

    #[test]
    fn emitted_elements_agree() {
        for dtype in [DType::U32, DType::U64] {
            check_emit(&random(dtype, &[2, 3]), &[&key(&[u32::MAX, 9])]);
            check_emit(&random(dtype, &[2, 3]), &[&key(&[1, 2, 3, 4])]);
        }
    }

    #[test]
    fn each_key_of_a_batch_fills_its_own_block() {
        check_batch(&random(DType::U32, &[5]), &[key(&[1, 2, 3, 4, 5, 6])], &[true]);
        check_batch(&random(DType::U64, &[2, 2]), &[key(&[1, 2, 3, 4])], &[true]);
    }

    #[test]
    fn bad_keys_are_refused() {
        let form = "the key must be u32[…, 2], with leading dims that are the first of the shape";
        let op = random(DType::U32, &[4]);
        assert_eq!(refusal(op.clone(), &[&Type::new(DType::U64, [2])]), form);
        assert_eq!(refusal(op.clone(), &[&Type::scalar(DType::U32)]), form);
        assert_eq!(refusal(op.clone(), &[&Type::new(DType::U32, [4, 1, 2])]), form);
        assert_eq!(refusal(op.clone(), &[&Type::new(DType::U32, [3])]), "key words 3 and 2 must be equal");
        assert_eq!(refusal(op, &[&Type::new(DType::U32, [3, 2])]), "dims 3 and 4 must be equal");
        let wrong = random(DType::F32, &[4]);
        assert_eq!(refusal(wrong, &[&Type::new(DType::U32, [2])]), "random bits come as u32 or u64, not f32");
    }

    #[test]
    fn symbolic_shapes() {
        let op = RandomBits { dtype: DType::U32, shape: smallvec![sym("n"), 3.into()] };
        let key = Type::new(DType::U32, [sym("n"), 2.into()]);
        assert_eq!(infer(op, &[&key], &Facts::default()).unwrap().to_string(), "u32[n, 3]");
    }
}
