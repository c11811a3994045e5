//! Integration tests across the crates, one file per theme of behaviour or failure.

mod admission;
mod cancel;
mod client;
mod clusters;
mod cursors;
mod databases;
mod exports;
mod failures;
mod fault;
mod http;
mod lists;
mod logs;
mod maps;
mod oracle;
mod pages;
mod paging;
mod pool;
mod ranges;
mod readme;
mod snapshots;
mod strategies;
mod support;
mod tasks;
mod walks;
mod writers;
            assert!(main.lines().any(|of_main| of_main == line), "`{line}` is missing from main.rs");
        }
    }
}
