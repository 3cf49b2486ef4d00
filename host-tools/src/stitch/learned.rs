//! Stitching layers from the maps that students learned: a file `maps.safetensors` beside `family.toml`, written by training
//! with `--learngene`, with `STUDENT@TENSOR.weight` (`[student channels, teacher channels]`) and `STUDENT@TENSOR.bias`.
//!
//! The map of the student that is left takes the teacher's features to its own, `s = M t + b`. Its pseudo-inverse goes back,
//! the entered student's map goes on: `W = M2 M1+`, with the bias `b2 - W b1`. "Building Variable-sized Models via Learngene
//! Pool" (Shi et al., AAAI 2024) takes the transpose instead, of the mean over a student's positions, into a student of the teacher's width.

use std::path::PathBuf;

use super::adapter::Adapter;
use super::init::Initialization;
use super::linalg::pseudo_inverse;
use super::{AffineLayer, Crossing, LayerSpec, Progress, Space, StitchError, StitchingLayer, trained};
use crate::family::{Dataset, Family};
use crate::safetensors::{Tensor, Tensors};

/// Name of the file of maps in the folder of a family.
pub const FILE_NAME: &str = "maps.safetensors";

/// How stitching layers are made of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Back by the pseudo-inverse, on by the entered student's map.
    Inverse,
    /// The mean of the left student's maps, transposed, where the entered student is as wide as the teacher.
    Transposed,
}

/// The stitching layers of a space from the family's maps; layers that maps do not give are those of
/// [`trained::layers`]. Arguments and units as [`super::init::least_squares`].
///
/// # Errors
/// [`StitchError::Layers`] if there is no file of maps or it gives no layer, otherwise as [`trained::layers`].
pub fn layers(
    family: &Family,
    space: &Space,
    rule: Rule,
    images: &Dataset,
    noise: f64,
    progress: Progress<'_>,
) -> Result<Initialization, StitchError> {
    let (path, file) = read(family)?;
    let learned: Vec<Option<StitchingLayer>> = space
        .layers
        .iter()
        .map(|spec| match rule {
            Rule::Inverse => inverse(family, &file, spec, noise),
            Rule::Transposed => transposed(family, &file, spec),
        })
        .collect();
    if learned.iter().all(Option::is_none) {
        let reason = match rule {
            Rule::Inverse => "no crossing has maps at both ends; train the students with --learngene all",
            Rule::Transposed => "no crossing enters a student that is as wide as the teacher",
        };
        return Err(StitchError::Layers { path, reason: reason.into() });
    }
    let stored = trained::stored(family, space)?;
    let found = learned.into_iter().zip(stored).map(|(learned, stored)| learned.or(stored)).collect();
    trained::complete(family, space, found, images, noise, progress)
}

fn read(family: &Family) -> Result<(PathBuf, Tensors), StitchError> {
    let path = family.folder.join(FILE_NAME);
    let read = || {
        let bytes = std::fs::read(&path)
            .map_err(|error| format!("cannot be read: {error}; `stitchkit train --learngene all` writes it"))?;
        Tensors::from_bytes(&bytes)
    };
    match read() {
        Ok(file) => Ok((path, file)),
        Err(reason) => Err(StitchError::Layers { path, reason }),
    }
}

/// A map: weights, bias, channels of the student and of the teacher.
type Map<'a> = (&'a Tensor, &'a Tensor, [usize; 2]);

fn map<'a>(family: &Family, file: &'a Tensors, (anchor, cut): (usize, usize)) -> Option<Map<'a>> {
    let anchor = &family.anchors[anchor];
    let cut = &anchor.cuts[cut];
    let part = |part: &str| file.tensors.get(&format!("{}@{}.{part}", anchor.name, cut.tensor));
    let (weight, bias) = (part("weight")?, part("bias")?);
    let &[rows, columns] = weight.shape.as_slice() else { return None };
    let is_whole = cut.shape.last() == Some(&rows) && bias.shape == [rows];
    let is_finite = weight.values.iter().chain(&bias.values).all(|value| value.is_finite());
    (is_whole && is_finite).then_some((weight, bias, [rows, columns]))
}

/// Whether a layer is one map between equal grids.
fn is_plain(family: &Family, spec: &LayerSpec) -> bool {
    let shape = |(anchor, cut): (usize, usize)| &family.anchors[anchor].cuts[cut].shape;
    let plain = |usage: &Crossing| Adapter::between(shape(usage.from), shape(usage.to)).is_some_and(|a| a.is_plain());
    spec.rank.is_none() && !spec.makes_token && spec.uses.iter().all(plain)
}

