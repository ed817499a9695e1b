//! The arrays of a call: by name or by position, checked before anything runs.

use std::fmt;

use lehr_ir::array::Sizes;
use lehr_ir::bindings::{Bindings, Unified, UnifyError};
use lehr_ir::facts::FactViolation;
use lehr_ir::loc::Loc;
use lehr_ir::{Array, Type};

use crate::error::{at, list, nearest};
use crate::program::Signature;
use crate::tensor::Number;

/// An input of a call that does not fit.
#[derive(Clone, PartialEq, Debug)]
pub struct InputError {
    /// The function called.
    pub function: String,
    /// What does not fit.
    pub fault: InputFault,
    /// The line of the call.
    pub loc: Loc,
}

/// How inputs do not fit.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum InputFault {
    /// There is no such input.
    Unknown {
        /// The name given.
        name: String,
        /// The input that it may stand for.
        near: Option<String>,
        /// The inputs there are.
        known: Vec<String>,
    },
    /// More arrays are given by position than there are inputs.
    TooMany {
        /// The inputs there are.
        want: usize,
    },
    /// An input is given twice.
    Twice {
        /// Its name.
        name: String,
    },
    /// An input is not given.
    Missing {
        /// Its name.
        name: String,
        /// Its type.
        ty: Box<Type>,
    },
    /// An array has another dtype.
    DType {
        /// The input.
        name: String,
        /// Its type.
        ty: Box<Type>,
        /// The array's type.
        got: Box<Type>,
    },
    /// An array has another number of dims, or a dim of another size.
    Shape {
        /// The input.
        name: String,
        /// Its type.
        ty: Box<Type>,
        /// The array's type.
        got: Box<Type>,
        /// What is wrong with a size, if the number of dims is right.
        size: Option<UnifyError>,
    },
    /// Sizes that the function's assumptions do not allow.
    Fact(FactViolation),
    /// A name of a size cannot be found from the arrays' sizes.
    Unbound {
        /// The dim.
        dim: String,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, help) = self.fault.parts();
        write!(f, "{}: {text}{}", self.function, at(&self.loc))?;
        write!(f, "\n  = help: {help}")
    }
}

impl std::error::Error for InputError {}

impl InputFault {
    fn parts(&self) -> (String, String) {
        match self {
            Self::Unknown { name, near: Some(near), .. } => {
                (format!("there is no input `{name}`"), format!("did you mean `{near}`?"))
            }
            Self::Unknown { name, near: None, known } => (
                format!("there is no input `{name}`"),
                format!("the inputs are {}", list(known.iter().map(String::as_str))),
            ),
            Self::TooMany { want } => {
                (format!("more than {want} inputs are given"), "give one array for each input, in order".to_owned())
            }
            Self::Twice { name } => (format!("the input `{name}` is given twice"), "give it once".to_owned()),
            Self::Missing { name, ty } => {
                (format!("the input `{name}`: {ty} is missing"), format!("give an array for `{name}`"))
            }
            Self::DType { name, ty, got } => (
                format!("the input `{name}` is {ty}, the array is {got}; dtypes must agree"),
                format!("make the array {}, or cast inside the function", ty.dtype),
            ),
            Self::Shape { name, ty, got, size: None } => (
                format!("the input `{name}` is {ty}, the array is {got}; it must have {} dims", ty.rank()),
                "reshape the array".to_owned(),
            ),
            Self::Shape { name, ty, got, size: Some(size) } => (
                format!("the input `{name}` is {ty}, the array is {got}; {size}"),
                "a name is one size in all inputs of a call".to_owned(),
            ),
            Self::Fact(violation) => (violation.to_string(), "call with sizes that the function assumes".to_owned()),
            Self::Unbound { dim } => (
                format!("the sizes of the inputs do not say what `{dim}` is made of"),
                "give an input a dim that is the name alone".to_owned(),
            ),
        }
    }
}

/// Takes the arrays of a call, by name or by position.
#[derive(Debug)]
pub struct Feed<'p> {
    signature: &'p Signature,
    slots: &'p mut Vec<Option<Array>>,
    next: usize,
    fault: Option<InputFault>,
}

