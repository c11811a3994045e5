-- People and their profiles.
-- IF NOT EXISTS, so that a database filled by another program of the same data set is adopted.
-- The list orders by the primary key and joins on a unique key: no further index is needed.
CREATE TABLE IF NOT EXISTS people_user (
  id integer PRIMARY KEY,
  username varchar(150) NOT NULL UNIQUE,
  first_name varchar(150) NOT NULL,
  last_name varchar(150) NOT NULL,
  email varchar(254) NOT NULL,
  is_active boolean NOT NULL,
  is_staff boolean NOT NULL,
  date_joined timestamp with time zone NOT NULL
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
