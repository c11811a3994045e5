-- People and their profiles. Timestamps are UTC text, 'YYYY-MM-DD HH:MM:SS'; dates 'YYYY-MM-DD'.
-- IF NOT EXISTS, so that a database filled by another program of the same data set is adopted.
-- The list orders by the primary key and joins on a unique key: no further index is needed.
CREATE TABLE IF NOT EXISTS people_user (
  id integer PRIMARY KEY,
  username varchar(150) NOT NULL UNIQUE,
  first_name varchar(150) NOT NULL,
  last_name varchar(150) NOT NULL,
  email varchar(254) NOT NULL,
  is_active bool NOT NULL,
  is_staff bool NOT NULL,
  date_joined datetime NOT NULL
);

CREATE TABLE IF NOT EXISTS people_profile (
  id integer PRIMARY KEY,
  user_id integer NOT NULL UNIQUE REFERENCES people_user (id),
  location varchar(100) NOT NULL,
  birth_date date NOT NULL,
  karma integer NOT NULL,
  website varchar(200) NOT NULL,
  bio text NOT NULL
);
