//! Tables of the demo: rows of cells come in, and lines go out that fit into the terminal, or all of them where there is none. What does
//! not fit is left out, the least important columns first, and it is said how many rows were.

use crate::dev::terminal::{Colours, Paint, TerminalSize, cut, pad, width};

/// Between two columns.
const GAP: usize = 2;

/// The fewest columns of a terminal that a text that may be cut is worth.
const MIN_CUT: usize = 8;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) align: Align,
    /// Columns with a higher number go first where there is no room; 0 never goes.
    pub(super) expendable: u8,
    /// At least as wide as this, so that the table does not jump while numbers grow.
    pub(super) least: usize,
}

impl Column {
    pub(super) const fn left(head: &'static str, expendable: u8, least: usize) -> Self {
        Self {
            head,
            align: Align::Left,
            expendable,
            least,
        }
    }

    pub(super) const fn right(head: &'static str, expendable: u8, least: usize) -> Self {
        Self {
            align: Align::Right,
            ..Self::left(head, expendable, least)
        }
    }

    pub(super) const fn cut(head: &'static str, expendable: u8) -> Self {
        Self {
            align: Align::Cut,
            ..Self::left(head, expendable, 0)
        }
    }
}

/// Where a cell's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// Left, and it is cut where there is no room. Only the last column is.
    Cut,
}

/// A row of a table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// Its second cell is painted so.
    pub(super) paint: Option<Paint>,
    /// It tells of trouble, which is said even if the row finds no room.
    pub(super) is_trouble: bool,
}

/// The lines of a table: its head and its rows. With a size they fit into the terminal, below which the cursor stands.
pub(super) fn lines(
    columns: &[Column],
    rows: &[Row],
    size: Option<TerminalSize>,
    colours: Colours,
) -> Vec<String> {
    let room = size.map_or(usize::MAX, |size| size.columns);
    let widths = widths(columns, rows, room);
    let head = columns.iter().map(|column| column.head);
    let head = line(columns, &widths, head, |_, text| {
        colours.paint(Paint::Dim, &text)
    });
    let mut lines = vec![head];
    let shown = match size {
        // One line is the head's, and one the cursor's.
        Some(size) if rows.len() + 2 > size.rows => size.rows.saturating_sub(3),
        _ => rows.len(),
    };
    for row in &rows[..shown] {
        let cells = row.cells.iter().map(String::as_str);
        lines.push(line(columns, &widths, cells, |column, text| {
            match row.paint {
                Some(paint) if column == 1 => colours.paint(paint, &text),
                _ => text,
            }
        }));
    }
    if let left_out @ [_, ..] = &rows[shown..] {
        let trouble = left_out.iter().filter(|row| row.is_trouble).count();
        let trouble = match trouble {
            0 => String::new(),
            count => format!(", {count} of them not receiving"),
        };
        let text = cut(&format!("and {} more{trouble}", left_out.len()), room);
        lines.push(colours.paint(Paint::Dim, &text));
    }
    lines
}

/// The width of each column, `None` for those that find no room.
fn widths(columns: &[Column], rows: &[Row], room: usize) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = columns
        .iter()
        .enumerate()
        .map(|(n, column)| {
            let cells = rows.iter().filter_map(|row| row.cells.get(n));
            let widest = cells.map(|cell| width(cell)).max().unwrap_or_default();
            Some(widest.max(width(column.head)).max(column.least))
        })
        .collect();
    loop {
        let taken: usize = widths.iter().flatten().map(|width| width + GAP).sum();
        let taken = taken.saturating_sub(GAP);
        if taken <= room {
            return widths;
        }
        // A text that may be cut gives first what it can.
        let last = columns.iter().position(|column| column.align == Align::Cut);
        if let Some(Some(width)) = last.map(|last| &mut widths[last]) {
            let fits = width.saturating_sub(taken - room);
            if fits >= MIN_CUT {
                *width = fits;
                return widths;
            }
        }
        let there = (0..columns.len()).filter(|n| widths[*n].is_some());
        match there.max_by_key(|n| columns[*n].expendable) {
            Some(n) if columns[n].expendable > 0 => widths[n] = None,
            // What never goes is cut by the terminal's edge.
            _ => return widths,
        }
    }
}

