//! Stitching layers that training wrote: a safetensors file that `[stitching] layers` of `family.toml` names.
//!
//! A layer is known by its first crossing, `small@tensor>large@tensor`, as `KEY.weight` (`[out, in]`) and `KEY.bias`
//! (`[out]`); of low rank also `KEY.down` (`[rank, in]`), and with a map that makes class tokens `KEY.token.weight` and
//! `KEY.token.bias`. Batch norms measured anew behind a crossing are `norm/CROSSING:TENSOR.scale` and `.shift`, one number for
//! each channel of the convolution that gives the tensor. The file stays valid when the space changes: crossings that it lacks are solved by least squares.

use std::path::PathBuf;

use super::init::{Initialization, least_squares};
use super::recalibrate::{self, ChannelNorm, Recalibration};
use super::{AffineLayer, Crossing, LayerSpec, Progress, Space, StitchError, StitchingLayer, silent};
use crate::family::{Dataset, Family, Norms};
use crate::graph::Op;
use crate::safetensors::Tensors;

/// What names a crossing in the file.
#[must_use]
pub fn key(family: &Family, crossing: Crossing) -> String {
    let end = |(anchor, cut): (usize, usize)| {
        let anchor = &family.anchors[anchor];
        format!("{}@{}", anchor.name, anchor.cuts[cut].tensor)
    };
    format!("{}>{}", end(crossing.from), end(crossing.to))
}

/// Adds a layer to a file, under one of its crossings.
pub fn insert(file: &mut Tensors, family: &Family, crossing: Crossing, layer: &StitchingLayer) {
    let key = &key(family, crossing);
    insert_map(file, key, &layer.places);
    layer.token.iter().for_each(|token| insert_map(file, &format!("{key}.token"), token));
}

/// Adds what follows the batch norms behind the layer's crossings.
pub fn insert_norms(file: &mut Tensors, family: &Family, layer: &StitchingLayer) {
    for Recalibration { crossing, norms } in &layer.norms {
        let key = norm_key(family, *crossing);
        for norm in norms {
            for (part, values) in [("scale", &norm.scale), ("shift", &norm.shift)] {
                file.insert(format!("{key}{}.{part}", norm.tensor), vec![values.len()], values.clone());
            }
        }
    }
}

fn norm_key(family: &Family, crossing: Crossing) -> String {
    format!("norm/{}:", key(family, crossing))
}

fn insert_map(file: &mut Tensors, key: &str, map: &AffineLayer) {
    let inputs = map.rank().unwrap_or(map.in_channels);
    if let Some(down) = &map.down {
        file.insert(format!("{key}.down"), vec![inputs, map.in_channels], down.clone());
    }
    file.insert(format!("{key}.weight"), vec![map.out_channels, inputs], map.weights.clone());
    file.insert(format!("{key}.bias"), vec![map.out_channels], map.bias.clone());
}

/// The stitching layers of a space: trained ones where the family has them, least squares for the others. Arguments and
/// units as [`least_squares`]; fits are known for the latter only.
///
/// # Errors
/// [`StitchError::Layers`] for a file that cannot be read or has layers of other extents, otherwise as [`least_squares`].
pub fn layers(
    family: &Family,
    space: &Space,
    images: &Dataset,
    noise: f64,
    progress: Progress<'_>,
) -> Result<Initialization, StitchError> {
    let found = stored(family, space)?;
    complete(family, space, found, images, noise, progress)
}

/// The stitching layers of a space that the family's file has, by id.
///
/// # Errors
/// [`StitchError::Layers`] for a file that cannot be read or has layers of other extents.
pub fn stored(family: &Family, space: &Space) -> Result<Vec<Option<StitchingLayer>>, StitchError> {
    let Some((path, mut file)) = file(family)? else { return Ok(vec![None; space.layers.len()]) };
    let found = space.layers.iter().map(|spec| take(&mut file, family, spec));
    found.collect::<Result<Vec<_>, _>>().map_err(|reason| StitchError::Layers { path, reason })
}

