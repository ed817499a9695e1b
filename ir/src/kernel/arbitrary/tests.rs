use super::*;
use crate::facts::Facts;
use crate::kernel::Combiner;
use crate::kernel::interpret::{Functions, Program};
use crate::kernel::verify::{report, verify};

#[test]
fn cases_verify_run_and_read_back() {
    for seed in 0..400 {
        let mut case = case(seed, &Options::default());
        let text = case.kernel.to_string();
        if let Err(errors) = verify(&case.kernel, &Facts::default()) {
            panic!("seed {seed}\n{}", report(&case.kernel, &errors));
        }
        assert_eq!(Kernel::parse(&text).as_ref(), Ok(&case.kernel), "seed {seed}\n{text}");
        let program = Program::new(&case.kernel, &case.sizes, Functions::Reference).expect("compiles");
        if let Err(error) = program.run(&mut case.buffers) {
            panic!("seed {seed}: {error}\nsizes {:?}\n{text}", case.sizes);
        }
    }
}

#[test]
fn cases_have_every_feature() {
    let texts: String = (0..400).map(|seed| case(seed, &Options::default()).kernel.to_string()).collect();
    let combiners = Combiner::ALL.map(|c| format!("= {}(", c.name()));
    let ops = ScalarOp::PLAIN.map(|op| format!("= {op} "));
    let others = [
        "lane ",
        "serial ",
        "reduce(1)",
        "reduce(32)",
        "tiles(",
        "readwrite ",
        " else ",
        " if (",
        "mod(",
        "floordiv(",
        "min(",
        "bitcast.",
    ];
    for feature in combiners.into_iter().chain(ops).chain(others.map(str::to_owned)) {
        assert!(texts.contains(&feature), "no case has {feature}");
    }
}
