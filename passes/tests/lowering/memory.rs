//! Memory plans of random graphs: valid, and near the least there can be.

use lehr_ir::plan::{Place, Plan};
use lehr_ir::{Graph, Target};
use lehr_passes::compile::plan_of;

const SIZES: [usize; 4] = [8, 24, 64, 200];

/// Products in a random order over random values so far, each `u·vᵀ·p` for a parameter `p`: temporaries of many sizes and lives.
fn graph(choices: &[(usize, usize)], kept: usize) -> Graph {
    let params: Vec<String> = SIZES.iter().map(|n| format!("%p{n}: f32[{n}, 16]")).collect();
    let mut values: Vec<(String, usize)> = SIZES.iter().map(|n| (format!("%p{n}"), *n)).collect();
    let mut text = String::new();
    let attrs =
        |l: usize, r: usize| format!("{{lhs_batch = [], rhs_batch = [], lhs_contract = [{l}], rhs_contract = [{r}]}}");
    for (i, (u, v)) in choices.iter().enumerate() {
        let ((u, a), (v, b)) = (values[u % values.len()].clone(), values[v % values.len()].clone());
        let (t, r) = (2 * i, 2 * i + 1);
        text += &format!("  %{t} = dot {u}, {v} {} : f32[{a}, {b}]\n", attrs(1, 1));
        text += &format!("  %{r} = dot %{t}, %p{b} {} : f32[{a}, 16]\n", attrs(1, 0));
        values.push((format!("%{r}"), a));
    }
    let (mut outputs, mut types) = (Vec::new(), Vec::new());
    for (i, (v, a)) in values.iter().rev().take(kept).enumerate() {
        let n = 2 * choices.len() + i;
        text += &format!("  %{n} = dot {v}, %p{a} {} : f32[16, 16]\n", attrs(0, 0));
        outputs.push(format!("%{n} \"o{i}\""));
        types.push("f32[16, 16]");
    }
    let text = format!(
        "graph @g({}) -> ({}) {{\n{text}  return {}\n}}\n",
        params.join(", "),
        types.join(", "),
        outputs.join(", ")
    );
    Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Temporaries that are alive at the same step do not overlap.
fn check_apart(plan: &Plan) {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = step.accesses(&plan.kernels);
        for b in reads.iter().chain(&writes) {
            let life = &mut lives[b.index()];
            *life = Some((life.map_or(i, |l| l.0), i));
        }
    }
    let temps: Vec<(i64, i64, (usize, usize))> = plan
        .buffers
        .iter()
        .zip(lives)
        .filter_map(|(b, life)| {
            let Place::Temp(at) = &b.place else { return None };
            let at = at.as_const()?;
            Some((at, at + b.len.as_const()? * b.dtype.size() as i64, life?))
        })
        .collect();
    let arena = plan.arena.as_const().unwrap();
    for (i, a) in temps.iter().enumerate() {
        assert!(a.0 >= 0 && a.0 % 64 == 0 && a.1 <= arena, "{plan}");
        for b in &temps[..i] {
            // These steps are products, none of which is computed in place.
            let together = a.2.0 <= b.2.1 && b.2.0 <= a.2.1;
            assert!(!together || a.1 <= b.0 || b.1 <= a.0, "{a:?} and {b:?} in {plan}");
        }
    }
}

#[test]
fn memory_plans_of_random_graphs_are_valid_and_near_the_least() {
    const GRAPHS: u64 = 300;
    let (mut above, mut sum) = (0, 0.0);
    for seed in 0..GRAPHS {
        let mut state = seed;
        let mut next = move || {
            // Knuth's linear congruential generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let choices: Vec<(usize, usize)> = (0..1 + next() % 40).map(|_| (next(), next())).collect();
        let (_, plan, memory) = plan_of(&graph(&choices, 1 + next() % 5), &Target::default()).unwrap();
        check_apart(&plan);
        let (arena, alive) = (memory.arena.as_const().unwrap(), memory.alive.as_const().unwrap());
        assert!(arena >= alive && alive > 0, "graph {seed}: {arena} of {alive}");
        sum += arena as f64 / alive as f64;
        above += u64::from(arena * 10 > alive * 11);
    }
    let mean = sum / GRAPHS as f64;
    assert!(above * 100 <= GRAPHS && mean < 1.01, "{above} of {GRAPHS} are above 1.1; the mean is {mean}");
}
