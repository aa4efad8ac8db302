use super::chart::ticks;
use super::{Point, html, over_time, pieces, recoverable};
use crate::figures::{Analysis, Options};
use crate::report::Report;
use crate::report::tests::small;

#[test]
fn ticks_are_round_and_inside() {
    assert_eq!(ticks([0.0, 1.0]).len(), 11);
    assert_eq!(ticks([0.0, 29.0]), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
    assert_eq!(ticks([0.0, 60.0]).last(), Some(&60.0));
    assert_eq!(ticks([0.0, 0.0]), [0.0]);
}

fn point(stretch: i64, at: [f64; 2], length: f64) -> Point {
    Point { stretch, at, length }
}

#[test]
fn points_of_a_stretch_are_drawn_as_their_mean() {
    let points = (0..2_500u32).map(|x| point(i64::from(x / 3), [f64::from(x), 1.0], 1.0));
    let drawn = pieces(points);
    assert_eq!((drawn.len(), drawn[0].len()), (1, 834));
    assert_eq!((drawn[0][0], drawn[0][833]), ([1.0, 1.0], [2499.0, 1.0]));
    let weighted =
        [point(0, [0.0, 1.0], 3.0), point(0, [4.0, 5.0], 1.0), point(1, [9.0, 0.0], 1.0)];
    assert_eq!(pieces(weighted.into_iter()), [[[1.0, 2.0], [9.0, 0.0]]]);
    assert!(pieces(std::iter::empty()).is_empty());
}

#[test]
fn no_line_is_drawn_where_nothing_was_measured() {
    let points = [0, 1, 5, 7, 8].map(|slot| point(slot, [slot as f64, 0.5], 1.0));
    let expected = [[[0.0, 0.5], [1.0, 0.5]], [[4.5, 0.5], [5.5, 0.5]], [[7.0, 0.5], [8.0, 0.5]]];
    assert_eq!(pieces(points.into_iter()), expected);
    // A slot of the small trace is left out: each line over time is in two pieces.
    let mut report = small(12);
    let lines = |report: &Report| over_time(report).matches("<polyline").count();
    let whole = lines(&report);
    report.over_time.remove(6);
    assert_eq!(lines(&report), whole + 3);
}

#[test]
fn a_long_trace_is_drawn_in_few_points() {
    let mut report = small(12);
    let mut slot = report.over_time[0];
    let slots = (0..5_000u32).map(|number| {
        slot.at_s = f64::from(number) * 300.0;
        slot
    });
    report.over_time = slots.collect();
    report.trace.last_s = Some(5_000.0 * 300.0);
    assert!(over_time(&report).matches(',').count() < 3_100);
}

#[test]
fn a_plot_of_nothing_says_so() {
    let report = Analysis::new(Options::default()).unwrap().finish();
    assert!(over_time(&report).contains("not in this trace"));
    assert!(!recoverable(&report).contains("NaN") && !over_time(&report).contains("NaN"));
}

#[test]
fn plots_of_a_small_report() {
    let report = small(12);
    insta::assert_snapshot!("recoverable", recoverable(&report));
    insta::assert_snapshot!("over_time", over_time(&report));
}

#[test]
fn the_page_stands_alone() {
    let page = html(&small(12));
    assert_eq!(page.matches("<svg").count(), 2);
    for asks in ["<script", "<link", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(asks), "{asks}");
    }
    // Everything that the text says is there, too.
    for said in
        ["was not used", "Memory that could be lent", "Reserved but unused", "What was read"]
    {
        assert!(page.contains(said), "{said}");
    }
}
