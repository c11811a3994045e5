//! Tables, seeding and reading back: a file a database, what they share in `checks`. The rules
//! themselves are tested beside their code.

mod checks;
mod mysql;
mod postgres;
mod sqlite;
