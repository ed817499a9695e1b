//! The stack frame, addressed from the stack pointer upwards.

use super::{Unsupported, WideError};

/// The most bytes of a frame: threads have megabytes of stack.
const MAX_FRAME: u64 = 256 << 10;

#[derive(Default)]
pub(super) struct Frame {
    end: u64,
    free_vectors: Vec<i32>,
}

impl Frame {
    /// Bytes of the whole frame, a multiple of 64.
    pub(super) fn bytes(&self) -> Result<i32, WideError> {
        let bytes = self.end.next_multiple_of(64);
        i32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME).ok_or(Unsupported::Frame(bytes).into())
    }

    /// A place of `n` 64-bit words for the whole function.
    pub(super) fn words(&mut self, n: usize) -> i32 {
        self.place(8 * n as u64, 8)
    }

    /// A place of `n` vectors of 64 bytes for the whole function.
    pub(super) fn vectors(&mut self, n: usize) -> i32 {
        self.place(64 * n as u64, 64)
    }

    /// A place of one vector, to be given back.
    pub(super) fn take_vector(&mut self) -> i32 {
        match self.free_vectors.pop() {
            Some(place) => place,
            None => self.vectors(1),
        }
    }

    /// Gives back what [`Frame::take_vector`] gave.
    pub(super) fn give_vector(&mut self, place: i32) {
        self.free_vectors.push(place);
    }

    fn place(&mut self, bytes: u64, alignment: u64) -> i32 {
        let start = self.end.next_multiple_of(alignment);
        self.end = start + bytes;
        // A frame this large is refused in the end.
        i32::try_from(start).unwrap_or(0)
    }
}
