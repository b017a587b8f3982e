#!/bin/sh
set -e
for product in kratos hydra keto; do
  psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
CREATE USER $product WITH PASSWORD 'secret';
CREATE DATABASE $product OWNER $product;
SQL
done
