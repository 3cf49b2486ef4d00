//! What happened at each inference.

use core::fmt;

use super::Factor;

/// One inference as the controller saw it. Displayed as one line of JSON; `host-tools/docs/adapting.md` describes the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Record {
    /// Count of inferences before this one; wraps.
    pub inference: u32,
    /// The deadline it had.
    pub deadline_us: Option<u64>,
    /// The plan that answered.
    pub plan: u16,
    /// What it was expected to take, with all corrections known before it.
    pub predicted_us: u32,
    /// What it took, saturating.
    pub observed_us: u32,
    /// The slowdown assumed for it.
    pub slowdown: Factor,
    /// True if it took longer than the deadline.
    pub missed: bool,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"inference\":{},\"deadline_us\":", self.inference)?;
        match self.deadline_us {
            Some(us) => write!(f, "{us}")?,
            None => f.write_str("null")?,
        }
        let thousandths = self.slowdown.thousandths();
        write!(
            f,
            ",\"plan\":{},\"predicted_us\":{},\"observed_us\":{},\"slowdown\":{}.{:03},\"missed\":{}}}",
            self.plan,
            self.predicted_us,
            self.observed_us,
            thousandths / 1000,
            thousandths % 1000,
            self.missed,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_of_json() {
        let record = Record {
            inference: 7,
            deadline_us: None,
            plan: 3,
            predicted_us: 9000,
            observed_us: 27_000,
            slowdown: Factor::ratio(2047, 1000),
            missed: true,
        };
        let line = r#"{"inference":7,"deadline_us":null,"plan":3,"predicted_us":9000,"observed_us":27000,"slowdown":2.047,"missed":true}"#;
        assert_eq!(record.to_string(), line);
        let with_deadline = Record { deadline_us: Some(5), ..record };
        assert!(with_deadline.to_string().contains("\"deadline_us\":5,"));
    }
}