/// The mean over all crossings of a layer; `None` if one of them lacks maps.
fn inverse(family: &Family, file: &Tensors, spec: &LayerSpec, noise: f64) -> Option<StitchingLayer> {
    if !is_plain(family, spec) {
        return None;
    }
    let (rows, columns) = (spec.out_channels, spec.in_channels);
    let (mut weights, mut bias) = (vec![0.0; rows * columns], vec![0.0; rows]);
    for usage in &spec.uses {
        let (left, left_bias, [_, teacher]) = map(family, file, usage.from)?;
        let (entered, entered_bias, [_, other]) = map(family, file, usage.to)?;
        if teacher != other {
            return None;
        }
        let wide = |tensor: &Tensor| tensor.values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
        let (left, entered) = (wide(left), wide(entered));
        let back = pseudo_inverse(&left, columns, teacher, noise);
        let share = 1.0 / spec.uses.len() as f64;
        for (row, bias) in bias.iter_mut().enumerate() {
            *bias += share * f64::from(entered_bias.values[row]);
            for (column, left_bias) in left_bias.values.iter().enumerate() {
                let product: f64 = (0..teacher).map(|k| entered[row * teacher + k] * back[k * columns + column]).sum();
                weights[row * columns + column] += share * product;
                *bias -= share * product * f64::from(*left_bias);
            }
        }
    }
    let floats = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    let places = AffineLayer {
        down: None,
        weights: floats(&weights),
        bias: floats(&bias),
        in_channels: columns,
        out_channels: rows,
    };
    Some(StitchingLayer { places, token: None, norms: Vec::new() })
}

/// The mean of all maps of the left student that have the layer's extents, transposed; no bias.
fn transposed(family: &Family, file: &Tensors, spec: &LayerSpec) -> Option<StitchingLayer> {
    if !is_plain(family, spec) {
        return None;
    }
    let cuts = 0..family.anchors[spec.from].cuts.len();
    let maps: Vec<Map<'_>> = cuts
        .filter_map(|cut| map(family, file, (spec.from, cut)))
        .filter(|(.., channels)| *channels == [spec.in_channels, spec.out_channels])
        .collect();
    if maps.is_empty() {
        return None;
    }
    let (rows, columns) = (spec.out_channels, spec.in_channels);
    let at = |index: usize| (index % columns) * rows + index / columns;
    let mean = |index: usize| maps.iter().map(|map| map.0.values[at(index)]).sum::<f32>() / maps.len() as f32;
    let places = AffineLayer {
        down: None,
        weights: (0..rows * columns).map(mean).collect(),
        bias: vec![0.0; rows],
        in_channels: columns,
        out_channels: rows,
    };
    Some(StitchingLayer { places, token: None, norms: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::{silent, space, testnet};

    /// A family in a folder with maps of so many channels of the teacher: `maps(anchor, row, column)`.
    fn with_maps(
        folder: &std::path::Path,
        teacher: usize,
        maps: impl Fn(usize, usize, usize) -> f32,
    ) -> (Family, Space) {
        let mut family = testnet::family(&[3, 4], &[1, 2]);
        family.folder = folder.to_owned();
        let mut file = Tensors::default();
        for (number, anchor) in family.anchors.iter().enumerate() {
            for cut in &anchor.cuts {
                let rows = cut.shape.last().copied().unwrap();
                let values = (0..rows * teacher).map(|i| maps(number, i / teacher, i % teacher)).collect();
                file.insert(format!("{}@{}.weight", anchor.name, cut.tensor), vec![rows, teacher], values);
                let bias = (0..rows).map(|row| row as f32 * 0.5).collect();
                file.insert(format!("{}@{}.bias", anchor.name, cut.tensor), vec![rows], bias);
            }
        }
        std::fs::write(folder.join(FILE_NAME), file.to_bytes()).unwrap();
        let space = space::enumerate(&family).unwrap();
        (family, space)
    }

    fn solve(family: &Family, space: &Space, rule: Rule) -> Result<Initialization, StitchError> {
        layers(family, space, rule, &testnet::images(4), 0.0, &silent)
    }

    #[test]
    fn students_with_equal_maps_are_joined_by_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let wave = |_: usize, row: usize, column: usize| ((row * 7 + column * 3 + row * column * 5) as f32).sin();
        let (family, space) = with_maps(folder.path(), 9, wave);
        let found = solve(&family, &space, Rule::Inverse).unwrap();
        for layer in &found.layers {
            for (index, weight) in layer.places.weights.iter().enumerate() {
                let wanted = f32::from(u8::from(index % 7 == 0));
                assert!((weight - wanted).abs() < 1e-4, "{index} {weight}");
            }
            assert!(layer.places.bias.iter().all(|bias| bias.abs() < 1e-3), "{:?}", layer.places.bias);
        }
        assert!(found.fits.is_empty(), "nothing is left to least squares");
    }

    #[test]
    fn transposed_maps_lead_into_a_student_of_the_teachers_width_only() {
        let folder = tempfile::tempdir().unwrap();
        let (family, space) = with_maps(folder.path(), 6, |_, row, column| (10 * row + column) as f32);
        let found = solve(&family, &space, Rule::Transposed).unwrap();
        assert_eq!(found.layers[0].places.weights[1], 10.0);
        assert_eq!(found.layers[0].places.bias, [0.0; 6]);
        let (family, space) = with_maps(folder.path(), 9, |_, row, column| (10 * row + column) as f32);
        let said = solve(&family, &space, Rule::Transposed).unwrap_err().to_string();
        assert!(said.contains("as wide as the teacher"), "{said}");
    }

    #[test]
    fn a_family_without_maps_is_told_how_to_get_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut family = testnet::family(&[3, 4], &[1, 2]);
        family.folder = folder.path().to_owned();
        let space = space::enumerate(&family).unwrap();
        let said = solve(&family, &space, Rule::Inverse).unwrap_err().to_string();
        assert!(said.contains(FILE_NAME) && said.contains("--learngene all"), "{said}");
    }
}
