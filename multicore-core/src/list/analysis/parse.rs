//! Takes a list's SQL text apart: its tables and joins, the conditions that hold in all its rows, and
//! its order. Knows the text alone; what the names in it mean is found in `names`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, OrderBySort, Query,
    Select, SelectItem, SetExpr, TableFactor, UnaryOperator, Value, visit_relations,
};

use super::grammar::whole;
use super::stability::{self, Verdict};
use crate::db::{Dialect, TableName};

/// The parts of a list's statement: `SELECT {columns} FROM {tables} WHERE {filters} ORDER BY {keys}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) columns: &'a str,
    pub(crate) tables: &'a str,
    pub(crate) filters: Option<&'a str>,
    /// Without their directions.
    pub(crate) keys: &'a [&'a str],
}

/// A text taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(super) dialect: Dialect,
    pub(super) sources: Vec<Source>,
    /// Whether the joins are all understood; if not, `sources` and `conditions` are not to be trusted.
    pub(super) joins: bool,
    /// Hold in every row of the result.
    pub(super) conditions: Vec<Condition>,
    pub(super) keys: Vec<Key>,
    pub(super) filtered: bool,
    pub(super) verdict: Verdict,
    mentioned: Vec<TableName>,
}

/// One table in FROM.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// `None`: not a table, or one whose columns are renamed.
    pub(super) table: Option<TableName>,
    /// What its columns are qualified with.
    pub(super) alias: Option<String>,
    /// Whether it stands for itself, so that its schema may come before its name.
    pub(super) itself: bool,
    /// Joined tables without a comma between them.
    pub(super) chain: usize,
    pub(super) using: Vec<String>,
    /// Of a table that is LEFT JOINed, what holds in the rows in which it is not NULL.
    pub(super) outer: Option<Vec<Condition>>,
}

/// A part of a condition that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal(ColumnRef, ColumnRef),
    Constant(ColumnRef, Constant),
    NotNull(ColumnRef),
}

/// A value that is the same in all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Text,
    Number,
    /// Bound, so of a type that is not known here.
    Bound,
}

/// A column as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnRef {
    pub(super) schema: Option<String>,
    pub(super) table: Option<String>,
    pub(super) name: String,
}

/// A key of the order.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// `None`: an expression.
    pub(super) column: Option<ColumnRef>,
    /// Whether values that differ are told apart, which another collation may not do.
    pub(super) exact: bool,
    /// What in the result has the same name, and may be meant by it.
    pub(super) namesakes: Vec<Option<ColumnRef>>,
}

/// Takes `text` apart. `None`: it is not understood, so nobody may split it, and nothing is known of its
/// order.
pub(crate) fn parse(dialect: Dialect, text: &Text<'_>) -> Option<Parsed> {
    let mut sql = format!("SELECT {} FROM {}", text.columns, text.tables);
    if let Some(filters) = text.filters {
        sql.push_str(" WHERE ");
        sql.push_str(filters);
    }
    for (index, key) in text.keys.iter().enumerate() {
        sql.push_str(if index == 0 { " ORDER BY " } else { ", " });
        sql.push_str(key);
        // So that a key with a direction of its own is not understood.
        sql.push_str(" ASC");
    }
    let query = whole(dialect, &sql, |parser| parser.parse_query())?;
    let SetExpr::Select(select) = &*query.body else { return None };
    if query.with.is_some() {
        return None;
    }
    // The filters will be put into parentheses and others beside them, so they must be just that.
    let filters = match text.filters {
        Some(filters) => Some(whole(dialect, filters, |parser| parser.parse_expr())?),
        None => None,
    };
    if select.selection != filters {
        return None;
    }
    let keys = keys(dialect, &query, select)?;
    if keys.len() != text.keys.len() {
        return None;
    }

    let mut from = From { dialect, sources: Vec::new(), conditions: Vec::new(), understood: true };
    from.read(select);
    if let Some(filters) = &filters {
        conjuncts(dialect, filters, &mut from.conditions);
    }
    let aliases: Vec<String> = from.sources.iter().filter_map(|source| source.alias.clone()).collect();
    let mut mentioned = Vec::new();
    let ControlFlow::Continue(()) = visit_relations(&query, |name| {
        // A name of more parts than that becomes one that no catalogue has.
        let table =
            table_name(dialect, name).unwrap_or_else(|| TableName { schema: None, name: name.to_string() });
        if !mentioned.contains(&table) {
            mentioned.push(table);
        }
        ControlFlow::<std::convert::Infallible>::Continue(())
    });
    Some(Parsed {
        dialect,
        verdict: stability::verdict(&query, &aliases, dialect),
        sources: from.sources,
        joins: from.understood,
        conditions: from.conditions,
        keys,
        filtered: filters.is_some(),
        mentioned,
    })
}

