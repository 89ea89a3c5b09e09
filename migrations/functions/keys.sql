-- The keys that encrypt stored values.

CREATE OR REPLACE FUNCTION flametree.sealed_key_id(p_sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN length(p_sealed) > 2 AND get_byte(p_sealed, 0) = 1
                THEN encode(substr(p_sealed, 3, get_byte(p_sealed, 1)), 'escape') END
$$;
COMMENT ON FUNCTION flametree.sealed_key_id IS
    'The id of the key that encrypted sealed bytes (src/secrets/keyring.rs); NULL if their format is unknown.';
