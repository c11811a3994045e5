//! Integration tests across the crates, one file per theme of behaviour or failure.

mod admission;
mod any_list;
mod cancel;
mod client;
mod clusters;
mod conflicts;
mod cursors;
mod databases;
mod exports;
mod failures;
mod fault;
mod http;
mod layer;
mod lists;
mod logs;
mod maps;
mod oracle;
mod pages;
mod paging;
mod parameters;
mod places;
mod pool;
mod range_connections;
mod ranges;
mod readme;
mod snapshots;
mod stepping;
mod strategies;
mod support;
mod tasks;
mod walks;
mod writers;
mod writes;

/// A file that is not named here would never be compiled.
#[test]
fn every_file_of_the_folder_is_part_of_this_binary() {
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            let line = format!("mod {name};");
            assert!(main.lines().any(|of_main| of_main == line), "`{line}` is missing from main.rs");
        }
    }
}
