//! Functions: named outputs and variable updates over inputs, ready to be compiled.

use std::sync::Arc;

use lehr_ir::Array;
use lehr_ir::expr::{Expr, Imported, Leaf, Variable, import};
use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::loc::Loc;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::executable::Executable;
use crate::options::Options;
use crate::program::Program;
use crate::state::State;
use crate::tensor::{Tensor, is_name};
use crate::tree::{Path, Tree};

/// A function on its way: what it gives, which variables it updates, in which order it takes inputs.
///
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::input("x", F32, ["n"]);
/// let mut f = Function::new("f").output("y", &(&x * 2)).compile(Options::default())?;
/// let y: Vec<f32> = f.run([("x", [1.0f32, 2.0])])?.unpack()?;
/// assert_eq!(y, [2.0, 4.0]);
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a function does nothing until it is compiled"]
pub struct Function {
    name: String,
    inputs: Vec<Tensor>,
    outputs: Vec<(String, Tensor)>,
    updates: Vec<(Tensor, Tensor)>,
    names: FxHashMap<usize, String>,
    loc: Loc,
}

/// A function's graph, and what its parameters stand for.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    /// The graph, with outputs and updates.
    pub(crate) graph: Graph,
    /// For each parameter in order, what it stands for.
    pub(crate) sources: Vec<Source>,
    /// The variables it reads or updates.
    pub(crate) variables: Vec<(Arc<Variable>, String)>,
    /// The arrays it captures.
    pub(crate) data: Vec<Array>,
}

/// What a parameter stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The input at this position.
    Input(usize),
    /// The variable at this position.
    Variable(usize),
    /// The captured array at this position.
    Data(usize),
}

