//! What the platform has stored, read from its table, past the API.

use std::collections::{BTreeMap, HashMap};

use local::platform::{QUEUES, TABLE};
use local::queue::is_empty;
use local::template::table_shape;
use shared::domain::billing::PeriodKey;
use shared::domain::message::Author;
use shared::domain::usage::UsageEvent;
use shared::domain::{Agent, BillingAccount, Conversation, Delivery, Event, Message, Webhook, Workspace};
use shared::kernel::{Clock, Cursor, Day, Id, Limit, Rng, SystemClock, Time};
use shared::ports::queue::QueueName;
use shared::store;
use shared::store::delivery::Filter;
use shared::store::keys::{SHARDS, month};
use shared::store::outbox::Walk;
use shared::store::rollup::AgentCounts;
use shared::table::Table;
use shared::table::admin::connect;

use crate::clients::Owner;

/// Two tables of a running engine: the product's, and the one of the local queues.
pub(crate) struct Tables {
    main: Table,
    queues: Table,
    began: Time,
}

/// Who an owner is in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) workspace: Id<Workspace>,
    pub(crate) account: Id<BillingAccount>,
}

/// A conversation with all its messages.
pub(crate) struct Thread {
    pub(crate) head: Conversation,
    pub(crate) messages: Vec<Message>,
}

impl Thread {
    /// Messages of an author.
    pub(crate) fn by(&self, author: Author) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.author == author)
    }
}

fn now() -> Time {
    SystemClock.now()
}

const PAGE: u32 = 100;

/// Reads a list page by page.
async fn whole<T, E>(mut page: impl AsyncFnMut(Option<&Cursor>, Limit) -> Result<shared::kernel::Page<T>, E>) -> Vec<T>
where
    E: std::fmt::Debug,
{
    let (mut items, mut after, limit) = (Vec::new(), None, Limit::new(Some(PAGE)).unwrap());
    loop {
        let found = page(after.as_ref(), limit).await.unwrap();
        items.extend(found.items);
        after = found.next;
        if after.is_none() {
            return items;
        }
    }
}

impl Tables {
    /// The tables of the engine at `endpoint`.
    pub(crate) async fn open(endpoint: &str, began: Time) -> Self {
        let (client, shape) = (connect(endpoint), table_shape().unwrap());
        let open = async |name| {
            Table::open(client.clone(), name, &shape, Rng::from_system(), std::sync::Arc::new(SystemClock))
                .await
                .unwrap()
        };
        Self { main: open(TABLE).await, queues: open(QUEUES).await, began }
    }

    /// Sets what an owner pays by; no checkout is built yet.
    pub(crate) async fn db_change_account(&self, ids: Ids, change: impl FnOnce(&mut BillingAccount)) {
        let mut account = store::billing::get(&self.main, ids.account).await.unwrap();
        change(&mut account);
        store::billing::overwrite(&self.main, &account).await.unwrap();
    }

    pub(crate) async fn ids(&self, owner: &Owner) -> Ids {
        let user = store::user::get(&self.main, Id::from_int(owner.user_id).unwrap()).await.unwrap().unwrap();
        Ids { workspace: user.default_workspace_id, account: user.billing_account_id }
    }

