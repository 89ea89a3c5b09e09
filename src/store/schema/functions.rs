//! The functions of the schema. They have a common version and are installed together.

use sha2::{Digest as _, Sha256};

use super::Error;
use crate::store::{Db, Tx};

/// The number of this set of functions within a release. Increase it with the first change after a release or pre-release, so
/// that `migrate` of an older build keeps the newer functions. `make compatibility` fails if it was not increased.
const SET: i32 = 1;

/// The SQL sources of the functions, in any order.
pub(super) const SOURCES: [&str; 13] = [
    include_str!("../../../migrations/functions/accept.sql"),
    include_str!("../../../migrations/functions/enqueue_event.sql"),
    include_str!("../../../migrations/functions/event_types.sql"),
    include_str!("../../../migrations/functions/ids.sql"),
    include_str!("../../../migrations/functions/keys.sql"),
    include_str!("../../../migrations/functions/partitions.sql"),
    include_str!("../../../migrations/functions/push_configs.sql"),
    include_str!("../../../migrations/functions/queue_claim.sql"),
    include_str!("../../../migrations/functions/queue_finish.sql"),
    include_str!("../../../migrations/functions/queue_scan.sql"),
    include_str!("../../../migrations/functions/replays.sql"),
    include_str!("../../../migrations/functions/stats.sql"),
    include_str!("../../../migrations/functions/workspace.sql"),
];

/// The version of this build's functions: the release, then [`SET`], which distinguishes builds of one release, such as
/// pre-releases. Versions are compared element by element.
pub(super) fn version() -> Vec<i32> {
    let release = env!("CARGO_PKG_VERSION").split(['.', '-', '+']).take(3).filter_map(|part| part.parse().ok());
    release.chain([SET]).collect()
}

pub(super) fn hash() -> Vec<u8> {
    let mut hasher = Sha256::new();
    for source in SOURCES {
        hasher.update(source);
    }
    hasher.finalize().to_vec()
}

/// Replaces all functions in one transaction, unless functions of a later version are installed.
pub(super) async fn install(db: &Db) -> Result<(), Error> {
    let mut tx: Tx = db.begin().await?;
    // Migrations have the same limit. The caller retries a statement that waits longer for a lock.
    sqlx::raw_sql("SET LOCAL lock_timeout = '2s'").execute(&mut *tx).await?;
    let installed =
        sqlx::query!("-- schema::installed_functions\nSELECT version, sha256 FROM flametree.function_sources")
            .fetch_optional(&mut *tx)
            .await?;
    let (version, hash) = (version(), hash());
    if let Some(installed) = &installed {
        if installed.version > version {
            tracing::info!(installed = ?installed.version, own = ?version, "kept the functions of a later version");
            return Ok(());
        }
        if installed.version == version && installed.sha256 == hash {
            return Ok(());
        }
    }
    // PostgreSQL checks an SQL function when it is created, but the function can call functions that are created later.
    sqlx::raw_sql("SET LOCAL check_function_bodies = off").execute(&mut *tx).await?;
    for source in SOURCES {
        sqlx::raw_sql(source).execute(&mut *tx).await?;
    }
    sqlx::query!(
        "-- schema::install_functions
        INSERT INTO flametree.function_sources (version, sha256) VALUES ($1, $2)
        ON CONFLICT (one) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256",
        &version,
        &hash,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    match installed {
        Some(installed) if installed.version == version => {
            tracing::warn!(?version, "replaced functions of the same version that had other sources");
        }
        installed => tracing::info!(
            installed = ?installed.map(|installed| installed.version), ?version, "installed the functions"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_source_is_compiled_in() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/functions");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        files.sort();
        let mut compiled = SOURCES.map(str::to_owned);
        compiled.sort();
        assert_eq!(files, compiled);
    }

    #[test]
    fn later_releases_and_function_sets_have_higher_versions() {
        assert_eq!(version().len(), 4);
        assert!(version() > version()[..3].to_vec(), "builds without a set number have a lower version");
        assert!(vec![0, 10, 0, 1] > vec![0, 9, 7, 5]);
        assert!(vec![0, 9, 7, 10] > vec![0, 9, 7, 9]);
    }
}
