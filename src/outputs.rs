//! The results of a call: by name or position, as arrays or typed Rust values.

use std::fmt;

use lehr_ir::array::Sizes;
use lehr_ir::loc::Loc;
use lehr_ir::{Array, DType, Element, Type};
use smallvec::SmallVec;

use crate::error::{Error, Result, at, list, nearest};
use crate::program::Program;

/// A result asked for by a wrong name, or as a wrong type.
#[derive(Clone, PartialEq, Debug)]
pub struct OutputError {
    /// The function called.
    pub function: String,
    /// What is wrong.
    pub fault: OutputFault,
    /// The line that asks.
    pub loc: Loc,
}

/// How a result is not what was asked for.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum OutputFault {
    /// There is no such output.
    Unknown {
        /// The name asked for.
        name: String,
        /// The output that it may stand for.
        near: Option<String>,
        /// The outputs there are.
        known: Vec<String>,
    },
    /// There are more or fewer outputs than asked for.
    Count {
        /// How many are asked for.
        asked: usize,
        /// The outputs there are.
        known: Vec<String>,
    },
    /// An output, or an array to write it into, has another type.
    Type {
        /// The output.
        name: String,
        /// Its type.
        got: Box<Type>,
        /// What was asked for.
        asked: String,
    },
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |known: &[String]| list(known.iter().map(String::as_str));
        let (text, help) = match &self.fault {
            OutputFault::Unknown { name, near: Some(near), .. } => {
                (format!("there is no output `{name}`"), format!("did you mean `{near}`?"))
            }
            OutputFault::Unknown { name, near: None, known } => {
                (format!("there is no output `{name}`"), format!("the outputs are {}", names(known)))
            }
            OutputFault::Count { asked, known } => (
                format!("{asked} outputs are asked for, and there are {}", known.len()),
                format!("the outputs are {}", names(known)),
            ),
            OutputFault::Type { name, got, asked } => (
                format!("the output `{name}` is {got}, asked for {asked}"),
                format!("ask for {}, or cast inside the function", got.dtype),
            ),
        };
        write!(f, "{}: {text}{}\n  = help: {help}", self.function, at(&self.loc))
    }
}

impl std::error::Error for OutputError {}

/// The results of a call, in the order of the function's outputs.
#[derive(Clone, Debug)]
pub struct Outputs {
    program: Program,
    arrays: SmallVec<[Array; 4]>,
}

impl Outputs {
    pub(crate) fn new(program: Program, arrays: SmallVec<[Array; 4]>) -> Self {
        Self { program, arrays }
    }

    /// The array of an output.
    ///
    /// # Errors
    /// A name that is no output's.
    #[track_caller]
    pub fn array(&self, name: &str) -> Result<&Array> {
        let outputs = &self.program.signature().outputs;
        match outputs.iter().position(|(n, _)| n == name).and_then(|i| self.arrays.get(i)) {
            Some(array) => Ok(array),
            None => {
                let near = nearest(name, outputs.iter().map(|(n, _)| n.as_str())).map(str::to_owned);
                Err(self.fail(OutputFault::Unknown { name: name.to_owned(), near, known: self.known() }))
            }
        }
    }

    /// An output as a Rust value: a number, a `Vec`, an `ndarray` array, or an [`Array`].
    ///
    /// # Errors
    /// A name that is no output's; an output of another type.
    #[track_caller]
    pub fn get<T: FromArray>(&self, name: &str) -> Result<T> {
        let array = self.array(name)?.clone();
        let ty = crate::inputs::type_of(&array);
        match T::from_array(array) {
            Some(value) => Ok(value),
            None => {
                Err(self.fail(OutputFault::Type { name: name.to_owned(), got: Box::new(ty), asked: T::describe() }))
            }
        }
    }

    /// All outputs, in order, as one Rust value or a tuple of them.
    ///
    /// # Errors
    /// Another number of outputs; an output of another type.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ());
    /// let mut f = Function::new("f").output("y", &(&x * 2)).output("z", &(&x + 1)).compile(Options::default())?;
    /// let (y, z): (f32, f32) = f.run([3.0f32])?.unpack()?;
    /// assert_eq!((y, z), (6.0, 4.0));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn unpack<T: FromOutputs>(self) -> Result<T> {
        T::from_outputs(&self)
    }

    /// The arrays in order.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The names and arrays in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Array)> {
        self.program.signature().outputs.iter().map(|(n, _)| n.as_str()).zip(&self.arrays)
    }

    #[track_caller]
    fn position<T: FromArray>(&self, i: usize) -> Result<T> {
        let name = self.program.signature().outputs.get(i).map_or("", |(n, _)| n);
        self.get(name)
    }

    #[track_caller]
    fn count(&self, asked: usize) -> Result<()> {
        if asked == self.arrays.len() {
            Ok(())
        } else {
            Err(self.fail(OutputFault::Count { asked, known: self.known() }))
        }
    }

    fn known(&self) -> Vec<String> {
        self.program.signature().outputs.iter().map(|(n, _)| n.clone()).collect()
    }

    #[track_caller]
    fn fail(&self, fault: OutputFault) -> Error {
        OutputError { function: self.program.signature().name.clone(), fault, loc: Loc::caller() }.into()
    }
}

