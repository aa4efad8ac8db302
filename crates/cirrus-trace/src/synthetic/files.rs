//! The files of a trace that is made up.
//!
//! Owns: names, parts, compression, the three encodings of google-2019.
//! Knows nothing of: what a row means.
//! Invariant: memory is a buffer for each open file, and for Parquet a row group.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as Codec, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::model::{Event, Model};
use super::rows::{self, Field, GENERIC, Kind, google_2019_columns};
use super::{Encoding, Layout, Parts};
use crate::formats::number::{float, int};

/// Rows in a row group of a Parquet file.
const GROUP: usize = 1 << 14;

pub(super) fn write(directory: &Path, model: &Model, parts: Parts) -> io::Result<u64> {
    let count = parts.count.max(1);
    let mut files = Files {
        directory,
        layout: model.layout,
        parts,
        open: HashMap::new(),
        made: HashMap::new(),
    };
    let (mut events, mut row) = (Vec::new(), Vec::new());
    let mut total = 0;
    for tick in 0..model.ticks() {
        model.events(tick, &mut events);
        for event in events.drain(..) {
            let kind = rows::fields(model, tick, &event, &mut row);
            let part = if model.layout.is_alibaba() {
                machine(&event) % count
            } else {
                let part = u64::from(tick) * u64::from(count) / u64::from(model.ticks());
                u32::try_from(part).unwrap_or(0)
            };
            files.write(kind, part, &row)?;
            total += 1;
        }
    }
    files.close(None)?;
    for kind in [Kind::Machines, Kind::Tasks, Kind::Usage] {
        files.leave_empty(kind, count)?;
    }
    Ok(total)
}

fn machine(event: &Event) -> u32 {
    match *event {
        Event::Machine { machine, .. }
        | Event::Task { machine, .. }
        | Event::Gauge { machine, .. }
        | Event::Sample { machine, .. }
        | Event::Row { machine, .. } => machine,
        Event::Plan { task, .. } => task,
    }
}

/// The files that are being written.
struct Files<'a> {
    directory: &'a Path,
    layout: Layout,
    parts: Parts,
    open: HashMap<(u8, u32), Output>,
    /// How many parts of each table there are.
    made: HashMap<u8, u32>,
}

impl Files<'_> {
    fn write(&mut self, kind: Kind, part: u32, row: &[Field]) -> io::Result<()> {
        let key = (kind as u8, part);
        if !self.open.contains_key(&key) {
            // The parts follow each other, but for Alibaba's, which are written side by side.
            if !self.layout.is_alibaba() {
                self.close(Some(kind))?;
            }
            self.leave_empty(kind, part)?;
            self.made.insert(kind as u8, part + 1);
            let file = Output::create(self.directory, self.layout, kind, part, self.parts)?;
            self.open.insert(key, file);
        }
        match self.open.get_mut(&key) {
            Some(file) => file.write(row),
            None => Ok(()),
        }
    }

    /// Makes the parts before this one that have no rows, where their names say how many there are.
    fn leave_empty(&mut self, kind: Kind, before: u32) -> io::Result<()> {
        if self.layout == Layout::Google2011 {
            for part in self.made.get(&(kind as u8)).copied().unwrap_or(0)..before {
                Output::create(self.directory, self.layout, kind, part, self.parts)?.finish()?;
            }
        }
        Ok(())
    }

    /// Ends the files of a table, or all.
    fn close(&mut self, kind: Option<Kind>) -> io::Result<()> {
        let mut ended =
            self.open.extract_if(|(of, _), _| kind.is_none_or(|kind| kind as u8 == *of));
        ended.try_for_each(|(_, file)| file.finish())
    }
}

/// A file that is being written.
enum Output {
    Lines { to: Text, text: Vec<u8>, columns: Option<&'static [&'static str]> },
    Parquet(Box<Parquet>),
}

