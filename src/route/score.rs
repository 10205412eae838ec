//! How well a server is, as a number with its parts.

/// Points that a server loses, out of 100, and what is left. All in the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// What is left: 0 to 100.
    pub total: u8,
    /// For being slower than its peers: none up to 1.5 times, 36 at ten times, at most 40.
    pub latency: u8,
    /// For uses that failed: their share, at most 50.
    pub errors: u8,
    /// For connections that could not be opened: 10 each within the window, at most 30.
    pub connects: u8,
    /// For probes that failed: 30 for one, all for [`super::health::UNREACHABLE`]; for slow ones, at most 20.
    pub probe: u8,
    /// For being behind: 10 at a second, 20 at ten, at most 30.
    pub lag: u8,
    /// For being short of connections or memory: at most 20.
    pub saturation: u8,
    /// For a full or failing disk, or refusing writes: 30.
    pub storage: u8,
}

impl Score {
    /// Points lost for anything but latency.
    pub(super) fn lost(&self) -> u8 {
        let parts = [self.errors, self.connects, self.probe, self.lag, self.saturation, self.storage];
        parts.iter().fold(0u8, |sum, part| sum.saturating_add(*part))
    }
}
