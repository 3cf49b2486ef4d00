//! A pin that shows a power analyser when an inference runs.

use embedded_hal::digital::OutputPin;

/// A pin that is high while work runs and low otherwise.
///
/// Power analysers integrate the supply current while their trigger input is high. The pin's own driver cost, a few
/// register writes, falls into the measured time.
#[derive(Debug)]
pub struct Trigger<P>(P);

impl<P: OutputPin> Trigger<P> {
    /// Takes the pin and sets it low.
    ///
    /// # Errors
    /// The pin's.
    pub fn new(mut pin: P) -> Result<Self, P::Error> {
        pin.set_low()?;
        Ok(Self(pin))
    }

    /// Calls `work` between a rising and a falling edge and returns what it returned. The pin falls also where that is an
    /// error.
    ///
    /// # Errors
    /// The pin's; if it cannot be set high `work` does not run.
    pub fn around<R>(&mut self, work: impl FnOnce() -> R) -> Result<R, P::Error> {
        self.0.set_high()?;
        let done = work();
        self.0.set_low()?;
        Ok(done)
    }

    /// Gives the pin back.
    pub fn release(self) -> P {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    #[test]
    fn the_pin_is_high_during_work_and_low_again_after_failed_work() {
        let edges = [State::Low, State::High, State::Low, State::High, State::Low].map(Transaction::set);
        let mut pin = Mock::new(&edges);
        let mut trigger = Trigger::new(pin.clone()).expect("the mock works");
        assert_eq!(trigger.around(|| 7).expect("the mock works"), 7);
        let failed: Result<(), &str> = trigger.around(|| Err("storage")).expect("the mock works");
        assert_eq!(failed, Err("storage"));
        pin.done();
    }
}
