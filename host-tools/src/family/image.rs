//! Single images: PNG, JPEG, and npy arrays of bytes.

use std::path::Path;

use ndarray::ArrayD;
use ndarray_npy::read_npy;

use super::data::DataError;

/// Loads one image as HWC bytes: PNG or JPEG by content, or `.npy` of `u8` (`[h, w, c]`, or `[h, w]` for one channel).
/// Colour images become grey where one channel is wanted and the other way round; the size must fit.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Image`] for what cannot be decoded, [`DataError::Size`] with both sizes.
pub fn load_image(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    if !path.exists() {
        return Err(DataError::Missing { path: path.to_owned() });
    }
    let name = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        let array: ArrayD<u8> = read_npy(path).map_err(|error| DataError::Image {
            name: name.clone(),
            reason: format!("not an npy array of u8 pixels: {error}"),
        })?;
        return from_array(&name, array, shape);
    }
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    decode(&name, &bytes, shape)
}

/// Decodes PNG or JPEG bytes to HWC pixels; `name` stands for the image in errors.
pub(super) fn decode(name: &str, bytes: &[u8], shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let image = image::load_from_memory(bytes)
        .map_err(|error| DataError::Image { name: name.to_owned(), reason: error.to_string() })?;
    let found = [image.height() as usize, image.width() as usize];
    if found != shape[..2] {
        return Err(DataError::Size { name: name.to_owned(), found: found.to_vec(), wanted: shape.to_vec() });
    }
    match shape[2] {
        1 => Ok(image.into_luma8().into_raw()),
        3 => Ok(image.into_rgb8().into_raw()),
        channels => {
            let reason = format!("images of {channels} channels cannot be read from PNG or JPEG");
            Err(DataError::Image { name: name.to_owned(), reason })
        }
    }
}

fn from_array(name: &str, array: ArrayD<u8>, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let found = array.shape().to_vec();
    if found != shape && !(shape[2] == 1 && found == shape[..2]) {
        return Err(DataError::Size { name: name.to_owned(), found, wanted: shape.to_vec() });
    }
    Ok(array.iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn png_and_npy_give_the_same_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..18).map(|i| i * 14).collect();
        let png = folder.path().join("a.png");
        image::RgbImage::from_raw(3, 2, pixels.clone()).unwrap().save(&png).unwrap();
        let npy = folder.path().join("a.npy");
        ndarray_npy::write_npy(&npy, &ArrayD::from_shape_vec(IxDyn(&[2, 3, 3]), pixels.clone()).unwrap()).unwrap();
        assert_eq!(load_image(&png, [2, 3, 3]).unwrap(), pixels);
        assert_eq!(load_image(&npy, [2, 3, 3]).unwrap(), pixels);
    }

    #[test]
    fn a_fortran_ordered_array_is_read_in_logical_order() {
        use ndarray::ShapeBuilder;
        let folder = tempfile::tempdir().unwrap();
        let npy = folder.path().join("a.npy");
        let array = ArrayD::from_shape_vec(IxDyn(&[2, 3]).f(), vec![1u8, 4, 2, 5, 3, 6]).unwrap();
        ndarray_npy::write_npy(&npy, &array).unwrap();
        assert_eq!(load_image(&npy, [2, 3, 1]).unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_wrong_size_names_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let png = folder.path().join("small.png");
        image::GrayImage::new(4, 5).save(&png).unwrap();
        let text = load_image(&png, [8, 8, 1]).unwrap_err().to_string();
        assert!(text.contains("small.png") && text.contains("5x4") && text.contains("8x8"), "{text}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("broken.jpg");
        std::fs::write(&broken, b"\xff\xd8\xff no image").unwrap();
        assert!(load_image(&broken, [8, 8, 1]).unwrap_err().to_string().contains("broken.jpg"));
        let error = load_image(&folder.path().join("absent.png"), [8, 8, 1]).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
    }
}
