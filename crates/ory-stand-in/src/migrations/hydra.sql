-- The stand-in's own migrations for Hydra: table names and versions as in Ory's, columns few.
-- Its `networks` has a version of its own, unlike that of Kratos and Keto: with either in one schema it fails.
--! 20150101000001000000 networks
CREATE TABLE networks (
  id UUID NOT NULL PRIMARY KEY,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL
);
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
INSERT INTO networks (id, created_at, updated_at) VALUES (uuid_generate_v4(), now(), now());
--- down
DROP TABLE networks;
--! 20190100000001000000 client
CREATE TABLE hydra_client (
  id VARCHAR (255) NOT NULL PRIMARY KEY,
  nid UUID REFERENCES networks (id),
  client_name text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}'
);
--- down
DROP TABLE hydra_client;
--! 20190200000001000000 jwk
CREATE TABLE hydra_jwk (
  pk UUID NOT NULL PRIMARY KEY DEFAULT uuid_generate_v4(),
  sid VARCHAR (255) NOT NULL,
  kid VARCHAR (255) NOT NULL,
  keydata text NOT NULL
);
--- down
DROP TABLE hydra_jwk;
--! 20190300000001000000 consent
CREATE TABLE hydra_oauth2_authentication_session (
  id VARCHAR (40) NOT NULL PRIMARY KEY,
  subject VARCHAR (255) NOT NULL
);
--- down
DROP TABLE hydra_oauth2_authentication_session;
--! 20190400000001000000 oauth2
CREATE TABLE hydra_oauth2_access (
  signature VARCHAR (255) NOT NULL PRIMARY KEY,
  client_id VARCHAR (255) NOT NULL REFERENCES hydra_client (id) ON DELETE CASCADE,
  expires_at timestamp
);
--- down
DROP TABLE hydra_oauth2_access;
--! 20211019000001000000 merge_authentication_request_tables
CREATE TABLE hydra_oauth2_flow (
  login_challenge VARCHAR (40) NOT NULL PRIMARY KEY,
  requested_scope text NOT NULL DEFAULT '[]',
  device_challenge_id VARCHAR (255)
);
--- down
DROP TABLE hydra_oauth2_flow;
--! 20240612222110000001 add_oauth2_expires_at_indices autocommit since v2.3.0
CREATE INDEX CONCURRENTLY IF NOT EXISTS hydra_oauth2_access_expires_at_idx ON hydra_oauth2_access (expires_at);
--- down
DROP INDEX hydra_oauth2_access_expires_at_idx;
--! 20241609000001000001 device_flow autocommit since v26.2.0
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS hydra_oauth2_flow_device_challenge_idx
  ON hydra_oauth2_flow (device_challenge_id);
--- down
DROP INDEX hydra_oauth2_flow_device_challenge_idx;
--! 20250513132142000000 refresh_used_times since v25.4.0
CREATE TABLE hydra_oauth2_refresh (
  signature VARCHAR (255) NOT NULL PRIMARY KEY,
  used_times INT
);
--- down
DROP TABLE hydra_oauth2_refresh;
--! 20251030112809000000 flow_expires_at since v26.2.0
ALTER TABLE hydra_oauth2_flow ADD COLUMN expires_at timestamp;
--- down
ALTER TABLE hydra_oauth2_flow DROP COLUMN expires_at;
