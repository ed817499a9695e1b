//! How a function is compiled.

use lehr_ir::target::{DeviceChoice, Tuning, Vectors};
use lehr_passes::PassOptions;

use crate::cache::Cache;

/// What runs a program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// The reference evaluator, on the graph after the graph passes. Exact by definition, and slow.
    Interp,
    /// Native code through Cranelift (feature `cpu`).
    Cpu,
    /// Shaders through wgpu (feature `gpu`), on a device that is chosen when a function is compiled.
    Gpu,
}

impl Backend {
    /// The spelling on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interp => "interp",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// The backends of this build that run on any machine.
    ///
    /// [`Backend::Gpu`] is not among them: whether it runs depends on the devices that there are.
    pub fn available() -> &'static [Self] {
        if crate::engine::HAS_CPU { &[Self::Interp, Self::Cpu] } else { &[Self::Interp] }
    }
}

/// The fastest of this build.
impl Default for Backend {
    fn default() -> Self {
        if crate::engine::HAS_CPU { Self::Cpu } else { Self::Interp }
    }
}

impl std::str::FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(s: &str) -> Result<Self, UnknownBackend> {
        [Self::Interp, Self::Cpu, Self::Gpu]
            .into_iter()
            .find(|b| b.name() == s)
            .ok_or_else(|| UnknownBackend(s.to_owned()))
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A spelling that names no backend.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a backend; the backends are `interp`, `cpu` and `gpu`")]
pub struct UnknownBackend(pub String);

/// How a function is compiled.
///
/// ```
/// use lehr::{Backend, Options};
/// let options = Options::default().backend(Backend::Interp).disable("simplify");
/// assert_eq!(options.backend, Backend::Interp);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// What runs it.
    pub backend: Backend,
    /// How many threads it may use; all cores if not given. Results do not depend on it.
    pub threads: Option<usize>,
    /// The vectors of native code. Results do not depend on it.
    pub vectors: Vectors,
    /// Which passes run, how far, and with how much fuel.
    pub passes: PassOptions,
    /// Whether a call that gives a NaN fails, and says where it comes from.
    pub trap_nan: bool,
    /// Whether calls fail on indices out of range: see [`Options::check_indices`].
    pub check_indices: bool,
    /// Where native code is kept between processes.
    pub cache: Cache,
    /// Which device runs it, on the backend [`Backend::Gpu`].
    pub device: DeviceChoice,
    /// Whether a device measures forms of matrix products when a program is compiled.
    pub tuning: Tuning,
    /// Whether a device times each of its dispatches.
    pub time_dispatches: bool,
    /// Whether a device may round factors of products in `f32` to `f16`: see [`Options::reduced_precision`].
    pub reduced_precision: bool,
}

impl Options {
    /// The same, run by this backend.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// The same, with or without cheap values computed again to save memory.
    ///
    /// By itself lehr does so where temporaries take more than caches hold, 16 MiB; results do not depend on it.
    /// [`explain`](crate::explain) shows the memory before and after.
    #[must_use]
    pub fn rematerialize(mut self, how: lehr_passes::rematerialize::Rematerialize) -> Self {
        self.passes.rematerialize = how;
        self
    }

    /// The same, on at most so many threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The same, where a call fails if an output or the new value of a variable has a NaN.
    ///
    /// The error, [`Error::Nan`](crate::Error::Nan), names the first operation that made a NaN and its line of source: to find it,
    /// the reference evaluator runs the function again on the same arguments. Variables keep the values they had.
    /// Looking for NaN costs one more reading of the results. A NaN that is selected away inside the function is none.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ["n"]);
    /// let y = (&x - 1).log().sum();
    /// let mut f = Function::new("f").output("y", &y).compile(Options::default().trap_nan(true))?;
    /// assert!(f.run([("x", [2.0f32, 3.0])]).is_ok());
    /// let e = f.run([("x", [2.0f32, 0.5])]).unwrap_err();
    /// assert!(e.to_string().starts_with("f: the output `y` has a NaN; the first is made by `log`"));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[must_use]
    pub fn trap_nan(mut self, trap: bool) -> Self {
        self.trap_nan = trap;
        self
    }

    /// The same, where a call fails if an index is out of range: of `take`, of an embedding's rows, of a slice at a position from data.
    ///
    /// Without it an embedding takes the nearest row and other operations take zeros, which costs nothing and hides a mistake. The
    /// error, [`Error::Index`](crate::Error::Index), names the operation, the index and the line of source; variables keep the values they
    /// had. The reference evaluator computes what indices depend on a second time in each call, loops that have any in full.
    /// ```
    /// use lehr::prelude::*;
    /// let (table, ids) = (Tensor::from([10.0f32, 11.0, 12.0]), Tensor::input("ids", I64, ["n"]));
    /// let f = Function::new("f").output("y", &table.take(&ids, 0));
    /// let mut f = f.compile(Options::default().check_indices(true))?;
    /// assert!(f.run([("ids", [0i64, 2])]).is_ok());
    /// let e = f.run([("ids", [0i64, 3])]).unwrap_err();
    /// assert!(e.to_string().starts_with("f: gather: the index 3 at [1] of the indices is outside of 0..=2"), "{e}");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[must_use]
    pub fn check_indices(mut self, check: bool) -> Self {
        self.check_indices = check;
        self
    }

