//! Aligned memory for temporaries and scratch.

/// One cache line, the unit in which memory is allotted.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
#[expect(dead_code, reason = "the bytes are reached through pointers")]
struct Line([u8; 64]);

/// Bytes that start at a multiple of 64; they grow on demand and are then kept.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// Makes room for so many bytes; says whether the bytes moved.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        let lines = bytes.div_ceil(64);
        if lines <= self.lines.len() {
            return false;
        }
        // What was there is of no use, so that it is not copied.
        self.lines = Vec::new();
        self.lines.resize(lines, Line([0; 64]));
        true
    }

    /// Where the bytes start.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    /// Bytes of room.
    pub(super) fn len(&self) -> usize {
        64 * self.lines.len()
    }
}