impl<'p> Feed<'p> {
    pub(crate) fn new(signature: &'p Signature, slots: &'p mut Vec<Option<Array>>) -> Self {
        slots.clear();
        slots.resize(signature.inputs.len(), None);
        Self { signature, slots, next: 0, fault: None }
    }

    pub(crate) fn finish(self) -> Result<(), InputFault> {
        self.fault.map_or(Ok(()), Err)
    }

    /// The array of the next position.
    pub fn positional(&mut self, array: Array) {
        match self.slots.get_mut(self.next) {
            Some(slot) => *slot = Some(array),
            None => self.fail(InputFault::TooMany { want: self.signature.inputs.len() }),
        }
        self.next += 1;
    }

    /// The array of a name; quickest in the order of the signature.
    pub fn named(&mut self, name: &str, array: Array) {
        let inputs = &self.signature.inputs;
        let at = match inputs.get(self.next) {
            Some((expected, _)) if expected == name => self.next,
            _ => match inputs.iter().position(|(n, _)| n == name) {
                Some(at) => at,
                None => {
                    let near = nearest(name, inputs.iter().map(|(n, _)| n.as_str())).map(str::to_owned);
                    let known = inputs.iter().map(|(n, _)| n.clone()).collect();
                    return self.fail(InputFault::Unknown { name: name.to_owned(), near, known });
                }
            },
        };
        if self.slots[at].replace(array).is_some() {
            self.fail(InputFault::Twice { name: name.to_owned() });
        }
        self.next = at + 1;
    }

    /// Whether the program has an input of this name, for sources that hold more than one program needs.
    pub fn wants(&self, name: &str) -> bool {
        self.signature.inputs.iter().any(|(n, _)| n == name)
    }

    fn fail(&mut self, fault: InputFault) {
        self.fault.get_or_insert(fault);
    }
}

/// The arrays of a call: `()`, an array, slice or vector of one kind, or a tuple of several.
///
/// Each is an array by position or a pair of name and array: `[("x", &x), ("y", &y)]`, `(&x, 3.0f32)`.
pub trait Inputs {
    /// Hands the arrays over.
    fn feed(self, feed: &mut Feed<'_>);
}

/// One array of a call: an array by position, or a pair of name and array.
pub trait Input {
    /// Hands the array over.
    fn feed(self, feed: &mut Feed<'_>);
}

impl<A: IntoArray> Input for A {
    fn feed(self, feed: &mut Feed<'_>) {
        feed.positional(self.into_array());
    }
}

impl<A: IntoArray> Input for (&str, A) {
    fn feed(self, feed: &mut Feed<'_>) {
        feed.named(self.0, self.1.into_array());
    }
}

impl<A: IntoArray> Input for (String, A) {
    fn feed(self, feed: &mut Feed<'_>) {
        feed.named(&self.0, self.1.into_array());
    }
}

/// What is taken as an array: arrays by value or reference, numbers, vectors, slices, arrays of arrays, `ndarray` arrays.
pub trait IntoArray {
    /// The array.
    fn into_array(self) -> Array;
}

impl IntoArray for Array {
    fn into_array(self) -> Array {
        self
    }
}

impl IntoArray for &Array {
    fn into_array(self) -> Array {
        self.clone()
    }
}

macro_rules! into_array {
    ($([$($generics:tt)*] $ty:ty;)*) => { $(
        impl<$($generics)*> IntoArray for $ty {
            fn into_array(self) -> Array {
                self.into()
            }
        }
    )* };
}

into_array! {
    [T: Number] T;
    [T: Number] Vec<T>;
    [T: Number] &[T];
    [T: Number, const N: usize] [T; N];
    [T: Number, const N: usize, const M: usize] [[T; N]; M];
    [T: Number, const N: usize, const M: usize, const L: usize] [[[T; N]; M]; L];
    [T: Number, S: ndarray::Data<Elem = T>, D: ndarray::Dimension] ndarray::ArrayBase<S, D>;
}

impl Inputs for () {
    fn feed(self, _: &mut Feed<'_>) {}
}

impl<T: Input, const N: usize> Inputs for [T; N] {
    fn feed(self, feed: &mut Feed<'_>) {
        for input in self {
            input.feed(feed);
        }
    }
}

impl<T: Input> Inputs for Vec<T> {
    fn feed(self, feed: &mut Feed<'_>) {
        for input in self {
            input.feed(feed);
        }
    }
}

impl<T> Inputs for &[T]
where
    for<'a> &'a T: Input,
{
    fn feed(self, feed: &mut Feed<'_>) {
        for input in self {
            Input::feed(input, feed);
        }
    }
}

macro_rules! input_tuples {
    ($(($($T:ident $i:tt),+))*) => { $(
        impl<$($T: Input),+> Inputs for ($($T,)+) {
            fn feed(self, feed: &mut Feed<'_>) {
                $(self.$i.feed(feed);)+
            }
        }
    )* };
}

input_tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

/// What the shapes of a call's inputs determine; kept for the next call with the same shapes.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    shapes: Vec<Sizes>,
    /// The values of the named sizes.
    pub(crate) bindings: Bindings,
    /// The shapes of the outputs.
    pub(crate) outputs: Vec<Sizes>,
}

impl Bound {
    /// Whether arrays have the shapes that this was made for. Dtypes are the caller's to check.
    pub(crate) fn fits(&self, inputs: &[Array]) -> bool {
        self.shapes.len() == inputs.len() && self.shapes.iter().zip(inputs).all(|(s, a)| s.as_slice() == a.shape())
    }

