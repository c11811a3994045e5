-- People and their profiles, for MySQL and MariaDB.
-- IF NOT EXISTS, so that a database filled by another program of the same data set is adopted.
-- The list orders by the primary key and joins on a unique key: no further index is needed.
-- The binary collation makes equality and order the same as on the other databases.
-- The explicit default keeps older servers from adding ON UPDATE to the first timestamp column.
CREATE TABLE IF NOT EXISTS people_user (
  id integer NOT NULL PRIMARY KEY,
  username varchar(150) NOT NULL UNIQUE,
  first_name varchar(150) NOT NULL,
  last_name varchar(150) NOT NULL,
  email varchar(254) NOT NULL,
  is_active boolean NOT NULL,
  is_staff boolean NOT NULL,
  date_joined timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS people_profile (
  id integer NOT NULL PRIMARY KEY,
  user_id integer NOT NULL UNIQUE,
  location varchar(100) NOT NULL,
  birth_date date NOT NULL,
  karma integer NOT NULL,
  website varchar(200) NOT NULL,
  bio text NOT NULL,
  FOREIGN KEY (user_id) REFERENCES people_user (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
