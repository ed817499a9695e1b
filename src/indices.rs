//! Indices out of range.

use std::fmt;

use lehr_ir::eval::indices::IndexFault;

/// An index out of range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexError {
    /// The function.
    pub function: String,
    /// The index.
    pub fault: IndexFault,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IndexFault { op, loc, index, position, dim, size, window } = &self.fault;
        write!(f, "{}: {op}: the index {index}", self.function)?;
        if !position.is_empty() {
            write!(f, " at {position:?} of the indices")?;
        }
        match size.checked_sub(*window) {
            Some(last) => write!(f, " is outside of 0..={last}, where dim {dim} of size {size} has")?,
            None => write!(f, " is outside of dim {dim}, whose size {size} holds no")?,
        }
        write!(f, " windows of {window}{}", crate::error::at(loc))?;
        f.write_str("\n  = help: look at where the indices come from, or clip them; `Options::check_indices` is what refuses them")
    }
}

impl std::error::Error for IndexError {}
