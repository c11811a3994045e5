//! Numbers the anonymous placeholders of a text, so that it can be repeated within a statement without
//! being bound anew. Finds its way by quotes and comments alone, so any text will do.

use crate::db::Dialect;

/// For SQLite, `?` becomes `?1`, `?2`, … in order, each one more than the greatest number before it, as
/// SQLite counts. The other databases' texts stay as they are.
pub(crate) fn number_placeholders(sql: &str, dialect: Dialect) -> String {
    if dialect != Dialect::Sqlite {
        return sql.to_owned();
    }
    let mut numbered = String::with_capacity(sql.len() + 8);
    let mut greatest = 0_u32;
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            // A doubled quote within is the end of one piece and the start of the next.
            '\'' | '"' | '`' => through(rest, 1, first.encode_utf8(&mut [0; 4])),
            '[' => through(rest, 1, "]"),
            '-' if rest.starts_with("--") => through(rest, 2, "\n"),
            '/' if rest.starts_with("/*") => through(rest, 2, "*/"),
            '?' => {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    greatest += 1;
                    numbered.push('?');
                    numbered.push_str(&greatest.to_string());
                    rest = &rest[1..];
                    continue;
                }
                greatest = greatest.max(rest[1..=digits].parse().unwrap_or(0));
                1 + digits
            }
            other => other.len_utf8(),
        };
        numbered.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    numbered
}

/// How long a piece is that ends with `end`, which is looked for after `start` bytes.
fn through(piece: &str, start: usize, end: &str) -> usize {
    piece[start..].find(end).map_or(piece.len(), |at| start + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_placeholders_are_numbered_in_order() {
        for (sql, expected) in [
            ("", ""),
            ("a = 1", "a = 1"),
            ("a = ?", "a = ?1"),
            ("(a = ? OR b IN (?,?)) AND c = ?", "(a = ?1 OR b IN (?2,?3)) AND c = ?4"),
            // Numbers that are there stay, and count.
            ("a = ?3 AND b = ? AND c = ?1 AND d = ?", "a = ?3 AND b = ?4 AND c = ?1 AND d = ?5"),
            ("a = '?' AND b = 'it''s ?' AND c = ?", "a = '?' AND b = 'it''s ?' AND c = ?1"),
            (r#""a?" = ? AND `b``?` = ?"#, r#""a?" = ?1 AND `b``?` = ?2"#),
            ("[a?] = ? AND [b'] = ?", "[a?] = ?1 AND [b'] = ?2"),
            ("a = ? -- why?\n AND b = ?", "a = ?1 -- why?\n AND b = ?2"),
            ("a = ? /* why? 'no */ AND b = ?", "a = ?1 /* why? 'no */ AND b = ?2"),
            ("a - ? / ? - -?", "a - ?1 / ?2 - -?3"),
            ("a /*/ ? */ = ?", "a /*/ ? */ = ?1"),
            ("größe = ? AND x = 'ä?'", "größe = ?1 AND x = 'ä?'"),
            // Not closed: SQLite will say so.
            ("a = ? AND b = 'x?", "a = ?1 AND b = 'x?"),
            ("a = ? -- x?", "a = ?1 -- x?"),
            ("a = ? /* x?", "a = ?1 /* x?"),
            ("a = ?99999999999", "a = ?99999999999"),
        ] {
            assert_eq!(number_placeholders(sql, Dialect::Sqlite), expected, "{sql}");
        }
    }

    #[test]
    fn other_databases_placeholders_stay() {
        for dialect in [Dialect::Postgres, Dialect::MySql] {
            assert_eq!(number_placeholders("a = ? AND b = $1", dialect), "a = ? AND b = $1");
        }
    }
}