/// Solves the layers of a space that are not known yet by least squares; arguments and units as [`least_squares`].
///
/// # Errors
/// As [`least_squares`].
pub fn complete(
    family: &Family,
    space: &Space,
    found: Vec<Option<StitchingLayer>>,
    images: &Dataset,
    noise: f64,
    progress: Progress<'_>,
) -> Result<Initialization, StitchError> {
    let missing: Vec<&LayerSpec> = space.layers.iter().filter(|spec| found[spec.id].is_none()).collect();
    let mut fitted = match missing.is_empty() {
        true => Initialization { layers: Vec::new(), fits: Vec::new() },
        false => {
            let renumbered = missing.iter().enumerate().map(|(id, spec)| LayerSpec { id, ..(*spec).clone() });
            let part = Space { candidates: Vec::new(), layers: renumbered.collect(), warnings: Vec::new() };
            least_squares(family, &part, images, noise, progress)?
        }
    };
    fitted.fits.iter_mut().for_each(|fit| fit.layer = missing[fit.layer].id);
    let is_solved: Vec<bool> = found.iter().map(Option::is_none).collect();
    let mut solved = fitted.layers.into_iter();
    let mut layers: Vec<StitchingLayer> =
        found.into_iter().filter_map(|layer| layer.or_else(|| solved.next())).collect();
    recalibrate_solved(family, space, &mut layers, &is_solved, images)?;
    Ok(Initialization { layers, fits: fitted.fits })
}

/// Measures the batch norms anew behind layers that least squares solved, if the family wants it.
///
/// # Errors
/// As [`recalibrate::fit`].
pub fn recalibrate_solved(
    family: &Family,
    space: &Space,
    layers: &mut [StitchingLayer],
    is_solved: &[bool],
    images: &Dataset,
) -> Result<(), StitchError> {
    if family.config.stitching.norms == Norms::Anchor || !is_solved.contains(&true) {
        return Ok(());
    }
    recalibrate::fit(family, space, layers, &|layer| is_solved[layer], images, &silent)
}

/// The family's file of trained layers, with its path; `None` if the family names none.
///
/// # Errors
/// [`StitchError::Layers`] if it cannot be read.
pub fn file(family: &Family) -> Result<Option<(PathBuf, Tensors)>, StitchError> {
    let Some(name) = &family.config.stitching.layers else { return Ok(None) };
    let path = family.folder.join(name);
    let read = || Tensors::from_bytes(&std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"))?);
    match read() {
        Ok(file) => Ok(Some((path, file))),
        Err(reason) => Err(StitchError::Layers { path, reason }),
    }
}

fn take(file: &mut Tensors, family: &Family, spec: &LayerSpec) -> Result<Option<StitchingLayer>, String> {
    let key = &key(family, spec.uses[0]);
    let Some(places) = take_map(file, key, spec, spec.rank)? else { return Ok(None) };
    let token = match spec.makes_token {
        false => None,
        true => Some(
            take_map(file, &format!("{key}.token"), spec, None)?.ok_or(format!("layer `{key}` lacks its token map"))?,
        ),
    };
    let mut norms = Vec::new();
    for &crossing in &spec.uses {
        let found = take_norms(file, family, crossing)?;
        norms.extend((!found.is_empty()).then_some(Recalibration { crossing, norms: found }));
    }
    Ok(Some(StitchingLayer { places, token, norms }))
}

/// What the file has of the batch norms behind a crossing, in the order of the anchor's nodes.
fn take_norms(file: &mut Tensors, family: &Family, crossing: Crossing) -> Result<Vec<ChannelNorm>, String> {
    let key = norm_key(family, crossing);
    let mut norms = Vec::new();
    for node in &family.anchors[crossing.to.0].graph.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        let names = ["scale", "shift"].map(|part| format!("{key}{}.{part}", node.tensor));
        let found = names.each_ref().map(|name| file.tensors.remove(name));
        let [scale, shift] = match found {
            [None, None] => continue,
            [Some(scale), Some(shift)] => [scale.values, shift.values],
            _ => return Err(format!("of `{}` and `{}` one is missing", names[0], names[1])),
        };
        if [&scale, &shift].into_iter().any(|values| values.len() != conv.out_channels) {
            return Err(format!("`{}` and `.shift` need {} values", names[0], conv.out_channels));
        }
        if !scale.iter().all(|value| value.is_normal() && *value > 0.0) || !shift.iter().all(|value| value.is_finite())
        {
            return Err(format!("`{}` must hold numbers above 0 and `.shift` finite ones", names[0]));
        }
        norms.push(ChannelNorm { tensor: node.tensor.clone(), scale, shift });
    }
    Ok(norms)
}

