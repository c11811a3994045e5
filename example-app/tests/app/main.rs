//! The example service from outside: the data on real databases, the routes over them, and the
//! program itself. One binary; what several files need is in `support`.

mod support;

mod data;
mod drain;
mod exports;
mod health;
mod lists;
mod program;
mod refusals;
mod thumbnails;
