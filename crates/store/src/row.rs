//! Reading columns as model values.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Any, Decode, Row, Type, any::AnyRow};

use crate::StoreError;

/// Identifiers as one argument, for statements that take several.
pub(crate) fn joined(ids: &[impl ToString]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A row and the store function that reads it, for errors.
pub(crate) struct Columns<'row> {
    row: &'row AnyRow,
    operation: &'static str,
}

impl<'row> Columns<'row> {
    pub(crate) const fn of(operation: &'static str, row: &'row AnyRow) -> Self {
        Self { row, operation }
    }

    pub(crate) fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'row, Any> + Type<Any>,
    {
        self.row.try_get(column).map_err(StoreError::sql(self.operation))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.get::<i64>(column)? != 0)
    }

    /// A text that parses, such as an identifier.
    pub(crate) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.text(column)?.parse().map_err(|error: T::Err| self.corrupt(column, error))
    }

    /// A text that parses, or nothing.
    pub(crate) fn parsed_opt<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|error: T::Err| self.corrupt(column, error)))
            .transpose()
    }

    /// A text that is one of a checked type, such as a name.
    pub(crate) fn checked<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: TryFrom<String, Error: std::fmt::Display>,
    {
        T::try_from(self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    /// A text that is one of a checked type, or nothing.
    pub(crate) fn checked_opt<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: TryFrom<String, Error: std::fmt::Display>,
    {
        let text: Option<String> = self.get(column)?;
        text.map(|text| T::try_from(text).map_err(|error| self.corrupt(column, error))).transpose()
    }

    /// One of a few names.
    pub(crate) fn named<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(&self.text(column)?).ok_or_else(|| self.corrupt(column, "unknown name"))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(self.get(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let micros: Option<i64> = self.get(column)?;
        micros
            .map(|micros| {
                Timestamp::from_microsecond(micros).map_err(|error| self.corrupt(column, error))
            })
            .transpose()
    }

    pub(crate) fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(column, error)))
            .transpose()
    }

    pub(crate) fn corrupt(
        &self,
        column: &'static str,
        reason: impl std::fmt::Display,
    ) -> StoreError {
        StoreError::Corrupt { operation: self.operation, column, reason: reason.to_string() }
    }
}

/// A value as JSON, for a text column.
pub(crate) fn to_json(
    operation: &'static str,
    value: &impl Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Encode { operation, source })
}

/// A value that may be absent as JSON.
pub(crate) fn to_json_opt(
    operation: &'static str,
    value: Option<&impl Serialize>,
) -> Result<Option<String>, StoreError> {
    value.map(|value| to_json(operation, value)).transpose()
}
