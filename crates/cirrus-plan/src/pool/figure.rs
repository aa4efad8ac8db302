//! The paper's Figure 1.
//!
//! Owns the comparison of what mixes cost, and its drawing. Knows nothing of how they are found.
//! Every bar has its number beside it.

use serde::Serialize;

use super::{Pool, PoolError};
use crate::catalog::Catalog;
use crate::money::UsdPerHour;
use crate::svg::{Anchor, Svg};

const LEFT: f64 = 190.0;
const BAR: f64 = 18.0;
const GROUP: f64 = 2.0 * BAR + 16.0;
const TOP: f64 = 56.0;
const LENGTH: f64 = 430.0;
const BURSTS: &str = "#8fb3d9";
const SUSTAINED: &str = "#d98f5c";

/// Draws what each mix costs for this demand, in bursts and sustained, as an SVG file.
/// A mix is a catalogue with the offers that it may use.
///
/// # Errors
/// When a part of the demand is in no offer of a mix.
pub fn pool_figure(pool: &Pool, mixes: &[Catalog]) -> Result<String, PoolError> {
    let costs = compare(pool, mixes)?;
    let most = costs.iter().map(|it| it.usd_hour.max(it.sustained_usd_hour.unwrap_or_default()));
    let most = most.map(UsdPerHour::as_dollars);
    let scale = LENGTH / most.fold(f64::MIN_POSITIVE, f64::max);
    let height = costs.iter().fold(TOP, |height, _| height + GROUP);
    let mut svg = Svg::new(LEFT + LENGTH + 70.0, height + 10.0);
    let title = format!("$/h for {}", pool.clone().with_sustained(false));
    svg.text([LEFT, 20.0], Anchor::Start, &title);
    for (x, colour, label) in [(0.0, BURSTS, "in bursts"), (110.0, SUSTAINED, "sustained")] {
        svg.rect([LEFT + x, 30.0], [12.0, 12.0], colour);
        svg.text([LEFT + x + 18.0, 41.0], Anchor::Start, label);
    }
    let mut y = TOP;
    for it in &costs {
        svg.text([LEFT - 8.0, y + BAR + 4.0], Anchor::End, &it.mix);
        let bars = [(0.0, Some(it.usd_hour), BURSTS), (1.0, it.sustained_usd_hour, SUSTAINED)];
        for (row, cost, colour) in bars {
            let Some(cost) = cost else {
                let top = [LEFT + 6.0, y + row * BAR + 13.0];
                svg.text(top, Anchor::Start, "not to be had");
                continue;
            };
            let (top, length) = (y + row * BAR, cost.as_dollars() * scale);
            svg.rect([LEFT, top], [length, BAR - 2.0], colour);
            svg.text([LEFT + length + 6.0, top + 13.0], Anchor::Start, &format!("{cost:.2}"));
        }
        y += GROUP;
    }
    svg.line([LEFT, TOP - 4.0], [LEFT, height - 8.0], "#222");
    Ok(svg.finish())
}

/// What a mix costs, in bursts and all the time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Mix {
    /// `r4.large + t2.nano`
    pub mix: String,
    /// With processors in bursts.
    pub usd_hour: UsdPerHour,
    /// With processors all the time; `None`: no offer of the mix sustains any.
    pub sustained_usd_hour: Option<UsdPerHour>,
}

/// What each mix costs for this demand. A mix is a catalogue with the offers that it may use.
///
/// # Errors
/// When a part of the demand is in no offer of a mix.
pub fn compare(pool: &Pool, mixes: &[Catalog]) -> Result<Vec<Mix>, PoolError> {
    let cost = |mix: &Catalog, sustained| {
        pool.clone().with_sustained(sustained).plan(mix).map(|plan| plan.usd_hour)
    };
    let compared = |mix: &Catalog| {
        Ok(Mix {
            mix: name(mix),
            usd_hour: cost(mix, false)?,
            // What is there in bursts lacks nothing else.
            sustained_usd_hour: cost(mix, true).ok(),
        })
    };
    mixes.iter().map(compared).collect()
}

/// `r4.large + t2.nano`; a mix of many is its catalogue's name.
fn name(mix: &Catalog) -> String {
    match mix.offers() {
        few if few.len() <= 3 => {
            few.iter().map(|offer| offer.sku.as_str()).collect::<Vec<_>>().join(" + ")
        }
        many => format!("{} ({} offers)", mix.name(), many.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cirrus_units::{ByteSize, Cores};

    #[test]
    fn a_mix_that_sustains_nothing_has_no_second_bar() {
        let text = "sku,vcpu,memory_gib,usd_hour,as_of,source,sustained\n\
                    box,2,8,0.1,2026-11-01,x,0\n";
        let mixes = [Catalog::read("mine", text).unwrap()];
        let pool = Pool::new(Cores::milli(4000), ByteSize::gib(4));
        let found = compare(&pool, &mixes).unwrap();
        assert_eq!((found[0].usd_hour.as_micros(), found[0].sustained_usd_hour), (200_000, None));
        let svg = pool_figure(&pool, &mixes).unwrap();
        assert!(svg.contains(">not to be had<") && svg.contains(">0.20<"), "{svg}");
    }

    #[test]
    fn figure_one_has_a_bar_and_a_number_for_each_mix() {
        let paper = Catalog::built_in("paper").unwrap();
        let mixes: Vec<Catalog> =
            [&["m4.large"][..], &["r4.large", "lambda-128"], &["r4.large", "t2.nano"]]
                .iter()
                .map(|skus| {
                    paper.only(&skus.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
                })
                .collect();
        let pool = Pool::new(Cores::milli(100_000), ByteSize::gib(100));
        let svg = pool_figure(&pool, &mixes).unwrap();
        for text in ["5.40", "1.46", "1.04", "6.65", "r4.large + t2.nano", "100 vCPUs, 100 GiB"] {
            assert!(svg.contains(&format!(">{text}<")) || svg.contains(text), "{text}: {svg}");
        }
        // The longest bar is 6.65 wide, and the others in proportion: 1.042 of it is 67.4 pixels.
        assert!(svg.contains(r#"width="430.0""#) && svg.contains(r#"width="67.4""#), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 6);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
