//! Rotates the keys of sealed values: reports the keys in use, and re-encrypts values with the active key during normal
//! operation.
//!
//! A value is replaced only if it has not changed since it was decrypted. A value that was changed concurrently has its own
//! key, and the next pass checks it. Re-encryption does not raise versions, because the plaintext stays the same.

use sqlx::Error;
use sqlx::postgres::PgQueryResult;
use uuid::Uuid;

use super::{Db, SealedError, with_timeout};
use crate::domain::ids::{EndpointId, SigningSecretId};
use crate::domain::names::{AgentId, TenantId, UserId};
use crate::secrets::{AssociatedData, Keyring, OpenError};

/// How many rows one statement reads.
const ROWS: i64 = 200;

/// How many stored values of one type a key has sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// `None` if the sealed bytes have an unknown format.
    pub key_id: Option<String>,
    /// The type of the values in words, for example "signing secrets".
    pub what: String,
    pub values: u64,
}

/// Lists the keys that have sealed stored values. Reads every row that contains a sealed value.
pub async fn keys_in_use(db: &Db) -> Result<Vec<KeyUse>, Error> {
    let rows = sqlx::query!(
        r#"-- rotation::keys_in_use
        SELECT u.key_id, u.what AS "what!", count(*) AS "values!"
        FROM (
            SELECT 'header values' AS what, flametree.sealed_key_id(v.value) AS key_id
            FROM flametree.push_configs AS c
            CROSS JOIN LATERAL unnest(c.header_values) AS v (value)
            UNION ALL
            SELECT 'signing secrets', flametree.sealed_key_id(s.ciphertext) FROM flametree.signing_secrets AS s
            UNION ALL
            SELECT 'push subscriptions', flametree.sealed_key_id(p.ciphertext) FROM flametree.push_subscriptions AS p
        ) AS u
        GROUP BY u.key_id, u.what
        ORDER BY u.key_id, u.what"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| KeyUse { key_id: row.key_id, what: row.what, values: row.values.unsigned_abs() })
        .collect())
}

/// The ids for which the keyring contains a wrong key. Tries to open one signing secret for each id.
pub async fn mistaken_keys(db: &Db, keyring: &Keyring) -> Result<Vec<String>, Error> {
    let samples = sqlx::query!(
        r#"-- rotation::mistaken_keys
        SELECT DISTINCT ON (flametree.sealed_key_id(ciphertext)) flametree.sealed_key_id(ciphertext) AS "key_id!",
               tenant_id, endpoint_id, id, ciphertext
        FROM flametree.signing_secrets
        WHERE flametree.sealed_key_id(ciphertext) IS NOT NULL
        ORDER BY flametree.sealed_key_id(ciphertext)"#
    )
    .fetch_all(db)
    .await?;
    let mistaken = samples.into_iter().filter_map(|row| {
        let (tenant, endpoint) = (TenantId::from_stored(row.tenant_id), EndpointId::from_uuid(row.endpoint_id));
        let place = AssociatedData::signing_secret(&tenant, endpoint, SigningSecretId::from_uuid(row.id));
        let opened = keyring.open(&row.ciphertext, &place);
        matches!(opened, Err(OpenError::Forged)).then_some(row.key_id)
    });
    Ok(mistaken.collect())
}

/// Re-encrypts values with the active key and returns how many. If a value cannot be opened, or the database refuses to
/// replace a row, that value stays unchanged and the pass continues; the first such error is returned after all values were
/// tried. A statement that waits ten seconds for a lock fails and ends the pass over the values of that type.
pub async fn reencrypt(db: &Db, keyring: &Keyring) -> Result<u64, SealedError> {
    let mut pass = Pass { db, keyring, values: 0, first_error: None };
    for result in [pass.header_values().await, pass.signing_secrets().await, pass.push_subscriptions().await] {
        result.unwrap_or_else(|error| pass.failed(error));
    }
    pass.first_error.map_or(Ok(pass.values), Err)
}

/// One pass that re-encrypts all sealed values.
struct Pass<'a> {
    db: &'a Db,
    keyring: &'a Keyring,
    values: u64,
    first_error: Option<SealedError>,
}

