//! What the benchmarks that write into the documents share: the markers their tables stand between, and the
//! commit they are of.

use std::process::Command;

/// Puts a text between the markers of that name, or at the end with new ones.
pub(crate) fn section(text: &str, name: &str, new: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            Ok(format!("{}{begin}\n\n{}\n\n{}", &text[..from], new.trim_end(), &text[to..]))
        }
        (None, None) => Ok(format!("{}\n\n{begin}\n\n{}\n\n{end}\n", text.trim_end(), new.trim_end())),
        _ => Err(format!("BENCHMARKS.md has one marker of {name} without the other")),
    }
}

/// The commit that is measured, and whether the code differs from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let out =
            Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=7", "HEAD"]) else {
        return "an unknown commit".to_owned();
    };
    // What the run itself writes does not count.
    let changed = git(&["status", "--porcelain", "--", ":/", ":!/BENCHMARKS.md", ":!/docs"]);
    let changed = changed.is_some_and(|files| !files.is_empty());
    if changed { format!("commit {hash} with changes") } else { format!("commit {hash}") }
}
