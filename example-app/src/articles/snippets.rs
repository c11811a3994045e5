//! Source code for the articles' code blocks: the name of the language, and text in which `NAME`
//! and `NUMBER` are replaced. One language is unknown to the highlighter on purpose.

pub(super) const SNIPPETS: [(&str, &str); 12] = [
    (
        "rust",
        r#"
/// Splits `0..len` into ranges of at most `size` rows.
fn ranges(len: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..len).step_by(size.max(1)).map(move |start| start..(start + size).min(len))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = PgPool::connect("postgres://localhost/NAME").await?;
    for range in ranges(10_000, NUMBER) {
        println!("{} rows", range.len()); // one line a chunk
    }
    Ok(())
}
"#,
    ),
    (
        "rust",
        r#"
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    Ready(T),
    Shed { retry_after: Duration },
}

impl<T> Outcome<T> {
    pub const LIMIT: u64 = NUMBER;

    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::Shed { .. } => None,
        }
    }
}
"#,
    ),
    (
        "python",
        r#"
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Window:
    """A half-open interval of time."""
    start: datetime
    length: timedelta = timedelta(seconds=NUMBER)

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.start + self.length


NAME = [row for row in read("NAME.csv") if row["at"] in Window(datetime.now())]
print(f"{len(NAME)} rows kept")
"#,
    ),
    (
        "python",
        r#"
async def pages(client, limit=NUMBER):
    url = f"/NAME/?limit={limit}"
    while url is not None:  # the last page has no next
        answer = await client.get(url)
        answer.raise_for_status()
        body = answer.json()
        for item in body["results"]:
            yield item
        url = body["next"]
"#,
    ),
    (
        "sql",
        r#"
-- The next page after the last row of this one.
SELECT n.id, n.title, count(*) OVER () AS total
FROM NAME n
JOIN people_user u ON u.id = n.author_id
WHERE u.is_active AND (n.published_at, n.id) < ('2024-06-01 00:00:00', NUMBER)
ORDER BY n.published_at DESC, n.id DESC
LIMIT 100;
"#,
    ),
    (
        "sql",
        r#"
CREATE INDEX CONCURRENTLY NAME_published_at_id ON NAME (published_at, id);

WITH late AS (
    SELECT id FROM NAME WHERE state = 'open' AND due < now() - interval 'NUMBER days'
)
UPDATE NAME SET state = 'overdue' WHERE id IN (SELECT id FROM late);
"#,
    ),
    (
        "json",
        r#"
{
  "count": NUMBER,
  "next": "/NAME/?cursor=cD0yMDI0&limit=2",
  "previous": null,
  "results": [
    { "id": 1, "tags": ["new", "open"], "price": 12.5, "paid": false },
    { "id": 2, "tags": [], "price": 0.75, "paid": true }
  ]
}
"#,
    ),
    (
        "javascript",
        r#"
export async function* stream(path = '/NAME/') {
  const response = await fetch(path, { headers: { Accept: 'application/x-ndjson' } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', part; !(part = await reader.read()).done; ) {
    const lines = (rest + part.value).split('\n');
    rest = lines.pop(); // an incomplete line
    for (const line of lines) yield JSON.parse(line);
  }
}

if (performance.now() > NUMBER) console.warn(`late: ${performance.now()} ms`);
"#,
    ),
    (
        "bash",
        r#"
#!/usr/bin/env bash
set -euo pipefail

for size in 100 1000 10000; do
    curl --silent --fail --output /dev/null \
        --write-out "%{http_code} %{time_total}\n" \
        "http://localhost:3000/NAME/?limit=${size}&offset=NUMBER"
done | sort | uniq --count
"#,
    ),
    (
        "yaml",
        r#"
services:
  NAME:
    image: "registry.example.com/NAME:1.NUMBER"
    environment:
      APP__MULTICORE__MAX_LOAD_AVERAGE: "0.85"
    ports: ["3000:3000"]
    deploy:
      resources:
        limits: { cpus: "2", memory: 512M } # two cores are enough
"#,
    ),
    (
        "html",
        r#"
<!-- rows are filled in by the script -->
<table id="NAME" data-limit="NUMBER">
  <thead><tr><th scope="col">Name</th><th scope="col">Rows</th></tr></thead>
  <tbody></tbody>
</table>
<script type="module">import { fill } from './fill.js'; fill('NAME');</script>
"#,
    ),
    (
        "plan",
        r#"
Limit  (cost=0.29..NUMBER.12 rows=100 width=643) (actual time=0.031..0.214 rows=100 loops=1)
  ->  Nested Loop  (cost=0.29..2841.00 rows=10000 width=643)
        ->  Index Scan using NAME_pkey on NAME n  (rows=10000)
              Filter: (id > NUMBER AND id <> 0)
"#,
    ),
];
