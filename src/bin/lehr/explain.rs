//! `lehr explain`.

use lehr::Options;
use lehr::explain::{ExplainOptions, Explanation};
use lehr::ir::loc::Loc;

use crate::failure::Failure;
use crate::{Explain, Format, file};

/// The text that is asked for.
pub(crate) fn explain(args: &Explain) -> Result<String, Failure> {
    let (graph, place) = file::graph(&args.file, args.graph.as_deref())?;
    let fail = |e| Failure::about(&place, e);
    let mut options = Options::default().backend(args.backend).vectors(args.vectors).device(args.device.clone());
    options.passes.stop_after.clone_from(&args.after);
    let graph_only = args.after.is_some() || args.format != Format::Text;
    if graph_only {
        // A graph needs no backend.
        options.backend = lehr::Backend::Interp;
    }
    let sections = ExplainOptions {
        clif: args.clif,
        asm: args.asm,
        wgsl: args.wgsl,
        timings: args.timings,
        ..ExplainOptions::default()
    };
    let explanation = Explanation::of_graph(&graph, &options, &sections).map_err(fail)?;
    match args.format {
        Format::Text if graph_only => Ok(explanation.graph.compact().to_string()),
        Format::Text => {
            let sizes = args.at.iter().map(|(name, size)| (name.as_str(), *size));
            Ok(explanation.at(sizes).map_err(|e| Failure::about(&Loc::UNKNOWN, e))?.to_string())
        }
        Format::Dot => Ok(explanation.graph.to_dot()),
        Format::Json => Ok(serde_json::to_string_pretty(&explanation.graph)? + "\n"),
    }
}
