//! Elementary functions: the recipes, one node an operation.

use lehr_ir::kernel::recipes::Emit;

use super::Width;
use super::segment::{Bin, Element, Op, Order, Segment, Un, V};
use super::size::Size;

const SIGN: u64 = Size::Four.sign();
const SIGNED: Element = Element::Signed(Size::Four);

impl Emit for Segment<'_> {
    type V = V;
    type M = V;

    fn f32(&mut self, c: f32) -> V {
        self.constant(Size::Four, u64::from(c.to_bits()))
    }
    fn i32(&mut self, c: i32) -> V {
        self.constant(Size::Four, u64::from(c.cast_unsigned()))
    }
    fn add(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Add, a, b)
    }
    fn sub(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Sub, a, b)
    }
    fn mul(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Mul, a, b)
    }
    fn div(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Div, a, b)
    }
    fn fma(&mut self, a: V, b: V, c: V) -> V {
        self.push(Op::Fma, Size::Four, &[a, b, c])
    }
    fn scale(&mut self, p: V, n: impl FnOnce(&mut Self) -> V) -> Option<V> {
        (self.width == Width::Avx512).then(|| {
            let n = n(self);
            self.bin(Bin::Scale, p, n)
        })
    }
    fn neg(&mut self, a: V) -> V {
        let sign = self.constant(Size::Four, SIGN);
        self.bin(Bin::Xor, a, sign)
    }
    fn abs(&mut self, a: V) -> V {
        let rest = self.constant(Size::Four, SIGN - 1);
        self.bin(Bin::And, a, rest)
    }
    fn sqrt(&mut self, a: V) -> V {
        self.un(Un::Sqrt, a)
    }
    fn trunc(&mut self, a: V) -> V {
        self.un(Un::Trunc, a)
    }
    fn round_even(&mut self, a: V) -> V {
        self.un(Un::Round, a)
    }
    fn iadd(&mut self, a: V, b: V) -> V {
        self.bin(Bin::IAdd, a, b)
    }
    fn isub(&mut self, a: V, b: V) -> V {
        self.bin(Bin::ISub, a, b)
    }
    fn iand(&mut self, a: V, b: V) -> V {
        self.bin(Bin::And, a, b)
    }
    fn ior(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Or, a, b)
    }
    fn ixor(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Xor, a, b)
    }
    fn ishl(&mut self, a: V, n: u32) -> V {
        self.un(Un::Shl(n as u8), a)
    }
    fn ishr_s(&mut self, a: V, n: u32) -> V {
        self.un(Un::ShrS(n as u8), a)
    }
    fn bitcast_to_i32(&mut self, a: V) -> V {
        a
    }
    fn bitcast_to_f32(&mut self, a: V) -> V {
        a
    }
    fn to_i32(&mut self, a: V) -> V {
        self.un(Un::ToInt, a)
    }
    fn to_f32(&mut self, a: V) -> V {
        self.un(Un::ToFloat, a)
    }
    fn lt(&mut self, a: V, b: V) -> V {
        self.compare(Order::Lt, Element::F32, a, b)
    }
    fn le(&mut self, a: V, b: V) -> V {
        self.compare(Order::Le, Element::F32, a, b)
    }
    fn eq(&mut self, a: V, b: V) -> V {
        self.compare(Order::Eq, Element::F32, a, b)
    }
    fn ine(&mut self, a: V, b: V) -> V {
        self.compare(Order::Ne, SIGNED, a, b)
    }
    fn ilt(&mut self, a: V, b: V) -> V {
        self.compare(Order::Lt, SIGNED, a, b)
    }
    fn and(&mut self, a: V, b: V) -> V {
        self.bin(Bin::And, a, b)
    }
    fn or(&mut self, a: V, b: V) -> V {
        self.bin(Bin::Or, a, b)
    }
    fn select(&mut self, m: V, a: V, b: V) -> V {
        Segment::select(self, m, a, b)
    }
}
