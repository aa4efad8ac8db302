//! Files that are broken, of another format, or not there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cirrus_trace::formats::Format;
use cirrus_trace::problems::{Kind, Spot};
use cirrus_trace::reading::{ErrorKind, detect, open};
use cirrus_trace::record::Record;
use cirrus_trace::synthetic::{Encoding, Layout, Parts, Scenario, records, write};
use flate2::Compression;
use flate2::write::GzEncoder;
use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;

use crate::support::{options, read, read_text, read_with, uses};

fn row(start: u64) -> String {
    let end = start + 300_000_000;
    format!("{start},{end},1,0,7,0.5,0.25,0.5,0,0,0.25,0,0,0,0,2,0,0,1,0\n")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::default());
    to.write_all(text.as_bytes()).unwrap();
    to.finish().unwrap()
}

/// How many whole lines a cut deflate stream holds, by the bare decompressor.
fn whole_lines(gzip: &[u8]) -> usize {
    // A header of ten bytes, as the encoder above writes it.
    let Some(data) = gzip.get(10..) else { return 0 };
    let mut text = vec![0; 1 << 20];
    let mut bare = Decompress::new(false);
    bare.decompress(data, &mut text, FlushDecompress::None).unwrap();
    let len = usize::try_from(bare.total_out()).unwrap();
    text[..len].iter().filter(|&&b| b == b'\n').count()
}

#[test]
fn a_gzip_file_that_is_cut_anywhere_gives_the_rows_before_the_cut() {
    let text: String = (0..40).map(|n| row(n * 1_000_000 + n * n)).collect();
    let whole = gzip(&text);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("task_usage-part-0.csv.gz");
    let next = directory.path().join("task_usage-part-1.csv.gz");
    fs::write(&next, gzip(&row(1_000_000_000))).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (records, problems) = read(Format::Google2011, directory.path());
        let lines = whole_lines(&whole[..cut]);
        seen.insert(lines);
        assert_eq!(records.len(), lines + 1, "cut at {cut}, and the next file");
        assert_eq!(problems.total(), 1, "cut at {cut}: {problems}");
        let Some(tally) = problems.get(Kind::GzipTruncated) else {
            panic!("cut at {cut}: {problems}")
        };
        let first = tally.first.as_ref().unwrap();
        assert_eq!((&*first.file, first.at), (&*path, Some(Spot::Line(lines as u64 + 1))));
    }
    assert!(seen.contains(&0) && seen.contains(&40) && seen.len() > 10, "{seen:?}");
    fs::write(&path, &whole).unwrap();
    let (records, problems) = read(Format::Google2011, directory.path());
    assert!(records.len() == 41 && problems.is_empty(), "{problems}");
}

#[test]
fn gzip_is_told_by_content_and_may_have_members() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("task_usage.csv");
    let mut bytes = gzip(&row(0));
    bytes.extend(gzip(&(row(1) + &row(2))));
    fs::write(&path, &bytes).unwrap();
    let (records, problems) = read(Format::Google2011, &path);
    assert!(records.len() == 3 && problems.is_empty(), "{problems}");
    // A name alone makes no gzip file.
    let path = directory.path().join("task_usage.csv.gz");
    fs::write(&path, row(5)).unwrap();
    let (records, problems) = read(Format::Google2011, &path);
    assert!(records.len() == 1 && problems.is_empty(), "{problems}");
}

