//! `lehr run`.

use lehr::data::{load_npz, save_npz};
use lehr::ir::graph::ParamKind;
use lehr::{Array, Executable, Options, Program, State};

use crate::failure::Failure;
use crate::{Run, file};

/// Runs a graph once. Nothing is written if anything is wrong.
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    let (graph, place) = file::graph(&args.file, args.graph.as_deref())?;
    let fail = |e| Failure::about(&place, e);
    let arrays = load_npz(&args.inputs).map_err(fail)?;
    let is_value = |name: &str| graph.params().iter().any(|p| p.name == name && p.kind != ParamKind::Input);
    let (values, inputs): (Vec<_>, Vec<_>) = arrays.into_iter().partition(|(name, _)| is_value(name));
    let updated: Vec<String> =
        graph.updates().iter().filter_map(|u| Some(graph.params().get(u.param as usize)?.name.clone())).collect();
    let mut options = Options::default().backend(args.backend).vectors(args.vectors).device(args.device.clone());
    options.threads = args.threads.map(usize::from);
    let program = Program::from_graph(graph, values, &options).map_err(fail)?;
    if let Some((name, _)) = program.signature().outputs.iter().find(|(name, _)| updated.contains(name)) {
        return Err(Failure::Graph {
            path: args.file.clone(),
            rule: format!("an output and a variable that is updated are both named `{name}`"),
            help: "name the output differently".to_owned(),
        });
    }
    let mut executable = Executable::new(program, State::new());
    let inputs: Vec<(&str, Array)> = inputs.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
    let outputs = executable.run(inputs).map_err(fail)?;
    let mut results: Vec<(&str, Array)> = outputs.iter().map(|(name, array)| (name, array.clone())).collect();
    for name in &updated {
        results.push((name, executable.state().get(name).map_err(fail)?));
    }
    save_npz(&args.outputs, results.iter().map(|(name, array)| (*name, array))).map_err(fail)
}
