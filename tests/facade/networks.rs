//! Layers for images and language, models made of them, and the examples that train them.

use lehr::models::{Gpt, GptConfig, ResNet};
use lehr::nn::{AvgPool, BatchNorm, Conv, ConvTranspose, Embedding, LayerNorm, MaxPool, Sequential};
use lehr::prelude::*;

use crate::{broken, check_type};

#[path = "../../examples/chargpt/train.rs"]
#[allow(dead_code)]
mod chargpt;
#[path = "../../examples/chargpt/text.rs"]
#[allow(dead_code)]
mod text;
#[path = "../../examples/vision/train.rs"]
#[allow(dead_code)]
mod vision;

fn eval() -> Context {
    Context::eval()
}

fn cpu() -> Options {
    Options::default().backend(Backend::Cpu)
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to().unwrap()
}

fn close(got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((f64::from(*g) - w).abs() <= bound, "{got:?} and {want:?}");
    }
}

#[test]
fn a_convolutional_layer_adds_its_bias_to_each_channel_in_either_layout() {
    let kernel = Array::new(&[2, 1, 2], vec![1.0f32, 10.0, 2.0, 20.0]).unwrap();
    let layer = Conv::with(kernel, Some(Array::from(vec![0.5f32, -0.5])), ConvOptions::new());
    let x = Tensor::from(vec![1.0f32, 2.0, 3.0]).reshape((1, 3, 1));
    assert_eq!(values(&layer.forward(&x, &mut eval())), [5.5, 49.5, 8.5, 79.5]);
    assert_eq!(lehr::tree::names(&layer), ["weight", "bias"]);

    let first = ConvOptions::new().layout(Layout::ChannelsFirst).groups(2);
    let layer = Conv::new(4, 6, [3, 3], first, &mut Keys::new(0));
    check_type(&layer.weight, "f32[6, 2, 3, 3]");
    check_type(&layer.forward(&Tensor::input("x", F32, ("n", 4, 8, 8)), &mut eval()), "f32[n, 6, 6, 6]");
    let up = ConvTranspose::new(8, 4, [2, 2], ConvOptions::new().stride(2), &mut Keys::new(0));
    check_type(&up.forward(&Tensor::input("x", F32, ("n", 5, 5, 8)), &mut eval()), "f32[n, 10, 10, 4]");
}

#[test]
fn layers_of_windows_stand_in_a_sequence() {
    let mut keys = Keys::new(0);
    let model = Sequential::new()
        .with(Conv::new(1, 4, [3, 3], ConvOptions::new().padding(Padding::Same), &mut keys))
        .with(BatchNorm::new(4))
        .with(Tensor::relu)
        .with(MaxPool::new(2))
        .with(AvgPool::new(2));
    let y = model.forward(&Tensor::input("x", F32, ("batch", 8, 8, 1)), &mut eval());
    check_type(&y, "f32[batch, 2, 2, 4]");
    let names = lehr::tree::names(&model);
    assert_eq!(names, ["[0].weight", "[0].bias", "[1].scale", "[1].bias", "[1].mean", "[1].var"]);
}

#[test]
fn batch_norm_uses_the_batch_in_training_and_moves_its_running_statistics() {
    let layer = BatchNorm::new(2);
    let x = Tensor::input("x", F32, ("batch", 2));
    let mut cx = Context::train();
    let y = layer.forward(&x, &mut cx);
    let mut train = Function::new("train").output("y", &y).updates_of(&cx).named(&layer).compile(cpu()).unwrap();
    let data = Array::new(&[4, 2], vec![1.0f32, 0.0, 2.0, 0.0, 3.0, 4.0, 6.0, 4.0]).unwrap();
    let got: Vec<f32> = train.run([data.clone()]).unwrap().unpack().unwrap();
    // Means 3 and 2, variances 3.5 and 4.
    let (a, b) = ((3.5f64 + 1e-5).sqrt().recip(), (4.0f64 + 1e-5).sqrt().recip());
    close(&got, &[-2.0 * a, -2.0 * b, -a, -2.0 * b, 0.0, 2.0 * b, 3.0 * a, 2.0 * b], 1e-6);
    let state = train.state();
    let read = |name: &str| state.get(name).unwrap().as_slice::<f32>().unwrap().to_vec();
    close(&read("mean"), &[0.3, 0.2], 1e-6);
    close(&read("var"), &[0.9 + 0.35, 0.9 + 0.4], 1e-6);

    let y = layer.forward(&x, &mut eval());
    let mut test = Function::new("test").output("y", &y).named(&layer).compile(cpu()).unwrap().with_state(state);
    let got: Vec<f32> = test.run([data]).unwrap().unpack().unwrap();
    let (a, b) = ((1.25f64 + 1e-5).sqrt().recip(), (1.3f64 + 1e-5).sqrt().recip());
    let rows = [(1.0, 0.0), (2.0, 0.0), (3.0, 4.0), (6.0, 4.0)];
    let want: Vec<f64> = rows.iter().flat_map(|(p, q)| [(p - 0.3) * a, (q - 0.2) * b]).collect();
    close(&got, &want, 1e-6);
}

