//! Serialisation: an integer if constant, else text.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Dim;

/// Serialises as an integer or as text; a faulty dimension is an error.
impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(fault) = self.fault() {
            return Err(serde::ser::Error::custom(fault));
        }
        match self.as_const() {
            Some(value) => serializer.serialize_i64(value),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DimVisitor)
    }
}

struct DimVisitor;

impl Visitor<'_> for DimVisitor {
    type Value = Dim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or the text of a dimension")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Dim, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Dim, E> {
        i64::try_from(value).map(Dim::from).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Dim, E> {
        text.parse().map_err(E::custom)
    }
}