enum Text {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

fn path(directory: &Path, layout: Layout, kind: Kind, part: u32, parts: Parts) -> PathBuf {
    let table = match (layout, kind) {
        (Layout::Google2011 | Layout::Google2019(_), Kind::Machines) => "machine_events",
        (Layout::Google2011, Kind::Tasks) => "task_events",
        (Layout::Google2011, Kind::Usage | Kind::Gauges) => "task_usage",
        (Layout::Google2019(_), Kind::Tasks) => "instance_events",
        (Layout::Google2019(_), Kind::Usage | Kind::Gauges) => "instance_usage",
        (Layout::Alibaba2018, Kind::Machines) => "machine_meta",
        (Layout::Alibaba2018, Kind::Gauges) => "machine_usage",
        (Layout::Alibaba2018, Kind::Tasks) => "batch_task",
        (Layout::Alibaba2018, Kind::Usage) => "batch_instance",
        (Layout::Spar, Kind::Tasks | Kind::Machines) => "sample_tasks",
        (Layout::Spar, Kind::Usage | Kind::Gauges) => "sample_instances",
        (Layout::Generic, _) => "trace",
    };
    let end = match layout {
        Layout::Google2019(Encoding::JsonLines) => "json",
        Layout::Google2019(Encoding::Parquet) => "parquet",
        _ => "csv",
    };
    let gz = if parts.gzip && end != "parquet" { ".gz" } else { "" };
    let count = parts.count.max(1);
    if layout == Layout::Google2011 {
        directory.join(table).join(format!("part-{part:05}-of-{count:05}.{end}{gz}"))
    } else if count == 1 {
        directory.join(format!("{table}.{end}{gz}"))
    } else {
        directory.join(format!("{table}-{part:012}.{end}{gz}"))
    }
}

impl Output {
    fn create(
        directory: &Path,
        layout: Layout,
        kind: Kind,
        part: u32,
        parts: Parts,
    ) -> io::Result<Output> {
        let path = path(directory, layout, kind, part, parts);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = File::create(path)?;
        if layout == Layout::Google2019(Encoding::Parquet) {
            return Ok(Output::Parquet(Box::new(Parquet::new(file, google_2019_columns(kind))?)));
        }
        let file = BufWriter::with_capacity(64 << 10, file);
        let mut to = if parts.gzip {
            Text::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
        } else {
            Text::Plain(file)
        };
        let header = match layout {
            Layout::Google2019(Encoding::Csv) => google_2019_columns(kind).join(","),
            Layout::Generic => GENERIC.join(","),
            _ => String::new(),
        };
        if !header.is_empty() {
            to.write(format!("{header}\n").as_bytes())?;
        }
        let is_json = layout == Layout::Google2019(Encoding::JsonLines);
        let columns = is_json.then(|| google_2019_columns(kind));
        Ok(Output::Lines { to, text: Vec::new(), columns })
    }

    fn write(&mut self, row: &[Field]) -> io::Result<()> {
        match self {
            Output::Lines { to, text, columns } => {
                text.clear();
                match columns {
                    Some(columns) => json(columns, row, text),
                    None => {
                        for (index, field) in row.iter().enumerate() {
                            if index > 0 {
                                text.push(b',');
                            }
                            field.write(text);
                        }
                    }
                }
                text.push(b'\n');
                to.write(text)
            }
            Output::Parquet(file) => file.write(row),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Output::Lines { to: Text::Plain(mut file), .. } => file.flush(),
            Output::Lines { to: Text::Gzip(gzip), .. } => gzip.finish()?.flush(),
            Output::Parquet(file) => file.finish(),
        }
    }
}

impl Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Text::Plain(file) => file.write_all(bytes),
            Text::Gzip(file) => file.write_all(bytes),
        }
    }
}