impl Parsed {
    /// The tables it reads, also those of queries within it: what to ask the catalogue for.
    pub(crate) fn tables(&self) -> &[TableName] {
        &self.mentioned
    }
}

/// Reads FROM.
struct From {
    dialect: Dialect,
    sources: Vec<Source>,
    conditions: Vec<Condition>,
    understood: bool,
}

impl From {
    fn read(&mut self, select: &Select) {
        for (chain, joined) in select.from.iter().enumerate() {
            // In SQLite a comma is a join like any other.
            let chain = if self.dialect == Dialect::Sqlite { 0 } else { chain };
            self.source(&joined.relation, chain, Vec::new(), None);
            for join in &joined.joins {
                let (constraint, outer) = match &join.join_operator {
                    JoinOperator::Join(on)
                    | JoinOperator::Inner(on)
                    | JoinOperator::CrossJoin(on)
                    | JoinOperator::StraightJoin(on) => (on, false),
                    JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, true),
                    _ => {
                        self.understood = false;
                        continue;
                    }
                };
                let (mut using, mut conditions) = (Vec::new(), Vec::new());
                match constraint {
                    JoinConstraint::On(on) => conjuncts(self.dialect, on, &mut conditions),
                    JoinConstraint::Using(columns) => {
                        for column in columns {
                            match single(column) {
                                Some(column) => using.push(column_name(self.dialect, column)),
                                None => self.understood = false,
                            }
                        }
                    }
                    JoinConstraint::Natural => self.understood = false,
                    JoinConstraint::None => {}
                }
                if outer {
                    self.source(&join.relation, chain, using, Some(conditions));
                } else {
                    self.conditions.append(&mut conditions);
                    self.source(&join.relation, chain, using, None);
                }
            }
        }
    }

    fn source(
        &mut self,
        factor: &TableFactor,
        chain: usize,
        using: Vec<String>,
        outer: Option<Vec<Condition>>,
    ) {
        let mut source = Source { table: None, alias: None, itself: false, chain, using, outer };
        match factor {
            TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
                let table = table_name(self.dialect, name);
                if let Some(alias) = alias {
                    source.alias = Some(self.dialect.table_name(&alias.name.value, is_quoted(&alias.name)));
                    source.table = table.filter(|_| alias.columns.is_empty());
                } else {
                    source.alias = table.as_ref().map(|table| table.name.clone());
                    source.itself = true;
                    source.table = table;
                }
            }
            TableFactor::Derived { lateral: false, alias, .. } => {
                source.alias = alias
                    .as_ref()
                    .map(|alias| self.dialect.table_name(&alias.name.value, is_quoted(&alias.name)));
            }
            _ => self.understood = false,
        }
        self.sources.push(source);
    }
}

/// Collects the parts of a condition that must each hold, those that say something of a column.
fn conjuncts(dialect: Dialect, condition: &Expr, found: &mut Vec<Condition>) {
    match condition {
        Expr::Nested(inner) => conjuncts(dialect, inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(dialect, left, found);
            conjuncts(dialect, right, found);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            match (column(dialect, left), column(dialect, right)) {
                (Some(left), Some(right)) => found.push(Condition::Equal(left, right)),
                (Some(column), None) => {
                    found.extend(constant(dialect, right).map(|value| Condition::Constant(column, value)));
                }
                (None, Some(column)) => {
                    found.extend(constant(dialect, left).map(|value| Condition::Constant(column, value)));
                }
                (None, None) => {}
            }
        }
        Expr::IsNotNull(inner) => found.extend(column(dialect, inner).map(Condition::NotNull)),
        _ => {}
    }
}

/// The column that an expression is, if it is one.
fn column(dialect: Dialect, expression: &Expr) -> Option<ColumnRef> {
    let (parts, last) = match expression {
        Expr::Nested(inner) => return column(dialect, inner),
        Expr::Identifier(ident) => (&[][..], ident),
        Expr::CompoundIdentifier(parts) => {
            let (last, parts) = parts.split_last()?;
            (parts, last)
        }
        _ => return None,
    };
    let table = |ident: &Ident| Some(dialect.table_name(&ident.value, is_quoted(ident)));
    let (schema, table) = match parts {
        [] => (None, None),
        [name] => (None, table(name)),
        [schema, name] => (table(schema), table(name)),
        _ => return None,
    };
    Some(ColumnRef { schema, table, name: column_name(dialect, last) })
}