#[test]
fn batch_norm_in_evaluation_runs_inside_the_convolution() {
    let conv = Conv::without_bias(8, 16, [3, 3], ConvOptions::new(), &mut Keys::new(1));
    let norm = BatchNorm::new(16);
    let x = Tensor::input("x", F32, ("batch", 6, 6, 8));
    let y = norm.forward(&conv.forward(&x, &mut eval()), &mut eval()).relu();
    let plan = Function::new("f").output("y", &y).explain(&cpu()).unwrap().to_string();
    let line = plan.lines().find(|l| l.contains("contract f32")).unwrap_or_default();
    assert!(line.contains(" then k"), "{line}");
}

#[test]
fn embeddings_look_vectors_up_and_count_ids_outside_as_the_nearest() {
    let layer = Embedding {
        weight: Tensor::variable("weight", Array::new(&[3, 2], vec![1.0f32, 2., 3., 4., 5., 6.]).unwrap()),
    };
    let ids = Tensor::from(vec![2i64, 0, -7, 99]);
    assert_eq!(values(&layer.forward(&ids, &mut eval())), [5.0, 6.0, 1.0, 2.0, 1.0, 2.0, 5.0, 6.0]);
    let slopes = grad(&layer.forward(&Tensor::from(vec![1i64, 1, 2]), &mut eval()).sum(), &layer.weight);
    assert_eq!(values(&slopes), [0.0, 0.0, 2.0, 2.0, 1.0, 1.0]);
    assert_eq!(values(&layer.attend(&Tensor::from([1.0f32, 1.0]))), [3.0, 7.0, 11.0]);
    let wrong = layer.forward(&Tensor::from([1.0f32]), &mut eval());
    assert!(broken(&wrong).contains("ids must be integers, not f32"), "{}", broken(&wrong));
}

#[test]
fn layers_say_what_does_not_fit() {
    let x = Tensor::input("x", F32, ("batch", 8));
    let said = [
        broken(&BatchNorm::new(4).forward(&x, &mut eval())),
        broken(&LayerNorm::new(4).forward(&x, &mut eval())),
        broken(&LayerNorm::new(4).forward(&Tensor::scalar(1.0f32), &mut eval())),
        broken(&Conv::new(3, 4, [3, 3], ConvOptions::new(), &mut Keys::new(0)).forward(&x, &mut eval())),
        broken(&Gpt::new(tiny(), &mut Keys::new(0)).forward(&Tensor::input("t", I64, ["time"]), &mut eval())),
    ];
    assert!(said[0].contains("the last dim is 8, and the layer has 4"), "{}", said[0]);
    assert!(said[1].contains("the last dim is 8, and the layer has 4"), "{}", said[1]);
    assert!(said[2].contains("the operand has no axis"), "{}", said[2]);
    assert!(said[3].contains("conv"), "{}", said[3]);
    assert!(said[4].contains("tokens must be [batch, time]"), "{}", said[4]);
}

fn tiny() -> GptConfig {
    GptConfig { vocabulary: 11, context: 8, features: 8, heads: 2, layers: 2 }
}

#[test]
fn resnet_has_its_weights_and_runs_alike_on_both_backends() {
    let model = ResNet::resnet18(3, 1000, &mut Keys::new(0));
    let trained = lehr::tree::leaves(&model)
        .iter()
        .filter(|t| t.as_variable().is_some_and(|v| v.trainable))
        .map(|t| t.ty().unwrap().static_shape().unwrap().iter().product::<usize>())
        .sum::<usize>();
    assert_eq!(trained, 11_689_512, "as torchvision's");
    let small = ResNet::new(3, 5, [1, 1, 1, 1], &mut Keys::new(0));
    let x = Tensor::input("x", F32, (1, 32, 32, 3));
    let f = Function::new("f").output("y", &small.forward(&x, &mut eval()));
    let data = init::normal(Key::new(3), &[1, 32, 32, 3], 0.0, 1.0);
    let run = |o: Options| -> Vec<f32> { f.compile(o).unwrap().run([data.clone()]).unwrap().unpack().unwrap() };
    let want: Vec<f64> = run(crate::interp()).into_iter().map(f64::from).collect();
    close(&run(cpu()), &want, 1e-3);
}

