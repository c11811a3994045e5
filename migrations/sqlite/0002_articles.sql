-- Articles in Markdown. The author is not a foreign key: articles may be seeded without people.
CREATE TABLE IF NOT EXISTS articles_article (
  id integer PRIMARY KEY,
  slug varchar(200) NOT NULL UNIQUE,
  title varchar(200) NOT NULL,
  author_id integer NOT NULL,
  published_at datetime NOT NULL,
  body text NOT NULL
);

-- Newest first, with the id as the tie-break that makes the order total.
CREATE INDEX IF NOT EXISTS articles_article_published_at_id ON articles_article (published_at, id);
