//! Arrays in NumPy's `.npy` and `.npz` files.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;

use lehr_ir::{Array, Data};
use ndarray::{ArrayD, ArrayViewD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpyError, ReadNpyExt, ReadNpzError, WriteNpyExt};

use super::DataError;
use crate::error::{Error, Result};

/// The most bytes of a file that is read.
const MAX_BYTES: u64 = 1 << 36;

/// Reads an array, of any dtype but `f16` and `bf16`.
///
/// # Errors
/// A file that cannot be read, is malformed, or has a dtype that lehr does not.
pub fn load_npy(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)?.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    any_dtype(path, &mut |kind| match kind {
        Probe::Bool => ArrayD::<bool>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::I8 => ArrayD::<i8>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::I16 => ArrayD::<i16>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::I32 => ArrayD::<i32>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::I64 => ArrayD::<i64>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::U8 => ArrayD::<u8>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::U16 => ArrayD::<u16>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::U32 => ArrayD::<u32>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::U64 => ArrayD::<u64>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::F32 => ArrayD::<f32>::read_npy(Cursor::new(&bytes)).map(Array::from),
        Probe::F64 => ArrayD::<f64>::read_npy(Cursor::new(&bytes)).map(Array::from),
    })
}

/// Writes an array.
///
/// # Errors
/// A dtype that the format has no spelling for; a file that cannot be written.
pub fn save_npy(path: impl AsRef<Path>, array: &Array) -> Result<()> {
    let path = path.as_ref();
    let mut file = BufWriter::new(File::create(path).map_err(|e| Error::io(path, e))?);
    each_dtype(path, "the array", array, &mut Npy(&mut file))?;
    file.flush().map_err(|e| Error::io(path, e))
}

/// Reads the arrays of an archive, each with its name, in the archive's order.
///
/// # Errors
/// As [`load_npy`].
pub fn load_npz(path: impl AsRef<Path>) -> Result<Vec<(String, Array)>> {
    let path = path.as_ref();
    let bad = |e: ReadNpzError| malformed(path, e.to_string());
    let mut npz = NpzReader::new(BufReader::new(open(path)?)).map_err(bad)?;
    let names = npz.names().map_err(bad)?;
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        let array = any_dtype(path, &mut |kind| match kind {
            Probe::Bool => member::<bool, _>(&mut npz, &name),
            Probe::I8 => member::<i8, _>(&mut npz, &name),
            Probe::I16 => member::<i16, _>(&mut npz, &name),
            Probe::I32 => member::<i32, _>(&mut npz, &name),
            Probe::I64 => member::<i64, _>(&mut npz, &name),
            Probe::U8 => member::<u8, _>(&mut npz, &name),
            Probe::U16 => member::<u16, _>(&mut npz, &name),
            Probe::U32 => member::<u32, _>(&mut npz, &name),
            Probe::U64 => member::<u64, _>(&mut npz, &name),
            Probe::F32 => member::<f32, _>(&mut npz, &name),
            Probe::F64 => member::<f64, _>(&mut npz, &name),
        })?;
        out.push((name.strip_suffix(".npy").unwrap_or(&name).to_owned(), array));
    }
    Ok(out)
}

/// Writes arrays into an archive, without compression.
///
/// # Errors
/// As [`save_npy`].
pub fn save_npz<'a>(path: impl AsRef<Path>, arrays: impl IntoIterator<Item = (&'a str, &'a Array)>) -> Result<()> {
    let path = path.as_ref();
    let mut npz = NpzWriter::new(BufWriter::new(File::create(path).map_err(|e| Error::io(path, e))?));
    for (name, array) in arrays {
        each_dtype(path, name, array, &mut Npz(&mut npz, name))?;
    }
    npz.finish().map_err(|e| malformed(path, e.to_string()))?.flush().map_err(|e| Error::io(path, e))
}

/// The dtypes that a file may have, tried in turn.
#[derive(Clone, Copy)]
enum Probe {
    F32,
    F64,
    I64,
    I32,
    Bool,
    U8,
    I8,
    I16,
    U16,
    U32,
    U64,
}

const PROBES: [Probe; 11] = [
    Probe::F32,
    Probe::F64,
    Probe::I64,
    Probe::I32,
    Probe::Bool,
    Probe::U8,
    Probe::I8,
    Probe::I16,
    Probe::U16,
    Probe::U32,
    Probe::U64,
];

fn any_dtype(path: &Path, read: &mut dyn FnMut(Probe) -> Result<Array, ReadNpyError>) -> Result<Array> {
    for probe in PROBES {
        match read(probe) {
            Ok(array) => return Ok(array),
            Err(ReadNpyError::WrongDescriptor(_)) => {}
            Err(e) => return Err(malformed(path, e.to_string())),
        }
    }
    Err(malformed(path, "it has a dtype that lehr does not read".to_owned()))
}

fn member<T, R>(npz: &mut NpzReader<R>, name: &str) -> Result<Array, ReadNpyError>
where
    T: lehr_ir::Element + ndarray_npy::ReadableElement,
    R: Read + Seek,
{
    match npz.by_name::<OwnedRepr<T>, IxDyn>(name) {
        Ok(array) => Ok(array.into()),
        Err(ReadNpzError::Npy(e)) => Err(e),
        Err(ReadNpzError::Zip(e)) => Err(ReadNpyError::Io(std::io::Error::other(e))),
    }
}

/// Where arrays are written.
trait Sink {
    fn write<T: ndarray_npy::WritableElement>(&mut self, view: &ArrayViewD<'_, T>) -> Result<(), String>;
}

struct Npy<'a, W>(&'a mut W);

impl<W: Write> Sink for Npy<'_, W> {
    fn write<T: ndarray_npy::WritableElement>(&mut self, view: &ArrayViewD<'_, T>) -> Result<(), String> {
        view.write_npy(&mut *self.0).map_err(|e| e.to_string())
    }
}

struct Npz<'a, W: Write + Seek>(&'a mut NpzWriter<W>, &'a str);

impl<W: Write + Seek> Sink for Npz<'_, W> {
    fn write<T: ndarray_npy::WritableElement>(&mut self, view: &ArrayViewD<'_, T>) -> Result<(), String> {
        self.0.add_array(self.1, view).map_err(|e| e.to_string())
    }
}

fn each_dtype(path: &Path, name: &str, array: &Array, sink: &mut impl Sink) -> Result<()> {
    let shape = IxDyn(array.shape());
    macro_rules! write {
        ($v:expr) => {
            match ArrayViewD::from_shape(shape, $v) {
                Ok(view) => sink.write(&view),
                Err(e) => Err(e.to_string()),
            }
        };
    }
    let written = match array.data() {
        Data::Bool(v) => write!(v),
        Data::I8(v) => write!(v),
        Data::I16(v) => write!(v),
        Data::I32(v) => write!(v),
        Data::I64(v) => write!(v),
        Data::U8(v) => write!(v),
        Data::U16(v) => write!(v),
        Data::U32(v) => write!(v),
        Data::U64(v) => write!(v),
        Data::F32(v) => write!(v),
        Data::F64(v) => write!(v),
        Data::F16(_) | Data::BF16(_) | Data::C64(_) | Data::C128(_) => {
            Err(format!("{name} is {}, which is not written; cast it first", array.dtype()))
        }
    };
    written.map_err(|reason| malformed(path, reason))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(path, e))
}

fn malformed(path: &Path, reason: String) -> Error {
    DataError::Malformed { path: path.to_owned(), reason }.into()
}
