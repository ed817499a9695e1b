//! Executables: a program with its own workspace, over a state that others may share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lehr_ir::Array;
use lehr_ir::array::Recycler;
use lehr_ir::loc::Loc;
use smallvec::SmallVec;

use crate::cache::KernelCounts;
use crate::engine::{self, Call, Values, Workspace};
use crate::error::{Error, Result};
use crate::inputs::{Bound, Feed, InputError, InputFault, Inputs, check_dtypes};
use crate::outputs::{Outputs, check_targets, output_dtypes};
use crate::program::{Program, Signature};
use crate::state::State;
use crate::trap::Trap;

/// How many dropped result arrays are kept for the next call, for each output.
const KEPT: usize = 4;

/// A program that can be called. Making one is cheap; each thread has its own.
///
/// A call checks names, dtypes, shapes and sizes before anything runs, and leaves every variable as it was if it fails.
pub struct Executable {
    program: Program,
    state: State,
    /// Where in the state each variable of the program is.
    slots: Vec<usize>,
    /// The arrays of the call so far, by input.
    given: Vec<Option<Array>>,
    inputs: Vec<Array>,
    bound: Bound,
    workspace: Workspace,
    recycler: Arc<Recycler>,
}

impl Executable {
    /// An executable of a program over a state, which then holds the program's variables as well.
    pub fn new(program: Program, state: State) -> Self {
        let slots = state.slots(&program.leaves.variables);
        let recycler = Recycler::new(KEPT * program.signature().outputs.len());
        Self {
            slots,
            recycler,
            given: Vec::new(),
            inputs: Vec::new(),
            bound: Bound::default(),
            workspace: Workspace::default(),
            program,
            state,
        }
    }

