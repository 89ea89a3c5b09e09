//! Makes a database reject some rows until the test calls the function `accept`. In production, a constraint or a damaged page
//! causes such errors.

use flametree_notify::store::Db;

use super::seed;

/// Makes the database reject inserts into the table if the condition is true. In the condition, `NEW` is the new row.
pub async fn refuse(db: &Db, table: &str, condition: &str) {
    let statement = format!(
        "CREATE FUNCTION flametree.test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'the test refuses this row' USING ERRCODE = 'check_violation'; END $$;
         CREATE TRIGGER test_refuse BEFORE INSERT ON flametree.{table} FOR EACH ROW WHEN ({condition})
         EXECUTE FUNCTION flametree.test_refuse()"
    );
    seed::run(db, statement).await;
}

pub async fn accept(db: &Db) {
    seed::run(db, "DROP FUNCTION flametree.test_refuse() CASCADE".to_owned()).await;
}
