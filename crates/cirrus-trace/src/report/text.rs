//! A report on a terminal.
//!
//! Owns the layout. Knows nothing of what is in the tables.
//! Invariant: no line is wider than [`WIDTH`].

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle};

use super::{Report, Table, sentences, tables};

/// The most columns of a line.
const WIDTH: u16 = 100;

/// The answer in sentences: what is unused, what could be lent, what is achievable. It leaves half of
/// a screen for what belongs to it, as its price.
#[must_use]
pub fn answer(report: &Report) -> String {
    sentences(report).iter().map(|sentence| wrapped(sentence)).collect()
}

/// Every table, what most is asked for first.
#[must_use]
pub fn details(report: &Report) -> String {
    let mut text = String::new();
    for table in tables(report) {
        text.push('\n');
        text += &wrapped(&table.title);
        if !table.rows.is_empty() {
            text += &drawn(&table);
        }
        if let Some(note) = &table.note {
            text += &wrapped(note);
        }
    }
    text
}

fn drawn(table: &Table) -> String {
    let mut drawn = comfy_table::Table::new();
    // No lines between rows: the report is to fit on few screens.
    drawn.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    drawn.set_content_arrangement(ContentArrangement::Dynamic);
    drawn.set_width(WIDTH);
    if table.columns.iter().any(|column| !column.is_empty()) {
        drawn.set_header(&table.columns);
    }
    drawn.add_rows(&table.rows);
    for column in drawn.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let drawn = drawn.to_string();
    drawn.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// Lines of whole words.
fn wrapped(said: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in said.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > usize::from(WIDTH) {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text.push('\n');
    text
}
