//! Removes nodes that no output and no update needs. Parameters stay: they are the graph's signature.

use lehr_ir::Graph;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct EliminateDead;

impl Pass<Graph> for EliminateDead {
    fn name(&self) -> &'static str {
        "eliminate_dead"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        eliminate_dead(graph, cx, &mut Regions::default())
    }
}

fn eliminate_dead(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    let live = live_nodes(graph, cx);
    let mut changed = live.contains(&false);
    let mut new = Rebuild::new(graph);
    for (id, node) in graph.nodes() {
        if !live[id.index()] {
            continue;
        }
        match regions.map(&node.op, &mut |body, regions| eliminate_dead(body, cx, regions))? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// For each node, whether it stays.
fn live_nodes(graph: &Graph, cx: &mut PassCx) -> Vec<bool> {
    let mut used = vec![false; graph.value_count()];
    for v in graph.roots() {
        used[v.index()] = true;
    }
    let mut live = vec![true; graph.node_count()];
    for (id, node) in graph.nodes().rev() {
        // A node that fuel does not let go keeps its operands as well.
        if !node.results().any(|v| used[v.index()]) && cx.fuel("dead") {
            live[id.index()] = false;
            continue;
        }
        for v in &node.operands {
            used[v.index()] = true;
        }
    }
    live
}
