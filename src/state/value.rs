//! The value of a variable: on the host, on a device, or the same on both.

#[cfg(feature = "gpu")]
use std::sync::Arc;
use std::sync::OnceLock;

#[cfg(feature = "gpu")]
use lehr_backends::gpu::{Device, Resident};
use lehr_ir::Array;

use crate::error::{Error, Result};

/// A value that is copied to where it is asked for, once; what a program computes on a device stays there until then.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    host: OnceLock<Array>,
    #[cfg(feature = "gpu")]
    device: OnceLock<Resident>,
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self {
            host: array.into(),
            #[cfg(feature = "gpu")]
            device: OnceLock::new(),
        }
    }
}

#[cfg(feature = "gpu")]
impl From<Resident> for Value {
    fn from(resident: Resident) -> Self {
        Self { host: OnceLock::new(), device: resident.into() }
    }
}

impl Value {
    /// The value on the host.
    ///
    /// # Errors
    /// A device that is lost, and the value with it.
    pub(crate) fn host(&self) -> Result<&Array> {
        if let Some(array) = self.host.get() {
            return Ok(array);
        }
        #[cfg(feature = "gpu")]
        if let Some(resident) = self.device.get() {
            let array = resident.download()?;
            return Ok(self.host.get_or_init(|| array));
        }
        Err(Error::internal("a variable has no value"))
    }

    /// The value on a device.
    ///
    /// # Errors
    /// A device that has no room for it; another device that is lost, and the value with it.
    #[cfg(feature = "gpu")]
    pub(crate) fn on(&self, device: &Arc<Device>) -> Result<Resident> {
        if let Some(resident) = self.device.get().filter(|r| Arc::ptr_eq(r.device(), device)) {
            return Ok(resident.clone());
        }
        let resident = Resident::upload(device, self.host()?)?;
        // One device keeps it; another that asks gets a copy for one call.
        Ok(match self.device.get() {
            Some(_) => resident,
            None => self.device.get_or_init(|| resident).clone(),
        })
    }

    /// Takes a new value, and leaves the old one in its place if the host has it.
    #[cfg(feature = "cpu")]
    pub(crate) fn swap(&mut self, array: &mut Array) {
        let old = self.host.take().unwrap_or_else(|| Array::scalar(false));
        *self = std::mem::replace(array, old).into();
    }
}
