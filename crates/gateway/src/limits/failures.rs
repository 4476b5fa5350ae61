//! Wrong credentials, counted per client address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Rate;

const ADDRESSES_MAX: usize = 65_536;

/// Counts wrong credentials per client address; for IPv6 per network of 64 bits, which is one household.
pub(crate) struct Failures {
    rate: Rate,
    arrivals: Mutex<HashMap<IpAddr, u64, ahash::RandomState>>,
}

impl Failures {
    pub(crate) fn new(per_minute: u32) -> Self {
        let rate = Rate::new(per_minute, 60, per_minute);
        Self { rate, arrivals: Mutex::default() }
    }

    /// Counts a failure of `address`; fails with the time to wait when there were too many.
    ///
    /// When the table is full of busy addresses, further ones are told to wait.
    pub(crate) fn count(&self, address: IpAddr, now: u64) -> Result<(), Duration> {
        let address = household(address);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() >= ADDRESSES_MAX && !arrivals.contains_key(&address) {
            arrivals.retain(|_, arrival| *arrival > now);
            if arrivals.len() >= ADDRESSES_MAX {
                return Err(Duration::from_secs(60));
            }
        }
        self.rate.take(arrivals.entry(address).or_default(), now).map(|_standing| ())
    }
}

fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_to_wait_after_too_many_failures() {
        let failures = Failures::new(2);
        let count = |address: &str| failures.count(address.parse().unwrap(), 1);
        assert_eq!([count("10.0.0.1"), count("10.0.0.1")], [Ok(()), Ok(())]);
        assert_eq!(count("10.0.0.1"), Err(Duration::from_secs(30)));
        assert_eq!(count("10.0.0.2"), Ok(()));
        assert_eq!([count("2001:db8::1"), count("2001:db8::2")], [Ok(()), Ok(())]);
        assert!(count("2001:db8::3").is_err());
    }
}
