-- Articles in Markdown. The author is not a foreign key: articles may be seeded without people.
-- The index serves newest first, with the id as the tie-break that makes the order total; it
-- stands inside the table because MySQL has no CREATE INDEX IF NOT EXISTS.
-- The explicit default keeps older servers from adding ON UPDATE to the first timestamp column.
CREATE TABLE IF NOT EXISTS articles_article (
  id integer NOT NULL PRIMARY KEY,
  slug varchar(200) NOT NULL UNIQUE,
  title varchar(200) NOT NULL,
  author_id integer NOT NULL,
  published_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  body text NOT NULL,
  INDEX articles_article_published_at_id (published_at, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
