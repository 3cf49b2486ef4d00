//! Safetensors files: named tensors of `f32` behind a JSON header.
//!
//! The format: 8 bytes with the length of the header, little-endian; the header, a JSON object from names to type, shape and
//! byte range, with free text under `__metadata__`; the tensors without gaps.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A tensor of `f32`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    /// Extents; their product is the number of values.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub values: Vec<f32>,
}

/// Contents of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensors {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Free text by name.
    pub metadata: BTreeMap<String, String>,
}

/// Longest header that is read.
const MOST_HEADER_BYTES: u64 = 100_000_000;

impl Tensors {
    /// Adds a tensor; one of the same name is replaced.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) {
        self.tensors.insert(name.into(), Tensor { shape, values });
    }

    /// Bytes of the file; equal contents give equal bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        if !self.metadata.is_empty() {
            header.insert("__metadata__".into(), json!(self.metadata));
        }
        let mut end = 0;
        for (name, tensor) in &self.tensors {
            let start = end;
            end += 4 * tensor.values.len();
            header.insert(name.clone(), json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] }));
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + text.len() + end);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text);
        self.tensors.values().for_each(|tensor| bytes.extend(tensor.values.iter().flat_map(|v| v.to_le_bytes())));
        bytes
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or("it is shorter than the length of a header")?;
        let length = u64::from_le_bytes(*length);
        if length > MOST_HEADER_BYTES || length > rest.len() as u64 {
            return Err(format!("its header would have {length} bytes; it is no safetensors file, or cut off"));
        }
        let (header, data) = rest.split_at(length as usize);
        let header: BTreeMap<String, Value> =
            serde_json::from_slice(header).map_err(|error| format!("its header is not JSON: {error}"))?;
        let mut file = Self::default();
        for (name, entry) in header {
            if name == "__metadata__" {
                file.metadata = serde_json::from_value(entry).map_err(|_| "its metadata is not text by name")?;
                continue;
            }
            let tensor = tensor(&entry, data).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
            file.tensors.insert(name, tensor);
        }
        Ok(file)
    }
}

fn tensor(entry: &Value, data: &[u8]) -> Result<Tensor, &'static str> {
    if entry["dtype"] != "F32" {
        return Err("its type is not F32");
    }
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or("its header is incomplete");
    let shape =
        entry["shape"].as_array().ok_or("it has no shape")?.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let (start, end) = (number(&entry["data_offsets"][0])?, number(&entry["data_offsets"][1])?);
    let bytes = data.get(start..end).ok_or("its values lie outside of the file")?;
    let count = shape.iter().try_fold(4usize, |product, &extent| product.checked_mul(extent));
    if count != Some(bytes.len()) {
        return Err("its shape and its bytes disagree");
    }
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Tensor { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Tensors {
        let mut file = Tensors::default();
        file.insert("b", vec![2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5]);
        file.insert("a", vec![0], Vec::new());
        file.metadata.insert("state".into(), "{\"step\":3}".into());
        file
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut file = Tensors::default();
        file.insert("w", vec![1, 2], vec![1.0, 2.0]);
        let bytes = file.to_bytes();
        let header = br#"{"w":{"data_offsets":[0,8],"dtype":"F32","shape":[1,2]}}"#;
        assert_eq!(bytes[..8], (header.len() as u64).next_multiple_of(8).to_le_bytes());
        assert_eq!(&bytes[8..8 + header.len()], header);
        assert_eq!(bytes[bytes.len() - 8..], [0, 0, 128, 63, 0, 0, 0, 64]);
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Tensors::from_bytes(&example().to_bytes()).unwrap(), example());
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_read_but_never_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>(),
        ) {
            let mut bytes = example().to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Tensors::from_bytes(&bytes);
            let _ = Tensors::from_bytes(&bytes[..length.index(bytes.len())]);
        }
    }
}
