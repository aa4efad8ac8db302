//! How do pixels become one score per class?
//!
//! Owns the forward pass, for training and for use. Knows nothing of losses, optimisers or
//! files.
//! Invariant: both passes compute the same function but for the statistics of normalisation,
//! which are the batch's own while training and the gathered ones afterwards.

use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool2d, batch_norm, batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::parameters::{CHANNELS, FEATURES, MAP, TENSORS_PER_BLOCK};

/// Keeps the square root in normalisation away from zero.
const EPSILON: f64 = 1e-5;

/// Pixels of images, as `[images, 3, size, size]` around zero.
///
/// `pixels` are `images * size * size * 3` bytes, row by row, RGB. They travel to the device as
/// bytes and become numbers there: a quarter of the traffic.
pub(crate) fn input(pixels: Vec<u8>, images: usize, size: usize, device: &Device) -> Tensor<4> {
    let data = TensorData::new(pixels, [images, size, size, CHANNELS[0]]);
    let bytes = Tensor::<4, Int>::from_data(data, (device, DType::U8));
    // Mean and spread of natural images, about: normalisation in the first block does the rest.
    bytes.float().permute([0, 3, 1, 2]).mul_scalar(1.0 / 64.0).sub_scalar(1.9)
}

/// Scores of a training batch, and mean and variance of each block's batch.
pub(crate) fn scores_in_training(
    parameters: &[Tensor<1>],
    images: Tensor<4>,
    classes: usize,
) -> (Tensor<2>, Vec<Tensor<1>>) {
    let mut statistics = Vec::new();
    let mut map = images;
    for block in 0..CHANNELS.len() - 1 {
        let [kernel, scale, shift] = block_tensors(parameters, block);
        let pooled = convolve(map, kernel, block);
        let normal = batch_norm_train(pooled, scale, shift, EPSILON);
        statistics.extend([normal.mean, normal.variance]);
        map = relu(normal.output);
    }
    (classify(parameters, map, classes), statistics)
}

/// Scores with the gathered statistics.
pub(crate) fn scores(
    parameters: &[Tensor<1>],
    statistics: &[Tensor<1>],
    images: Tensor<4>,
    classes: usize,
) -> Tensor<2> {
    let mut map = images;
    for block in 0..CHANNELS.len() - 1 {
        let [kernel, scale, shift] = block_tensors(parameters, block);
        let pooled = convolve(map, kernel, block);
        let [mean, variance] = [0, 1].map(|place| statistics[2 * block + place].clone());
        map = relu(batch_norm(pooled, scale, shift, mean, variance, EPSILON));
    }
    classify(parameters, map, classes)
}

fn block_tensors(parameters: &[Tensor<1>], block: usize) -> [Tensor<1>; TENSORS_PER_BLOCK] {
    std::array::from_fn(|place| parameters[block * TENSORS_PER_BLOCK + place].clone())
}

/// A 3x3 convolution without bias (the shift of normalisation is one) and the larger of each
/// 2x2 square.
fn convolve(map: Tensor<4>, kernel: Tensor<1>, block: usize) -> Tensor<4> {
    let kernel = kernel.reshape([CHANNELS[block + 1], CHANNELS[block], 3, 3]);
    let convolved = conv2d(map, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    max_pool2d(convolved, MaxPoolOptions::new([2, 2]))
}

fn classify(parameters: &[Tensor<1>], map: Tensor<4>, classes: usize) -> Tensor<2> {
    let [images, _, rows, columns] = map.dims();
    let map =
        if (rows, columns) == (MAP, MAP) { map } else { adaptive_avg_pool2d(map, [MAP, MAP]) };
    let first = (CHANNELS.len() - 1) * TENSORS_PER_BLOCK;
    let weight = parameters[first].clone().reshape([FEATURES, classes]);
    let bias = parameters[first + 1].clone().reshape([1, classes]);
    map.reshape([images, FEATURES]).matmul(weight) + bias
}
