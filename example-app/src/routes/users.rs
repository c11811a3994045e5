//! The list of people: a bare JSON array, byte for byte that of the common data set.

use multicore_axum::{LimitOffset, ListError, ListQuery, ListRow, Listing, Multicore, SqlDatabase, asc};

use super::trial::Trial;
use crate::render_cost::render_us;
use crate::users::{USER_COLUMNS, USER_TABLES, UserRow, UserView};

/// `GET /users/?limit=&offset=`, and the [trial](Trial) parameters.
///
/// # Errors
/// A page outside the limits, or the first failure in the order of the rows.
pub async fn users<DB>(mc: Multicore<DB>, page: LimitOffset, trial: Trial) -> Result<Listing, ListError>
where
    DB: SqlDatabase,
    UserRow: ListRow<DB>,
{
    let query = ListQuery::<UserRow>::select(USER_COLUMNS)
        .from(USER_TABLES)
        .order_by([asc("u.id")])
        .execution(trial.execution)
        .strategy(trial.strategy);
    mc.parallel_list(query, page, move |row: UserRow| {
        render_us(trial.render_us);
        UserView::from(row)
    })
    .await
}
