//! The assignment problem, sparse: which observation is of which track, so that what they cost together is least, where leaving an
//! observation alone has a price too. Shortest augmenting paths with potentials (Jonker and Volgenant 1987, as `scipy` and
//! LAPMOD have it), over the pairs that passed the gates alone.
//!
//! The crates for it take whole matrices, in which a crowd of 1,000 takes seconds, and allocate at each call. `pathfinding` is the
//! oracle of the tests here.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A pair that may be matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    /// The number of the track.
    pub(super) column: usize,
    /// What matching them costs, not less than 0.
    pub(super) cost: f32,
}

/// What an observation costs that is matched with nothing.
pub(super) const UNMATCHED: f32 = 1000.0;

/// A column and the length of the shortest path to it that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reached {
    length: f32,
    column: usize,
}

impl Eq for Reached {}

impl Ord for Reached {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.length.total_cmp(&other.length);
        by_length.then(self.column.cmp(&other.column))
    }
}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is known of a column.
#[derive(Debug, Clone, Copy)]
struct Column {
    potential: f32,
    /// The row that it is matched with.
    row: Option<usize>,
    /// The shortest path to it in the present search, and the row from which it comes.
    length: f32,
    from: usize,
    is_final: bool,
}

const UNTOUCHED: Column = Column {
    potential: 0.0,
    row: None,
    length: f32::INFINITY,
    from: 0,
    is_final: false,
};

/// Where a shortest path ends.
enum End {
    /// At a column that nobody has.
    Column(usize),
    /// At a row that is better left alone.
    Row(usize),
}

/// Solves assignment problems, in memory that it keeps from one to the next.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    edges: Vec<Edge>,
    /// For each row where its edges begin; one more for the end.
    starts: Vec<usize>,
    row_potentials: Vec<f32>,
    row_columns: Vec<Option<usize>>,
    columns: Vec<Column>,
    touched: Vec<usize>,
    heap: BinaryHeap<Reverse<Reached>>,
}

impl Assignment {
    /// Begins a problem with this many columns and no row.
    pub(super) fn begin(&mut self, columns: usize) {
        self.edges.clear();
        self.starts.clear();
        self.starts.push(0);
        self.touched.clear();
        self.columns.clear();
        self.columns.resize(columns, UNTOUCHED);
    }

    /// Adds a row with its edges.
    pub(super) fn row(&mut self, edges: &[Edge]) {
        self.edges.extend_from_slice(edges);
        self.starts.push(self.edges.len());
    }

    /// Solves it, and gives for each row the column that it is matched with.
    pub(super) fn solve(&mut self) -> &[Option<usize>] {
        let rows = self.starts.len() - 1;
        self.row_columns.clear();
        self.row_columns.resize(rows, None);
        self.row_potentials.clear();
        self.row_potentials.resize(rows, 0.0);
        for row in 0..rows {
            let end = self.search(row);
            self.augment(&end);
        }
        &self.row_columns
    }

    /// Finds the shortest path from a new row to where a match can end, and makes the potentials fit.
    fn search(&mut self, root: usize) -> End {
        self.heap.clear();
        for column in self.touched.drain(..) {
            let column = &mut self.columns[column];
            (column.length, column.is_final) = (f32::INFINITY, false);
        }
        let mut row = root;
        let mut length = 0.0;
        let mut alone = (f32::INFINITY, root);
        let (end, total) = loop {
            let here = length - self.row_potentials[row];
            if here + UNMATCHED < alone.0 {
                alone = (here + UNMATCHED, row);
            }
            for edge in &self.edges[self.starts[row]..self.starts[row + 1]] {
                let column = &mut self.columns[edge.column];
                let through = (here + edge.cost - column.potential).max(length);
                if !column.is_final && through < column.length {
                    if column.length.is_infinite() {
                        self.touched.push(edge.column);
                    }
                    (column.length, column.from) = (through, row);
                    self.heap.push(Reverse(Reached {
                        length: through,
                        column: edge.column,
                    }));
                }
            }
            let nearest = loop {
                match self.heap.pop() {
                    // An entry of a longer path to a column that has a shorter one by now.
                    Some(Reverse(old)) if self.columns[old.column].is_final => {}
                    other => break other,
                }
            };
            match nearest {
                Some(Reverse(reached)) if reached.length < alone.0 => {
                    let column = &mut self.columns[reached.column];
                    column.is_final = true;
                    length = reached.length;
                    match column.row {
                        Some(next) => row = next,
                        None => break (End::Column(reached.column), length),
                    }
                }
                _ => break (End::Row(alone.1), alone.0),
            }
        };
        self.row_potentials[root] += total;
        for &number in &self.touched {
            let column = &mut self.columns[number];
            if column.is_final {
                let rest = total - column.length;
                column.potential -= rest;
                if let Some(row) = column.row {
                    self.row_potentials[row] += rest;
                }
            }
        }
        end
    }

    /// Changes partners along the path that was found, from its end back to its beginning.
    fn augment(&mut self, end: &End) {
        let mut free = match *end {
            End::Column(column) => column,
            // The row that is left alone gives its column to whoever wanted it.
            End::Row(row) => match self.row_columns[row].take() {
                Some(column) => column,
                None => return,
            },
        };
        loop {
            let row = self.columns[free].from;
            self.columns[free].row = Some(row);
            match self.row_columns[row].replace(free) {
                Some(column) => free = column,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pathfinding::prelude::{Matrix, kuhn_munkres_min};
    use proptest::prelude::*;

    use super::*;

    const NEVER: i64 = 1 << 40;
    const ALONE: i64 = 1000 * 1024;

    /// Costs that are parts of 1024 are exact in `f32`, and whole numbers for the oracle.
    fn cost(units: u16) -> f32 {
        f32::from(units) / 1024.0
    }

    fn solved(problem: &[Vec<Option<u16>>], columns: usize, solver: &mut Assignment) -> i64 {
        solver.begin(columns);
        for row in problem {
            let edges: Vec<Edge> = row
                .iter()
                .enumerate()
                .filter_map(|(column, units)| {
                    units.map(|units| Edge {
                        column,
                        cost: cost(units),
                    })
                })
                .collect();
            solver.row(&edges);
        }
        let matches = solver.solve();
        let mut taken = vec![false; columns];
        let mut total = 0;
        for (row, column) in problem.iter().zip(matches) {
            total += match column {
                Some(column) => {
                    assert!(!std::mem::replace(&mut taken[*column], true), "taken twice");
                    i64::from(row[*column].expect("only pairs that are allowed"))
                }
                None => ALONE,
            };
        }
        total
    }

    proptest! {
        #[test]
        fn as_good_as_the_oracle(
            columns in 1_usize..12,
            rows in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0_u16..1024), 12), 1..12),
        ) {
            let rows: Vec<Vec<_>> = rows.into_iter().map(|row| row[..columns].to_vec()).collect();
            // Each row has a column of its own for being left alone. What is not allowed costs more than all of that.
            let mut all = Matrix::new(rows.len(), columns + rows.len(), NEVER);
            for (n, row) in rows.iter().enumerate() {
                for (column, units) in row.iter().enumerate() {
                    all[(n, column)] = units.map_or(NEVER, i64::from);
                }
                all[(n, columns + n)] = ALONE;
            }
            let mut solver = Assignment::default();
            // Twice, to see that nothing is left of the first time.
            for _ in 0..2 {
                prop_assert_eq!(solved(&rows, columns, &mut solver), kuhn_munkres_min(&all).0);
            }
        }
    }
}
