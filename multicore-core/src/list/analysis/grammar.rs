//! Parses SQL text by a database's grammar, as far as the parser can be trusted with it. What the tree
//! means is not looked at.

use sqlparser::dialect::{Dialect as Grammar, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use crate::db::Dialect;

/// The deepest a text's tree may be that is taken apart: it is walked by recursion, and a deeper one may
/// not fit a thread's stack. Twenty joins with forty conditions are not as deep.
const DEEPEST: usize = 250;

/// How deep the parser may recurse, which takes far more stack a level: a parenthesis, a query or a
/// function within another is one or two levels.
const DEEPEST_NESTED: usize = 16;

/// Reads the whole of `sql`. `None`: it is not of that grammar, or has something in it that is not what it
/// looks like.
pub(super) fn whole<T>(
    dialect: Dialect,
    sql: &str,
    read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Option<T> {
    let grammar: &dyn Grammar = match dialect {
        Dialect::Sqlite => &SQLiteDialect {},
        Dialect::Postgres => &PostgreSqlDialect {},
        Dialect::MySql => &MySqlDialect {},
    };
    // Comments that are carried out by some versions of the server and not by others.
    if dialect == Dialect::MySql && (sql.contains("/*!") || sql.contains("/*M!")) {
        return None;
    }
    let tokens = Tokenizer::new(grammar, sql).tokenize().ok()?;
    for token in &tokens {
        match token {
            // What follows in the statement would become part of it.
            Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) if !comment.ends_with('\n') => {
                return None;
            }
            // Whether these bind less tightly than AND is a setting, or taken for the opposite.
            Token::StringConcat if dialect == Dialect::MySql => return None,
            Token::Word(word) if dialect == Dialect::MySql && word.keyword == Keyword::XOR => return None,
            _ => {}
        }
    }
    if depth(&tokens) > DEEPEST {
        return None;
    }
    let mut parser = Parser::new(grammar).with_recursion_limit(DEEPEST_NESTED).with_tokens(tokens);
    let read = read(&mut parser).ok()?;
    (parser.peek_token_ref().token == Token::EOF).then_some(read)
}

/// No less than the depth of the tree that these tokens become. Each operator of a chain is a level, and
/// so is each parenthesis; what commas separate is not within each other.
fn depth(tokens: &[Token]) -> usize {
    let (mut deepest, mut depth, mut since_comma, mut around) = (0, 0, 0, Vec::new());
    for token in tokens {
        match token {
            Token::Whitespace(_) | Token::Period | Token::Placeholder(_) | Token::Number(..) => continue,
            Token::LParen => {
                around.push(since_comma + 1);
                since_comma = 0;
                depth += 1;
            }
            Token::RParen => {
                depth -= since_comma;
                since_comma = around.pop().unwrap_or(0);
            }
            Token::Comma => {
                depth -= since_comma;
                since_comma = 0;
            }
            _ => {
                since_comma += 1;
                depth += 1;
            }
        }
        deepest = deepest.max(depth);
    }
    deepest
}
