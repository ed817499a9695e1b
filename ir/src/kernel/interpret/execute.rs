//! Runs compiled kernels.

use std::ops::Range;

use super::BufferData;
use super::compile::{Action, Code, Fold, How, Node, Repeat};
use super::index::Index;
use crate::dim::DimError;
use crate::kernel::{Access, Kernel, Memory};

/// Why a statement failed.
pub(super) struct Trap {
    pub(super) statement: u32,
    pub(super) reason: Reason,
}

pub(super) enum Reason {
    Index(DimError),
    OutOfBounds { index: i64, len: usize },
    NegativeExtent(i64),
    Undefined(i64),
    Race(i64),
}

/// Runs the iterations in `range` of the outermost loop.
pub(super) fn run(code: &Code, kernel: &Kernel, buffers: &mut [BufferData], range: Range<i64>) -> Result<(), Trap> {
    let places = kernel.buffers.iter().zip(buffers).map(|(b, data)| {
        let writers = if b.access.stores() { vec![0; data.len()] } else { Vec::new() };
        Place { data: Data::Host(data), writers, defined_before: b.access != Access::Write }
    });
    let tiles = kernel.tiles.iter().map(|t| {
        let len = t.len as usize;
        Place { data: Data::Own(vec![0; len]), writers: vec![0; len], defined_before: false }
    });
    let mut machine = Machine {
        registers: vec![0; code.registers],
        partials: vec![0; code.partials],
        buffers: places.collect(),
        tiles: tiles.collect(),
        iteration: 0,
    };
    for i in range {
        machine.registers[code.body.axis as usize] = i.cast_unsigned();
        machine.iteration += 1;
        machine.block(&code.body.body)?;
    }
    Ok(())
}

struct Machine<'b> {
    registers: Vec<u64>,
    partials: Vec<u64>,
    buffers: Vec<Place<'b>>,
    tiles: Vec<Place<'b>>,
    /// The number of the parallel iteration, from 1.
    iteration: u64,
}

/// A buffer or tile, and which parallel iteration stored each element last (0 is none; empty where nothing is stored).
struct Place<'b> {
    data: Data<'b>,
    writers: Vec<u64>,
    defined_before: bool,
}

enum Data<'b> {
    Host(&'b mut BufferData),
    Own(Vec<u64>),
}

