//! Input files: raw bytes and numpy arrays.

use std::fs;
use std::io::Read;
use std::path::Path;

use stitchkit_runtime::bundle::Bundle;

use crate::args::RawFormat;
use crate::failure::Failure;

/// First bytes of every `.npy` file.
const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Reads `path`, or standard input for `-`, and returns its inputs one after another, each quantized and of the bundle's
/// input length.
///
/// # Errors
/// [`Failure::Failed`] names the file and what is wrong with it.
pub fn load(path: &Path, raw: RawFormat, bundle: &Bundle<'_>) -> Result<Vec<i8>, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let bytes = bytes.map_err(|error| Failure::at(path, error))?;
    decode(&bytes, raw, bundle).map_err(|text| Failure::at(path, text))
}

/// The inputs in `bytes`, an `.npy` file or raw elements of format `raw`, one after another, quantized.
///
/// # Errors
/// What is wrong with the bytes, to follow their name.
pub fn decode(bytes: &[u8], raw: RawFormat, bundle: &Bundle<'_>) -> Result<Vec<i8>, String> {
    let (format, elements) = if bytes.starts_with(NPY_MAGIC) { npy(bytes)? } else { (raw, bytes) };
    let shape = bundle.meta().input;
    let len = shape.len();
    if elements.is_empty() || elements.len() % len != 0 {
        let (h, w, c) = (shape.h, shape.w, shape.c);
        return Err(format!("holds {} elements; one input has {len} ({h} x {w} x {c})", elements.len()));
    }
    let mut values = vec![0; elements.len()];
    match format {
        RawFormat::Int8 => values.iter_mut().zip(elements).for_each(|(value, byte)| *value = byte.cast_signed()),
        RawFormat::Pixels => {
            let all = values.chunks_exact_mut(len).zip(elements.chunks_exact(len));
            for (input, pixels) in all {
                if !bundle.quantize_pixels(pixels, input) {
                    return Err("holds pixels, but the bundle has no pixel table: give int8 values".into());
                }
            }
        }
    }
    Ok(values)
}

/// Element type and elements of an `.npy` file, format versions 1 to 3.
fn npy(bytes: &[u8]) -> Result<(RawFormat, &[u8]), String> {
    let cut = || "is cut off inside its .npy header".to_string();
    let version = *bytes.get(6).ok_or_else(cut)?;
    let sized = bytes.get(8..).ok_or_else(cut)?;
    let (len, rest) = match version {
        1 => sized.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest)),
        2 | 3 => sized.split_first_chunk().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest)),
        _ => return Err(format!("has .npy version {version}; versions 1 to 3 are known")),
    }
    .ok_or_else(cut)?;
    let (header, elements) = rest.split_at_checked(len).ok_or_else(cut)?;
    let header = str::from_utf8(header).map_err(|_| "has an .npy header that is no text".to_string())?;

    let descr = quoted(field(header, "descr")?);
    let format = match descr.trim_start_matches(['|', '<', '>', '=']) {
        "u1" => RawFormat::Pixels,
        "i1" => RawFormat::Int8,
        _ => return Err(format!("holds elements of type {descr}; uint8 (pixels) and int8 are understood")),
    };
    if field(header, "fortran_order")?.starts_with("True") {
        return Err("is in Fortran order; save it with numpy.ascontiguousarray".into());
    }
    let shape = field(header, "shape")?;
    let shape = shape.strip_prefix('(').and_then(|s| s.split_once(')')).ok_or("has an .npy header without shape")?.0;
    let extents = shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse::<usize>);
    let count = extents.into_iter().try_fold(1usize, |count, extent| count.checked_mul(extent.ok()?));
    if count != Some(elements.len()) {
        return Err(format!("has shape ({shape}) but {} bytes of elements", elements.len()));
    }
    Ok((format, elements))
}

/// What follows `'name':` in the header's dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, String> {
    let missing = || format!("has an .npy header without {name}");
    let (_, after) = header.split_once(&format!("'{name}'")).ok_or_else(missing)?;
    let value = after.trim_start().strip_prefix(':').ok_or_else(missing)?;
    Ok(value.trim_start())
}

/// The text between the quotes at the start of `text`, or nothing.
fn quoted(text: &str) -> &str {
    text.strip_prefix('\'').and_then(|t| t.split_once('\'')).map_or("", |(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = [NPY_MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn arrays_of_bytes_are_read() {
        let pixels = file(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }   \n", &[1, 2, 3, 4, 5, 6]);
        assert_eq!(npy(&pixels), Ok((RawFormat::Pixels, &[1u8, 2, 3, 4, 5, 6][..])));
        let values = file(2, "{'descr': '|i1', 'fortran_order': False, 'shape': (3,), }\n", &[255, 0, 1]);
        assert_eq!(npy(&values), Ok((RawFormat::Int8, &[255u8, 0, 1][..])));
    }

    #[test]
    fn other_arrays_are_refused_with_the_reason() {
        struct Case {
            header: &'static str,
            says: &'static str,
        }
        let cases = [
            Case { header: "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", says: "type <f4" },
            Case { header: "{'descr': '|u1', 'fortran_order': True, 'shape': (2,), }", says: "Fortran" },
            Case { header: "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", says: "shape (3,)" },
            Case {
                header: "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 9999999999, 99), }",
                says: "shape",
            },
            Case { header: "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,), }", says: "shape" },
            Case { header: "{'descr': '|u1', 'shape': (2,), }", says: "without fortran_order" },
            Case { header: "", says: "without descr" },
        ];
        for case in &cases {
            let error = npy(&file(1, case.header, &[1, 2])).unwrap_err();
            assert!(error.contains(case.says), "{error} should say {}", case.says);
        }
        assert!(npy(&file(9, "", &[])).unwrap_err().contains("version 9"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let whole = file(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", &[1, 2, 3, 4, 5, 6]);
        for end in NPY_MAGIC.len()..whole.len() {
            assert!(npy(&whole[..end]).is_err(), "cut at {end}");
        }
    }
}