    /// A queue that holds messages, the dead ones not counted.
    pub(crate) async fn queued(&self) -> Option<&'static str> {
        for queue in QueueName::ALL {
            if !is_empty(&self.queues, *queue).await.unwrap() {
                return Some(queue.as_str());
            }
        }
        None
    }

    /// Whether a delivery waits for an attempt.
    pub(crate) async fn is_delivering(&self) -> bool {
        let far = now() + std::time::Duration::from_secs(24 * 3600);
        for shard in 0..SHARDS {
            if !store::delivery::due(&self.main, shard, far, None, 1).await.unwrap().0.is_empty() {
                return true;
            }
        }
        false
    }

    /// Whether a usage event waits to be reported.
    pub(crate) async fn is_reporting(&self) -> bool {
        for month in self.months() {
            for shard in 0..SHARDS {
                if !store::usage::unreported(&self.main, shard, &month, store::usage::Gap::default(), 1)
                    .await
                    .unwrap()
                    .events
                    .is_empty()
                {
                    return true;
                }
            }
        }
        false
    }

    /// The months that the test ran in.
    fn months(&self) -> Vec<String> {
        let mut months = vec![month(self.began), month(now())];
        months.dedup();
        months
    }

    /// Every event since the test began.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for shard in 0..SHARDS {
            let mut walk = Walk::new(shard, self.began, now());
            while let Some(some) = walk.next(&self.main).await.unwrap() {
                events.extend(some);
            }
        }
        events
    }

    pub(crate) async fn agents(&self, ids: Ids) -> Vec<Agent> {
        whole(async |after, limit| store::agent::page(&self.main, ids.workspace, after, limit).await).await
    }

    pub(crate) async fn threads(&self, ids: Ids, agent: Id<Agent>) -> Vec<Thread> {
        let heads = whole(async |after, limit| {
            store::conversation::page_of_agent(&self.main, ids.workspace, agent, after, limit).await
        });
        let mut threads = Vec::new();
        for head in heads.await {
            let thread = store::conversation::thread(&self.main, ids.workspace, head.id, 1_000).await.unwrap().unwrap();
            threads.push(Thread { head: thread.head, messages: thread.messages });
        }
        threads
    }

    pub(crate) async fn usage(&self, ids: Ids) -> Vec<UsageEvent> {
        let mut months = vec![self.began, now()];
        months.dedup_by_key(|at| month(*at));
        let mut events = Vec::new();
        for at in months {
            let page = async |after: Option<&Cursor>, limit| {
                store::usage::page(&self.main, ids.account, at, after, limit).await
            };
            events.extend(whole(page).await);
        }
        events
    }

    /// Deliveries to an endpoint, by event.
    pub(crate) async fn deliveries(&self, ids: Ids, webhook: u64) -> HashMap<String, Delivery> {
        let webhook: Id<Webhook> = Id::from_int(webhook).unwrap();
        let page = async |after: Option<&Cursor>, limit| {
            store::delivery::page(&self.main, ids.workspace, webhook, &Filter::default(), after, limit).await
        };
        whole(page).await.into_iter().map(|delivery| (delivery.event_id.to_string(), delivery)).collect()
    }

    pub(crate) async fn counts(&self, ids: Ids, agents: &[Id<Agent>]) -> BTreeMap<u64, AgentCounts> {
        let counts = store::rollup::agents(&self.main, ids.workspace, agents).await.unwrap();
        agents.iter().map(|agent| agent.int()).zip(counts).collect()
    }

    /// Replies as the account shows them, over the months of the test.
    pub(crate) async fn message_counts(&self, ids: Ids) -> u64 {
        let (first, last) = (Day::of(self.began), Day::of(now()));
        let counted = store::rollup::usage(&self.main, ids.account, first, last).await.unwrap();
        counted.iter().map(|counted| u64::try_from(counted.sums.messages).unwrap()).sum()
    }

    /// Messages and micro-dollars that were taken of an allowance, without what dead turns still hold: the clock gives
    /// that back.
    pub(crate) async fn taken(&self, ids: Ids, is_trial: bool) -> (i64, i64) {
        let mut periods = vec![PeriodKey::month(self.began), PeriodKey::month(now())];
        if is_trial {
            periods = vec![PeriodKey::trial()];
        }
        periods.dedup();
        let (mut used, mut overage) = (0, 0);
        for period in periods {
            let taken = store::billing::allowance(&self.main, ids.account, &period).await.unwrap();
            (used, overage) = (used + taken.used, overage + taken.overage);
            for hold in store::billing::holds(&self.main, ids.account, &period).await.unwrap() {
                if !store::usage::exists(&self.main, ids.account, hold.turn, (hold.until, now())).await.unwrap() {
                    (used, overage) = (used - 1, overage - hold.overage);
                }
            }
        }
        (used, overage)
    }

    pub(crate) async fn published(&self, ids: Ids) -> u64 {
        store::agent::published_count(&self.main, ids.account).await.unwrap()
    }
}