impl Pass<'_> {
    fn reseal(&mut self, sealed: &[u8], place: &AssociatedData, endpoint: Uuid) -> Option<Vec<u8>> {
        match self.keyring.reseal(sealed, place) {
            Ok(resealed) => Some(resealed),
            Err(source) => {
                let endpoint_id = EndpointId::from_uuid(endpoint);
                tracing::error!(error = %source, endpoint.id = %endpoint_id, "could not re-encrypt a sealed value");
                self.first_error.get_or_insert(SealedError::Unopened { endpoint_id, source });
                None
            }
        }
    }

    fn failed(&mut self, error: Error) {
        tracing::error!(%error, "could not replace sealed values");
        self.first_error.get_or_insert(error.into());
    }

    /// Counts the values of a replaced row. If the database refused the row, the pass continues. If the database did not
    /// respond, the pass ends.
    fn replaced(&mut self, values: usize, result: Result<PgQueryResult, Error>) -> Result<(), Error> {
        match result {
            Ok(done) => self.values += done.rows_affected() * values as u64,
            Err(error @ Error::Database(_)) => self.failed(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn header_values(&mut self) -> Result<(), Error> {
        let mut behind = (String::new(), String::new());
        loop {
            let rows = sqlx::query!(
                "-- rotation::header_values
                SELECT tenant_id, agent_id, endpoint_id, header_names, header_values
                FROM flametree.push_configs
                WHERE (tenant_id, agent_id) > ($1, $2)
                  AND EXISTS (
                      SELECT 1 FROM unnest(header_values) AS v (value)
                      WHERE flametree.sealed_key_id(v.value) IS DISTINCT FROM $3)
                ORDER BY tenant_id, agent_id
                LIMIT $4",
                behind.0,
                behind.1,
                self.keyring.active_id(),
                ROWS,
            );
            let rows = with_timeout(rows.fetch_all(self.db)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            behind = (last.tenant_id.clone(), last.agent_id.clone());
            for row in rows {
                let (tenant, agent) = (TenantId::from_stored(row.tenant_id), AgentId::from_stored(row.agent_id));
                let mut new_values = row.header_values.clone();
                let mut changed = 0;
                for (name, value) in row.header_names.iter().zip(&mut new_values) {
                    let place = AssociatedData::header_value(&tenant, &agent, name);
                    if !self.keyring.is_sealed_by_active_key(value)
                        && let Some(resealed) = self.reseal(value, &place, row.endpoint_id)
                    {
                        *value = resealed;
                        changed += 1;
                    }
                }
                if changed > 0 {
                    let result = self.replace_header_values(&tenant, &agent, &row.header_values, &new_values).await;
                    self.replaced(changed, result)?;
                }
            }
        }
    }

    async fn replace_header_values(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        old: &[Vec<u8>],
        new: &[Vec<u8>],
    ) -> Result<PgQueryResult, Error> {
        let replacing = sqlx::query!(
            "-- rotation::replace_header_values
            UPDATE flametree.push_configs
            SET header_values = $4
            WHERE tenant_id = $1 AND agent_id = $2 AND header_values = $3",
            tenant.as_str(),
            agent.as_str(),
            old,
            new,
        );
        with_timeout(replacing.execute(self.db)).await
    }

    async fn signing_secrets(&mut self) -> Result<(), Error> {
        let mut behind = (String::new(), Uuid::nil(), Uuid::nil());
        loop {
            let rows = sqlx::query!(
                "-- rotation::signing_secrets
                SELECT tenant_id, endpoint_id, id, ciphertext
                FROM flametree.signing_secrets
                WHERE (tenant_id, endpoint_id, id) > ($1, $2, $3)
                  AND flametree.sealed_key_id(ciphertext) IS DISTINCT FROM $4
                ORDER BY tenant_id, endpoint_id, id
                LIMIT $5",
                behind.0,
                behind.1,
                behind.2,
                self.keyring.active_id(),
                ROWS,
            );
            let rows = with_timeout(rows.fetch_all(self.db)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            behind = (last.tenant_id.clone(), last.endpoint_id, last.id);
            for row in rows {
                let tenant = TenantId::from_stored(row.tenant_id);
                let endpoint = EndpointId::from_uuid(row.endpoint_id);
                let place = AssociatedData::signing_secret(&tenant, endpoint, SigningSecretId::from_uuid(row.id));
                let Some(resealed) = self.reseal(&row.ciphertext, &place, row.endpoint_id) else { continue };
                let replacing = sqlx::query!(
                    "-- rotation::replace_signing_secret
                    UPDATE flametree.signing_secrets
                    SET ciphertext = $5
                    WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3 AND ciphertext = $4",
                    tenant.as_str(),
                    row.endpoint_id,
                    row.id,
                    row.ciphertext,
                    resealed,
                );
                let result = with_timeout(replacing.execute(self.db)).await;
                self.replaced(1, result)?;
            }
        }
    }

    async fn push_subscriptions(&mut self) -> Result<(), Error> {
        let mut behind = (String::new(), String::new(), Uuid::nil());
        loop {
            let rows = sqlx::query!(
                "-- rotation::push_subscriptions
                SELECT tenant_id, user_id, id, ciphertext
                FROM flametree.push_subscriptions
                WHERE (tenant_id, user_id, id) > ($1, $2, $3)
                  AND flametree.sealed_key_id(ciphertext) IS DISTINCT FROM $4
                ORDER BY tenant_id, user_id, id
                LIMIT $5",
                behind.0,
                behind.1,
                behind.2,
                self.keyring.active_id(),
                ROWS,
            );
            let rows = with_timeout(rows.fetch_all(self.db)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            behind = (last.tenant_id.clone(), last.user_id.clone(), last.id);
            for row in rows {
                let (tenant, user) = (TenantId::from_stored(row.tenant_id), UserId::from_stored(row.user_id));
                let place = AssociatedData::push_subscription(&tenant, &user, EndpointId::from_uuid(row.id));
                let Some(resealed) = self.reseal(&row.ciphertext, &place, row.id) else { continue };
                let replacing = sqlx::query!(
                    "-- rotation::replace_push_subscription
                    UPDATE flametree.push_subscriptions
                    SET ciphertext = $5
                    WHERE tenant_id = $1 AND user_id = $2 AND id = $3 AND ciphertext = $4",
                    tenant.as_str(),
                    user.as_str(),
                    row.id,
                    row.ciphertext,
                    resealed,
                );
                let result = with_timeout(replacing.execute(self.db)).await;
                self.replaced(1, result)?;
            }
        }
    }
}
