//! Rebuilds the crate when a migration is added or changed: the migrators embed a folder, which
//! Cargo does not watch by itself. Nothing is generated here.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
