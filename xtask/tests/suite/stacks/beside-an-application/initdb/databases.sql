CREATE DATABASE kratos;
\connect acme
CREATE TABLE plans (id serial PRIMARY KEY, name text);
