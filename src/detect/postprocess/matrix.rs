//! A matrix of numbers in an output: the values and their order in memory come in, the numbers of a candidate go out. It lets
//! the rest read an output whichever way round it is.

/// Numbers of candidates, one row for each of them. It is a part of an output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other. `values` has `rows * columns` elements.
    pub(crate) fn by_row(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// A matrix whose columns follow each other. `values` has `rows * columns` elements.
    pub(crate) fn by_column(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride: 1,
            column_stride: rows,
        }
    }

    /// The part with `columns` columns from the one numbered `first`.
    pub(crate) fn part(self, first: usize, columns: usize) -> Self {
        let values = if self.rows == 0 || columns == 0 {
            &[]
        } else {
            &self.values[first * self.column_stride..]
        };
        Self {
            values,
            columns,
            ..self
        }
    }

    /// The first `rows` rows.
    pub(crate) fn first_rows(self, rows: usize) -> Self {
        Self {
            rows: rows.min(self.rows),
            ..self
        }
    }

    /// How many candidates there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many numbers a candidate has.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// True if the numbers of a row follow each other in memory.
    pub(crate) fn is_by_row(&self) -> bool {
        self.column_stride == 1
    }

    /// One number.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
    }

    /// The numbers of a row as they lie in memory, if they follow each other.
    pub(crate) fn row(&self, row: usize) -> Option<&'a [f32]> {
        let start = row * self.row_stride;
        self.is_by_row()
            .then(|| &self.values[start..start + self.columns])
    }

    /// The numbers of a column as they lie in memory, if they follow each other.
    pub(crate) fn column(&self, column: usize) -> Option<&'a [f32]> {
        let start = column * self.column_stride;
        (self.row_stride == 1).then(|| &self.values[start..start + self.rows])
    }

    /// All numbers, as slices of memory as long as they can be.
    pub(crate) fn slices(&self) -> Box<dyn Iterator<Item = &'a [f32]> + 'a> {
        let matrix = *self;
        if self.rows == 0 || self.columns == 0 {
            Box::new(std::iter::empty())
        } else if self.row_stride == 1 && self.column_stride == self.rows
            || self.column_stride == 1 && self.row_stride == self.columns
        {
            Box::new(std::iter::once(&self.values[..self.rows * self.columns]))
        } else if self.row_stride == 1 {
            Box::new((0..self.columns).filter_map(move |column| matrix.column(column)))
        } else {
            Box::new((0..self.rows).filter_map(move |row| matrix.row(row)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_give_the_same_numbers() {
        let rows = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0];
        let columns = [0.0, 10.0, 1.0, 11.0, 2.0, 12.0];
        let (a, b) = (
            Matrix::by_row(&rows, 2, 3),
            Matrix::by_column(&columns, 2, 3),
        );
        for row in 0..2 {
            for column in 0..3 {
                assert_eq!(a.at(row, column), b.at(row, column));
                let part = (a.part(1, 2), b.part(1, 2));
                if column < 2 {
                    assert_eq!(part.0.at(row, column), a.at(row, column + 1));
                    assert_eq!(part.1.at(row, column), a.at(row, column + 1));
                }
            }
        }
        let sum = |matrix: Matrix<'_>| matrix.slices().flatten().sum::<f32>();
        assert_eq!(sum(a), 36.0);
        assert_eq!(sum(b), 36.0);
        assert_eq!(sum(a.part(1, 2)), 26.0);
        assert_eq!(sum(b.part(1, 2)), 26.0);
        assert_eq!(sum(b.part(0, 0)), 0.0);
        assert_eq!(sum(a.first_rows(1)), 3.0);
        assert_eq!(sum(b.first_rows(1)), 3.0);
    }
}