fn constant(dialect: Dialect, expression: &Expr) -> Option<Constant> {
    match expression {
        Expr::Nested(inner) => constant(dialect, inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            constant(dialect, expr).filter(|value| *value == Constant::Number)
        }
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_) => Some(Constant::Text),
            Value::Number(..) | Value::Boolean(_) => Some(Constant::Number),
            Value::Placeholder(_) => Some(Constant::Bound),
            _ => None,
        },
        Expr::Cast { expr, data_type, format: None, .. }
            if dialect == Dialect::Postgres && stability::is_exact(data_type) =>
        {
            constant(dialect, expr)
        }
        _ => None,
    }
}

/// The keys of the order; `None` if it is not a plain one.
fn keys(dialect: Dialect, query: &Query, select: &Select) -> Option<Vec<Key>> {
    let order = query.order_by.as_ref()?;
    let OrderByKind::Expressions(order_by) = &order.kind else { return None };
    if order.interpolate.is_some() {
        return None;
    }
    let mut keys = Vec::new();
    for by in order_by {
        if by.options.sort != Some(OrderBySort::Asc)
            || by.options.nulls_first.is_some()
            || by.with_fill.is_some()
        {
            return None;
        }
        let (expression, exact) = match &by.expr {
            Expr::Collate { expr, collation } => (&**expr, is_bytewise(dialect, collation)),
            expression => (expression, true),
        };
        let column = column(dialect, expression);
        let namesakes = match &column {
            Some(ColumnRef { table: None, name, .. }) => namesakes(dialect, select, name),
            _ => Vec::new(),
        };
        keys.push(Key { column, exact, namesakes });
    }
    Some(keys)
}

/// Whether only the same bytes are equal in this collation.
fn is_bytewise(dialect: Dialect, collation: &ObjectName) -> bool {
    single(collation).is_some_and(|name| match dialect {
        Dialect::Sqlite => name.value.eq_ignore_ascii_case("binary"),
        Dialect::Postgres => matches!(name.value.as_str(), "C" | "POSIX") && is_quoted(name),
        Dialect::MySql => false,
    })
}

/// What in the result is, or may be, called `name`.
fn namesakes(dialect: Dialect, select: &Select, name: &str) -> Vec<Option<ColumnRef>> {
    let mut found = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                if column_name(dialect, alias) == name {
                    found.push(column(dialect, expr));
                }
            }
            SelectItem::UnnamedExpr(expression) => match column(dialect, expression) {
                Some(column) if column.name == name => found.push(Some(column)),
                Some(_) => {}
                None if dialect == Dialect::Postgres && may_be_called(expression, name) => found.push(None),
                None => {}
            },
            // A wildcard's columns are the tables', which are looked at anyway.
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {}
            SelectItem::ExprWithAliases { .. } => found.push(None),
        }
    }
    found
}

/// Whether PostgreSQL may call an expression that has no alias by this name: a function by its own, CASE
/// by its ELSE, a conversion by what it converts or into what.
fn may_be_called(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Function(function) => {
            let own = function.name.0.last().and_then(|part| part.as_ident());
            own.is_none_or(|own| own.value.eq_ignore_ascii_case(name))
        }
        Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Position { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. } => {
            matches!(name, "substring" | "trim" | "btrim" | "ltrim" | "rtrim" | "position" | "ceil" | "floor")
        }
        Expr::Case { else_result, .. } => {
            let column = |result: &Expr| column(Dialect::Postgres, result).is_some_and(|c| c.name == name);
            name == "case" || else_result.as_ref().is_some_and(|r| column(r) || may_be_called(r, name))
        }
        Expr::Value(_)
        | Expr::BinaryOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_) => false,
        other => other.to_string().to_lowercase().contains(&name.to_lowercase()),
    }
}

fn table_name(dialect: Dialect, name: &ObjectName) -> Option<TableName> {
    let part = |index: usize| {
        let ident = name.0.get(index)?.as_ident()?;
        Some(dialect.table_name(&ident.value, is_quoted(ident)))
    };
    match name.0.len() {
        1 => Some(TableName { schema: None, name: part(0)? }),
        2 => Some(TableName { schema: Some(part(0)?), name: part(1)? }),
        _ => None,
    }
}

fn column_name(dialect: Dialect, ident: &Ident) -> String {
    dialect.column_name(&ident.value, is_quoted(ident))
}

fn is_quoted(ident: &Ident) -> bool {
    ident.quote_style.is_some()
}

fn single(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    }
}
