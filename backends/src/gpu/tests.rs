//! Programs on a device that computes nothing, so that what is asked of devices is checked on every machine.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Graph, ParamKind};
use lehr_ir::kernel::Kernel;
use lehr_ir::plan::verify::{Verified, verify};
use lehr_ir::plan::{BufferDecl, BufferId, Launch, Place, Plan, PlanParam, Step, StepKind};
use lehr_ir::{Array, DType, Type};

use super::keep::{Kind, name};
use super::{Arg, Device, GpuError, Keep, Program};

/// A plan that doubles a vector of `n` elements `steps` times, alternately in two slots.
fn plan(steps: usize, temporary: impl Fn(u32) -> Place) -> Verified {
    let text = "kernel @double(read x: f32[n], write y: f32[n]) sizes(n) {\n  parallel p in 0..n {\n    %0 = load x[p]\n    %1 = add %0, %0\n    store y[p], %1\n  }\n}\n";
    let kernel: Kernel = Kernel::parse(text).expect("a kernel");
    let n = Dim::symbol("n").expect("a symbol");
    let ty = Type::new(DType::F32, [n.clone()]);
    let mut plan = Plan::of_signature(&Graph::new("doubles"));
    plan.params = vec![PlanParam { name: "x".to_owned(), kind: ParamKind::Input, ty: ty.clone() }];
    plan.outputs = vec![("y".to_owned(), ty)];
    plan.kernels = vec![Arc::new(kernel)];
    plan.slots = vec![&n * 4, &n * 4];
    let decl = |place| BufferDecl { dtype: DType::F32, len: n.clone(), place };
    plan.buffers.push(decl(Place::Param(0)));
    for i in 1..=steps {
        plan.buffers.push(decl(if i == steps { Place::Output(0) } else { temporary(i as u32 % 2) }));
        let launch = Launch {
            kernel: 0,
            buffers: [BufferId(i as u32 - 1), BufferId(i as u32)].into_iter().collect(),
            sizes: [n.clone()].into_iter().collect(),
            iterations: n.clone(),
            work: Dim::from(1),
        };
        let kind = StepKind::Launch(launch);
        plan.steps.push(Step { kind, locs: smallvec::SmallVec::new(), reason: String::new() });
    }
    verify(plan).expect("a plan")
}

#[test]
fn layouts_and_bindings_are_as_wgpu_wants_them() {
    let device = Device::noop();
    // More dispatches than one submission has.
    let program = Program::new(plan(150, Place::Slot), &device).expect("compiles");
    assert_eq!((program.counts(), device.pipelines()), ((150, 0), 1), "equal shaders are one pipeline");
    let mut instance = program.instance();
    for n in [1, 7, 5000, 0, 7] {
        let mut out = [Array::scalar(0.0f32)];
        let x = Array::zeros(DType::F32, &[n]);
        instance.run(&[Arg::Host(&x)], &mut out).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(out[0].shape(), [n]);
    }
}

#[test]
fn buffers_are_freed_with_their_owners() {
    let device = Device::noop();
    let program = Program::new(plan(3, Place::Slot), &device).expect("compiles");
    let mut instance = program.instance();
    let x = Array::zeros(DType::F32, &[100]);
    let mut run = || instance.run(&[Arg::Host(&x)], &mut [Array::scalar(0.0f32)]).map(drop);
    run().expect("runs");
    let held = device.live();
    // Two slots, an input, an output, a place to read from and the parameter blocks.
    assert_eq!(held.0, 6);
    (0..100).for_each(|_| run().expect("runs"));
    assert_eq!(device.live(), held);
    drop((instance, program));
    assert_eq!(device.live(), (0, 0));
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::noop();
    let program = Program::new(plan(1, Place::Slot), &device).expect("compiles");
    let scalar = Array::scalar(1.0f32);
    let refused = program.instance().run(&[Arg::Host(&scalar)], &mut [Array::scalar(0.0f32)]);
    assert!(matches!(refused, Err(GpuError::Arguments(_))), "{refused:?}");
    let x = Array::zeros(DType::F32, &[3]);
    let refused = program.instance().run(&[Arg::Host(&x)], &mut []);
    assert_eq!(refused.map(drop), Err(GpuError::Places { want: 1, got: 0 }));
    let limit = device.limits.max_storage_buffer_binding_size;
    assert_eq!(device.storage(limit + 16).map(drop), Err(GpuError::TooLargeToBind { bytes: limit + 16, limit }));
    // A plan for native code.
    let arena = Program::new(plan(2, |_| Place::Temp(Dim::ZERO)), &device).expect("compiles");
    let refused = arena.instance().run(&[Arg::Host(&x)], &mut [Array::scalar(0.0f32)]).map(drop);
    let inner = match refused {
        Err(GpuError::Step { source, .. }) => *source,
        other => panic!("{other:?}"),
    };
    assert_eq!(inner, GpuError::Arena);
}

#[cfg(unix)]
#[test]
fn compiled_shaders_are_kept_for_the_next_device() {
    let open = || Device::open(&lehr_ir::target::DeviceChoice::Best);
    let device = match open() {
        Ok(device) => device,
        Err(e) => return println!("skipped: {e}"),
    };
    let folder = std::env::temp_dir().join(format!("lehr-gpu-tests-{}", std::process::id()));
    let keep = Keep::open(&folder, 1 << 30).expect("a folder");
    let has_cache = device.device.features().contains(wgpu::Features::PIPELINE_CACHE);
    // Nothing kept, then what the first device has kept, then a damaged file.
    for turn in 0..3 {
        let device = open().expect("opens again");
        let program =
            Program::with(plan(3, Place::Slot), &device, super::Products::default(), Some(&keep)).expect("compiles");
        let mut out = [Array::scalar(0.0f32)];
        program.instance().run(&[Arg::Host(&Array::from(vec![1.0f32, -2.0]))], &mut out).expect("runs");
        assert_eq!(out[0].as_slice::<f32>(), Some(&[8.0f32, -16.0][..]), "turn {turn}");
        assert_eq!(keep.read(Kind::Pipelines, device.identity()).is_some(), has_cache, "turn {turn}");
        if turn == 1 && has_cache {
            std::fs::write(folder.join(name(Kind::Pipelines, device.identity())), b"lehr gpu 1\nnonsense")
                .expect("is written");
        }
    }
    std::fs::remove_dir_all(&folder).expect("is removed");
}
