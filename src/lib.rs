//! A graph-compiling machine-learning framework.
//!
//! User code builds a symbolic graph of [`Tensor`]s; a [`Function`] of it is differentiated, simplified and compiled, and then
//! called with arrays. Nothing runs until it is compiled or asked for.
//!
//! The two smallest programs: a product of matrices,
//! ```
//! use lehr::prelude::*;
//! let a = Tensor::from([[1, 2], [3, 4]]);
//! let b = Tensor::from([[10], [20]]);
//! assert_eq!(format!("{}", a.matmul(&b)), "[[50],[110]]");
//! ```
//! and a gradient, of `x² + 2x` at 3:
//! ```
//! use lehr::prelude::*;
//! let x = Tensor::from(3.0f32);
//! let y = &x * &x + 2 * &x;
//! assert_eq!(format!("{}", grad(&y, &x)), "8");
//! ```
//! A model is a struct of layers, and training is a function with updates:
//! ```
//! use lehr::prelude::*;
//!
//! #[derive(Tree)]
//! struct Classifier { hidden: Dense, out: Dense }
//!
//! impl Classifier {
//!     fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
//!         let h = self.hidden.forward(x, cx).relu();
//!         self.out.forward(&h, cx)
//!     }
//! }
//!
//! let mut keys = Keys::new(0);
//! let model = Classifier { hidden: Dense::new(2, 8, &mut keys), out: Dense::glorot(8, 2, &mut keys) };
//! let x = Tensor::input("x", F32, ("batch", 2));
//! let y = Tensor::input("y", I64, ["batch"]);
//! let logits = model.forward(&x, &mut Context::train());
//! let loss = losses::softmax_cross_entropy(&logits, &y).mean();
//! let mut step = Adam::new(0.05).minimize(&loss, &model)?.compile(Options::default())?;
//! let mut predict = Function::new("predict").output("class", &logits.argmax(-1)).compile(Options::default())?
//!     .with_state(step.state());
//!
//! let (points, classes) = (Array::from([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), Array::from([0i64, 1, 1, 0]));
//! for _ in 0..60 {
//!     let _loss: f32 = step.run([("x", &points), ("y", &classes)])?.unpack()?;
//! }
//! let found: Vec<i64> = predict.run([("x", &points)])?.unpack()?;
//! assert_eq!(found, [0, 1, 1, 0]);
//! # Ok::<(), lehr::Error>(())
//! ```
#![forbid(unsafe_code)]

// The derive macro's output names the crate, also inside it.
extern crate self as lehr;

/// The README's programs, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod cache;
mod closure;
mod composite;
pub mod context;
pub mod control;
pub mod custom_op;
pub mod data;
pub mod devices;
mod engine;
mod error;
mod executable;
pub mod explain;
mod from_graph;
mod function;
pub mod gradcheck;
mod indices;
pub mod init;
pub mod inputs;
pub mod losses;
pub mod models;
mod nan;
pub mod nn;
pub mod optim;
mod options;
pub mod outputs;
mod program;
pub mod random;
mod runtime;
mod scope;
pub mod shape;
#[cfg(feature = "snapshot")]
pub mod snapshot;
pub mod solve;
mod state;
pub mod tensor;
#[cfg(feature = "cpu")]
#[doc(hidden)]
pub mod testing;
pub mod transform;
mod trap;
pub mod tree;

pub use cache::{Cache, KernelCounts};
pub use context::Context;
pub use custom_op::{custom_op, custom_ops};
pub use data::Dataset;
pub use error::{Error, Result};
pub use executable::Executable;
pub use explain::Explanation;
pub use function::Function;
pub use gradcheck::{GradCheck, gradcheck};
pub use indices::IndexError;
pub use lehr_ir as ir;
pub use lehr_ir::target::{DeviceChoice, Tuning, Vectors};
pub use lehr_ir::{Array, DType, Dim, Element, Literal, Type};
pub use lehr_passes as passes;
pub use nan::NanError;
pub use options::{Backend, Options, UnknownBackend};
pub use outputs::Outputs;
pub use program::{Program, Signature};
pub use random::{Key, Keys};
pub use runtime::Runtime;
pub use state::{State, StateError};
pub use tensor::{
    ConvOptions, Layout, Padding, PoolOptions, Scalar, Tensor, avg_pool, conv, conv_transpose, max_pool, reduce_window,
};
pub use transform::{
    Checkpoint, checkpoint, custom_jvp, custom_vjp, grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, linearize,
    stop_gradient, value_and_grad, value_and_grad_aux, vjp, vmap, vmap_axes,
};
pub use tree::Tree;

/// What most programs name.
pub mod prelude {
    pub use lehr_ir::DType::{self, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

    pub use crate::nn::{self, Dense, Dropout};
    pub use crate::optim::{Adam, Optimizer, Sgd};
    pub use crate::tensor::{
        ConvOptions, Ellipsis, Layout, NewAxis, Padding, PoolOptions, Tensor, avg_pool, by, conv, conv_transpose,
        max_pool,
    };
    pub use crate::{
        Array, Backend, Checkpoint, Context, Dataset, Executable, Function, Key, Keys, Options, Outputs, State, Tree,
        checkpoint, custom_jvp, custom_vjp, grad, hessian, hvp, init, jacfwd, jacobian, jacrev, jvp, linearize, losses,
        random, stop_gradient, value_and_grad, value_and_grad_aux, vjp, vmap, vmap_axes,
    };
}