#[test]
fn what_is_wrong_is_counted_by_kind_with_the_line_of_the_first() {
    let short = row(7).replacen("0.5,", "", 1);
    let text = [
        row(0),
        short.clone(),
        short,
        row(1).replace("0.25,0.5", "x,0.5"),
        row(2).replace("300000002", "2"),
        row(3).replace("0.25,0.5", "-0.25,0.5"),
        row(4).replace("0.25,0.5", "16.5,0.5"),
        row(5).replace("0.25,0.5", "1.5,0.5"),
        row(6).replace("0.25,0.5", "inf,0.5"),
        row(8).replace("300000008", ""),
        row(9).replace(",0,7,", ",a,7,"),
        row(10).replace(",7,", ",,"),
    ]
    .concat();
    let (records, problems) = read_text(Format::Google2011, "task_usage.csv", &text);
    let memory: Vec<_> = uses(&records).iter().map(|used| used.mean.memory).collect();
    let expected = [Some(0.25), None, None, None, Some(1.5), None, Some(0.25)];
    assert_eq!(memory, expected, "{problems}");
    assert_eq!(uses(&records)[6].machine, None);
    let found: Vec<_> = problems
        .iter()
        .map(|(kind, tally)| (kind, tally.count, tally.first.as_ref().unwrap().at, &*tally.text))
        .collect();
    let line = |line| Some(Spot::Line(line));
    let expected = [
        (Kind::ColumnCount, 2, line(2), "columns 19"),
        (Kind::NumberUnreadable, 2, line(4), "canonical memory usage \"x\""),
        (Kind::ValueMissing, 1, line(10), "end time"),
        (Kind::OutOfRange, 3, line(6), "canonical memory usage -0.25"),
        (Kind::AboveOne, 1, line(8), "canonical memory usage 1.5"),
        (Kind::NoTime, 1, line(5), "interval 2 to 2 us"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_wrong_number_of_columns_is_a_problem_of_the_row() {
    let text = "time,machine,memory_capacity,memory_used\n0,a,1,0.5,7\n0,a,1,0.5\n0,a\n";
    let (records, problems) = read_text(Format::Generic, "a.csv", text);
    assert_eq!(records.len(), 2, "{problems}");
    assert_eq!((problems.count(Kind::ColumnCount), problems.total()), (2, 2));
}

#[test]
fn a_header_without_a_needed_column_is_one_problem() {
    let directory = tempfile::tempdir().unwrap();
    let text = "start_time,end_time,collection_id,instance_index\n1,2,3,4\n1,2,3,4\n";
    fs::write(directory.path().join("instance_usage.csv"), text).unwrap();
    let (records, problems) = read(Format::Google2019, directory.path());
    assert!(records.is_empty(), "{records:?}");
    assert_eq!((problems.count(Kind::ColumnMissing), problems.total()), (1, 1));
    assert_eq!(problems.get(Kind::ColumnMissing).unwrap().text, "column \"average_usage_memory\"");
}

#[test]
fn errors_come_before_anything_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let here = |name: &str| directory.path().join(name);
    let fails = |format, path: &Path| match open(format, &[path.to_owned()], options()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => (error.kind(), error.to_string()),
    };
    assert_eq!(fails(Format::Generic, &here("none")).0, ErrorKind::Missing);
    assert_eq!(fails(Format::Generic, directory.path()).0, ErrorKind::Empty);
    let usage = here("usage.csv");
    fs::write(&usage, "start_time,end_time,collection_id,instance_index,average_usage.memory\n")
        .unwrap();
    for path in [usage.as_path(), directory.path()] {
        let (kind, text) = fails(Format::Google2011, path);
        assert_eq!(kind, ErrorKind::Format);
        let hint = "this looks like google-2019 instance_usage: say `cirrus trace google-2019`";
        assert!(text.ends_with(hint), "{text}");
    }
    let tar = here("machine_usage.tar.gz");
    let mut bytes = vec![0; 1024];
    bytes[257..262].copy_from_slice(b"ustar");
    fs::write(&tar, bytes).unwrap();
    assert!(fails(Format::Alibaba2018, &tar).1.contains("unpack it"));
    let noise = here("noise");
    fs::write(&noise, "a,b\nc,d\n").unwrap();
    let (kind, text) = fails(Format::Generic, &noise);
    assert!(kind == ErrorKind::Format && text.ends_with("no table of a generic trace"), "{text}");
}

#[test]
fn files_of_a_directory_that_do_not_fit_are_named_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let here = |name: &str| directory.path().join(name);
    fs::create_dir_all(here("task_usage")).unwrap();
    fs::create_dir_all(here("job_events")).unwrap();
    fs::write(here("task_usage/part-00000-of-00500.csv"), row(0)).unwrap();
    fs::write(here("task_usage/.part-00001-of-00500.csv"), row(0)).unwrap();
    fs::write(here("job_events/part-00000-of-00500.csv"), "0,,1,0,a,3,b,c\n").unwrap();
    fs::write(here("README.md"), "About, this, trace\n").unwrap();
    std::os::unix::fs::symlink(here("nowhere"), here("task_usage/part-00002-of-00500.csv"))
        .unwrap();
    let (records, problems) = read(Format::Google2011, directory.path());
    assert_eq!(records.len(), 1);
    let counts: Vec<_> = problems.iter().map(|(kind, tally)| (kind, tally.count)).collect();
    let expected = [(Kind::FileUnreadable, 1), (Kind::FileMissing, 498), (Kind::FileNotUsed, 2)];
    assert_eq!(counts, expected, "{problems}");
    let missing = problems.get(Kind::FileMissing).unwrap();
    assert_eq!(
        (&*missing.first.as_ref().unwrap().file, &*missing.text),
        (&*here("task_usage/part-00001-of-00500.csv"), "2 of 500 parts are there")
    );
    assert_eq!(
        &*problems.get(Kind::FileNotUsed).unwrap().first.as_ref().unwrap().file,
        here("README.md")
    );
}

#[test]
fn detection_tells_every_table_of_every_layout() {
    for layout in Layout::ALL {
        let directory = tempfile::tempdir().unwrap();
        let scenario = Scenario::new(8, 3, 12, 1);
        write(directory.path(), &scenario, layout, Parts { count: 1, gzip: true }).unwrap();
        let mut files = Vec::new();
        let mut walk = vec![directory.path().to_owned()];
        while let Some(next) = walk.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk.push(path) } else { files.push(path) }
            }
        }
        let tables = match layout {
            Layout::Generic => 1,
            Layout::Spar => 2,
            Layout::Google2011 | Layout::Google2019(_) => 3,
            Layout::Alibaba2018 => 4,
        };
        assert_eq!(files.len(), tables, "{layout:?}");
        for path in files {
            // Told from what is in it, whatever it is called.
            let bare = directory.path().join("x");
            fs::copy(&path, &bare).unwrap();
            let table = detect(&bare).unwrap_or_else(|| panic!("{}", path.display()));
            assert_eq!(table.format(), layout.format());
            assert!(
                layout == Layout::Generic || path.to_str().unwrap().contains(table.name()),
                "{} is said to be {table:?}",
                path.display()
            );
        }
    }
}

