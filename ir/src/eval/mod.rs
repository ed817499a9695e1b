//! The evaluator: walks a graph with each operation's reference semantics.
//!
//! Constant folding, rewrite tests and the `interp` backend all use it. It favours plain definitions over speed,
//! computes elementary functions in `f64` with `libm`, and never uses a kernel's recipes.

use smallvec::SmallVec;

use crate::array::{Array, LengthMismatch, Sizes};
use crate::bindings::{Bindings, Unified, UnifyError};
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::facts::{FactViolation, Facts};
use crate::graph::{Graph, NodeId};
use crate::loc::Loc;
use crate::ops::Arrays;
use crate::ty::Type;

pub mod elementwise;
pub mod indices;
mod regions;
pub mod trap;
pub mod walk;

/// Why a graph cannot be evaluated on given arrays.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The number of arrays is not the number of parameters.
    #[error("{graph}: it takes {want} arrays, not {got}; pass one for each parameter, in order")]
    Count {
        /// The graph.
        graph: String,
        /// Its parameters.
        want: usize,
        /// The arrays given.
        got: usize,
    },
    /// An array does not fit its parameter's type.
    #[error("parameter `{name}` is {ty}, and the array given is {got}; pass an array of that dtype and shape")]
    Argument {
        /// The parameter.
        name: String,
        /// Its type.
        ty: Box<Type>,
        /// The array's type.
        got: Box<Type>,
    },
    /// A symbol would be bound to two sizes, or a size does not fit a dim.
    #[error("parameter `{name}`: {source}")]
    Bind {
        /// The parameter.
        name: String,
        /// What is wrong.
        source: UnifyError,
    },
    /// A dim has several symbols that no other dim binds.
    #[error("dim {dim} leaves the symbol `{symbol}` without a size; give a parameter a dim that is `{symbol}` alone")]
    Unbound {
        /// The dim.
        dim: Dim,
        /// The symbol.
        symbol: String,
    },
    /// What was assumed of the symbols does not hold.
    #[error(transparent)]
    Fact(#[from] FactViolation),
    /// A dim cannot be evaluated.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A dim came out negative.
    #[error("dim {dim} is {value}; sizes are integers ≥ 0")]
    Negative {
        /// The dim.
        dim: Dim,
        /// Its value.
        value: i64,
    },
    /// Elements do not fill a shape.
    #[error(transparent)]
    Length(#[from] LengthMismatch),
    /// An operation has no semantics for this dtype.
    #[error("{op}: it has no evaluation for {dtype}; convert the operand to a real dtype")]
    Unsupported {
        /// The operation.
        op: String,
        /// The dtype.
        dtype: crate::DType,
    },
    /// An operation of another crate failed.
    #[error("{op}: {message}")]
    Extern {
        /// The operation.
        op: String,
        /// What it says.
        message: String,
    },
    /// An error inside the graph, with the line that the operation comes from.
    #[error("{source}\n  --> {loc}")]
    At {
        /// The user's line.
        loc: Loc,
        /// What is wrong.
        source: Box<EvalError>,
    },
}

/// What an operation's semantics may ask for besides its operands.
#[derive(Debug)]
pub struct EvalCx<'a> {
    /// The sizes of the symbols.
    pub bindings: &'a Bindings,
}

impl EvalCx<'_> {
    /// The value of a dim.
    pub fn dim(&self, d: &Dim) -> Result<i64, EvalError> {
        if let Some(v) = d.as_const() {
            return Ok(v);
        }
        Ok(self.bindings.eval(d)?)
    }

    /// The value of a dim that is a size.
    pub fn size(&self, d: &Dim) -> Result<usize, EvalError> {
        let value = self.dim(d)?;
        usize::try_from(value).map_err(|_| EvalError::Negative { dim: d.clone(), value })
    }

    /// The values of a shape.
    pub fn sizes(&self, shape: &[Dim]) -> Result<Sizes, EvalError> {
        shape.iter().map(|d| self.size(d)).collect()
    }
}

/// The outputs and updates of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The outputs, in order.
    pub outputs: Vec<Array>,
    /// The variables' new values, in the order of [`Graph::updates`].
    pub updates: Vec<Array>,
}

/// Evaluates a graph on one array for each parameter.
///
/// Symbols take the sizes that the arrays give them; what the graph assumes of them is checked first.
pub fn evaluate(graph: &Graph, args: &[Array]) -> Result<Evaluated, EvalError> {
    let bindings = bind(graph, args)?;
    evaluate_bound(graph, args, &bindings)
}

/// The sizes of the symbols that arrays give, checked against parameter types and facts.
pub fn bind(graph: &Graph, args: &[Array]) -> Result<Bindings, EvalError> {
    let params: Vec<(&str, &Type)> = graph.params().iter().map(|p| p.name.as_str()).zip(graph.param_types()).collect();
    let args: SmallVec<[&Array; 8]> = args.iter().collect();
    bind_to(&graph.name, params.iter().copied(), &graph.facts, &args)
}

