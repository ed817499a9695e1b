//! Elementary functions: the recipes, one `let` an operation.

use lehr_ir::kernel::recipes::{self, Emit, Function};

use super::WgslError;
use super::helpers::{Helper, Helpers};
use super::printer::{Printer, f32_text, i32_text, temporary};
use super::source::{Source, Text};

/// Prints the recipe of a function and gives its result.
pub(super) fn call(printer: &mut Printer<'_>, function: Function, args: &[String]) -> Result<String, WgslError> {
    let Printer { text, helpers, temporaries, .. } = printer;
    write(Writer { text, helpers, temporaries, values: Vec::new() }, function, args)
}

/// Defines a function of one `f32` in a module, as `exp_f32`.
pub(in crate::gpu) fn define(source: &mut Source, function: Function) -> Result<String, WgslError> {
    let (mut body, mut helpers, mut temporaries) = (Text::body(), Helpers::default(), 0);
    let writer = Writer { text: &mut body, helpers: &mut helpers, temporaries: &mut temporaries, values: Vec::new() };
    let result = write(writer, function, &["x".to_owned()])?;
    let name = format!("{}_f32", function.name());
    let mut text = Text::default();
    text.open(format!("fn {name}(x: f32) -> f32 {{"));
    text.append(body);
    text.line(format!("return {result};"));
    text.close("}");
    source.help(helpers);
    source.function(text.join());
    Ok(name)
}

fn write(mut writer: Writer<'_>, function: Function, args: &[String]) -> Result<String, WgslError> {
    if args.len() != function.arity() {
        return Err(WgslError::Invalid("a function with the wrong number of operands"));
    }
    writer.text.line(format!("// {}({})", function.name(), args.join(", ")));
    let values: Vec<Value> = args.iter().map(|a| writer.value(a.clone())).collect();
    let result = recipes::emit(function, &mut writer, &values);
    let text = writer.text(result).to_owned();
    // Infinity minus infinity may be anything here.
    let endless = matches!(
        function,
        Function::Sin
            | Function::Cos
            | Function::Tan
            | Function::SinBounded
            | Function::CosBounded
            | Function::TanBounded
    );
    match args.first() {
        Some(x) if endless => {
            writer.helpers.add(Helper::NanIfEndless);
            Ok(format!("nan_if_endless({x}, {text})"))
        }
        Some(_) | None => Ok(text),
    }
}

/// An index into the expressions of a [`Writer`].
#[derive(Clone, Copy)]
struct Value(usize);

struct Writer<'w> {
    text: &'w mut Text,
    helpers: &'w mut Helpers,
    temporaries: &'w mut usize,
    values: Vec<String>,
}

impl Writer<'_> {
    /// A value that needs no statement: a name or a constant.
    fn value(&mut self, text: String) -> Value {
        self.values.push(text);
        Value(self.values.len() - 1)
    }

    /// A value that gets a name.
    fn name(&mut self, expr: String) -> Value {
        let name = temporary(self.temporaries);
        self.text.line(format!("let {name} = {expr};"));
        self.value(name)
    }

    fn text(&self, v: Value) -> &str {
        self.values.get(v.0).map_or("", String::as_str)
    }

    fn infix(&mut self, a: Value, operator: &str, b: Value) -> Value {
        let expr = format!("{} {operator} {}", self.text(a), self.text(b));
        self.name(expr)
    }

    fn prefix(&mut self, function: &str, a: Value) -> Value {
        let expr = format!("{function}({})", self.text(a));
        self.name(expr)
    }
}

impl Emit for Writer<'_> {
    type V = Value;
    type M = Value;

    fn f32(&mut self, c: f32) -> Value {
        let text = f32_text(self.helpers, c);
        self.value(text)
    }
    fn i32(&mut self, c: i32) -> Value {
        // An i32 always has a text.
        let text = i32_text(i64::from(c)).unwrap_or_default();
        self.value(text)
    }
    fn add(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "+", b)
    }
    fn sub(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "-", b)
    }
    fn mul(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "*", b)
    }
    fn div(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "/", b)
    }
    fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        let expr = format!("fma({}, {}, {})", self.text(a), self.text(b), self.text(c));
        self.name(expr)
    }
    fn neg(&mut self, a: Value) -> Value {
        let expr = format!("-{}", self.text(a));
        self.name(expr)
    }
    fn abs(&mut self, a: Value) -> Value {
        self.prefix("abs", a)
    }
    fn sqrt(&mut self, a: Value) -> Value {
        self.prefix("sqrt", a)
    }
    fn trunc(&mut self, a: Value) -> Value {
        self.prefix("trunc", a)
    }
    fn round_even(&mut self, a: Value) -> Value {
        self.prefix("round", a)
    }
    fn iadd(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "+", b)
    }
    fn isub(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "-", b)
    }
    fn iand(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "&", b)
    }
    fn ior(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "|", b)
    }
    fn ixor(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "^", b)
    }
    fn ishl(&mut self, a: Value, n: u32) -> Value {
        let expr = format!("{} << {n}u", self.text(a));
        self.name(expr)
    }
    fn ishr_s(&mut self, a: Value, n: u32) -> Value {
        let expr = format!("{} >> {n}u", self.text(a));
        self.name(expr)
    }
    fn bitcast_to_i32(&mut self, a: Value) -> Value {
        self.prefix("bitcast<i32>", a)
    }
    fn bitcast_to_f32(&mut self, a: Value) -> Value {
        self.prefix("bitcast<f32>", a)
    }
    fn to_i32(&mut self, a: Value) -> Value {
        self.prefix("i32", a)
    }
    fn to_f32(&mut self, a: Value) -> Value {
        self.prefix("f32", a)
    }
    fn lt(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "<", b)
    }
    fn le(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "<=", b)
    }
    fn eq(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "==", b)
    }
    fn ine(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "!=", b)
    }
    fn ilt(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "<", b)
    }
    fn and(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "&", b)
    }
    fn or(&mut self, a: Value, b: Value) -> Value {
        self.infix(a, "|", b)
    }
    fn select(&mut self, m: Value, a: Value, b: Value) -> Value {
        let expr = format!("select({}, {}, {})", self.text(b), self.text(a), self.text(m));
        self.name(expr)
    }
    fn keep(&mut self, v: Value) -> Value {
        self.helpers.add(Helper::Keep);
        self.prefix("keep", v)
    }
}