    /// Checks arrays of the right dtypes against a signature.
    pub(crate) fn new(signature: &Signature, inputs: &[Array]) -> Result<Self, InputFault> {
        let bindings = bind(signature, inputs)?;
        let mut outputs = Vec::with_capacity(signature.outputs.len());
        for (_, ty) in &signature.outputs {
            let sizes = ty.shape.iter().map(|d| {
                let value = bindings.eval(d).ok().and_then(|v| usize::try_from(v).ok());
                value.ok_or_else(|| InputFault::Unbound { dim: d.to_string() })
            });
            outputs.push(sizes.collect::<Result<Sizes, InputFault>>()?);
        }
        Ok(Self { shapes: inputs.iter().map(|a| a.shape().into()).collect(), bindings, outputs })
    }
}

/// Refuses arrays of other dtypes than the inputs.
pub(crate) fn check_dtypes(signature: &Signature, inputs: &[Array]) -> Result<(), InputFault> {
    for ((name, ty), array) in signature.inputs.iter().zip(inputs) {
        if array.dtype() != ty.dtype {
            return Err(InputFault::DType {
                name: name.clone(),
                ty: Box::new(ty.clone()),
                got: Box::new(type_of(array)),
            });
        }
    }
    Ok(())
}

/// The type of an array.
pub(crate) fn type_of(array: &Array) -> Type {
    Type::new(array.dtype(), array.shape().iter().copied())
}

fn bind(signature: &Signature, inputs: &[Array]) -> Result<Bindings, InputFault> {
    let mut bindings = Bindings::default();
    let pairs = || signature.inputs.iter().zip(inputs);
    let wrong = |(name, ty): &(String, Type), array: &Array, size| InputFault::Shape {
        name: name.clone(),
        ty: Box::new(ty.clone()),
        got: Box::new(type_of(array)),
        size,
    };
    for (input, array) in pairs() {
        if array.rank() != input.1.rank() {
            return Err(wrong(input, array, None));
        }
    }
    // Names alone come first; what is left then is solved as far as what is known allows, until nothing new is found.
    let mut plain = true;
    loop {
        let (mut deferred, mut found) = (None, plain);
        for (input, array) in pairs() {
            for (dim, &size) in input.1.shape.iter().zip(array.shape()) {
                if plain && dim.as_symbol().is_none() {
                    continue;
                }
                match bindings.unify(dim, size as i64) {
                    Ok(Unified::Matched) => {}
                    Ok(Unified::Bound(..)) => found = true,
                    Ok(Unified::Deferred) => deferred = Some(dim),
                    Err(e) => return Err(wrong(input, array, Some(e))),
                }
            }
        }
        match deferred {
            None if !plain => break,
            Some(dim) if !found => return Err(InputFault::Unbound { dim: dim.to_string() }),
            _ => plain = false,
        }
    }
    signature.facts.check(&|s| bindings.get(s)).map_err(InputFault::Fact)?;
    Ok(bindings)
}
