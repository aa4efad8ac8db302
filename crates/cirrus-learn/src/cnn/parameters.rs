//! Which numbers does the network hold, and what are they at first?
//!
//! Owns the list of tensors: their names, shapes, order and first values. Knows nothing of how
//! they are used or stored.
//! Invariant: the order and the shapes depend only on the number of classes, the first values
//! only on the classes and the seed; they are drawn here, not by a backend, so that they are the
//! same on every device.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Channels of the image and of each convolution's output.
pub(crate) const CHANNELS: [usize; 4] = [3, 32, 64, 64];

/// Rows and columns of the map that the classifier sees.
pub(crate) const MAP: usize = 4;

/// Values that the classifier sees for each image.
pub(crate) const FEATURES: usize = CHANNELS[3] * MAP * MAP;

/// Trained tensors of one block: the convolution, and scale and shift of its normalisation.
pub(crate) const TENSORS_PER_BLOCK: usize = 3;

/// How the values of a tensor are chosen at first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Constant(f32),
    /// Uniform with the variance of He et al. (2015) for this many inputs.
    Uniform {
        inputs: usize,
    },
}

/// One tensor of the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    first: First,
}

impl Parameter {
    fn new(name: String, shape: &[usize], first: First) -> Self {
        Self { name, shape: shape.to_vec(), first }
    }

    /// Values in the tensor.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors that training changes by gradients.
pub(crate) fn trained(classes: usize) -> Vec<Parameter> {
    let mut list = Vec::new();
    for (block, pair) in CHANNELS.windows(2).enumerate() {
        let inputs = pair[0] * 9;
        let kernel = [pair[1], pair[0], 3, 3];
        list.push(Parameter::new(
            format!("block{block}.kernel"),
            &kernel,
            First::Uniform { inputs },
        ));
        let width = [pair[1]];
        list.push(Parameter::new(format!("block{block}.scale"), &width, First::Constant(1.0)));
        list.push(Parameter::new(format!("block{block}.shift"), &width, First::Constant(0.0)));
    }
    let weights = First::Uniform { inputs: FEATURES * 6 };
    list.push(Parameter::new("classifier.weight".into(), &[FEATURES, classes], weights));
    list.push(Parameter::new("classifier.bias".into(), &[classes], First::Constant(0.0)));
    list
}

/// The statistics that normalisation gathers while training and uses afterwards: mean and
/// variance of each block.
pub(crate) fn gathered() -> Vec<Parameter> {
    let mut list = Vec::new();
    for (block, width) in CHANNELS[1..].iter().enumerate() {
        list.push(Parameter::new(format!("block{block}.mean"), &[*width], First::Constant(0.0)));
        list.push(Parameter::new(
            format!("block{block}.variance"),
            &[*width],
            First::Constant(1.0),
        ));
    }
    list
}

/// The first values of `list`, drawn in order from `seed`.
pub(crate) fn first_values(list: &[Parameter], seed: u64) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let draw = |parameter: &Parameter| match parameter.first {
        First::Constant(value) => vec![value; parameter.len()],
        First::Uniform { inputs } => {
            let bound = (6.0 / inputs as f32).sqrt();
            (0..parameter.len()).map(|_| bound * signed_unit(&mut random)).collect()
        }
    };
    list.iter().map(draw).collect()
}

/// A number in [-1, 1) with 24 random bits.
fn signed_unit(random: &mut impl Rng) -> f32 {
    let bits = random.next_u32() >> 8;
    bits as f32 / (1_u32 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_depend_on_the_seed_alone() {
        let list = trained(10);
        assert_eq!(first_values(&list, 7), first_values(&list, 7));
        assert_ne!(first_values(&list, 7), first_values(&list, 8));
        for (parameter, values) in list.iter().zip(first_values(&list, 7)) {
            assert_eq!(values.len(), parameter.len());
            assert!(values.iter().all(|value| value.is_finite() && value.abs() <= 1.0));
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> =
            trained(10).into_iter().chain(gathered()).map(|parameter| parameter.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