/// The sizes of the symbols that arrays give to parameters of these names and types.
pub fn bind_to<'a>(
    program: &str,
    params: impl ExactSizeIterator<Item = (&'a str, &'a Type)> + Clone,
    facts: &Facts,
    args: &[&Array],
) -> Result<Bindings, EvalError> {
    let types: SmallVec<[(DType, &[usize]); 8]> = args.iter().map(|a| (a.dtype(), a.shape())).collect();
    bind_types(program, params, facts, &types)
}

/// The sizes of the symbols that arrays of these dtypes and shapes give to parameters of these names and types.
pub fn bind_types<'a>(
    program: &str,
    params: impl ExactSizeIterator<Item = (&'a str, &'a Type)> + Clone,
    facts: &Facts,
    args: &[(DType, &[usize])],
) -> Result<Bindings, EvalError> {
    if args.len() != params.len() {
        return Err(EvalError::Count { graph: program.to_owned(), want: params.len(), got: args.len() });
    }
    let mut bindings = Bindings::default();
    // Dims of a single symbol bind it; the rest are checked once all are bound.
    for plain in [true, false] {
        for ((name, ty), &(dtype, shape)) in params.clone().zip(args) {
            let misfit = || EvalError::Argument {
                name: name.to_owned(),
                ty: Box::new(ty.clone()),
                got: Box::new(Type::new(dtype, shape.iter().copied())),
            };
            if dtype != ty.dtype || shape.len() != ty.rank() {
                return Err(misfit());
            }
            for (dim, &size) in ty.shape.iter().zip(shape) {
                if dim.as_symbol().is_some() != plain {
                    continue;
                }
                if dim.as_const().is_some_and(|c| usize::try_from(c) != Ok(size)) {
                    return Err(misfit());
                }
                let named = |source| EvalError::Bind { name: name.to_owned(), source };
                if bindings.unify(dim, size as i64).map_err(named)? == Unified::Deferred {
                    let unbound = dim.symbols().find(|s| bindings.get(s).is_none());
                    return Err(EvalError::Unbound {
                        dim: dim.clone(),
                        symbol: unbound.map(|s| s.to_string()).unwrap_or_default(),
                    });
                }
            }
        }
    }
    facts.check(&|s| bindings.get(s))?;
    Ok(bindings)
}

/// Evaluates a graph on arrays that are known to fit, with the symbols bound.
pub fn evaluate_bound(graph: &Graph, args: &[Array], bindings: &Bindings) -> Result<Evaluated, EvalError> {
    let cx = EvalCx { bindings };
    let mut values: Vec<Option<Array>> = vec![None; graph.value_count()];
    for (v, a) in graph.param_values().zip(args) {
        values[v.index()] = Some(a.clone());
    }
    let last = last_uses(graph);
    let missing = || EvalError::Count { graph: graph.name.clone(), want: graph.params().len(), got: args.len() };
    for (id, node) in graph.nodes() {
        let results = {
            let operands: Option<SmallVec<[&Array; 4]>> =
                node.operands.iter().map(|v| values[v.index()].as_ref()).collect();
            let operands = operands.ok_or_else(missing)?;
            node.op.story().eval(&cx, &operands).map_err(|e| at(e, &node.loc))?
        };
        for (v, a) in node.results().zip(results) {
            values[v.index()] = Some(a);
        }
        for v in &node.operands {
            if last[v.index()] == Some(id) {
                values[v.index()] = None;
            }
        }
    }
    let take = |v: crate::graph::Value| values[v.index()].clone().ok_or_else(missing);
    Ok(Evaluated {
        outputs: graph.outputs().iter().map(|o| take(o.value)).collect::<Result<_, _>>()?,
        updates: graph.updates().iter().map(|u| take(u.value)).collect::<Result<_, _>>()?,
    })
}

/// Evaluates one operation on arrays.
pub fn evaluate_op(op: &crate::ops::Op, operands: &[&Array], bindings: &Bindings) -> Result<Arrays, EvalError> {
    op.story().eval(&EvalCx { bindings }, operands)
}

fn at(e: EvalError, loc: &Loc) -> EvalError {
    if loc.is_known() && !matches!(e, EvalError::At { .. }) {
        EvalError::At { loc: loc.clone(), source: Box::new(e) }
    } else {
        e
    }
}

/// The last node that uses each value; `None` for what is unused or leaves the graph.
fn last_uses(graph: &Graph) -> Vec<Option<NodeId>> {
    let mut last = vec![None; graph.value_count()];
    for (id, node) in graph.nodes() {
        for v in &node.operands {
            last[v.index()] = Some(id);
        }
    }
    for v in graph.roots() {
        last[v.index()] = None;
    }
    last
}
