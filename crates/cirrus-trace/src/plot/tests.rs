use super::chart::ticks;
use super::{decimate, html, over_time, recoverable};
use crate::figures::{Analysis, Options};
use crate::report::tests::small;

#[test]
fn ticks_are_round_and_inside() {
    assert_eq!(ticks([0.0, 1.0]).len(), 11);
    assert_eq!(ticks([0.0, 29.0]), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
    assert_eq!(ticks([0.0, 60.0]).last(), Some(&60.0));
    assert_eq!(ticks([0.0, 0.0]), [0.0]);
}

#[test]
fn long_series_are_drawn_as_means() {
    let points: Vec<_> = (0..2_500u32).map(|x| ([f64::from(x), 1.0], 1.0)).collect();
    let drawn = decimate(&points, 1_000);
    assert_eq!((drawn.len(), drawn[0], drawn[833]), (834, [1.0, 1.0], [2499.0, 1.0]));
    assert_eq!(decimate(&points[..3], 1_000).len(), 3);
    let weighted = [([0.0, 1.0], 3.0), ([4.0, 5.0], 1.0)];
    assert_eq!(decimate(&weighted, 1), [[1.0, 2.0]]);
    assert!(decimate(&[], 10).is_empty());
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
