-- Changes that a later release could make to large tables: columns without a rewrite, and a constraint that is not yet validated.
SET LOCAL lock_timeout = '200ms';
SET LOCAL statement_timeout = '60s';

ALTER TABLE flametree.events ADD COLUMN example text;
ALTER TABLE flametree.deliveries ADD COLUMN example smallint DEFAULT 0;
ALTER TABLE flametree.claims ADD COLUMN example integer;
ALTER TABLE flametree.sessions ADD CONSTRAINT sessions_example CHECK (id <> '') NOT VALID;
