//! What can be known of a list from its SQL text and the catalogue, once per text: whether its order is
//! total, which keys may be NULL, and whether ranges of it may be read over several connections on one
//! snapshot. All of it is pure; who asks the catalogue, and what is made of the answers, is elsewhere.
//!
//! `parse` takes the text apart (by `grammar`), with `stability` looking for what connections may answer differently.
//! `facts` brings in what the catalogue says of the tables, through `names` that finds the column a
//! name means. `placeholders` numbers the placeholders of a text that is repeated in a statement.
//!
//! Every answer errs on the side of "cannot tell": what is not understood is never split.

mod facts;
mod functions;
mod grammar;
mod names;
mod parse;
mod placeholders;
mod stability;
#[cfg(test)]
mod tests;

pub(crate) use facts::Facts;
pub(crate) use parse::{Text, parse};
pub(crate) use placeholders::number_placeholders;
