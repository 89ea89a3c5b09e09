-- Changes that a later release may make to large tables: new columns without a rewrite, and a constraint that is validated later.
SET LOCAL lock_timeout = '200ms';
SET LOCAL statement_timeout = '60s';

ALTER TABLE flametree.events ADD COLUMN example text;
ALTER TABLE flametree.deliveries ADD COLUMN example smallint DEFAULT 0;
ALTER TABLE flametree.claims ADD COLUMN example integer;
ALTER TABLE flametree.sessions ADD CONSTRAINT sessions_example CHECK (id <> '') NOT VALID;
