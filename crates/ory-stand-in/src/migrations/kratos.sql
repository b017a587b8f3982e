-- The stand-in's own migrations for Kratos: table names and versions as in Ory's, columns few.
--! 20150100000001000000 networks
CREATE TABLE networks (
  id UUID NOT NULL PRIMARY KEY,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL
);
--- down
DROP TABLE networks;
--! 20191100000001000000 identities
CREATE TABLE identities (
  id UUID NOT NULL PRIMARY KEY,
  nid UUID REFERENCES networks (id),
  schema_id VARCHAR (2048) NOT NULL,
  traits jsonb NOT NULL,
  created_at timestamp NOT NULL DEFAULT now()
);
--- down
DROP TABLE identities;
--! 20191100000001000001 identities
CREATE TABLE identity_credential_types (
  id UUID NOT NULL PRIMARY KEY,
  name VARCHAR (32) NOT NULL UNIQUE
);
CREATE TABLE identity_credentials (
  id UUID NOT NULL PRIMARY KEY,
  nid UUID,
  identity_id UUID NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
  config jsonb NOT NULL
);
CREATE TABLE identity_credential_identifiers (
  id UUID NOT NULL PRIMARY KEY,
  nid UUID,
  identifier VARCHAR (255) NOT NULL,
  identity_credential_id UUID NOT NULL REFERENCES identity_credentials (id) ON DELETE CASCADE
);
--- down
DROP TABLE identity_credential_identifiers, identity_credentials, identity_credential_types;
--! 20191100000003000000 sessions
CREATE TABLE sessions (
  id UUID NOT NULL PRIMARY KEY,
  identity_id UUID NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
  expires_at timestamp NOT NULL
);
--- down
DROP TABLE sessions;
--! 20191100000006000000 courier
CREATE TABLE courier_messages (
  id UUID NOT NULL PRIMARY KEY,
  recipient VARCHAR (255) NOT NULL,
  body text NOT NULL
);
--- down
DROP TABLE courier_messages;
--! 20230920171028000000 identity_search_index
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE INDEX identity_credential_identifiers_nid_identifier_gin
  ON identity_credential_identifiers USING GIN (nid, identifier gin_trgm_ops);
--- down
DROP INDEX identity_credential_identifiers_nid_identifier_gin;
--! 20241029153900000001 identities autocommit since v25.4.0
CREATE INDEX CONCURRENTLY IF NOT EXISTS identities_nid_created_at_idx ON identities (nid, created_at);
--- down
DROP INDEX identities_nid_created_at_idx;
--! 20250708190000000000 identities_external_id autocommit since v25.4.0
ALTER TABLE identities ADD COLUMN external_id VARCHAR (64);
--- down
ALTER TABLE identities DROP COLUMN external_id;
--! 20251104000000000000 identifiers_devices_identity_id since v26.2.0
ALTER TABLE identity_credential_identifiers ADD COLUMN identity_id UUID;
--- down
ALTER TABLE identity_credential_identifiers DROP COLUMN identity_id;
--! 20251215000000000000 courier_messages_add_request_headers since v26.2.0
ALTER TABLE courier_messages ADD COLUMN request_headers jsonb;
--- down
ALTER TABLE courier_messages DROP COLUMN request_headers;