#[test]
fn a_position_of_a_gpt_sees_none_after_it_and_a_named_time_gives_the_same() {
    let model = Gpt::new(tiny(), &mut Keys::new(0));
    let logits = |time: &str, ids: Vec<i64>| -> Vec<f32> {
        let x = match time {
            "" => Tensor::input("x", I64, (1, ids.len())),
            name => Tensor::input("x", I64, (1, name)),
        };
        let f = Function::new("f").output("y", &model.forward(&x, &mut eval()));
        let ids = Array::new(&[1, ids.len()], ids).unwrap();
        f.compile(cpu()).unwrap().run([ids]).unwrap().unpack().unwrap()
    };
    let a = logits("", vec![1, 2, 3, 4, 5, 6]);
    let b = logits("", vec![1, 2, 3, 9, 9, 9]);
    assert_eq!(a[..3 * 11], b[..3 * 11]);
    assert_ne!(a[3 * 11..], b[3 * 11..]);
    let named: Vec<f64> = logits("time", vec![1, 2, 3, 4, 5, 6]).into_iter().map(f64::from).collect();
    close(&a, &named, 1e-5);
}

#[test]
fn the_vision_example_learns() {
    let csv = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv");
    let config = vision::Config { backend: Backend::Cpu, epochs: 12, ..vision::Config::default() };
    let report = vision::run(&csv, &config).unwrap();
    assert!(report.accuracy >= 0.985, "{}", report.accuracy);
}

#[test]
fn the_chargpt_example_learns_saves_and_goes_on() {
    let text = text::Text::new(&"the cat sat on the mat and the dog sat on the log. ".repeat(40));
    let model = GptConfig { vocabulary: 0, context: 16, features: 32, heads: 2, layers: 2 };
    let config =
        chargpt::Config { backend: Backend::Cpu, steps: 60, rows: 8, model, every: 20, ..chargpt::Config::default() };
    let mut trainer = chargpt::Trainer::new(&config, &text).unwrap();
    let mut losses = Vec::new();
    trainer
        .train(&config, &text, |_, _, loss, rate| {
            assert!(rate > 0.0);
            losses.push(loss);
            Ok(())
        })
        .unwrap();
    assert!(losses.len() == 3 && losses[2] < 0.6 * losses[0], "{losses:?}");

    let file = std::env::temp_dir().join(format!("lehr-chargpt-{}.safetensors", std::process::id()));
    trainer.save(&file).unwrap();
    let mut again = chargpt::Trainer::new(&config, &text).unwrap();
    again.load(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = trainer.sample(&text, "the ", 20, 5).unwrap();
    assert_eq!(said.chars().count(), 24);
    assert_eq!(again.sample(&text, "the ", 20, 5).unwrap(), said);
}

/// Products of half-precision numbers are summed in `f32` and rounded once, as the evaluator does with `f64`.
#[test]
fn half_precision_products_round_once() {
    let x = init::normal(Key::new(1), &[37, 2000], 0.0, 1.0);
    let y = init::normal(Key::new(2), &[2000, 41], 0.0, 1.0);
    for dtype in [F16, DType::BF16] {
        let product = Tensor::from(x.clone()).cast(dtype).matmul(&Tensor::from(y.clone()).cast(dtype));
        let f = Function::new("f").output("exact", &product.cast(F32)).output("bits", &product);
        let run = |backend| f.compile(Options::default().backend(backend)).unwrap().run(()).unwrap();
        let (fast, exact) = (run(Backend::Cpu), run(Backend::Interp));
        assert_eq!(fast.array("bits").unwrap().dtype(), dtype);
        let values = |o: &Outputs| o.array("exact").unwrap().as_slice::<f32>().unwrap().to_vec();
        let ulp = if dtype == F16 { 2f32.powi(-10) } else { 2f32.powi(-7) };
        for (a, e) in values(&fast).into_iter().zip(values(&exact)) {
            // One rounding may fall the other way: a unit in the last place, and the error of the sum itself.
            assert!((a - e).abs() <= ulp * e.abs() + 1e-3, "{dtype}: {a} and {e}");
        }
        let plan = f.compile(Options::default()).unwrap().explain().to_string();
        assert!(plan.contains("contract f32"), "{plan}");
    }
}
