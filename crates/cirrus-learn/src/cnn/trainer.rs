//! How does one batch make the model better?
//!
//! Owns the training step and the options of a training run. Knows nothing of where batches come
//! from or where checkpoints go.
//! Invariant: a step depends on the checkpoint and the batch alone. Nothing is random after the
//! first weights.

use std::path::Path;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

use super::adam::Adam;
use super::model::{Model, device, download};
use super::network;
use crate::error::{Error, ErrorKind, Result};
use crate::schedule::OneCycle;

/// Share of the statistics that each batch replaces.
const STATISTICS_SHARE: f32 = 0.1;

/// What a training run is, apart from its data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainerOptions {
    /// Classes, 2 to 65,535. Default: 10.
    pub classes: usize,
    /// Side of the square images in pixels, 8 to 1024. Default: 32.
    pub size: usize,
    /// Chooses the first weights. Default: 1.
    pub seed: u64,
    /// Steps of the whole run: the learning rate falls to zero at its end. Default: 1,562, two
    /// epochs of 50,000 images.
    pub steps_total: u64,
    /// The largest learning rate, reached after a quarter of the steps. Default: 0.01.
    pub learning_rate_max: f32,
    /// Images of a batch. The last batch of an epoch may be smaller. Default: 64.
    pub batch: usize,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            classes: 10,
            size: 32,
            seed: 1,
            steps_total: 1562,
            learning_rate_max: 0.01,
            batch: 64,
        }
    }
}

/// A model in training.
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(crate) options: TrainerOptions,
    pub(crate) model: Model,
    pub(crate) adam: Adam,
    pub(crate) step: u64,
}

impl Trainer {
    /// A trainer before its first step.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] naming the option that is out of its range.
    pub fn new(options: TrainerOptions) -> Result<Self> {
        options.check()?;
        let model = Model::new(options.classes, options.size, options.seed)?;
        let adam = Adam::new(&model.trained);
        Ok(Self { options, model, adam, step: 0 })
    }

    /// The options it was made with.
    pub fn options(&self) -> &TrainerOptions {
        &self.options
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Learns from one batch and returns its mean loss (cross-entropy in nats) before the step.
    ///
    /// `images` are RGB bytes, `size * size * 3` for each label. Takes about 4 CPU-milliseconds
    /// for each 32x32 image.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the batch is empty, larger than the options say, of another
    /// shape, or has a label past the classes; [`ErrorKind::Train`] when the loss is not a
    /// number. The trainer is unchanged then.
    pub fn train_step(&mut self, images: &[u8], labels: &[u16]) -> Result<f32> {
        self.check_batch(images, labels)?;
        let (count, classes) = (labels.len(), self.model.classes());
        let device = device().autodiff();
        let leaves: Vec<Tensor<1>> = self
            .model
            .trained
            .iter()
            .map(|tensor| tensor.clone().autodiff().require_grad())
            .collect();
        let input = network::input(images.to_vec(), count, self.model.size(), &device);
        let (scores, statistics) = network::scores_in_training(&leaves, input, classes);
        let targets = Tensor::<2>::from_data(one_hot(labels, classes), &device);
        let loss = (log_softmax(scores, 1) * targets).sum().mul_scalar(-1.0 / count as f32);
        let mut gradients = loss.backward();
        let value = download(loss.inner())?.first().copied().unwrap_or(f32::NAN);
        if !value.is_finite() {
            return Err(self.diverged(value));
        }
        let gradients = leaves
            .iter()
            .map(|leaf| leaf.grad_remove(&mut gradients))
            .collect::<Option<Vec<Tensor<1>>>>()
            .ok_or_else(|| Error::new(ErrorKind::Train, "a weight has no gradient"))?;
        let rate = self.schedule().rate(self.step);
        self.adam.step(&mut self.model.trained, gradients, rate, self.step);
        self.gather(statistics);
        self.step += 1;
        Ok(value)
    }

    /// How many of `images` the model as it is now gives their label; see [`Model::evaluate`].
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn evaluate(&self, images: &[u8], labels: &[u16]) -> Result<usize> {
        self.model.evaluate(images, labels)
    }

    /// Writes the model; see [`Model::save`].
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_model(&self, path: &Path) -> Result<()> {
        self.model.save(path)
    }

    fn schedule(&self) -> OneCycle {
        OneCycle::new(self.options.learning_rate_max, self.options.steps_total)
    }

    /// Moves the gathered statistics towards those of a batch.
    fn gather(&mut self, statistics: Vec<Tensor<1>>) {
        for (gathered, batch) in self.model.gathered.iter_mut().zip(statistics) {
            let batch = batch.detach().inner().mul_scalar(STATISTICS_SHARE);
            *gathered = gathered.clone().mul_scalar(1.0 - STATISTICS_SHARE) + batch;
        }
    }

    fn check_batch(&self, images: &[u8], labels: &[u16]) -> Result<()> {
        let most = self.options.batch;
        if labels.is_empty() || labels.len() > most {
            let text = format!("a batch of {} images: give between 1 and {most}", labels.len());
            return Err(Error::input(text));
        }
        if images.len() != labels.len() * self.model.image_len() {
            return Err(self.model.wrong_len(images.len()).with("labels", labels.len()));
        }
        match labels.iter().find(|label| usize::from(**label) >= self.model.classes()) {
            None => Ok(()),
            Some(label) => {
                let text = format!("label {label}: the model has {}", self.model.classes());
                Err(Error::input(text + " classes, numbered from 0"))
            }
        }
    }

    fn diverged(&self, loss: f32) -> Error {
        let text = format!("the loss of step {} is {loss}", self.step);
        let rate = self.options.learning_rate_max;
        Error::new(ErrorKind::Train, text + ": lower the learning rate").with("rate", rate)
    }
}

impl TrainerOptions {
    /// Whether a trainer can be made of these; classes and size are checked by the model.
    pub(crate) fn check(&self) -> Result<()> {
        if self.batch == 0 || self.batch > 65_536 {
            return Err(Error::input(format!("a batch of {}: give 1 to 65536", self.batch)));
        }
        let rate = self.learning_rate_max;
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::input(format!("a learning rate of {rate}: give one above 0")));
        }
        Ok(())
    }
}

fn one_hot(labels: &[u16], classes: usize) -> TensorData {
    let mut rows = vec![0.0_f32; labels.len() * classes];
    for (row, label) in rows.chunks_exact_mut(classes).zip(labels) {
        row[usize::from(*label)] = 1.0;
    }
    TensorData::new(rows, [labels.len(), classes])
}
