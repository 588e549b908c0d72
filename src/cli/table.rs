//! Tables for people: columns as wide as their widest cell, numbers to the right.

use super::paint::Paint;
use std::fmt::Write as _;

/// A text and its colour; the width is that of the text.
pub(super) struct Cell {
    pub text: String,
    pub ink: fn(Paint, &str) -> String,
    right: bool,
}

pub(super) fn plain(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), ink: |_, text| text.to_owned(), right: false }
}

pub(super) fn number(text: impl Into<String>) -> Cell {
    Cell { right: true, ..plain(text) }
}

pub(super) fn inked(text: impl Into<String>, ink: fn(Paint, &str) -> String) -> Cell {
    Cell { ink, ..plain(text) }
}

/// Columns as wide as their widest cell.
pub(super) fn table(heads: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].text.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    let head: Vec<Cell> = heads.iter().map(|head| inked(*head, Paint::dim)).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            // Numbers stand under the right end of their head, which is a text.
            let right = cell.right || (std::ptr::eq(row, &head) && rows.first().is_some_and(|row| row[index].right));
            let inked = (cell.ink)(paint, &cell.text);
            line += &if right { format!("{pad}{inked}  ") } else { format!("{inked}{pad}  ") };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
