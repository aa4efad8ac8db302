//! How does training survive its process?
//!
//! Owns the checkpoint: everything that the next step depends on. Knows nothing of where it is
//! kept.
//! Invariant: save, restore and continue gives the same bits as never having stopped.
//!
//! The bytes: the layout of `format` with the magic `CIRRUSCK`, numbers `[classes, size, seed,
//! steps_total, bits of learning_rate_max, batch, step]`, the tensors of the model, then the
//! moments of Adam under `mean.` and `square.` before the name of their tensor.

use super::adam::Adam;
use super::format::Archive;
use super::model::{Model, named, take};
use super::parameters;
use super::trainer::{Trainer, TrainerOptions};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"CIRRUSCK";
const MEAN: &str = "mean.";
const SQUARE: &str = "square.";

impl Trainer {
    /// The whole state of training: about three times the bytes of the model.
    ///
    /// # Errors
    /// [`ErrorKind::Train`](crate::ErrorKind::Train) when the device cannot give its tensors.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let options = &self.options;
        let numbers = vec![
            options.classes as u64,
            options.size as u64,
            options.seed,
            options.steps_total,
            u64::from(options.learning_rate_max.to_bits()),
            options.batch as u64,
            self.step,
        ];
        let mut tensors = self.model.to_tensors()?;
        for (prefix, moments) in [(MEAN, &self.adam.means), (SQUARE, &self.adam.squares)] {
            for (parameter, moment) in parameters::trained(options.classes).iter().zip(moments) {
                tensors.push(named(prefix, parameter, moment)?);
            }
        }
        Ok(Archive { numbers, tensors }.encode(MAGIC))
    }

    /// The trainer that [`Trainer::to_bytes`] saved.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when the bytes are not a whole
    /// checkpoint of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let archive = Archive::decode(MAGIC, bytes)?;
        let &[classes, size, seed, steps_total, rate, batch, step] = archive.numbers.as_slice()
        else {
            return Err(Error::corrupt("a checkpoint holds seven numbers"));
        };
        let mut tensors = archive.tensors.into_iter();
        let model = Model::from_tensors(classes, size, &mut tensors)?;
        let list = parameters::trained(model.classes());
        let means = take(MEAN, &list, &mut tensors)?;
        let squares = take(SQUARE, &list, &mut tensors)?;
        if let Some(extra) = tensors.next() {
            return Err(Error::corrupt("unknown tensor").with("name", extra.name));
        }
        let options = TrainerOptions {
            classes: model.classes(),
            size: model.size(),
            seed,
            steps_total,
            learning_rate_max: f32::from_bits(u32::try_from(rate).unwrap_or(u32::MAX)),
            batch: usize::try_from(batch).unwrap_or(usize::MAX),
        };
        options.check().map_err(|error| Error::corrupt("a bad option").caused_by(error))?;
        Ok(Self { options, model, adam: Adam { means, squares }, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cnn::Model;

    const SIZE: usize = 8;
    const BATCH: usize = 12;

    fn trainer(seed: u64) -> Trainer {
        let options = TrainerOptions {
            classes: 3,
            size: SIZE,
            seed,
            steps_total: 40,
            learning_rate_max: 0.02,
            batch: BATCH,
        };
        Trainer::new(options).unwrap()
    }

    /// A batch whose class is the brightest channel.
    fn batch(step: u64) -> (Vec<u8>, Vec<u16>) {
        let labels: Vec<u16> = (0..BATCH).map(|image| (image % 3).try_into().unwrap()).collect();
        let value = |at: usize| {
            let (image, channel) = (at / (SIZE * SIZE * 3), at % 3);
            let noise = (at * 37 + usize::try_from(step).unwrap() * 101) % 100;
            let bright = if image % 3 == channel { 120 } else { 0 };
            u8::try_from(noise + bright).unwrap()
        };
        ((0..BATCH * SIZE * SIZE * 3).map(value).collect(), labels)
    }

    fn train(trainer: &mut Trainer, steps: std::ops::Range<u64>) -> f32 {
        steps.fold(f32::NAN, |_, step| {
            let (images, labels) = batch(step);
            trainer.train_step(&images, &labels).unwrap()
        })
    }

    #[test]
    fn restored_training_gives_the_same_bytes() {
        let mut straight = trainer(5);
        train(&mut straight, 0..10);
        let mut restored = Trainer::from_bytes(&straight.to_bytes().unwrap()).unwrap();
        assert_eq!(restored.step(), 10);
        assert_eq!(restored.options(), straight.options());
        let losses = [train(&mut straight, 10..20), train(&mut restored, 10..20)];
        assert_eq!(losses[0].to_bits(), losses[1].to_bits());
        assert_eq!(straight.to_bytes().unwrap(), restored.to_bytes().unwrap());
    }

    #[test]
    fn equal_seeds_give_equal_bytes_and_others_do_not() {
        let bytes = [5, 5, 6].map(|seed| {
            let mut trainer = trainer(seed);
            train(&mut trainer, 0..5);
            trainer.to_bytes().unwrap()
        });
        assert_eq!(bytes[0], bytes[1]);
        assert_ne!(bytes[0], bytes[2]);
    }

    #[test]
    fn threads_do_not_change_the_bytes() {
        let bytes = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = trainer(5);
                train(&mut trainer, 0..5);
                trainer.to_bytes().unwrap()
            })
        });
        assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
    }

    #[test]
    fn it_learns_and_the_file_keeps_what_it_learnt() {
        let mut trainer = trainer(5);
        train(&mut trainer, 0..40);
        let (images, labels) = batch(1_000);
        assert_eq!(trainer.evaluate(&images, &labels).unwrap(), BATCH);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        trainer.save_model(&path).unwrap();
        let model = Model::load(&path).unwrap();
        assert_eq!((model.classes(), model.size()), (3, SIZE));
        assert_eq!(model.classify(&images).unwrap(), labels);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, b"CIRRUSNN and nothing else, forty bytes or more").unwrap();
        let error = Model::load(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn other_sizes_work() {
        for size in [9, 40, 64] {
            let options = TrainerOptions { size, batch: 2, ..TrainerOptions::default() };
            let mut trainer = Trainer::new(options).unwrap();
            let images = vec![90; 2 * size * size * 3];
            assert!(trainer.train_step(&images, &[0, 9]).unwrap().is_finite());
            assert_eq!(trainer.model().classify(&images).unwrap().len(), 2);
        }
    }

    #[test]
    fn wrong_batches_and_options_are_named() {
        let mut trainer = trainer(5);
        let (images, labels) = batch(0);
        let image_len = SIZE * SIZE * 3;
        for (images, labels, expected) in [
            (&images[..0], &labels[..0], "a batch of 0 images"),
            (&images[1..], &labels[..], "no whole number of 8x8 RGB images"),
            (&images[..image_len], &[3_u16][..], "label 3"),
        ] {
            let error = trainer.train_step(images, labels).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(trainer.step(), 0);
        let options = TrainerOptions { classes: 1, ..TrainerOptions::default() };
        assert!(Trainer::new(options).unwrap_err().to_string().contains("1 classes"));
        assert!(Trainer::from_bytes(b"CIRRUSCK").is_err());
    }
}
