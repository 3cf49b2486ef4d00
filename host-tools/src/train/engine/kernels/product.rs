//! Matrix products by the `gemm` crate.

use gemm::Parallelism;

/// A matrix in a slice: element `(i, j)` is at `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements between rows.
    pub row: usize,
    /// Elements between columns.
    pub column: usize,
}

impl Layout {
    /// Rows one after the other.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, row: columns, column: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row }
    }

    fn span(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row + (self.columns - 1) * self.column + 1
    }
}

/// What becomes of the old values of a product's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// They are overwritten.
    Replace,
    /// The product is added to them.
    Add,
}

/// `out = a b` or `out += a b`.
///
/// # Panics
/// When extents differ or a slice is too short.
pub fn product(out: (&mut [f32], Layout), store: Store, a: (&[f32], Layout), b: (&[f32], Layout)) {
    let ((out, to), (a, left), (b, right)) = (out, a, b);
    assert!(to.rows == left.rows && to.columns == right.columns && left.columns == right.rows);
    assert!(out.len() >= to.span() && a.len() >= left.span() && b.len() >= right.span());
    if to.span() == 0 {
        return;
    }
    // SAFETY: the spans asserted above are what the strides address; `out` is borrowed mutably.
    unsafe {
        gemm::gemm(
            to.rows,
            to.columns,
            left.columns,
            out.as_mut_ptr(),
            to.column as isize,
            to.row as isize,
            store == Store::Add,
            a.as_ptr(),
            left.column as isize,
            left.row as isize,
            b.as_ptr(),
            right.column as isize,
            right.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