impl Machine<'_> {
    fn block(&mut self, nodes: &[Node]) -> Result<(), Trap> {
        for node in nodes {
            self.node(&node.action, node.statement).map_err(|reason| match reason {
                Failure::Here(reason) => Trap { statement: node.statement, reason },
                Failure::Inside(trap) => trap,
            })?;
        }
        Ok(())
    }

    fn node(&mut self, action: &Action, statement: u32) -> Result<(), Failure> {
        match action {
            Action::Const { out, bits } => self.set(*out, *bits),
            Action::Index { out, index } => {
                let value = self.index(index)?;
                self.set(*out, value.cast_unsigned());
            }
            Action::Load { out, memory, index, guard, other } => {
                let bits = if self.holds(guard)? {
                    let index = self.index(index)?;
                    let iteration = self.iteration;
                    self.place(*memory).load(index, iteration, matches!(memory, Memory::Tile(_)))?
                } else {
                    self.get(*other)
                };
                self.set(*out, bits);
            }
            Action::Store { value, memory, index, guard } => {
                if self.holds(guard)? {
                    let index = self.index(index)?;
                    let (bits, iteration) = (self.get(*value), self.iteration);
                    self.place(*memory).store(index, bits, iteration, matches!(memory, Memory::Tile(_)))?;
                }
            }
            Action::Unary { out, f, a } => self.set(*out, f(self.get(*a))),
            Action::Binary { out, f, a, b } => self.set(*out, f(self.get(*a), self.get(*b))),
            Action::Ternary { out, f, a, b, c } => self.set(*out, f(self.get(*a), self.get(*b), self.get(*c))),
            Action::Call { out, f, function, a, b } => self.set(*out, f(*function, self.get(*a), self.get(*b))),
            Action::Repeat(l) => self.repeat(l, statement)?,
            Action::If { guard, body } => {
                if self.holds(guard)? {
                    self.block(body)?;
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, l: &Repeat, statement: u32) -> Result<(), Failure> {
        let extent = self.index(&l.extent)?;
        if extent < 0 {
            return Err(Trap { statement, reason: Reason::NegativeExtent(extent) }.into());
        }
        for fold in &l.folds {
            fold.start(l.lanes, &mut self.partials);
        }
        let mut lane = 0;
        for i in 0..extent {
            self.registers[l.axis as usize] = i.cast_unsigned();
            self.block(&l.body)?;
            for fold in &l.folds {
                let values = fold.values.map(|v| self.registers[v as usize]);
                fold.take(l.lanes, lane, values, &mut self.partials);
            }
            lane = if lane + 1 == l.lanes { 0 } else { lane + 1 };
        }
        for fold in &l.folds {
            let values = fold.finish(l.lanes, &mut self.partials);
            self.set(fold.results[0], values[0]);
            if let How::Argument(_) = fold.how {
                self.set(fold.results[1], values[1]);
            }
        }
        Ok(())
    }

    fn holds(&self, guard: &[Index]) -> Result<bool, Reason> {
        for condition in guard {
            if self.index(condition)? < 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn index(&self, index: &Index) -> Result<i64, Reason> {
        index.eval(&self.registers).map_err(Reason::Index)
    }

    fn get(&self, register: u32) -> u64 {
        self.registers[register as usize]
    }

    fn set(&mut self, register: u32, bits: u64) {
        self.registers[register as usize] = bits;
    }
}

impl<'b> Machine<'b> {
    fn place(&mut self, memory: Memory) -> &mut Place<'b> {
        match memory {
            Memory::Buffer(i) => &mut self.buffers[i as usize],
            Memory::Tile(i) => &mut self.tiles[i as usize],
        }
    }
}

impl Place<'_> {
    fn load(&self, index: i64, iteration: u64, private: bool) -> Result<u64, Reason> {
        let at = self.at(index)?;
        match self.writers.get(at) {
            Some(0) if !self.defined_before => return Err(Reason::Undefined(index)),
            Some(writer) if *writer != 0 && *writer != iteration => {
                return Err(if private { Reason::Undefined(index) } else { Reason::Race(index) });
            }
            Some(_) | None => {}
        }
        let bits = match &self.data {
            Data::Host(data) => data.bits(at),
            Data::Own(data) => data.get(at).copied(),
        };
        bits.ok_or(Reason::OutOfBounds { index, len: self.len() })
    }

    fn store(&mut self, index: i64, bits: u64, iteration: u64, private: bool) -> Result<(), Reason> {
        let at = self.at(index)?;
        if let Some(writer) = self.writers.get_mut(at) {
            if *writer != 0 && *writer != iteration && !private {
                return Err(Reason::Race(index));
            }
            *writer = iteration;
        }
        match &mut self.data {
            Data::Host(data) => {
                data.set_bits(at, bits);
            }
            Data::Own(data) => data[at] = bits,
        }
        Ok(())
    }

    fn at(&self, index: i64) -> Result<usize, Reason> {
        let len = self.len();
        let at = usize::try_from(index).ok().filter(|at| *at < len);
        at.ok_or(Reason::OutOfBounds { index, len })
    }

    fn len(&self) -> usize {
        match &self.data {
            Data::Host(data) => data.len(),
            Data::Own(data) => data.len(),
        }
    }
}

impl Fold {
    fn start(&self, lanes: usize, partials: &mut [u64]) {
        partials[self.at..self.at + lanes].fill(self.identity[0]);
        if let How::Argument(_) = self.how {
            partials[self.at + lanes..self.at + 2 * lanes].fill(self.identity[1]);
        }
    }

    fn take(&self, lanes: usize, lane: usize, values: [u64; 2], partials: &mut [u64]) {
        let at = self.at + lane;
        match self.how {
            How::One(f) => partials[at] = f(partials[at], values[0]),
            How::Argument(wins) => {
                if !wins(partials[at], partials[at + lanes].cast_signed(), values[0], values[1].cast_signed()) {
                    (partials[at], partials[at + lanes]) = (values[0], values[1]);
                }
            }
        }
    }

    /// Combines the lanes pairwise, the upper half into the lower.
    fn finish(&self, lanes: usize, partials: &mut [u64]) -> [u64; 2] {
        let second = |partials: &[u64], lane: usize| match self.how {
            How::One(_) => 0,
            How::Argument(_) => partials[self.at + lanes + lane],
        };
        let mut width = lanes / 2;
        while width > 0 {
            for lane in 0..width {
                let upper = [partials[self.at + lane + width], second(partials, lane + width)];
                self.take(lanes, lane, upper, partials);
            }
            width /= 2;
        }
        [partials[self.at], second(partials, 0)]
    }
}

/// A failure of this statement, or of one inside of it.
enum Failure {
    Here(Reason),
    Inside(Trap),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Here(reason)
    }
}

impl From<Trap> for Failure {
    fn from(trap: Trap) -> Self {
        Self::Inside(trap)
    }
}
