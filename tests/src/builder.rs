//! The builder in tests: its frames, and a thread past the API.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use shared::domain::BuilderThread;
use shared::domain::builder::{Action, ActionStatus};
use shared::kernel::Id;
use shared::store;
use shared::table::Unit;

use crate::{Frame, Frames, Owner, Persona, TestApp};

/// Where the builder is.
pub const BUILDER: &str = "/api/builder/stream";

/// Where images are uploaded for it.
pub const UPLOADS: &str = "/api/builder/uploads";
/// What takes itself for a PNG file, as a data URL.
pub const PNG: &str = "data:image/png;base64,iVBORw0KGgpyZXN0";

impl Owner {
    /// Uploads an image, and gives its id.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn upload(&self, data_url: &str) -> String {
        let stored = self.session.post(UPLOADS, json!({"data_url": data_url})).await.expect(201);
        stored["id"].as_str().expect("an id").to_owned()
    }
}

impl Frames {
    /// Sends a message to the builder.
    ///
    /// # Panics
    /// When the answer is no stream.
    pub async fn of_builder(test: &TestApp, persona: &Persona, body: &Value, last: Option<&str>) -> Self {
        let mut request = Request::post(BUILDER).header("content-type", "application/json");
        request = request.header("authorization", persona.authorization().expect("a session"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Self::open(test, request.body(Body::from(body.to_string())).expect("a request")).await
    }
}

impl TestApp {
    /// Sends a message to the builder and reads its answer to the end.
    pub async fn builds(&self, persona: &Persona, body: Value) -> Vec<Frame> {
        Frames::of_builder(self, persona, &body, None).await.rest().await
    }

    /// A thread of the builder in which the publication of an agent waits for a confirmation; its id and the action's.
    ///
    /// # Panics
    /// When it is not written.
    pub async fn db_builder_thread(&self, owner: &Owner, agent: u64) -> (String, String) {
        let workspace_id = self.db_workspace(owner).await.id;
        let (now, agent_id) = (self.app.now(), Id::from_int(agent).expect("an id"));
        let revision =
            store::agent::get(&self.app.table, workspace_id, agent_id).await.expect("an agent").body.revision;
        let thread = BuilderThread {
            id: self.app.ids().id(),
            workspace_id,
            user_id: None,
            title: "An assistant for my shop".into(),
            agent_id: Some(agent_id),
            plan: Vec::new(),
            run: None,
            stop: None,
            deleting: false,
            created_at: now,
            updated_at: now,
        };
        let action = Action {
            id: self.app.ids().id(),
            thread_id: thread.id,
            tool: "publish_agent".into(),
            arguments: json!({"agent_id": agent}),
            summary: "Publish the agent.".into(),
            agent_id,
            revision: Some(revision),
            status: ActionStatus::Pending,
            created_at: now,
            expires_at: now + std::time::Duration::from_secs(24 * 3600),
            decided_at: None,
            decided_by: None,
            lapse: None,
        };
        let mut unit = Unit::new();
        store::builder::create(&mut unit, &thread).expect("a thread");
        store::builder::create_action(&mut unit, workspace_id, &action).expect("an action");
        self.app.commit(unit).await.expect("written");
        (thread.id.text(), action.id.text())
    }
}
