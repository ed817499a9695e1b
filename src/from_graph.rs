//! Programs from graphs that were not traced from tensors, such as a parsed file.

use std::collections::BTreeMap;
use std::sync::Arc;

use lehr_ir::Array;
use lehr_ir::Type;
use lehr_ir::expr::Variable;
use lehr_ir::graph::{Graph, Param, ParamKind, verify};
use lehr_ir::loc::Loc;

use crate::error::{Error, Result, list, nearest};
use crate::function::{Source, Traced};
use crate::inputs::type_of;
use crate::options::Options;
use crate::program::Program;

impl Program {
    /// Compiles a graph as it stands. `values` holds, by name, the initial value of each variable and each captured array.
    ///
    /// Inputs are the graph's parameters of that kind, in order. An output without a name is called `out_0`, by its position.
    ///
    /// # Errors
    /// A graph that the verifier refuses; a variable or array that is missing, unknown, or of another type than the graph says;
    /// what [`Function::compile`](crate::Function::compile) refuses.
    /// ```
    /// use lehr::ir::Graph;
    /// use lehr::{Array, Executable, Options, Program, State};
    /// let text = r#"
    ///     graph @count(%x: f32[n]) var(%total: f32[]) -> (f32[n]) {
    ///       %0 = reduce %x {op = sum, axes = [0]} : f32[]
    ///       %1 = add %total, %0 : f32[]
    ///       %2 = add %x, %x : f32[n]
    ///       return %2 "twice"
    ///       update %total = %1
    ///     }"#;
    /// let program = Program::from_graph(Graph::parse(text)?, [("total", Array::scalar(1.0f32))], &Options::default())?;
    /// let mut count = Executable::new(program, State::new());
    /// let twice: Vec<f32> = count.run([("x", [2.0f32, 3.0])])?.unpack()?;
    /// assert_eq!(twice, [4.0, 6.0]);
    /// assert_eq!(count.state().get("total")?, Array::scalar(6.0f32));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn from_graph<N: Into<String>>(
        graph: Graph,
        values: impl IntoIterator<Item = (N, Array)>,
        options: &Options,
    ) -> Result<Self> {
        let loc = Loc::caller();
        let refuse =
            |rule: String, help: String| Error::Function { function: graph.name.clone(), rule, help, loc: loc.clone() };
        if let Err(errors) = verify::verify(&graph) {
            return Err(refuse(
                format!("the graph is ill-formed\n{errors}"),
                "build it with a Builder, or parse it".to_owned(),
            ));
        }
        let mut values: BTreeMap<String, Array> =
            values.into_iter().map(|(name, array)| (name.into(), array)).collect();
        let mut take = |param: &Param, ty: &Type| {
            let Some(value) = values.remove(&param.name) else {
                let help = format!("give an array for `{}` among the values", param.name);
                return Err(refuse(format!("the {} `{}`: {ty} is missing", noun(param.kind), param.name), help));
            };
            let got = type_of(&value);
            if got == *ty {
                return Ok(value);
            }
            let (rule, help) = if ty.shape.iter().any(|d| d.as_const().is_none()) {
                ("its sizes must be numbers", "only inputs may have named sizes".to_owned())
            } else {
                ("types must agree", format!("give an array {ty}"))
            };
            Err(refuse(format!("the {} `{}` is {ty}, the array is {got}; {rule}", noun(param.kind), param.name), help))
        };
        let (mut sources, mut variables, mut data, mut inputs) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (param, ty) in graph.params().iter().zip(graph.param_types()) {
            sources.push(match param.kind {
                ParamKind::Input => {
                    inputs += 1;
                    Source::Input(inputs - 1)
                }
                ParamKind::Variable => {
                    let (name, initial) = (param.name.clone(), take(param, ty)?);
                    let variable = Variable { name: name.clone(), ty: ty.clone(), initial, trainable: true };
                    variables.push((Arc::new(variable), name));
                    Source::Variable(variables.len() - 1)
                }
                ParamKind::Data => {
                    data.push(take(param, ty)?);
                    Source::Data(data.len() - 1)
                }
            });
        }
        if let Some(name) = values.keys().next() {
            let known = || graph.params().iter().filter(|p| p.kind != ParamKind::Input).map(|p| p.name.as_str());
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", list(known())),
            };
            return Err(refuse(format!("there is no variable or captured array `{name}`"), help));
        }
        Self::compile(Traced { graph, sources, variables, data }, options, &loc)
    }
}

fn noun(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Input => "input",
        ParamKind::Variable => "variable",
        ParamKind::Data => "captured array",
    }
}