/// A row as BigQuery writes it: groups as objects, integers in quotes, nothing for null.
fn json(columns: &[&str], row: &[Field], text: &mut Vec<u8>) {
    let mut group = "";
    text.push(b'{');
    for (column, field) in columns.iter().zip(row).filter(|(_, field)| **field != Field::Empty) {
        let (of, name) = column.split_once('.').unwrap_or(("", column));
        if !group.is_empty() && of != group {
            text.push(b'}');
        }
        if !text.ends_with(b"{") {
            text.push(b',');
        }
        if !of.is_empty() && of != group {
            text.extend_from_slice(format!("\"{of}\":{{").as_bytes());
        }
        group = of;
        text.extend_from_slice(format!("\"{name}\":").as_bytes());
        let quoted = !matches!(field, Field::Units(_));
        text.extend_from_slice(if quoted { b"\"" } else { b"" });
        field.write(text);
        text.extend_from_slice(if quoted { b"\"" } else { b"" });
    }
    text.extend_from_slice(if group.is_empty() { b"}" } else { b"}}" });
}

/// A Parquet file, its columns nullable and nested as in BigQuery.
struct Parquet {
    file: SerializedFileWriter<File>,
    rows: Vec<Vec<Field>>,
    /// How deep each column is nested.
    depths: Vec<i16>,
}

impl Parquet {
    fn new(file: File, columns: &[&str]) -> io::Result<Parquet> {
        let leaf = |name: &str| {
            let physical = match name {
                "platform_id" => Physical::BYTE_ARRAY,
                "cpus" | "memory" | "assigned_memory" | "sample_rate" => Physical::DOUBLE,
                _ => Physical::INT64,
            };
            Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .build()
                .map(Arc::new)
        };
        let mut fields: Vec<Arc<Type>> = Vec::new();
        let mut names = columns.iter().peekable();
        while let Some(column) = names.next() {
            let Some((group, name)) = column.split_once('.') else {
                fields.push(leaf(column).map_err(other)?);
                continue;
            };
            let mut leaves = vec![leaf(name).map_err(other)?];
            while let Some((_, name)) =
                names.peek().and_then(|next| next.split_once('.')).filter(|(of, _)| *of == group)
            {
                leaves.push(leaf(name).map_err(other)?);
                names.next();
            }
            let group = Type::group_type_builder(group)
                .with_repetition(Repetition::OPTIONAL)
                .with_fields(leaves)
                .build();
            fields.push(Arc::new(group.map_err(other)?));
        }
        let schema = Type::group_type_builder("row").with_fields(fields).build().map_err(other)?;
        let properties = WriterProperties::builder().set_compression(Codec::SNAPPY).build();
        let file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        let depths = columns.iter().map(|name| if name.contains('.') { 2 } else { 1 }).collect();
        Ok(Parquet { file: file.map_err(other)?, rows: Vec::new(), depths })
    }

    fn write(&mut self, row: &[Field]) -> io::Result<()> {
        self.rows.push(row.to_vec());
        if self.rows.len() < GROUP { Ok(()) } else { self.flush().map_err(other) }
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            let fields = self.rows.iter().map(|row| row[index]);
            let depth = self.depths[index];
            let level = |field: Field| if field == Field::Empty { depth - 1 } else { depth };
            let levels: Vec<i16> = fields.clone().map(level).collect();
            let texts = fields.filter(|&field| field != Field::Empty).map(|field| {
                let mut text = Vec::new();
                field.write(&mut text);
                text
            });
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let values: Vec<i64> = texts.filter_map(|text| int(&text)).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let values: Vec<f64> = texts.filter_map(|text| float(&text)).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let values: Vec<ByteArray> = texts.map(ByteArray::from).collect();
                    writer.write_batch(&values, Some(&levels), None)?;
                }
                _ => return Err(ParquetError::General("no such column is written".into())),
            }
            column.close()?;
            index += 1;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.rows.is_empty() {
            self.flush().map_err(other)?;
        }
        self.file.close().map_err(other)?;
        Ok(())
    }
}

fn other(error: ParquetError) -> io::Error {
    io::Error::other(error)
}
