//! Logging: `defmt` where the feature is on, nothing elsewhere.

/// Logs a line at level info. Arguments are evaluated only where the feature `defmt` is on.
macro_rules! info {
    ($($part:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::info!($($part),+);
        #[cfg(not(feature = "defmt"))]
        let _ = || { $(let _ = &$part;)+ };
    }};
}

/// Logs a line at level warning; otherwise as `info!`.
macro_rules! warning {
    ($($part:expr),+ $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($part),+);
        #[cfg(not(feature = "defmt"))]
        let _ = || { $(let _ = &$part;)+ };
    }};
}
