//! Looks through a whole statement for what two connections could answer differently on one snapshot,
//! and for what makes its rows others than the tables' rows. An expression is refused unless it is
//! known to be harmless.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DataType, Distinct, Expr, Function, FunctionArguments, GroupByExpr, Ident,
    Query, Select, SetExpr, TableFactor, UnaryOperator, Value, ValueWithSpan, Visit, Visitor,
    visit_expressions,
};

use super::functions::{self, Kind};
use crate::db::Dialect;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why ranges of it must not be read over several connections.
    pub(super) stable: Result<(), &'static str>,
    /// Whether each row of the result is one combination of the tables' rows.
    pub(super) rows: bool,
    /// Whether there are queries within the query.
    pub(super) subqueries: bool,
}

/// Looks through `query`, whose own tables have these names.
pub(super) fn verdict(query: &Query, tables: &[String], dialect: Dialect) -> Verdict {
    let verdict = Verdict { stable: Ok(()), rows: true, subqueries: false };
    let mut search = Search { dialect, tables, depth: 0, verdict };
    let ControlFlow::Continue(()) = query.visit(&mut search);
    search.verdict
}

struct Search<'a> {
    dialect: Dialect,
    tables: &'a [String],
    /// 1 in the statement itself, more in queries within it.
    depth: usize,
    verdict: Verdict,
}

impl Search<'_> {
    fn refuse(&mut self, why: &'static str) {
        self.verdict.stable = self.verdict.stable.and(Err(why));
    }

    /// Refuses what also makes the rows of the query it is in others than its tables' rows.
    fn regroup(&mut self, why: &'static str) {
        self.refuse(why);
        self.verdict.rows &= self.depth > 1;
    }

    fn function(&mut self, function: &Function) {
        let Some(name) = name(function) else {
            return self.regroup("it calls a function of a schema of its own");
        };
        if function.over.is_some() || function.null_treatment.is_some() {
            // What a row gets depends on the rows around it, also on those of other ranges.
            return self.refuse("it has a window function");
        }
        let arguments = match &function.args {
            FunctionArguments::List(list) => list.args.len(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
        };
        match functions::kind(&name, arguments, self.dialect) {
            Kind::Immutable if function.filter.is_none() && function.within_group.is_empty() => {}
            Kind::Unstable => self.refuse("it calls a function that connections may answer differently"),
            Kind::Aggregate if self.depth > 1 && self.is_of_inner_rows(function) => {}
            Kind::OrderedAggregate if self.depth > 1 && self.is_of_inner_rows(function) => {
                self.refuse("it aggregates in an order that may vary");
            }
            Kind::Aggregate | Kind::OrderedAggregate => {
                // Also if it stands in a query within: of the outer rows only, it is of the outer query.
                self.verdict.rows = false;
                self.refuse("it aggregates");
            }
            Kind::Immutable | Kind::Unknown => {
                self.regroup("it calls a function that is not known to be immutable")
            }
        }
    }

    /// Whether an aggregate in a query within aggregates that query's rows: it does if any column in it
    /// is of that query, or none is of any.
    fn is_of_inner_rows(&self, function: &Function) -> bool {
        let (mut outer, mut inner) = (false, false);
        let ControlFlow::Continue(()) = visit_expressions(function, |expression: &Expr| {
            match expression {
                Expr::CompoundIdentifier(parts) if !self.is_outer(parts) => inner = true,
                Expr::CompoundIdentifier(_) | Expr::Identifier(_) => outer = true,
                _ => {}
            }
            ControlFlow::<std::convert::Infallible>::Continue(())
        });
        inner || !outer
    }

    fn is_outer(&self, parts: &[Ident]) -> bool {
        parts.len() != 2 || self.tables.iter().any(|table| table.eq_ignore_ascii_case(&parts[0].value))
    }
}