#[test]
fn a_broken_row_group_leaves_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::new(50, 20, 60, 2);
    let layout = Layout::Google2019(Encoding::Parquet);
    write(directory.path(), &scenario, layout, Parts { count: 1, gzip: false }).unwrap();
    let path = directory.path().join("instance_usage.parquet");
    let mut bytes = fs::read(&path).unwrap();
    // Pages of the first row group; the schema is at the end.
    bytes[40..4000].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let (records, problems) = read(Format::Google2019, &path);
    let all = records_of(&scenario, layout);
    let count = uses(&records).len();
    assert!(count > 0 && count < uses(&all).len(), "{count} of {}", uses(&all).len());
    assert_eq!((problems.count(Kind::FileUnreadable), problems.total()), (1, 1), "{problems}");
}

fn records_of(scenario: &Scenario, layout: Layout) -> Vec<Record> {
    records(scenario, layout).unwrap().collect()
}

#[test]
fn the_stop_flag_ends_the_records_and_dropping_joins() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::new(40, 20, 60, 7);
    for layout in [Layout::Google2011, Layout::Alibaba2018] {
        let directory = directory.path().join(format!("{layout:?}"));
        write(&directory, &scenario, layout, Parts { count: 2, gzip: false }).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut options = options();
        options.stop = Arc::clone(&stop);
        let mut reading = open(layout.format(), std::slice::from_ref(&directory), options).unwrap();
        let progress = reading.progress();
        assert!(reading.by_ref().take(100).count() == 100);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(reading.next(), None);
        drop(reading);
        assert!(progress.bytes_read() > 0 && progress.bytes_read() <= progress.bytes_total());
        assert_eq!(Arc::strong_count(&stop), 1, "no thread is left that holds it");
    }
}

#[test]
fn progress_ends_at_the_size_of_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::new(10, 4, 20, 7);
    write(directory.path(), &scenario, Layout::Google2011, Parts { count: 2, gzip: true }).unwrap();
    let mut reading = open(Format::Google2011, &[directory.path().to_owned()], options()).unwrap();
    let progress = reading.progress();
    assert!(reading.by_ref().count() > 0);
    assert_eq!(progress.bytes_read(), progress.bytes_total());
}

const FORMATS: [(Format, &str); 11] = [
    (Format::Google2011, "machine_events.csv"),
    (Format::Google2011, "task_events.csv"),
    (Format::Google2011, "task_usage.csv"),
    (Format::Google2019, "machine_events.csv"),
    (Format::Google2019, "instance_events.csv"),
    (Format::Google2019, "instance_usage.csv"),
    (Format::Google2019, "instance_usage.json"),
    (Format::Alibaba2018, "machine_meta.csv"),
    (Format::Alibaba2018, "machine_usage.csv"),
    (Format::Alibaba2018, "batch_task.csv"),
    (Format::Alibaba2018, "batch_instance.csv"),
];

