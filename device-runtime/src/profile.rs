//! What a board is like, in numbers: its memory and how long each class of step takes on it.
//!
//! Host and device share these types. The host fits a [`LatencyModel`] to measured steps and stores it with the board; a
//! board that has none starts from [`LatencyModel::CORTEX_M4`] and corrects it by what it measures.

mod fit;
mod model;
mod priors;
mod probe;
mod record;
mod report;
mod trace;
mod work;

pub use fit::{FitOptions, Sample};
pub use model::{Coefficients, LatencyModel};
pub use probe::{ClassProbeError, PROBE_BYTES, PROBE_WEIGHTS, probe_classes, weight_byte_ps};
pub use record::{RECORD_VERSION, Record, TickUnit};
pub use report::{Measuring, ReportError, report};
pub use trace::trace;
pub use work::{OpClass, Work};

use serde::{Deserialize, Serialize};

/// What one board offers. Small enough to be stored in flash and sent over a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardProfile {
    /// Bytes available to an arena, stack and statics already subtracted.
    pub ram_bytes: u32,
    /// Bytes available to a bundle.
    pub flash_bytes: u32,
    /// How long steps take.
    pub model: LatencyModel,
}

impl BoardProfile {
    /// Most bytes that [`to_bytes`](Self::to_bytes) writes.
    pub const MAX_BYTES: usize = 1008;

    /// Writes the profile as postcard and returns the bytes used; `None` if `buffer` is too small.
    pub fn to_bytes<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a mut [u8]> {
        postcard::to_slice(self, buffer).ok()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, also before there were layer norms and attention, which are then
    /// [estimated](LatencyModel::estimate); `None` if it is damaged.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(profile) = postcard::from_bytes(bytes) {
            return Some(profile);
        }
        let (first, []) = postcard::take_from_bytes(bytes).ok()? else { return None };
        let First { ram_bytes, flash_bytes, classes, weight_byte_ps } = first;
        let mut model = LatencyModel { weight_byte_ps, ..LatencyModel::ZERO };
        model.classes.iter_mut().zip(classes).for_each(|(class, first)| *class = first);
        OpClass::ALL.into_iter().skip(FIRST_CLASSES).for_each(|class| model.estimate(class));
        Some(Self { ram_bytes, flash_bytes, model })
    }
}

/// Classes of the first layout of a profile.
const FIRST_CLASSES: usize = 13;

/// The first layout of a profile.
#[derive(Serialize, Deserialize)]
struct First {
    ram_bytes: u32,
    flash_bytes: u32,
    classes: [Coefficients; FIRST_CLASSES],
    weight_byte_ps: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_survives_its_bytes() {
        let profile = BoardProfile { ram_bytes: 131_072, flash_bytes: 1 << 20, model: LatencyModel::CORTEX_M4 };
        let mut buffer = [0; BoardProfile::MAX_BYTES];
        let bytes = profile.to_bytes(&mut buffer).unwrap();
        assert_eq!(BoardProfile::from_bytes(bytes), Some(profile));
        assert_eq!(BoardProfile::from_bytes(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_profile_of_the_first_layout_is_read_and_completed() {
        let whole = LatencyModel::CORTEX_M4.scaled(7, 1);
        let classes = std::array::from_fn(|class| whole.classes[class]);
        let first = First { ram_bytes: 5, flash_bytes: 6, classes, weight_byte_ps: 9 };
        let mut buffer = [0; BoardProfile::MAX_BYTES];
        let bytes = postcard::to_slice(&first, &mut buffer).unwrap();
        let profile = BoardProfile::from_bytes(bytes).unwrap();
        assert_eq!((profile.ram_bytes, profile.flash_bytes, profile.model.weight_byte_ps), (5, 6, 9));
        assert_eq!(profile.model.classes, whole.classes);
    }

    #[test]
    fn the_largest_profile_fits_its_buffer() {
        let most = Coefficients::from_array([u32::MAX; Coefficients::COUNT]);
        let model = LatencyModel { classes: [most; OpClass::COUNT], weight_byte_ps: u32::MAX };
        let profile = BoardProfile { ram_bytes: u32::MAX, flash_bytes: u32::MAX, model };
        assert!(profile.to_bytes(&mut [0; BoardProfile::MAX_BYTES]).is_some());
    }
}
