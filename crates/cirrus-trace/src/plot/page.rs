//! The page that holds sentences, plots and tables.
//!
//! Owns its markup and its looks. Knows nothing of figures.
//! Invariant: the page asks for no other file and runs no script; every text is escaped.

use std::fmt::Write as _;

use super::{over_time, recoverable};
use crate::report::{Report, Table, sentences, tables};

/// Plots are drawn in ink on white; in the dark they are turned over, hues kept.
const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ccc; --note: #555; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #141414; --line: #444; --note: #aaa; }
  svg { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
svg { width: 100%; min-width: 34rem; height: auto; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; } th { font-weight: 600; vertical-align: bottom; }
.note { color: var(--note); font-size: 0.9rem; }
";

/// The report as one page that stands alone: sentences, both plots, all tables.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut body = String::new();
    for sentence in sentences(report) {
        push(&mut body, format_args!("<p>{}</p>", escaped(&sentence)));
    }
    for plot in [recoverable(report), over_time(report)] {
        push(&mut body, format_args!("<div class=\"wide\">{plot}</div>"));
    }
    for table in tables(report) {
        push_table(&mut body, &table);
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Memory of a cluster</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Memory of a cluster: what is unused, what could be lent</h1>\n{body}</body>\n</html>\n"
    )
}

fn push_table(body: &mut String, table: &Table) {
    push(body, format_args!("<h2>{}</h2>", escaped(&table.title)));
    if !table.rows.is_empty() {
        push_rows(body, table);
    }
    if let Some(note) = &table.note {
        push(body, format_args!("<p class=\"note\">{}</p>", escaped(note)));
    }
}

fn push_rows(body: &mut String, table: &Table) {
    push(body, format_args!("<div class=\"wide\"><table>"));
    if table.columns.iter().any(|column| !column.is_empty()) {
        let columns = table.columns.iter().map(|column| format!("<th>{}</th>", escaped(column)));
        push(body, format_args!("<tr>{}</tr>", columns.collect::<String>()));
    }
    for row in &table.rows {
        let cells = row.iter().map(|cell| format!("<td>{}</td>", escaped(cell)));
        push(body, format_args!("<tr>{}</tr>", cells.collect::<String>()));
    }
    push(body, format_args!("</table></div>"));
}

fn push(body: &mut String, said: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(body, "{said}");
}

fn escaped(said: &str) -> String {
    said.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