fn survives(format: Format, name: &str, bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    let _detected = detect(&path);
    // Bytes that look like another format are refused.
    if let Ok(reading) = open(format, &[path], options()) {
        let records: Vec<Record> = reading.collect();
        for used in uses(&records) {
            assert!(used.start < used.end && used.start >= 0, "{used:?}");
            for value in [used.mean.cpu, used.mean.memory, used.memory_max].into_iter().flatten() {
                assert!(value.is_finite() && value >= 0.0, "{used:?}");
            }
        }
    }
}

/// Rows of about the right width, with fields that are nearly right.
fn near_rows() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        4 => "[0-9]{1,4}",
        2 => "-?[0-9]{0,20}(\\.[0-9]{0,4})?(e-?[0-9]{1,3})?",
        1 => "[ -~]{0,6}",
        1 => Just(i64::MAX.to_string()),
        1 => Just(i64::MIN.to_string()),
    ];
    let width =
        prop_oneof![Just(6usize), Just(7), Just(9), Just(13), Just(14), Just(20), 0..25usize];
    let row = width.prop_flat_map(move |width| prop::collection::vec(field.clone(), width));
    prop::collection::vec(row.prop_map(|row| row.join(",")), 0..8).prop_map(|rows| rows.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, at in 0..FORMATS.len()) {
        let (format, name) = FORMATS[at];
        survives(format, name, &bytes);
    }

    #[test]
    fn random_rows_never_panic(text in near_rows(), at in 0..FORMATS.len()) {
        let (format, name) = FORMATS[at];
        survives(format, name, text.as_bytes());
        let header = "start_time,end_time,collection_id,instance_index,average_usage.memory,priority";
        survives(Format::Google2019, "usage.csv", format!("{header}\n{text}").as_bytes());
        let header = "time,machine,memory_capacity,memory_used,duration,task";
        survives(Format::Generic, "any.csv", format!("{header}\n{text}").as_bytes());
    }

    #[test]
    fn random_parquet_never_panics(at in 0usize..3000, flips in prop::collection::vec(any::<u8>(), 1..9)) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::Google2019(Encoding::Parquet);
        write(directory.path(), &Scenario::new(3, 2, 4, 1), layout, Parts { count: 1, gzip: false }).unwrap();
        let mut bytes = fs::read(directory.path().join("instance_usage.parquet")).unwrap();
        let at = at % bytes.len();
        for (byte, flip) in bytes[at..].iter_mut().zip(flips) {
            *byte ^= flip;
        }
        survives(Format::Google2019, "instance_usage.parquet", &bytes);
    }

    #[test]
    fn columns_with_names_come_in_any_order(order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle()) {
        let names = ["start_time", "end_time", "collection_id", "instance_index",
            "average_usage.memory", "machine_id"];
        let values = ["1", "2", "3", "4", "0.5", "6"];
        let pick = |of: [&str; 6]| order.iter().map(|&at| of[at]).collect::<Vec<_>>().join(",");
        let text = format!("{}\n{}\n", pick(names), pick(values));
        let (records, problems) = read_text(Format::Google2019, "u.csv", &text);
        prop_assert!(problems.is_empty(), "{}", problems);
        let used = uses(&records)[0];
        prop_assert_eq!((used.start, used.end, used.mean.memory), (1, 2, Some(0.5)));
        prop_assert_eq!(used.task.map(|task| (task.collection, task.index)), Some((3, 4)));
        prop_assert_eq!(used.machine.map(|machine| machine.0), Some(6));
    }
}

#[test]
fn a_table_out_of_order_is_put_in_order_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("task_usage.csv");
    fs::write(&path, row(5) + &row(1) + &row(3)).unwrap();
    let starts = |sort| {
        let mut options = options();
        options.sort = sort;
        let (records, _) = read_with(Format::Google2011, std::slice::from_ref(&path), options);
        records.iter().map(Record::time).collect::<Vec<_>>()
    };
    assert_eq!(starts(None), [5, 1, 3]);
    assert_eq!(starts(Some(true)), [1, 3, 5]);
}

