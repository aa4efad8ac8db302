//! Stand-in.
use crate::examples::Examples;
pub(super) fn synthetic(rows: u32, seed: u64, mut push: impl FnMut(f32, &[(u32, f32)])) {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for _ in 0..rows {
        let features: Vec<(u32, f32)> = (0..20).map(|_| (next() % 1000, 1.0)).collect();
        let score: f32 =
            features.iter().map(|(f, _)| ((f * 7919) % 200) as f32 / 100.0 - 1.0).sum();
        let label =
            if (next() % 1000) as f32 / 1000.0 < 1.0 / (1.0 + (-score).exp()) { 1.0 } else { 0.0 };
        push(label, &features);
    }
    let _ = Examples::default();
}
