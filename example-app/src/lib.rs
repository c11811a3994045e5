//! The example service: people and articles in a database, listed over HTTP, with Multicore lending
//! idle cores to a list that pays for them.
//!
//! Who wants to see how an application uses Multicore reads [`routes::users`] first (a list), then
//! [`routes`] (the layer), then [`server`] (the pool's start and its end). What a request needs
//! besides, in the order of a start: [`cli`] and [`settings`] say what was asked for, [`connection`]
//! opens the database, [`schema`] creates the tables, [`seed`] fills them with the rows of
//! [`dataset`], [`drain`] ends in good order. [`users`] and [`articles`] are a row and its rendering,
//! [`thumbnails`] what worker processes draw; nothing in them knows about HTTP or about the pool.

pub mod routes;
pub mod server;

pub mod cli;
pub mod settings;

pub mod connection;
pub mod database_url;
pub mod drain;
pub mod signals;

pub mod dataset;

pub mod calendar;
pub mod users;

pub mod articles;
pub mod markdown;

pub mod thumbnails;

pub mod render_cost;

pub mod database;
pub mod progress;
pub mod schema;
pub mod seed;
