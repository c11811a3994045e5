//! Finding out what is to be known of a query at its first use: what the schema says of its order, how
//! the database would run it, and of which types its keys are. Asked on the owner's connection, kept in
//! `shapes`.

use std::sync::PoisonError;

use super::ListError;
use super::analysis::{self, Facts, Text};
use super::error::statement_error;
use super::plan::Read;
use super::query::{Request, Statement};
use super::shape::{Shape, text_of};
use super::shapes::{Found, Shapes};
use crate::db::{PlanKind, SqlDatabase};

/// What is known of the request's query; asked of the database at the first use.
///
/// # Errors
/// When the order is not one that pages can be cut from.
pub(super) async fn shape<'s, DB: SqlDatabase>(
    shapes: &'s Shapes,
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
) -> Result<Found<'s>, ListError> {
    let text = text_of(&request.parts);
    if let Some(known) = shapes.get(&text) {
        // Other requests may say something else of the same key.
        check_order(request, &known.facts)?;
        return Ok(known);
    }
    let facts = facts(shapes, connection, request).await?;
    if let Err(refused) = check_order(request, &facts) {
        // What the database does not understand at all is not a question of order.
        explain(connection, request, &Read { rows: Some(1), skip: Some(0), ..Read::default() }).await?;
        return Err(refused);
    }
    let snapshots = DB::snapshots(connection).await.map_err(|error| statement_error::<DB>(error, false))?;
    let proven = facts.unique == Some(true);
    let shape = Shape::new(&text, facts, proven, snapshots);
    Ok(shapes.insert(text, shape))
}

async fn facts<DB: SqlDatabase>(
    shapes: &Shapes,
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
) -> Result<Facts, ListError> {
    let parts = &request.parts;
    let keys: Vec<&str> = parts.keys.iter().map(|key| &*key.sql).collect();
    let text = Text {
        columns: &parts.columns,
        tables: &parts.tables,
        filters: parts.filters.as_deref(),
        keys: &keys,
    };
    let Some(parsed) = analysis::parse(DB::DIALECT, &text) else {
        return Ok(Facts {
            nullable: vec![None; keys.len()],
            unique: None,
            splits: Err("its SQL is not understood"),
            prompt: false,
            // An unqualified name may be that of a column of the result.
            seeks: keys.iter().all(|key| key.contains('.')),
            plain: false,
        });
    };
    for name in parsed.tables() {
        let known = {
            let catalogue = shapes.catalogue.read().unwrap_or_else(PoisonError::into_inner);
            catalogue.contains_key(name)
        };
        if known {
            continue;
        }
        if let Some(table) =
            DB::table(connection, name).await.map_err(|error| statement_error::<DB>(error, false))?
        {
            let mut catalogue = shapes.catalogue.write().unwrap_or_else(PoisonError::into_inner);
            catalogue.insert(name.clone(), table);
        }
    }
    let catalogue = shapes.catalogue.read().unwrap_or_else(PoisonError::into_inner);
    Ok(parsed.facts(&catalogue))
}

/// Refuses an order that is not total, or has a key of which nobody said where its NULLs go.
fn check_order<DB: SqlDatabase>(request: &Request<DB>, facts: &Facts) -> Result<(), ListError> {
    let keys = &request.parts.keys;
    for (index, (key, nullable)) in keys.iter().zip(&facts.nullable).enumerate() {
        // What is declared unique is declared never to be NULL.
        let declared = request.unique && index + 1 == keys.len();
        if *nullable == Some(true) && key.nulls.is_none() && !declared {
            return Err(ListError::Order {
                key: key.sql.clone(),
                why: "it may be NULL, and databases differ in where NULLs go: add `.nulls_first()` or \
                      `.nulls_last()`",
            });
        }
    }
    if facts.unique == Some(true) || request.unique {
        return Ok(());
    }
    let key = keys.last().map(|key| key.sql.clone()).unwrap_or_default();
    let why = if facts.unique == Some(false) {
        "several rows may have the same keys, so pages would repeat and lose rows: end the order in a \
         unique key"
    } else {
        "whether it is unique cannot be seen in the schema: end the order in a unique key of a table, or \
         declare this one with `.unique()` if no two rows of the list share a value of it"
    };
    Err(ListError::Order { key, why })
}

/// How the database runs a page of this length at the list's start; asked at the first of about that length.
/// Not at the page's own depth: deep down a database may sort rather than walk an index past what it leaves
/// out, which a page that is located need not walk.
pub(super) async fn plan<DB: SqlDatabase>(
    shape: &Shape,
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
    read: &Read,
) -> Result<PlanKind, ListError> {
    let rows = read.rows.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
    if let Some(plan) = shape.plan(rows) {
        return Ok(plan);
    }
    let asked = Read { rows: Some(rows), skip: Some(0), ..Read::default() };
    let plan = explain(connection, request, &asked).await?;
    shape.learn_plan(rows, plan);
    Ok(plan)
}

async fn explain<DB: SqlDatabase>(
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
    read: &Read,
) -> Result<PlanKind, ListError> {
    let planned = super::plan::statement(&request.parts, read);
    let Statement { sql, arguments } = request.bind(planned, &[])?;
    match DB::explain(connection, sql.as_str().to_owned(), arguments).await {
        Ok(plan) => Ok(plan),
        Err(error) => Err(name_the_key::<DB>(connection, request, error, request.parts.bound > 0).await),
    }
}

/// The types of the keys' values in cursors.
pub(super) async fn casts<DB: SqlDatabase>(
    shape: &Shape,
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
) -> Result<Vec<Option<String>>, ListError> {
    let keys: Vec<&str> = request.parts.keys.iter().map(|key| &*key.sql).collect();
    let casts = shape.casts.get_or_try_init(|| DB::key_casts(connection, &keys, &request.parts.tables));
    match casts.await {
        Ok(casts) => Ok(casts.clone()),
        Err(error) => Err(match error.downcast::<sqlx::Error>() {
            Ok(error) => name_the_key::<DB>(connection, request, *error, false).await,
            Err(error) => ListError::Statement(error),
        }),
    }
}

/// A statement that the database does not understand, with the order key that is to blame if one is.
/// `filtered` says whether it had values of filters.
async fn name_the_key<DB: SqlDatabase>(
    connection: &mut <DB as sqlx::Database>::Connection,
    request: &Request<DB>,
    error: sqlx::Error,
    filtered: bool,
) -> ListError {
    let error = statement_error::<DB>(error, filtered);
    let ListError::Statement(source) = error else { return error };
    let tables = &request.parts.tables;
    let understood = async |connection: &mut <DB as sqlx::Database>::Connection, columns: &str| {
        DB::run(connection, format!("SELECT {columns} FROM {tables} LIMIT 0")).await.is_ok()
    };
    if understood(connection, "1").await {
        for key in &request.parts.keys {
            if !understood(connection, &key.sql).await {
                let why = "the database does not know it";
                tracing::debug!(error = %source, "an order key is not understood");
                return ListError::Order { key: key.sql.clone(), why };
            }
        }
    }
    ListError::Statement(source)
}
