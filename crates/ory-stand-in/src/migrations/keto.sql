-- The stand-in's own migrations for Keto: table names and versions as in Ory's, columns few.
--! 20150100000001000000 networks
CREATE TABLE networks (
  id UUID NOT NULL PRIMARY KEY,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL
);
--- down
DROP TABLE networks;
--! 20201110175414000000 relationtuple
CREATE TABLE keto_relation_tuples (
  shard_id UUID NOT NULL PRIMARY KEY,
  nid UUID NOT NULL,
  namespace VARCHAR (200) NOT NULL,
  object text NOT NULL,
  relation VARCHAR (64) NOT NULL
);
--- down
DROP TABLE keto_relation_tuples;
--! 20210623162417000000 relationtuple
ALTER TABLE keto_relation_tuples ADD COLUMN commit_time timestamp NOT NULL DEFAULT now();
--- down
ALTER TABLE keto_relation_tuples DROP COLUMN commit_time;
--! 20220217152313000000 nid_fk
ALTER TABLE keto_relation_tuples
  ADD CONSTRAINT keto_relation_tuples_nid_fk_idx FOREIGN KEY (nid) REFERENCES networks (id);
--- down
ALTER TABLE keto_relation_tuples DROP CONSTRAINT keto_relation_tuples_nid_fk_idx;
--! 20220512151000000000 indices
CREATE INDEX keto_relation_tuples_full_idx ON keto_relation_tuples (nid, namespace, object, relation);
--- down
DROP INDEX keto_relation_tuples_full_idx;
--! 20220513200400000000 create-uuid-mapping-table
CREATE TABLE keto_uuid_mappings (
  id UUID NOT NULL PRIMARY KEY,
  string_representation text NOT NULL CHECK (string_representation <> '')
);
--- down
DROP TABLE keto_uuid_mappings;
--! 20220513200400000001 uuid-mapping-remove-check
ALTER TABLE keto_uuid_mappings DROP CONSTRAINT keto_uuid_mappings_string_representation_check;
--- down
-- nothing to undo
--! 20230228091200000000 add-on-delete-cascade-to-relationship
ALTER TABLE keto_relation_tuples DROP CONSTRAINT keto_relation_tuples_nid_fk_idx;
ALTER TABLE keto_relation_tuples
  ADD CONSTRAINT keto_relation_tuples_nid_fk_idx FOREIGN KEY (nid) REFERENCES networks (id) ON DELETE CASCADE;
--- down
-- nothing to undo