    /// The same program over another state, such as that of a training step.
    #[must_use]
    pub fn with_state(self, state: &State) -> Self {
        Self::new(self.program, state.clone())
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        self.program.signature()
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How long the program took to compile.
    pub fn compile_time(&self) -> Duration {
        self.program.compile_time()
    }

    /// How many of its kernels were compiled, and how many came from a cache.
    pub fn kernel_counts(&self) -> KernelCounts {
        self.program.kernel_counts()
    }

    /// How many dispatches all calls so far have recorded for a device, and how long recording them took; zeros elsewhere.
    pub fn recorded(&self) -> (u64, Duration) {
        #[cfg(feature = "gpu")]
        if let Some(kept) = &self.workspace.device {
            let recorded = kept.recorded();
            return (recorded.dispatches, recorded.time);
        }
        (0, Duration::ZERO)
    }

    /// Records a call's commands for a device and drops them: nothing is computed, and variables keep their values.
    ///
    /// Gives how many dispatches there were and how long recording them took: without the device at work, which where it is software
    /// takes the processor's caches and time. `None` for programs that are not recorded, and for those with steps on the host or
    /// steps that depend on values, which would have to run.
    ///
    /// # Errors
    /// As [`Executable::run`].
    ///
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, (2,));
    /// let mut f = Function::new("f").output("y", &x.exp()).compile(Options::default())?;
    /// assert_eq!(f.rehearse([("x", [1.0f32, 2.0])])?, None, "the processor runs code, it records nothing");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn rehearse(&mut self, inputs: impl Inputs) -> Result<Option<(u64, Duration)>> {
        let loc = std::panic::Location::caller();
        self.take(inputs).map_err(|fault| self.fail(fault, loc.into()))?;
        let (code, leaves) = (&self.program.code, &self.program.leaves);
        let (workspace, inputs, slots, bindings) =
            (&mut self.workspace, &self.inputs, &self.slots, &self.bound.bindings);
        let result = self.state.read(|values| {
            let (sources, updates, data, values) = (&code.sources, &code.updates, &leaves.data, Values::Shared(values));
            let outputs: &mut [Array] = &mut [];
            let call = Call { sources, inputs, values, slots, updates, data, bindings, outputs, trap: None };
            code.engine.rehearse(workspace, &call)
        });
        self.inputs.clear();
        result
    }

    /// How often each dispatch ran so far and how long it took, in all; `None` where that is not measured.
    #[cfg(feature = "gpu")]
    pub(crate) fn dispatch_times(&self) -> Option<Vec<(u32, Duration)>> {
        let times = self.workspace.device.as_ref()?.times()?;
        Some(times.iter().map(|t| (t.runs, t.total)).collect())
    }

    /// Calls it, giving fresh arrays.
    ///
    /// # Errors
    /// Inputs that do not fit; a failure of the backend. Variables then have the values they had.
    /// ```
    /// use lehr::prelude::*;
    /// let (x, y) = (Tensor::input("x", F32, ["n"]), Tensor::input("y", F32, ()));
    /// let mut f = Function::new("f").output("z", &(&x + &y)).compile(Options::default())?;
    /// let z: Vec<f32> = f.run(([1.0f32, 2.0], 10.0f32))?.unpack()?;
    /// assert_eq!(z, [11.0, 12.0]);
    /// let e = f.run([("x", 1.0f32)]).unwrap_err();
    /// assert!(e.to_string().starts_with("f: the input `y`: f32[] is missing"));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn run(&mut self, inputs: impl Inputs) -> Result<Outputs> {
        let loc = std::panic::Location::caller();
        self.take(inputs).map_err(|fault| self.fail(fault, loc.into()))?;
        let mut outputs: SmallVec<[Array; 4]> = SmallVec::new();
        for (dtype, shape) in output_dtypes(&self.program).zip(&self.bound.outputs) {
            let data = self.recycler.take(dtype, shape.iter().product(), engine::fresh_data);
            let array = Array::from_recycled(shape, data, &self.recycler);
            outputs.push(array.map_err(|e| Error::internal(e.to_string()))?);
        }
        self.call(&mut outputs)?;
        Ok(Outputs::new(self.program.clone(), outputs))
    }

    /// Calls it, writing the results into given arrays of the right dtypes and shapes.
    ///
    /// Once called with inputs of the same shapes before, compiled programs allocate nothing, if no array is shared.
    /// # Errors
    /// As [`Executable::run`]; arrays of other types than the results.
    #[track_caller]
    pub fn run_into(&mut self, inputs: impl Inputs, outputs: &mut [Array]) -> Result<()> {
        let loc = std::panic::Location::caller();
        self.take(inputs).map_err(|fault| self.fail(fault, loc.into()))?;
        check_targets(&self.program, &self.bound.outputs, outputs, &loc.into())?;
        self.call(outputs)
    }

    /// Takes the arrays of a call, checks them, and finds what their shapes determine.
    fn take(&mut self, inputs: impl Inputs) -> Result<(), InputFault> {
        let signature = self.program.signature();
        let mut feed = Feed::new(signature, &mut self.given);
        inputs.feed(&mut feed);
        feed.finish()?;
        self.inputs.clear();
        for (given, (name, ty)) in self.given.iter_mut().zip(&signature.inputs) {
            match given.take() {
                Some(array) => self.inputs.push(array),
                None => return Err(InputFault::Missing { name: name.clone(), ty: Box::new(ty.clone()) }),
            }
        }
        check_dtypes(signature, &self.inputs)?;
        // A function without inputs is bound anew each time, which costs nothing.
        if self.inputs.is_empty() || !self.bound.fits(&self.inputs) {
            self.bound = Bound::new(signature, &self.inputs)?;
        }
        Ok(())
    }

    fn call(&mut self, outputs: &mut [Array]) -> Result<()> {
        let (code, leaves) = (&self.program.code, &self.program.leaves);
        let (workspace, inputs, slots, bindings) =
            (&mut self.workspace, &self.inputs, &self.slots, &self.bound.bindings);
        let (nan, indices) = (code.options.trap_nan, code.indices.as_ref());
        let trap =
            (nan || indices.is_some()).then(|| Trap { graph: &code.source, signature: &code.signature, nan, indices });
        let mut run = |values: Values<'_>| {
            let (sources, updates, data, trap) = (&code.sources, &code.updates, &leaves.data, trap.as_ref());
            code.engine.run(workspace, Call { sources, inputs, values, slots, updates, data, bindings, outputs, trap })
        };
        let result = if code.updates.is_empty() {
            self.state.read(|values| run(Values::Shared(values)))
        } else {
            self.state.write(|values| run(Values::Exclusive(values)))
        };
        // The caller's arrays are let go, so that they are not shared beyond the call.
        self.inputs.clear();
        result
    }

    fn fail(&mut self, fault: InputFault, loc: Loc) -> Error {
        self.inputs.clear();
        self.given.clear();
        InputError { function: self.program.signature().name.clone(), fault, loc }.into()
    }
}

/// Another executable of the same program over the same state.
impl Clone for Executable {
    fn clone(&self) -> Self {
        Self::new(self.program.clone(), self.state.clone())
    }
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executable({})", self.program.signature())
    }
}
