//! Folders of images that tests make themselves.
//!
//! Owns their content. May not know what is done with them. Invariant: the same call makes the same
//! files.

use std::fs;
use std::path::Path;

/// Numbers without a pattern, the same for the same seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Fills `folder` with `count` PNGs of 16x16 pixels in two classes that differ in colour.
pub(crate) fn tiny(folder: &Path, count: u64) {
    let mut random = Random(7);
    for number in 0..count {
        let class = number % 2;
        let pixels: Vec<u8> = (0..16 * 16)
            .flat_map(|_| [random.byte() / 2 + if class == 0 { 96 } else { 0 }, 128, random.byte()])
            .collect();
        let mut encoded = Vec::new();
        let mut encoder = png::Encoder::new(&mut encoded, 16, 16);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().expect("a PNG header");
        writer.write_image_data(&pixels).expect("PNG rows");
        writer.finish().expect("a PNG");
        write(folder, class, number, "png", &encoded);
    }
}

/// Fills `folder` with `count` JPEGs of 500x375 pixels that are as dear to decode as photographs.
pub(crate) fn photographs(folder: &Path, count: u64) {
    const WIDTH: u16 = 500;
    const HEIGHT: u16 = 375;
    let mut random = Random(11);
    for number in 0..count {
        let (red, green) = (random.byte(), random.byte());
        let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT) * 3);
        for row in 0..HEIGHT {
            for column in 0..WIDTH {
                let [x, y] = [column / 2, row / 2].map(|place| place.to_le_bytes()[0]);
                let noise = random.byte() / 8;
                pixels.extend([x.wrapping_add(red) / 2 + noise, y / 2 + noise, green / 2 + noise]);
            }
        }
        let mut encoded = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut encoded, 94);
        encoder.encode(&pixels, WIDTH, HEIGHT, jpeg_encoder::ColorType::Rgb).expect("a JPEG");
        write(folder, number % 2, number, "jpg", &encoded);
    }
}

fn write(folder: &Path, class: u64, number: u64, ending: &str, encoded: &[u8]) {
    let class = folder.join(if class == 0 { "red" } else { "blue" });
    fs::create_dir_all(&class).expect("a new folder");
    fs::write(class.join(format!("{number:05}.{ending}")), encoded).expect("a new file");
}
