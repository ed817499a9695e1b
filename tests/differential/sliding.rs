//! Random convolutions and folds of windows.

use lehr::ir::ops::{Convolution, ReduceOp, ReduceWindow, Window};
use lehr::ir::{DType, Dim, Shape};

use crate::generate::Generator;

impl Generator {
    pub(crate) fn convolution(&mut self, dtype: DType) -> Option<()> {
        let x = self.ranked(dtype, 2)?;
        let shape = self.b.ty(x).shape.clone();
        let batch = self.r.below(shape.len() - 1);
        let spatial = shape.len() - batch - 2;
        let mut kernel: Shape = shape[..batch].into();
        for _ in 0..spatial {
            kernel.push(Dim::from(self.r.below(5)));
        }
        kernel.push(shape.last()?.clone());
        kernel.push(if self.r.one_in(3) { Dim::ONE } else { self.dim() });
        let y = self.of(dtype, &kernel)?;
        let windows = (0..spatial).map(|_| self.window()).collect();
        self.add(Convolution { batch, windows }, &[x, y])
    }

    pub(crate) fn reduce_window(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let rank = self.b.ty(x).rank();
        let op = *self.r.pick(ReduceOp::ALL);
        let sizes = (0..rank).map(|_| if self.r.one_in(8) { 7 + self.r.below(80) } else { self.r.below(5) }).collect();
        let mut windows: Vec<Window> = (0..rank).map(|_| self.window()).collect();
        let apart = self.r.one_in(3);
        let op = ReduceWindow { op, sizes, windows: windows.as_slice().into() };
        if !apart {
            return self.add(op, &[x]);
        }
        for (w, &k) in windows.iter_mut().zip(&op.sizes) {
            *w = Window { stride: k.max(1), padding: w.padding.clone(), ..Window::default() };
        }
        self.add(ReduceWindow { windows: windows.into(), ..op }, &[x])
    }

    fn window(&mut self) -> Window {
        let mut w = Window::strided(1 + self.r.below(3));
        if self.r.one_in(2) {
            w.padding = (Dim::from(self.r.below(5) as i64 - 1), Dim::from(self.r.below(5) as i64 - 1));
        }
        if self.r.one_in(3) {
            w.base_dilation = 1 + self.r.below(3);
        }
        if self.r.one_in(3) {
            w.window_dilation = 1 + self.r.below(3);
        }
        w
    }
}
