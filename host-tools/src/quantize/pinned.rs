//! Quantizations kept in a file, so that a network trained with them is exported with them.
//!
//! They lie beside the trained stitching layers, as `range/PIECE:TENSOR` = `[scale, zero point]`; the input of a piece is the
//! tensor `input`.

use stitchkit_runtime::bundle::Quant;

use super::pieces::{Piece, Pieces};
use super::{Calibration, Channels};
use crate::graph::ValueId;
use crate::safetensors::Tensors;

/// What the keys begin with.
const PREFIX: &str = "range/";

/// What the pieces' constants have to be for the ranges of the family's file, if it has any: what training with rounding
/// writes is equalized already ([`super::equalized()`]).
#[must_use]
pub fn channels(file: Option<&Tensors>) -> Channels {
    let is_trained = file.is_some_and(|file| file.tensors.keys().any(|key| key.starts_with(PREFIX)));
    if is_trained { Channels::AsStored } else { Channels::Equalized }
}

/// Adds all quantizations of a set of pieces to a file.
pub fn store(pieces: &Pieces, calibration: &Calibration, file: &mut Tensors) {
    for (piece, quants) in pieces.pieces.iter().zip(&calibration.quants) {
        for (value, quant) in quants.iter().enumerate() {
            file.insert(key(piece, value), vec![2], vec![quant.scale, f32::from(quant.zero_point)]);
        }
    }
}

/// Replaces what a file pins; the rest stays as calibrated.
///
/// # Errors
/// The entry that is no quantization.
pub fn pin(pieces: &Pieces, calibration: &mut Calibration, file: &Tensors) -> Result<(), String> {
    for (piece, quants) in pieces.pieces.iter().zip(&mut calibration.quants) {
        for (value, quant) in quants.iter_mut().enumerate() {
            let key = key(piece, value);
            if let Some(tensor) = file.tensors.get(&key) {
                *quant = of_values(&tensor.values).ok_or_else(|| format!("`{key}` is no scale and zero point"))?;
            }
        }
    }
    Ok(())
}

fn key(piece: &Piece, value: usize) -> String {
    let tensor = if value == 0 { "input" } else { piece.graph.tensor(ValueId(value)) };
    format!("{PREFIX}{}:{tensor}", piece.graph.name)
}

fn of_values(values: &[f32]) -> Option<Quant> {
    let &[scale, zero_point] = values else { return None };
    let is_point = zero_point.fract() == 0.0 && (-128.0..=127.0).contains(&zero_point);
    (scale.is_normal() && scale > 0.0 && is_point).then_some(Quant { scale, zero_point: zero_point as i8 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::{Options, calibrate};
    use crate::stitch::init::least_squares;
    use crate::stitch::{silent, space, testnet};

    #[test]
    fn stored_quantizations_come_back_and_others_stay() {
        let family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        let images = testnet::images(8);
        let layers = least_squares(&family, &space, &images, 0.0, &silent).unwrap().layers;
        let pieces = Pieces::new(&family, &space.candidates, &layers, Channels::Equalized).unwrap();
        let calibration = calibrate(&pieces, &family.config.input, &images.images, Options::default());
        let mut file = Tensors::default();
        store(&pieces, &calibration, &mut file);
        let mut other = calibration.clone();
        other.quants.iter_mut().flatten().for_each(|quant| quant.scale *= 2.0);
        let missing = key(&pieces.pieces[0], 1);
        file.tensors.remove(&missing);
        pin(&pieces, &mut other, &file).unwrap();
        for (piece, (found, wanted)) in other.quants.iter().zip(&calibration.quants).enumerate() {
            for (value, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                let factor = if (piece, value) == (0, 1) { 2.0 } else { 1.0 };
                assert_eq!((found.scale, found.zero_point), (wanted.scale * factor, wanted.zero_point));
            }
        }
        file.insert(missing.clone(), vec![2], vec![-1.0, 0.0]);
        assert!(pin(&pieces, &mut other, &file).unwrap_err().contains(&missing));
    }
}
