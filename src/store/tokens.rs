//! The table `tokens`.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::{Db, known};
use crate::domain::ids::TokenId;
use crate::domain::names::TenantId;
use crate::domain::page::{Cursor, Page, PageRows};
use crate::domain::random_secret::SecretHash;
use crate::domain::token::{NewToken, Token, TokenName, TokenScope, TokenSecret};

/// Why a token was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Database(#[from] Error),
}

/// Creates a token. The token's text is only in the result, because the table stores a hash.
pub async fn create(db: &Db, new: &NewToken) -> Result<(TokenId, TokenSecret), CreateTokenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(CreateTokenError::Random)?;
    let secret = TokenSecret::from_random(bytes);
    let hash = secret.hash();
    let id = TokenId::from_uuid(Uuid::now_v7());
    sqlx::query!(
        "-- tokens::create
        INSERT INTO flametree.tokens (id, tenant_id, name, role, hash, created_by, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, flametree.clock(), $7)",
        id.uuid(),
        new.scope.tenant().map(TenantId::as_str),
        new.name.as_str(),
        new.role.as_str(),
        hash.as_bytes(),
        new.created_by,
        new.expires_at,
    )
    .execute(db)
    .await?;
    Ok((id, secret))
}

struct TokenRow {
    id: Uuid,
    tenant_id: Option<String>,
    name: String,
    role: String,
    created_by: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl TryFrom<TokenRow> for Token {
    type Error = Error;

    fn try_from(row: TokenRow) -> Result<Self, Error> {
        Ok(Self {
            id: TokenId::from_uuid(row.id),
            name: TokenName::from_stored(row.name),
            role: known(&row.role, "a token has the unknown role")?,
            scope: TokenScope::from_tenant(row.tenant_id.map(TenantId::from_stored)),
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
    }
}

/// The token with this hash, even if it is revoked or expired.
pub async fn find(db: &Db, hash: &SecretHash) -> Result<Option<Token>, Error> {
    sqlx::query_as!(
        TokenRow,
        "-- tokens::find
        SELECT id, tenant_id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at
        FROM flametree.tokens
        WHERE hash = $1",
        hash.as_bytes(),
    )
    .fetch_optional(db)
    .await?
    .map(Token::try_from)
    .transpose()
}

/// Records that the token was used. Writes at most once a minute across all processes.
pub async fn record_use(db: &Db, id: TokenId) -> Result<(), Error> {
    sqlx::query!(
        "-- tokens::record_use
        UPDATE flametree.tokens
        SET last_used_at = flametree.clock()
        WHERE id = $1
          AND (last_used_at IS NULL OR last_used_at <= (SELECT flametree.clock()) - interval '1 minute')",
        id.uuid(),
    )
    .execute(db)
    .await
    .map(|_| ())
}

/// Lists tokens, newest first, after the cursor. Lists only the tokens of `tenant`. If `tenant` is `None`, lists
/// all tokens.
pub async fn list(
    db: &Db,
    tenant: Option<&TenantId>,
    behind: Option<Cursor>,
    page_rows: PageRows,
) -> Result<Page<Token>, Error> {
    let rows = sqlx::query_as!(
        TokenRow,
        "-- tokens::list
        SELECT id, tenant_id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at
        FROM flametree.tokens
        WHERE ($1::text IS NULL OR tenant_id = $1) AND id < $2
        ORDER BY id DESC
        LIMIT $3",
        tenant.map(TenantId::as_str),
        behind.map_or(Uuid::max(), Cursor::id),
        i64::from(page_rows.get()) + 1,
    )
    .fetch_all(db)
    .await?;
    Page::of(rows, page_rows, |row| Cursor::behind(row.id), Token::try_from)
}

/// Revokes a token. Returns false if `list` for this `tenant` does not include the token. A repeated call keeps the time of the
/// first revocation.
pub async fn revoke(db: &Db, tenant: Option<&TenantId>, id: TokenId) -> Result<bool, Error> {
    sqlx::query!(
        "-- tokens::revoke
        UPDATE flametree.tokens
        SET revoked_at = coalesce(revoked_at, flametree.clock())
        WHERE id = $1 AND ($2::text IS NULL OR tenant_id = $2)",
        id.uuid(),
        tenant.map(TenantId::as_str),
    )
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Returns the ids of those tokens that exist and are neither revoked nor expired.
pub async fn still_valid(db: &Db, ids: &[TokenId]) -> Result<HashSet<TokenId>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let valid = sqlx::query_scalar!(
        "-- tokens::still_valid
        SELECT id
        FROM flametree.tokens
        WHERE id = ANY ($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > (SELECT flametree.clock()))",
        &ids,
    )
    .fetch_all(db)
    .await?;
    Ok(valid.into_iter().map(TokenId::from_uuid).collect())
}