impl IntoIterator for Outputs {
    type Item = Array;
    type IntoIter = smallvec::IntoIter<[Array; 4]>;

    fn into_iter(self) -> Self::IntoIter {
        self.arrays.into_iter()
    }
}

/// A Rust value that an array can become.
pub trait FromArray: Sized {
    /// The value; `None` if the array has another dtype or shape.
    fn from_array(array: Array) -> Option<Self>;

    /// What it takes, for messages.
    fn describe() -> String;
}

impl FromArray for Array {
    fn from_array(array: Array) -> Option<Self> {
        Some(array)
    }

    fn describe() -> String {
        "any array".to_owned()
    }
}

macro_rules! numbers {
    ($($ty:ty),*) => { $(
        /// The element of an array that has one.
        impl FromArray for $ty {
            fn from_array(array: Array) -> Option<Self> {
                <$ty as Element>::from_literal(array.item()?)
            }

            fn describe() -> String {
                format!("one {}", <$ty as Element>::DTYPE)
            }
        }
    )* };
}

numbers!(bool, i8, i16, i32, i64, u8, u16, u32, u64, half::f16, half::bf16, f32, f64);

/// The elements in row-major order, whatever the shape.
impl<T: Element> FromArray for Vec<T> {
    fn from_array(array: Array) -> Option<Self> {
        array.into_vec().ok()
    }

    fn describe() -> String {
        format!("a vector of {}", T::DTYPE)
    }
}

impl<T: Element> FromArray for ndarray::ArrayD<T> {
    fn from_array(array: Array) -> Option<Self> {
        array.into_ndarray().ok()
    }

    fn describe() -> String {
        format!("an array of {}", T::DTYPE)
    }
}

/// What all outputs of a call can become.
pub trait FromOutputs: Sized {
    /// The value.
    ///
    /// # Errors
    /// Another number of outputs; an output of another type.
    fn from_outputs(outputs: &Outputs) -> Result<Self>;
}

impl<T: FromArray> FromOutputs for T {
    #[track_caller]
    fn from_outputs(outputs: &Outputs) -> Result<Self> {
        outputs.count(1)?;
        outputs.position(0)
    }
}

macro_rules! output_tuples {
    ($($n:literal ($($T:ident $i:tt),+))*) => { $(
        impl<$($T: FromArray),+> FromOutputs for ($($T,)+) {
            #[track_caller]
            fn from_outputs(outputs: &Outputs) -> Result<Self> {
                outputs.count($n)?;
                Ok(($(outputs.position::<$T>($i)?,)+))
            }
        }
    )* };
}

output_tuples! {
    1 (A 0)
    2 (A 0, B 1)
    3 (A 0, B 1, C 2)
    4 (A 0, B 1, C 2, D 3)
    5 (A 0, B 1, C 2, D 3, E 4)
    6 (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// Refuses arrays to write results into that do not have the results' types.
pub(crate) fn check_targets(program: &Program, shapes: &[Sizes], targets: &[Array], loc: &Loc) -> Result<()> {
    let signature = program.signature();
    let fail = |fault| OutputError { function: signature.name.clone(), fault, loc: loc.clone() };
    if targets.len() != shapes.len() {
        let known = signature.outputs.iter().map(|(n, _)| n.clone()).collect();
        return Err(fail(OutputFault::Count { asked: targets.len(), known }).into());
    }
    for (((name, ty), shape), target) in signature.outputs.iter().zip(shapes).zip(targets) {
        if target.dtype() != ty.dtype || target.shape() != shape.as_slice() {
            let got = Box::new(Type::new(ty.dtype, shape.iter().copied()));
            let asked = crate::inputs::type_of(target).to_string();
            return Err(fail(OutputFault::Type { name: name.clone(), got, asked }).into());
        }
    }
    Ok(())
}

/// The dtype of an output, for fresh arrays.
pub(crate) fn output_dtypes(program: &Program) -> impl Iterator<Item = DType> + '_ {
    program.signature().outputs.iter().map(|(_, ty)| ty.dtype)
}
