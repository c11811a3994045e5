//! Which Rust types decode from a [`DirectRow`](super::DirectRow): those that decode from sqlx's rows of
//! SQLite, from the same values, with the same result (`types/*.rs` of sqlx-sqlite; a test compares).
//! `Option`, `Cow`, `Box`, `Arc`, the non-zero integers and transparent newtypes are sqlx's to say, for any
//! database.

use std::str::FromStr;

use sqlx::error::BoxDynError;
use sqlx::types::Text;
use sqlx::{Decode, Type};

use super::Direct;
use super::row::{DirectTypeInfo, DirectValueRef, Kind};

/// A type, what it is called, and the types of values it takes.
macro_rules! typed {
    ($($type:ty: $kind:ident takes $($taken:ident)|+;)*) => {$(
        impl Type<Direct> for $type {
            fn type_info() -> DirectTypeInfo {
                DirectTypeInfo(Kind::$kind)
            }

            fn compatible(ty: &DirectTypeInfo) -> bool {
                matches!(ty.0, $(Kind::$taken)|+)
            }
        }
    )*};
}

typed! {
    bool: Boolean takes Boolean | Int4 | Integer;
    i8: Int4 takes Int4 | Integer;
    i16: Int4 takes Int4 | Integer;
    i32: Int4 takes Int4 | Integer;
    i64: Integer takes Int4 | Integer;
    u8: Int4 takes Int4 | Integer;
    u16: Int4 takes Int4 | Integer;
    u32: Integer takes Int4 | Integer;
    u64: Integer takes Int4 | Integer;
    f32: Real takes Real;
    f64: Real takes Real;
    str: Text takes Text;
    String: Text takes Text;
    [u8]: Blob takes Blob | Text;
    Vec<u8>: Blob takes Blob | Text;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Decode<'_, Direct> for $type {
            fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
                Ok(<$type>::try_from(value.integer()?)?)
            }
        }
    )*};
}

integers!(i8, i16, i32, u8, u16, u32, u64);

impl Decode<'_, Direct> for i64 {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(value.integer()?)
    }
}

impl Decode<'_, Direct> for bool {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(value.integer()? != 0)
    }
}

impl Decode<'_, Direct> for f64 {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(value.real()?)
    }
}

impl Decode<'_, Direct> for f32 {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        // What it cannot hold is lost, as in sqlx.
        Ok(value.real()? as f32)
    }
}

impl<'r> Decode<'r, Direct> for &'r str {
    fn decode(value: DirectValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(value.text()??)
    }
}

impl Decode<'_, Direct> for String {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(value.text()??.to_owned())
    }
}

impl<'r> Decode<'r, Direct> for &'r [u8] {
    fn decode(value: DirectValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(value.bytes()?)
    }
}

impl Decode<'_, Direct> for Vec<u8> {
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(value.bytes()?.to_owned())
    }
}

impl<T> Type<Direct> for Text<T> {
    fn type_info() -> DirectTypeInfo {
        <String as Type<Direct>>::type_info()
    }

    fn compatible(ty: &DirectTypeInfo) -> bool {
        <String as Type<Direct>>::compatible(ty)
    }
}

impl<T> Decode<'_, Direct> for Text<T>
where
    T: FromStr,
    BoxDynError: From<<T as FromStr>::Err>,
{
    fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Text(value.text()??.parse()?))
    }
}

#[cfg(feature = "json")]
mod json {
    use serde::Deserialize;
    use sqlx::types::Json;

    use super::*;

    impl<T> Type<Direct> for Json<T> {
        fn type_info() -> DirectTypeInfo {
            <str as Type<Direct>>::type_info()
        }

        fn compatible(ty: &DirectTypeInfo) -> bool {
            <str as Type<Direct>>::compatible(ty)
        }
    }

    impl<'r, T: Deserialize<'r> + 'r> Decode<'r, Direct> for Json<T> {
        fn decode(value: DirectValueRef<'r>) -> Result<Self, BoxDynError> {
            Ok(Json(serde_json::from_slice(value.bytes()?)?))
        }
    }
}

#[cfg(feature = "uuid")]
mod uuid {
    use sqlx::types::Uuid;
    use sqlx::types::uuid::fmt::{Hyphenated, Simple};

    use super::*;

    typed! {
        Uuid: Blob takes Blob | Text;
        Hyphenated: Text takes Text;
        Simple: Text takes Text;
    }

    impl Decode<'_, Direct> for Uuid {
        fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
            Ok(Uuid::from_slice(value.bytes()?)?)
        }
    }

    impl Decode<'_, Direct> for Hyphenated {
        fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
            Ok(Uuid::parse_str(value.text()??)?.hyphenated())
        }
    }

    impl Decode<'_, Direct> for Simple {
        fn decode(value: DirectValueRef<'_>) -> Result<Self, BoxDynError> {
            Ok(Uuid::parse_str(value.text()??)?.simple())
        }
    }
}