fn line<'a>(
    columns: &[Column],
    widths: &[Option<usize>],
    cells: impl Iterator<Item = &'a str>,
    painted: impl Fn(usize, String) -> String,
) -> String {
    let there = columns.iter().zip(widths).zip(cells).enumerate();
    let texts: Vec<(usize, String)> = there
        .filter_map(|(n, ((column, planned), cell))| {
            let room = (*planned)?;
            let text = match column.align {
                Align::Left => pad(cell, room),
                Align::Right => {
                    let blanks = room.saturating_sub(width(cell));
                    " ".repeat(blanks) + cell
                }
                Align::Cut => cut(cell, room),
            };
            Some((n, text))
        })
        .collect();
    let last = texts.len().saturating_sub(1);
    let texts = texts.into_iter().enumerate().map(|(place, (n, text))| {
        // Blanks at the end of a line would make a narrow terminal wrap it.
        let text = match place == last {
            true => text.trim_end().to_owned(),
            false => text,
        };
        painted(n, text)
    });
    texts.collect::<Vec<_>>().join(&" ".repeat(GAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::left("camera", 0, 0),
        Column::left("state", 1, 12),
        Column::right("age ms", 3, 0),
        Column::cut("objects", 2),
    ];

    fn rows(count: usize) -> Vec<Row> {
        (1..=count)
            .map(|n| Row {
                cells: vec![
                    format!("camera-{n}"),
                    "receiving".to_owned(),
                    "46.1".to_owned(),
                    "7 person, 2 car, 1 truck".to_owned(),
                ],
                paint: Some(Paint::Green),
                is_trouble: n % 10 == 0,
            })
            .collect()
    }

    fn drawn(count: usize, columns: usize, rows_of_terminal: usize) -> Vec<String> {
        let size = TerminalSize {
            columns,
            rows: rows_of_terminal,
        };
        lines(COLUMNS, &rows(count), Some(size), Colours::Off)
    }

    #[test]
    fn without_a_terminal_everything_is_there() {
        let lines = lines(COLUMNS, &rows(64), None, Colours::Off);
        assert_eq!(lines.len(), 65);
        assert_eq!(lines[0], "camera     state         age ms  objects");
        assert_eq!(
            lines[64],
            "camera-64  receiving       46.1  7 person, 2 car, 1 truck"
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_and_then_left_out() {
        assert_eq!(
            drawn(1, 50, 24)[1],
            "camera-1  receiving       46.1  7 person, 2 car, …"
        );
        assert_eq!(
            drawn(1, 40, 24)[1],
            "camera-1  receiving       46.1  7 perso…"
        );
        assert_eq!(drawn(1, 36, 24)[1], "camera-1  receiving     7 person, 2…");
        assert_eq!(drawn(1, 24, 24)[1], "camera-1  receiving");
        assert_eq!(drawn(1, 10, 24)[1], "camera-1");
    }

    #[test]
    fn no_line_is_wider_and_no_table_higher_than_the_terminal() {
        for columns in 10..100 {
            for (count, height) in [(1, 4), (3, 24), (21, 24), (22, 24), (23, 24), (64, 20)] {
                let lines = drawn(count, columns, height);
                assert!(lines.len() < height, "{count} cameras on {height} rows");
                for line in &lines {
                    assert!(width(line) <= columns, "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn rows_that_find_no_room_are_counted() {
        assert_eq!(drawn(22, 80, 24).len(), 23);
        assert!(drawn(22, 80, 24)[22].starts_with("camera-22"));
        let lines = drawn(64, 80, 24);
        assert_eq!(lines.len(), 23);
        assert_eq!(lines[22], "and 43 more, 4 of them not receiving");
        assert_eq!(
            drawn(5, 80, 3),
            ["camera    state         age ms  objects", "and 5 more"]
        );
    }

    #[test]
    fn the_second_cell_is_painted() {
        let lines = lines(COLUMNS, &rows(1), None, Colours::On);
        assert!(
            lines[1].contains("\u{1b}[32mreceiving   \u{1b}[0m"),
            "{lines:?}"
        );
    }
}