    /// The same, with native code that uses these vectors; compilation fails on a machine that lacks those that are forced.
    ///
    /// ```
    /// use lehr::{Options, Vectors};
    /// assert_eq!(Options::default().vectors, Vectors::Auto);
    /// assert_eq!(Options::default().vectors(Vectors::Portable).vectors, Vectors::Portable);
    /// ```
    #[must_use]
    pub fn vectors(mut self, vectors: Vectors) -> Self {
        self.vectors = vectors;
        self
    }

    /// The same, with native code taken from there and kept there.
    ///
    /// ```
    /// use lehr::{Cache, Options};
    /// assert_eq!(Options::default().cache(Cache::off()).cache, Cache::off());
    /// ```
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// The same, on this device of the backend [`Backend::Gpu`]: a position in the list of devices, or a part of a name.
    ///
    /// ```
    /// use lehr::{DeviceChoice, Options};
    /// assert_eq!(Options::default().device("H200").device, DeviceChoice::Name("H200".to_owned()));
    /// assert_eq!(Options::default().device("1").device, DeviceChoice::Index(1));
    /// assert_eq!(Options::default().device, DeviceChoice::Best);
    /// ```
    #[must_use]
    pub fn device(mut self, device: impl Into<DeviceChoice>) -> Self {
        self.device = device.into();
        self
    }

    /// The same, where forms of matrix products are measured, or not, when a program is compiled for a device.
    ///
    /// A choice holds for the life of a program, and, with a [`Cache`], for those of later processes on the same device and driver.
    /// [`explain`](crate::explain) shows what was chosen.
    /// ```
    /// use lehr::{Options, Tuning};
    /// assert_eq!(Options::default().tuning, Tuning::Auto);
    /// assert_eq!(Options::default().tuning(Tuning::Off).tuning, Tuning::Off);
    /// ```
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// The same, where a device may round the factors of matrix products in `f32` to `f16`, for its instructions for matrices.
    ///
    /// Sums stay in `f32`, and so do results, epilogues and everything that is no product. It is to `f16` what
    /// `jax.default_matmul_precision` and TF32 are to formats of their own: a model in `f32` runs much faster on devices that multiply
    /// `f16` in hardware, and most models learn as well.
    ///
    /// A product of `x` and `y` is then off by at most 2⁻¹⁰ of the sum of `|x| |y|`, about three decimal digits of it, where `f32` is
    /// off by 2⁻²⁴ for each term. Factors below 2⁻¹⁴ are rounded to multiples of 2⁻²⁴, the least of them to 0. **Factors of 65,520 and
    /// more become infinite**, `f16` ending at 65,504: scale what is larger, gradients of large losses above all.
    ///
    /// It has an effect on the backend [`Backend::Gpu`] where `lehr devices` lists `cooperative matrices`, and on products that are
    /// large enough. A device shows in a test that it multiplies correctly before the first program uses it, and [`Tuning`] may find
    /// other forms to be faster. Products of `f16` need no permission for these instructions, by which nothing of them is rounded;
    /// only software, which gains nothing by them, is left alone without it. Other backends compute as ever.
    /// ```
    /// use lehr::prelude::*;
    /// let (x, y) = (Tensor::input("x", F32, ["n", "k"]), Tensor::input("y", F32, ["k", "m"]));
    /// let f = Function::new("f").output("z", &x.matmul(&y));
    /// let mut f = f.compile(Options::default().reduced_precision(true))?;
    /// let third = Array::full(&[1, 1], (1.0f32 / 3.0).into());
    /// // Here it is the CPU that multiplies, as exactly as ever.
    /// let z = f.run([("x", third.clone()), ("y", third)])?;
    /// assert_eq!(z.array("z")?.as_slice::<f32>(), Some(&[1.0f32 / 3.0 * (1.0 / 3.0)][..]));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[must_use]
    pub fn reduced_precision(mut self, reduced: bool) -> Self {
        self.reduced_precision = reduced;
        self
    }

    /// The same, where a device times each dispatch by its own clock; [`Executable::explain`](crate::Executable::explain) then has
    /// the times beside the bytes and operations of each step.
    ///
    /// It is for looking at a program, whose calls take longer by it. Compilation fails for a device without such a clock
    /// (`lehr devices` lists `timestamps` where there is one). Other backends have no dispatches.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ["n"]);
    /// let options = Options::default().time_dispatches(true);
    /// let mut f = Function::new("f").output("y", &(&x + 1)).compile(options)?;
    /// f.run([("x", [1.0f32, 2.0])])?;
    /// // On the CPU there is nothing to time.
    /// assert_eq!(f.recorded().0, 0);
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[must_use]
    pub fn time_dispatches(mut self, time: bool) -> Self {
        self.time_dispatches = time;
        self
    }

    /// The same without a pass, by name.
    #[must_use]
    pub fn disable(mut self, pass: &str) -> Self {
        self.passes.disable.push(pass.to_owned());
        self
    }

    /// The same, with at most so many rewrites applied.
    #[must_use]
    pub fn fuel(mut self, rewrites: u64) -> Self {
        self.passes.fuel = Some(rewrites);
        self
    }
}
