//! How claimers learn of new work without asking the database.

use std::sync::Arc;

use super::pool::ChannelQueue;
use crate::domain::names::TenantId;
use crate::store::accept::ReadyDelivery;

/// Tells the claimers of this process that deliveries are ready. Without claimers in this process nobody is told, and
/// the claimers of others find the deliveries by their search.
#[derive(Debug, Clone, Default)]
pub struct Wakeup {
    channels: Vec<Arc<ChannelQueue>>,
}

impl Wakeup {
    pub(super) fn new(channels: Vec<Arc<ChannelQueue>>) -> Self {
        Self { channels }
    }

    /// Deliveries of `tenant` are committed and ready.
    pub fn ready(&self, tenant: &TenantId, deliveries: &[ReadyDelivery]) {
        for delivery in deliveries {
            if let Some(queue) = self.channels.iter().find(|queue| queue.channel() == delivery.channel) {
                queue.ready(tenant, *delivery);
            }
        }
    }

    /// Another process says that there is work.
    pub fn search(&self) {
        for queue in &self.channels {
            queue.search();
        }
    }
}
