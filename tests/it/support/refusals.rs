//! A database that refuses some rows, as a constraint or a damaged page would, until the test calls `accept`.

use sqlx::PgPool;

use super::seed;

/// Makes the database refuse to insert rows into `table` that `condition` is true of; `NEW` is the row.
pub async fn refuse(db: &PgPool, table: &str, condition: &str) {
    let statement = format!(
        "CREATE FUNCTION flametree.test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'the test refuses this row' USING ERRCODE = 'check_violation'; END $$;
         CREATE TRIGGER test_refuse BEFORE INSERT ON flametree.{table} FOR EACH ROW WHEN ({condition})
         EXECUTE FUNCTION flametree.test_refuse()"
    );
    seed::run(db, statement).await;
}

/// Accepts all rows again.
pub async fn accept(db: &PgPool) {
    seed::run(db, "DROP FUNCTION flametree.test_refuse() CASCADE".to_owned()).await;
}
