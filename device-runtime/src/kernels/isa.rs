//! Which variant of the kernels to run.

#[cfg(neon)]
use super::neon::Level;

/// A set of kernel variants. All of them return the same bytes as [`Reference`](Self::Reference).
///
/// Variants exist only on the architectures that can have them. Naming one that this processor lacks is harmless: the
/// kernels then run the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Isa {
    /// Scalar code for any processor.
    Reference,
    /// Plain Rust, blocked for few registers: 32-bit Arm without DSP instructions, and x86-64 so that it is tested there.
    #[cfg(portable)]
    Portable,
    /// 16-bit dual multiply-accumulate of Armv7E-M and of Armv8-M with the DSP extension.
    #[cfg(arm_dsp)]
    ArmDsp,
    /// 128-bit vectors of Armv8.1-M (MVE, Helium).
    #[cfg(arm_mve)]
    ArmMve,
    /// 128-bit vectors of 32-bit Arm processors that run Linux (NEON). Detected at run time with feature `std`, otherwise taken
    /// from the compiler's target.
    #[cfg(arm_neon)]
    ArmNeon,
    /// 128-bit vectors that every 64-bit Arm processor has.
    #[cfg(neon)]
    Neon,
    /// [`Neon`](Self::Neon) with the dot product instruction. Detected at run time with feature `std`, otherwise taken from the
    /// compiler's target.
    #[cfg(neon)]
    NeonDot,
    /// [`NeonDot`](Self::NeonDot) with the int8 matrix instructions, found likewise.
    #[cfg(neon)]
    NeonI8mm,
    /// 256-bit integer vectors. Detected at run time with feature `std`, otherwise taken from the compiler's target.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors with the int8 dot product (AVX-512 F, BW, VL and VNNI), found likewise.
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Isa {
    /// The fastest variant this processor runs.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Reference)
    }

    /// Every variant this processor runs, slowest first; the reference is always among them.
    #[must_use]
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if vnni_is_present() {
            return &[Self::Reference, Self::Portable, Self::Avx2, Self::Vnni];
        }
        #[cfg(target_arch = "x86_64")]
        if avx2_is_present() {
            return &[Self::Reference, Self::Portable, Self::Avx2];
        }
        #[cfg(arm_neon)]
        if arm_neon_is_present() {
            return &[Self::Reference, Self::ArmDsp, Self::ArmNeon];
        }
        #[cfg(arm_mve)]
        {
            &[Self::Reference, Self::ArmDsp, Self::ArmMve]
        }
        #[cfg(all(arm_dsp, not(arm_mve)))]
        {
            &[Self::Reference, Self::ArmDsp]
        }
        #[cfg(neon)]
        {
            let all = &[Self::Reference, Self::Neon, Self::NeonDot, Self::NeonI8mm];
            match neon_level(Self::NeonI8mm) {
                Level::Matrix => all,
                Level::Dot => &[Self::Reference, Self::Neon, Self::NeonDot],
                Level::Base => &[Self::Reference, Self::Neon],
            }
        }
        #[cfg(portable)]
        {
            &[Self::Reference, Self::Portable]
        }
        #[cfg(not(any(arm_dsp, neon, portable)))]
        {
            &[Self::Reference]
        }
    }

    /// Short name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            #[cfg(portable)]
            Self::Portable => "portable",
            #[cfg(arm_dsp)]
            Self::ArmDsp => "arm-dsp",
            #[cfg(arm_mve)]
            Self::ArmMve => "arm-mve",
            #[cfg(arm_neon)]
            Self::ArmNeon => "arm-neon",
            #[cfg(neon)]
            Self::Neon => "neon",
            #[cfg(neon)]
            Self::NeonDot => "neon-dot",
            #[cfg(neon)]
            Self::NeonI8mm => "neon-i8mm",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => "avx512-vnni",
        }
    }
}

/// True if AVX2 code may run here. The run-time answer is cached by the standard library.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn avx2_is_present() -> bool {
    #[cfg(any(test, feature = "std"))]
    {
        std::arch::is_x86_feature_detected!("avx2")
    }
    #[cfg(not(any(test, feature = "std")))]
    {
        cfg!(target_feature = "avx2")
    }
}

/// True if code for AVX-512 with VNNI may run here; AVX2 is present then, too.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn vnni_is_present() -> bool {
    #[cfg(any(test, feature = "std"))]
    {
        avx2_is_present()
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(any(test, feature = "std")))]
    {
        avx2_is_present()
            && cfg!(target_feature = "avx512f")
            && cfg!(target_feature = "avx512bw")
            && cfg!(target_feature = "avx512vl")
            && cfg!(target_feature = "avx512vnni")
    }
}

/// True if code for the vectors of 32-bit Arm may run here.
#[cfg(arm_neon)]
#[inline]
pub(super) fn arm_neon_is_present() -> bool {
    super::armv7_neon::is_present()
}

/// The instructions that `isa` may use here: its own, less what this processor lacks.
#[cfg(neon)]
#[inline]
pub(super) fn neon_level(isa: Isa) -> Level {
    #[cfg(any(test, feature = "std"))]
    let (has_dot, has_matrix) =
        (std::arch::is_aarch64_feature_detected!("dotprod"), std::arch::is_aarch64_feature_detected!("i8mm"));
    #[cfg(not(any(test, feature = "std")))]
    let (has_dot, has_matrix) = (cfg!(target_feature = "dotprod"), cfg!(target_feature = "i8mm"));
    match isa {
        Isa::NeonI8mm if has_dot && has_matrix => Level::Matrix,
        Isa::NeonI8mm | Isa::NeonDot if has_dot => Level::Dot,
        _ => Level::Base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_always_available_and_the_best_is_listed() {
        assert_eq!(Isa::available()[0], Isa::Reference);
        assert!(Isa::available().contains(&Isa::best()));
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::HashSet<_> = Isa::available().iter().map(|isa| isa.name()).collect();
        assert_eq!(names.len(), Isa::available().len());
    }
}
