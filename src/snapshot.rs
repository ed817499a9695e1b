//! Snapshot tests of graphs, kernels and plans, over [insta] (feature `snapshot`).
//!
//! A snapshot is the text of what lehr makes of a function, so that a change that makes it fuse less, compute more or take more
//! memory shows as a diff in review. Texts are compacted, numbered in order, and without source lines: they change when the
//! function does, not when a line above it does.
//!
//! In a crate's own test, with nothing but `lehr = { …, features = ["snapshot"] }` among its dev-dependencies:
//! ```
//! use lehr::prelude::*;
//!
//! fn bounded_square(x: &Tensor) -> Function {
//!     Function::new("bounded_square").output("y", &(x * x).tanh())
//! }
//!
//! let x = Tensor::input("x", F32, ["n"]);
//! lehr::assert_graph_snapshot!(bounded_square(&x), @r#"
//! graph @bounded_square(%x: f32[n]) -> (f32[n]) {
//!   %0 = mul %x, %x : f32[n]
//!   %1 = tanh %0 : f32[n]
//!   return %1 "y"
//! }
//! "#);
//! ```
//! Without the text after `@` it goes to a file beside the test, under `snapshots/`, with a name given first if one is wanted:
//! `assert_kernel_snapshot!("training step", step)`. Run `cargo insta review`, or set `INSTA_UPDATE=always`, to accept changes.

pub use insta;

use std::fmt::Write;

use lehr_ir::graph::Graph;
use lehr_ir::graph::print::{Locations, PrintOptions};

use crate::error::Result;
use crate::executable::Executable;
use crate::explain::{ExplainOptions, Explanation};
use crate::function::Function;
use crate::options::Options;
use crate::program::Program;

/// What a snapshot can be taken of.
pub trait Subject {
    /// The graph that [`assert_graph_snapshot!`](crate::assert_graph_snapshot) shows: of a function as it is built, of what is
    /// compiled after the graph passes.
    ///
    /// # Errors
    /// A function that has no graph.
    fn shown_graph(&self) -> Result<Graph>;

    /// What [`assert_kernel_snapshot!`](crate::assert_kernel_snapshot) and [`assert_plan_snapshot!`](crate::assert_plan_snapshot)
    /// show: what is compiled as it was, the others with default options.
    ///
    /// # Errors
    /// A function that cannot be compiled.
    fn compiled(&self) -> Result<Explanation>;
}

impl<T: Subject + ?Sized> Subject for &T {
    fn shown_graph(&self) -> Result<Graph> {
        (**self).shown_graph()
    }

    fn compiled(&self) -> Result<Explanation> {
        (**self).compiled()
    }
}

impl Subject for Graph {
    fn shown_graph(&self) -> Result<Graph> {
        Ok(self.clone())
    }

    fn compiled(&self) -> Result<Explanation> {
        Explanation::of_graph(self, &Options::default(), &ExplainOptions::default())
    }
}

impl Subject for Function {
    fn shown_graph(&self) -> Result<Graph> {
        self.graph()
    }

    fn compiled(&self) -> Result<Explanation> {
        self.explain(&Options::default())
    }
}

impl Subject for Program {
    fn shown_graph(&self) -> Result<Graph> {
        Ok(self.graph().clone())
    }

    fn compiled(&self) -> Result<Explanation> {
        Ok(self.explain())
    }
}

impl Subject for Executable {
    fn shown_graph(&self) -> Result<Graph> {
        self.program().shown_graph()
    }

    fn compiled(&self) -> Result<Explanation> {
        self.program().compiled()
    }
}

/// The text of [`assert_graph_snapshot!`](crate::assert_graph_snapshot).
///
/// # Panics
/// As an assertion does, if there is no graph.
#[track_caller]
pub fn graph_text(subject: &impl Subject) -> String {
    match subject.shown_graph() {
        Ok(graph) => {
            let options = PrintOptions { locations: Locations::Hidden, ..PrintOptions::default() };
            graph.compact().display(options).to_string()
        }
        Err(e) => panic!("there is no graph to take a snapshot of\n{e}"),
    }
}

/// The text of [`assert_kernel_snapshot!`](crate::assert_kernel_snapshot): the distinct kernels, in the plan's order.
///
/// # Panics
/// As an assertion does, if there are no kernels.
#[track_caller]
pub fn kernel_text(subject: &impl Subject) -> String {
    let mut text = String::new();
    for (i, kernel) in plan(subject).kernels.iter().enumerate() {
        let mut kernel = (**kernel).clone();
        kernel.locs.clear();
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{}{kernel}", if i > 0 { "\n" } else { "" });
    }
    text
}

/// The text of [`assert_plan_snapshot!`](crate::assert_plan_snapshot): buffers with their places, and steps.
///
/// # Panics
/// As an assertion does, if there is no plan.
#[track_caller]
pub fn plan_text(subject: &impl Subject) -> String {
    plan(subject).to_string()
}

#[track_caller]
fn plan(subject: &impl Subject) -> lehr_ir::Plan {
    let explanation = match subject.compiled() {
        Ok(explanation) => explanation,
        Err(e) => panic!("there is no plan to take a snapshot of\n{e}"),
    };
    let Some(mut plan) = explanation.plan else {
        let why = explanation.failure.unwrap_or_else(|| format!("the backend `{}` has none", explanation.backend));
        panic!("there is no plan to take a snapshot of: {why}");
    };
    plan.steps.iter_mut().for_each(|s| s.locs.clear());
    plan
}

/// Asserts that a graph's text is as it was accepted: `assert_graph_snapshot!([name,] value [, @"text"])`.
///
/// The value is a [`Function`](crate::Function), whose graph is shown as built, a [`Graph`](crate::ir::Graph), or a
/// [`Program`](crate::Program) or [`Executable`](crate::Executable), whose graph is shown after the passes.
/// See [`snapshot`](crate::snapshot) for an example.
#[macro_export]
macro_rules! assert_graph_snapshot {
    ($value:expr, @$text:literal $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::graph_text(&$value), @$text)
    };
    ($name:expr, $value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($name, $crate::snapshot::graph_text(&$value))
    };
    ($value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::graph_text(&$value))
    };
}

/// Asserts that the kernels that a function becomes are as they were accepted: `assert_kernel_snapshot!([name,] value [, @"text"])`.
///
/// Values are as for [`assert_graph_snapshot!`]; what is not compiled yet is, with default options.
#[macro_export]
macro_rules! assert_kernel_snapshot {
    ($value:expr, @$text:literal $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::kernel_text(&$value), @$text)
    };
    ($name:expr, $value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($name, $crate::snapshot::kernel_text(&$value))
    };
    ($value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::kernel_text(&$value))
    };
}

/// Asserts that the plan that a function becomes is as it was accepted: `assert_plan_snapshot!([name,] value [, @"text"])`.
///
/// Values are as for [`assert_kernel_snapshot!`].
#[macro_export]
macro_rules! assert_plan_snapshot {
    ($value:expr, @$text:literal $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::plan_text(&$value), @$text)
    };
    ($name:expr, $value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($name, $crate::snapshot::plan_text(&$value))
    };
    ($value:expr $(,)?) => {
        $crate::snapshot::insta::assert_snapshot!($crate::snapshot::plan_text(&$value))
    };
}