impl Visitor for Search<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        self.verdict.subqueries |= self.depth > 1;
        if query.limit_clause.is_some() || query.fetch.is_some() {
            self.refuse("it has a limit of its own");
        }
        if !query.locks.is_empty() || query.for_clause.is_some() {
            self.refuse("it locks rows");
        }
        if query.settings.is_some() || query.format_clause.is_some() || !query.pipe_operators.is_empty() {
            self.regroup("it has clauses that are not understood");
        }
        match &*query.body {
            SetExpr::Select(_) => {}
            SetExpr::SetOperation { .. } => self.regroup("it combines queries"),
            _ => self.regroup("it is not a plain SELECT"),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct | Distinct::On(_)) => self.regroup("it is DISTINCT"),
        }
        let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
        if !ungrouped || select.having.is_some() {
            self.regroup("it groups rows");
        }
        if !select.named_window.is_empty() || select.qualify.is_some() {
            self.regroup("it has a window function");
        }
        if select.select_modifiers.as_ref().is_some_and(|modifiers| modifiers.sql_calc_found_rows) {
            self.refuse("it counts rows for its connection");
        }
        if select.into.is_some()
            || select.top.is_some()
            || select.exclude.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.value_table_mode.is_some()
        {
            self.regroup("it has clauses that are not understood");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args, with_hints, version, with_ordinality, json_path, sample, .. } => {
                if args.is_some() || *with_ordinality || json_path.is_some() {
                    self.refuse("it reads from a function");
                }
                if sample.is_some() {
                    self.refuse("it samples rows");
                }
                if version.is_some() || !with_hints.is_empty() {
                    self.refuse("it has clauses that are not understood");
                }
            }
            TableFactor::Derived { sample: None, .. } | TableFactor::NestedJoin { .. } => {}
            _ => self.refuse("it reads from a function"),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Self::Break> {
        if let Value::Placeholder(name) = &value.value
            && self.dialect == Dialect::MySql
            && name.starts_with('@')
        {
            self.refuse("it has a variable");
        }
        // PostgreSQL takes `'now'` for the time where it expects one.
        if let Some(text) = value.value.clone().into_string()
            && text.split(|c: char| !c.is_alphanumeric()).any(|word| {
                ["now", "today", "tomorrow", "yesterday"].iter().any(|w| w.eq_ignore_ascii_case(word))
            })
        {
            self.refuse("it has a word for a time that passes");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Self::Break> {
        match expression {
            Expr::Function(function) => self.function(function),
            Expr::Identifier(ident) => {
                if ident.quote_style.is_none() && is_variable(&ident.value, self.dialect) {
                    self.refuse("it has a variable");
                }
            }
            Expr::CompoundIdentifier(parts) if parts.iter().any(|part| part.value.starts_with('@')) => {
                self.refuse("it has a variable");
            }
            Expr::BinaryOp { op, .. } if !is_harmless(op) => {
                self.refuse("it has an operator that is not known to be immutable");
            }
            Expr::UnaryOp { op, .. }
                if !matches!(
                    op,
                    UnaryOperator::Plus
                        | UnaryOperator::Minus
                        | UnaryOperator::Not
                        | UnaryOperator::BitwiseNot
                        | UnaryOperator::BangNot
                ) =>
            {
                self.refuse("it has an operator that is not known to be immutable");
            }
            Expr::Cast { data_type, format: None, .. } if is_settled(data_type) => {}
            Expr::TypedString(typed) if is_settled(&typed.data_type) || typed.data_type == DataType::Date => {
            }
            Expr::Cast { .. } | Expr::TypedString(_) => {
                self.refuse("it converts to a type whose values depend on settings");
            }
            Expr::Extract { .. } | Expr::AtTimeZone { .. } | Expr::Interval(_) => {
                self.refuse("it reckons with times");
            }
            Expr::Ceil { field: CeilFloorKind::DateTimeField(field), .. }
            | Expr::Floor { field: CeilFloorKind::DateTimeField(field), .. }
                if *field != sqlparser::ast::DateTimeField::NoDateTime =>
            {
                self.refuse("it reckons with times");
            }
            Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::RLike { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Collate { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::Tuple(_)
            | Expr::Array(_) => {}
            _ => self.regroup("it has an expression that is not understood"),
        }
        ControlFlow::Continue(())
    }
}

/// A function's name in lower case, if it is one that comes with the database.
fn name(function: &Function) -> Option<String> {
    let mut parts = Vec::new();
    for part in &function.name.0 {
        parts.push(part.as_ident()?.value.to_ascii_lowercase());
    }
    match parts.as_mut_slice() {
        [name] => Some(std::mem::take(name)),
        [schema, name] if schema == "pg_catalog" => Some(std::mem::take(name)),
        _ => None,
    }
}

/// Whether a bare word is not a column but the time, the user or a user's variable.
fn is_variable(word: &str, dialect: Dialect) -> bool {
    let word = word.to_ascii_lowercase();
    word.starts_with('@')
        || matches!(word.as_str(), "current_timestamp" | "current_date" | "current_time")
        || dialect != Dialect::Sqlite
            && matches!(
                word.as_str(),
                "localtime"
                    | "localtimestamp"
                    | "current_user"
                    | "current_role"
                    | "utc_timestamp"
                    | "utc_date"
                    | "utc_time"
                    | "session_user"
                    | "current_catalog"
                    | "current_schema"
                    | "system_user"
                    | "sysdate"
                    | "rownum"
            )
        || dialect == Dialect::Postgres && word == "user"
}

fn is_harmless(operator: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        operator,
        Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::MyIntegerDivide
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Spaceship
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::BitwiseOr
            | Op::BitwiseAnd
            | Op::BitwiseXor
            | Op::PGBitwiseXor
            | Op::PGBitwiseShiftLeft
            | Op::PGBitwiseShiftRight
            | Op::PGExp
            | Op::PGOverlap
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
            | Op::PGLikeMatch
            | Op::PGILikeMatch
            | Op::PGNotLikeMatch
            | Op::PGNotILikeMatch
            | Op::PGStartsWith
            | Op::Glob
            | Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtArrow
            | Op::ArrowAt
            | Op::Question
            | Op::QuestionAnd
            | Op::QuestionPipe
    )
}

/// Whether converting to this type means the same whatever the settings of a connection are.
pub(super) fn is_settled(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Character(_)
        | T::Char(_)
        | T::CharacterVarying(_)
        | T::CharVarying(_)
        | T::Varchar(_)
        | T::Text
        | T::Uuid
        | T::Binary(_)
        | T::Varbinary(_)
        | T::Blob(_)
        | T::Bytea
        | T::Bool
        | T::Boolean
        | T::JSON
        | T::JSONB
        | T::Real
        | T::Float(_)
        | T::Float4
        | T::Float8
        | T::Double(_)
        | T::DoublePrecision => true,
        other => is_exact_number(other),
    }
}

fn is_exact_number(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(
        data_type,
        T::Numeric(_)
            | T::Decimal(_)
            | T::Dec(_)
            | T::TinyInt(_)
            | T::SmallInt(_)
            | T::MediumInt(_)
            | T::Int(_)
            | T::Integer(_)
            | T::BigInt(_)
            | T::Int2(_)
            | T::Int4(_)
            | T::Int8(_)
            | T::Signed
            | T::SignedInteger
            | T::Unsigned
            | T::UnsignedInteger
    )
}

/// Whether what is converted to this type is still exactly comparable with a column.
pub(super) fn is_exact(data_type: &DataType) -> bool {
    is_exact_number(data_type) || matches!(data_type, DataType::Uuid | DataType::Text | DataType::Varchar(_))
}