#[test]
fn a_file_that_is_missing_is_told_and_the_others_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let here = |name: &str| directory.path().join(name);
    fs::write(here("task_usage.csv"), row(0)).unwrap();
    let paths = [here("none.csv"), here("task_usage.csv")];
    let (records, problems) = read_with(Format::Google2011, &paths, options());
    assert_eq!((records.len(), problems.total()), (1, 1), "{problems}");
    assert_eq!(&*problems.get(Kind::FileMissing).unwrap().first.as_ref().unwrap().file, paths[0]);
    // One that is named by itself is all that was wanted of its table.
    let part = here("task_usage-part-00003-of-00500.csv");
    fs::write(&part, row(0)).unwrap();
    let (records, problems) = read(Format::Google2011, &part);
    assert!(records.len() == 1 && problems.is_empty(), "{problems}");
}

/// A kind of problem, how often, and where first.
type Found = (Kind, u64, Option<Spot>);

/// Memory of a table in CSV with a header, by row; and what was wrong, with its line.
fn generic(rows: &str) -> (Vec<Option<f64>>, Vec<Found>) {
    let text = format!("\u{feff}\"time\",machine,memory_capacity,memory_used,note\n{rows}");
    let (records, problems) = read_text(Format::Generic, "a.csv", &text);
    let found = problems
        .iter()
        .map(|(kind, tally)| (kind, tally.count, tally.first.as_ref().and_then(|first| first.at)));
    (uses(&records).iter().map(|used| used.mean.memory).collect(), found.collect())
}

#[test]
fn a_stray_quote_takes_its_line_and_no_other() {
    let rows: String = (0..3_000).map(|n| format!("{n},m,1,0.5,\n")).collect();
    let (memory, found) = generic(&format!("0,m,1,0.25,\"ab, \"\"c\"\"\"\r\n1,\"m,1,0.5,\n{rows}"));
    assert_eq!((memory.len(), memory[0], memory[3_000]), (3_001, Some(0.25), Some(0.5)));
    assert_eq!(found, [(Kind::QuoteOpen, 1, Some(Spot::Line(3)))]);
}

#[test]
fn a_line_without_end_is_passed_over_in_bounded_memory() {
    let long = "x".repeat(3 << 20);
    let line = |line| Some(Spot::Line(line));
    let (memory, found) =
        generic(&format!("0,m,1,0.25,\n0,m,1,1,{long}\n1,m,1,0.5,\n2,m,1,{long}"));
    assert_eq!(memory, [Some(0.25), Some(0.5)]);
    assert_eq!(found, [(Kind::LineTooLong, 2, line(3))]);
    let text = format!("{}{long}\n{}", row(0), row(1));
    let (records, problems) = read_text(Format::Google2011, "task_usage.csv", &text);
    let tally = problems.get(Kind::LineTooLong).unwrap();
    assert_eq!(
        (records.len(), problems.total(), tally.first.as_ref().unwrap().at),
        (2, 1, line(2))
    );
}

#[test]
fn what_is_found_beside_other_tables_is_told_with_its_line_even_when_sorted() {
    let directory = tempfile::tempdir().unwrap();
    let here = |name: &str| directory.path().join(name);
    fs::create_dir(here("machine_usage")).unwrap();
    fs::write(here("machine_meta.csv"), "m_1,0,1,1,96,100,USING\n").unwrap();
    let known = "m_1,30,50,50,,,,,\n".repeat(5);
    fs::write(here("machine_usage/part-0.csv"), &known).unwrap();
    // The later line of the file is the earlier one in time.
    let unknown = "m_3,20,50,50,,,,,\nm_2,10,50,50,,,,,\n";
    fs::write(here("machine_usage/part-1.csv"), format!("{known}{unknown}")).unwrap();
    let instance = "i_1,t_1,j_1,1,Terminated,40,50,m_1,1,1,50,60,0.1,0.2\n";
    fs::write(here("batch_instance.csv"), instance).unwrap();
    for sort in [Some(true), Some(false)] {
        let mut options = options();
        options.sort = sort;
        let paths = [directory.path().to_owned()];
        let (_, problems) = read_with(Format::Alibaba2018, &paths, options);
        let first = |kind| {
            let tally = problems.get(kind).unwrap_or_else(|| panic!("{kind:?}: {problems}"));
            let place = tally.first.clone().unwrap();
            (tally.count, place.file.to_path_buf(), place.at.unwrap())
        };
        let line = Spot::Line(if sort == Some(true) { 7 } else { 6 });
        let capacity = (2, here("machine_usage/part-1.csv"), line);
        assert_eq!(first(Kind::CapacityUnknown), capacity, "{problems}");
        let plan = (1, here("batch_instance.csv"), Spot::Line(1));
        assert_eq!((first(Kind::PlanUnknown), problems.total()), (plan, 3), "{problems}");
    }
}