fn take_map(
    file: &mut Tensors,
    key: &str,
    spec: &LayerSpec,
    rank: Option<usize>,
) -> Result<Option<AffineLayer>, String> {
    let (in_channels, out_channels) = (spec.in_channels, spec.out_channels);
    let mut parts = vec![("weight", vec![out_channels, rank.unwrap_or(in_channels)]), ("bias", vec![out_channels])];
    parts.extend(rank.map(|rank| ("down", vec![rank, in_channels])));
    let names = || parts.iter().map(|(part, shape)| (format!("{key}.{part}"), shape));
    if names().all(|(name, _)| !file.tensors.contains_key(&name)) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (name, shape) in names() {
        let tensor = file.tensors.remove(&name).ok_or_else(|| format!("layer `{key}` lacks `{name}`"))?;
        if tensor.shape != *shape {
            return Err(format!("`{name}` has the shape {:?}, the anchors need {shape:?}", tensor.shape));
        }
        if !tensor.values.iter().all(|value| value.is_finite()) {
            return Err(format!("`{name}` holds NaN or infinite values"));
        }
        found.push(tensor.values);
    }
    let down = (found.len() > 2).then(|| found.remove(2));
    let bias = found.pop().unwrap_or_default();
    let weights = found.pop().unwrap_or_default();
    Ok(Some(AffineLayer { down, weights, bias, in_channels, out_channels }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::{silent, space, testnet};

    #[test]
    fn layers_of_the_file_are_used_and_the_others_are_least_squares() {
        let folder = tempfile::tempdir().unwrap();
        let mut family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        assert!(space.layers.len() > 1);
        let images = testnet::images(6);
        let solved = least_squares(&family, &space, &images, 0.0, &silent).unwrap();
        let mut own = solved.layers[1].clone();
        own.places.weights.iter_mut().for_each(|w| *w += 1.0);
        let mut file = Tensors::default();
        insert(&mut file, &family, space.layers[1].uses[0], &own);
        std::fs::write(folder.path().join("s.safetensors"), file.to_bytes()).unwrap();
        family.folder = folder.path().to_owned();
        family.config.stitching.layers = Some("s.safetensors".into());
        let found = layers(&family, &space, &images, 0.0, &silent).unwrap();
        for (id, (found, solved)) in found.layers.iter().zip(&solved.layers).enumerate() {
            assert_eq!(found, if id == 1 { &own } else { solved });
        }
        assert!(found.fits.iter().all(|fit| fit.layer != 1) && !found.fits.is_empty());
    }

    #[test]
    fn layers_of_other_extents_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        let key = key(&family, space.layers[0].uses[0]);
        let mut file = Tensors::default();
        let places =
            AffineLayer { down: None, weights: vec![0.0; 2], bias: vec![0.0], in_channels: 2, out_channels: 1 };
        let wrong = StitchingLayer { places, token: None, norms: Vec::new() };
        insert(&mut file, &family, space.layers[0].uses[0], &wrong);
        std::fs::write(folder.path().join("s.safetensors"), file.to_bytes()).unwrap();
        family.folder = folder.path().to_owned();
        family.config.stitching.layers = Some("s.safetensors".into());
        let error = layers(&family, &space, &testnet::images(6), 0.0, &silent).unwrap_err().to_string();
        assert!(error.contains("s.safetensors") && error.contains(&key), "{error}");
    }
}