impl Function {
    /// A function without outputs yet.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            updates: Vec::new(),
            names: FxHashMap::default(),
            loc: Loc::caller(),
        }
    }

    /// Adds an output.
    pub fn output(mut self, name: &str, value: &Tensor) -> Self {
        self.outputs.push((name.to_owned(), value.clone()));
        self
    }

    /// Adds the new value of a variable, which takes effect when a whole call has succeeded. Reads see the old one.
    pub fn update(mut self, variable: &Tensor, value: &Tensor) -> Self {
        self.updates.push((variable.clone(), value.clone()));
        self
    }

    /// Adds the updates that layers left in a context: dropout keys, running statistics.
    pub fn updates_of(mut self, cx: &Context) -> Self {
        self.updates.extend(cx.updates().iter().cloned());
        self
    }

    /// Fixes the order of inputs given by position; others follow in the order they are met.
    pub fn inputs(mut self, inputs: &[&Tensor]) -> Self {
        self.inputs.extend(inputs.iter().map(|&t| t.clone()));
        self
    }

    /// Names variables by their path in a model, as `hidden.weight`, in dumps, states and files.
    pub fn named<T: Tree + ?Sized>(self, model: &T) -> Self {
        self.named_under("", model)
    }

    /// As [`Function::named`], with a name before each path.
    pub fn named_under<T: Tree + ?Sized>(mut self, prefix: &str, model: &T) -> Self {
        let names = &mut self.names;
        let mut add = |path: &Path, t: &Tensor| {
            if let Some(v) = t.as_variable() {
                let name = if path.as_str().is_empty() { v.name.as_str() } else { path.as_str() };
                names.entry(key(v)).or_insert_with(|| name.to_owned());
            }
        };
        if prefix.is_empty() {
            model.visit(&mut Path::new(), &mut add);
        } else {
            Path::new().within(prefix, |path| model.visit(path, &mut add));
        }
        self
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph, before any pass: what a dump of it shows.
    ///
    /// # Errors
    /// All errors that its tensors carry; a name given twice; an update of what is no variable, or of another type.
    pub fn graph(&self) -> Result<Graph> {
        Ok(self.trace()?.graph)
    }

    /// Compiles it, over a fresh state.
    ///
    /// # Errors
    /// As [`Function::graph`]; a name of a size that no input gives; a failed pass; a backend that is not in this build.
    pub fn compile(&self, options: Options) -> Result<Executable> {
        Ok(Executable::new(self.program(&options)?, State::new()))
    }

    /// Compiles it into a program, which several executables can share.
    ///
    /// # Errors
    /// As [`Function::compile`].
    pub fn program(&self, options: &Options) -> Result<Program> {
        Program::compile(self.trace()?, options, &self.loc)
    }

    pub(crate) fn trace(&self) -> Result<Traced> {
        self.check_names()?;
        let mut roots: Vec<Expr> = self.outputs.iter().map(|(_, t)| t.0.clone()).collect();
        roots.extend(self.updates.iter().map(|(_, t)| t.0.clone()));
        roots.extend(self.updates.iter().map(|(v, _)| v.0.clone()));
        let first: Vec<Expr> = self.inputs.iter().map(|t| t.0.clone()).collect();
        let Imported { graph, roots, leaves, .. } = import(&self.name, &roots, &first)?;
        self.check_closed(&leaves)?;
        let (new_values, targets) = roots[self.outputs.len()..].split_at(self.updates.len());
        let mut b = self.with_names(graph, &leaves, &roots[..self.outputs.len()], new_values)?;
        let targets = self.check_updates(&leaves, targets)?;
        for (&target, &value) in targets.iter().zip(&b.1) {
            b.0.update(target, value);
        }
        Ok(self.sorted(b.0.finish(), leaves))
    }

    /// Refuses placeholders of the bodies of transformations that have got out.
    fn check_closed(&self, leaves: &[Leaf]) -> Result<()> {
        for leaf in leaves {
            let Leaf::Input(e) = leaf else { continue };
            if let Some(name) = e.as_input().filter(|name| name.starts_with('%')) {
                let what = name.trim_start_matches('%').trim_end_matches(|c: char| c.is_ascii_digit());
                let rule = format!("a value that exists only inside the body given to `{what}` is used outside of it");
                return Err(self.refuse(rule, "return it from the body, and use what comes back", e.loc()));
            }
        }
        Ok(())
    }

    /// Adds outputs, and gives parameters their final names; also the new values of variables.
    fn with_names(
        &self,
        graph: Graph,
        leaves: &[Leaf],
        outputs: &[Value],
        new_values: &[Value],
    ) -> Result<(Builder, Vec<Value>)> {
        let names = self.final_names(&graph, leaves);
        let renamed = graph.params().iter().zip(&names).any(|(p, name)| p.name != *name);
        if !renamed {
            let mut b = Builder::with_graph(graph);
            for ((name, _), &value) in self.outputs.iter().zip(outputs) {
                b.output(name.clone(), value);
            }
            return Ok((b, new_values.to_vec()));
        }
        let mut body = Builder::with_graph(graph);
        for (i, &v) in outputs.iter().chain(new_values).enumerate() {
            body.output(format!("out_{i}"), v);
        }
        let body = body.finish();
        let mut b = Builder::new(self.name.clone());
        b.set_facts(body.facts.clone());
        let mut args = Vec::with_capacity(names.len());
        for ((param, ty), name) in body.params().iter().zip(body.param_types()).zip(names) {
            b.loc = param.loc.clone();
            args.push(b.param(name, param.kind, ty.clone()));
        }
        b.loc = Loc::UNKNOWN;
        let mut values = b.inline(&body, &args).into_vec();
        let updates = values.split_off(outputs.len());
        for ((name, _), value) in self.outputs.iter().zip(values) {
            b.output(name.clone(), value);
        }
        Ok((b, updates))
    }

    /// The names of the parameters: variables by the path that they are known by, made unique.
    fn final_names(&self, graph: &Graph, leaves: &[Leaf]) -> Vec<String> {
        let mut taken: FxHashSet<String> = FxHashSet::default();
        for (param, leaf) in graph.params().iter().zip(leaves) {
            if !matches!(leaf, Leaf::Variable(_)) {
                taken.insert(param.name.clone());
            }
        }
        let mut names = Vec::with_capacity(leaves.len());
        for (param, leaf) in graph.params().iter().zip(leaves) {
            let Leaf::Variable(v) = leaf else {
                names.push(param.name.clone());
                continue;
            };
            let wish = self.names.get(&key(v)).unwrap_or(&v.name);
            let mut name = wish.clone();
            let mut i = 1;
            while !taken.insert(name.clone()) {
                name = format!("{wish}_{i}");
                i += 1;
            }
            names.push(name);
        }
        names
    }

    fn sorted(&self, graph: Graph, leaves: Vec<Leaf>) -> Traced {
        let mut traced = Traced { sources: Vec::new(), variables: Vec::new(), data: Vec::new(), graph };
        let mut inputs = 0;
        for (param, leaf) in traced.graph.params().iter().zip(leaves) {
            traced.sources.push(match leaf {
                Leaf::Input(_) => {
                    inputs += 1;
                    Source::Input(inputs - 1)
                }
                Leaf::Variable(v) => {
                    traced.variables.push((v, param.name.clone()));
                    Source::Variable(traced.variables.len() - 1)
                }
                Leaf::Data(a) => {
                    traced.data.push(a);
                    Source::Data(traced.data.len() - 1)
                }
            });
        }
        traced
    }

    fn check_names(&self) -> Result<()> {
        let mut taken: FxHashSet<&str> = FxHashSet::default();
        for (name, _) in &self.outputs {
            if !is_name(name) {
                let help = "use letters, digits, `_`, `.` and `-`, starting with a letter";
                return Err(self.refuse(format!("`{name}` is not a name of an output"), help, &self.loc));
            }
            if !taken.insert(name) {
                return Err(self.refuse(
                    format!("two outputs are named `{name}`"),
                    "name outputs differently",
                    &self.loc,
                ));
            }
        }
        if let Some(t) = self.inputs.iter().find(|t| t.0.as_input().is_none() && t.check().is_ok()) {
            let rule = "an input must be a placeholder".to_owned();
            return Err(self.refuse(rule, "make it with Tensor::input", t.0.loc()));
        }
        Ok(())
    }

    /// The parameters that updates set.
    fn check_updates(&self, leaves: &[Leaf], targets: &[Value]) -> Result<Vec<u32>> {
        let mut out: Vec<u32> = Vec::with_capacity(targets.len());
        for ((variable, value), target) in self.updates.iter().zip(targets) {
            let loc = value.0.loc();
            let (Some(v), Some(Leaf::Variable(_))) = (variable.as_variable(), leaves.get(target.index())) else {
                let rule = "an update is of what is no variable".to_owned();
                return Err(self.refuse(rule, "update tensors made by Tensor::variable or Tensor::buffer", loc));
            };
            if out.contains(&target.0) {
                let rule = format!("variable `{}` is updated twice", v.name);
                return Err(self.refuse(rule, "give each variable one new value", loc));
            }
            let ty = value.ty()?;
            if *ty != v.ty {
                let rule = format!("variable `{}` is {}, its new value {ty}", v.name, v.ty);
                return Err(self.refuse(rule, "cast or reshape the new value to the variable's type", loc));
            }
            out.push(target.0);
        }
        Ok(out)
    }

    fn refuse(&self, rule: String, help: &str, loc: &Loc) -> Error {
        Error::Function { function: self.name.clone(), rule, help: help.to_owned(), loc: loc.clone() }
    }
}

/// What identifies a variable.
pub(crate) fn key(v: &Arc<Variable>) -> usize {
    Arc::as_ptr(v) as usize
}
