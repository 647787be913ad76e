//! `/api/builder/threads`: the builder's threads, and what waits in them for a confirmation; rows of the group
//! [`crate::agents`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::app::App;
use shared::builder::{self, Decision, Detail};
use shared::domain::builder::{Action, ActionStatus, BuilderRole, Lapse, Step};
use shared::domain::{Agent, BuilderMessage, BuilderThread, User};
use shared::http::{Call, Done, Json, NoContent, Path, Query};
use shared::kernel::{Int, Result, Text, Time};

use crate::wire::{ListOut, PageQuery, actor};

shared::ops! {
    /// List the builder's threads, the last used first.
    ///
    /// Those of the whole workspace, kept for 90 days after their last message.
    GET "/api/builder/threads" => list_builder_threads, [User] Editor "" General Any Known Unaudited Safe;
    /// One thread of the builder, with its messages, its plan and what waits for a confirmation.
    GET "/api/builder/threads/{thread_id}" => find_builder_thread, [User] Editor "" General Any Known Unaudited Safe;
    /// Delete a thread of the builder.
    ///
    /// What was built stays. 409 while a run is at work in it.
    DELETE "/api/builder/threads/{thread_id}" => delete_builder_thread,
        [User] Editor "" General Any Known Audited Keyed also [409];
    /// Stop the run of a thread.
    ///
    /// It takes about a second; what was done by then stays done.
    POST "/api/builder/threads/{thread_id}/stop" => stop_builder, [User] Editor "" General Any Known Unaudited Own;
    /// Confirm or decline what the builder asked for.
    ///
    /// What was shown is carried out, once. 409 when it was decided before, has expired (24 hours), or is not what was
    /// shown any more: then it waits in the thread anew, as another action. Name the `revision` that you were shown where
    /// several people decide in a thread. What the command itself refuses (402, 422) leaves it waiting.
    POST "/api/builder/threads/{thread_id}/actions/{action_id}" => decide_builder_action,
        [User] Editor "" General Any Known Audited Keyed also [402 409];
}

/// A thread as lists show it.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderThreadOut {
    thread_id: Text<BuilderThread>,
    /// The beginning of its first message.
    title: String,
    /// Who began it.
    user_id: Option<Int<User>>,
    /// The agent that was built or changed last.
    agent_id: Option<Int<Agent>>,
    /// The plan that counts.
    plan: Vec<Step>,
    /// Whether a run is at work.
    running: bool,
    created_at: Time,
    updated_at: Time,
}

/// A thread, whole.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderThreadDetailOut {
    #[serde(flatten)]
    listed: BuilderThreadOut,
    /// The last 100, oldest first.
    messages: Vec<BuilderMessageOut>,
    /// What waits, or waited, for a confirmation: the last 100, oldest first.
    actions: Vec<BuilderActionOut>,
}

/// A message of a thread.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderMessageOut {
    id: Text<BuilderMessage>,
    role: BuilderRole,
    content: String,
    /// How many images came with it; they are not kept.
    images: u32,
    /// The tools that were used for it.
    tools: Vec<BuilderToolOut>,
    created_at: Time,
}

/// A tool that the builder used.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderToolOut {
    name: String,
    /// Whether it did what it should.
    ok: bool,
}

/// Something that waits, or waited, for a confirmation.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderActionOut {
    action_id: Text<Action>,
    /// The tool that is called when it is confirmed.
    action: String,
    summary: String,
    arguments: Value,
    agent_id: Int<Agent>,
    /// Which state of the agent it is shown with; name it when you decide. It moves on when another action about the agent
    /// is confirmed in the thread.
    revision: Option<u32>,
    status: ActionStatus,
    /// Why it has `expired`: the agent had changed and the same call waits as another action (`shown_anew`), the agent was
    /// deleted, what it is about is gone, or nobody decided within 24 hours (`too_late`).
    reason: Option<Lapse>,
    created_at: Time,
    expires_at: Time,
    decided_at: Option<Time>,
    /// `user_` with the id of who did.
    decided_by: Option<String>,
}

impl BuilderThreadOut {
    fn new(app: &App, thread: BuilderThread) -> Self {
        Self {
            thread_id: thread.id.into(),
            running: thread.running(app.now()).is_some(),
            title: thread.title,
            user_id: thread.user_id.map(Int::from),
            agent_id: thread.agent_id.map(Int::from),
            plan: thread.plan,
            created_at: thread.created_at,
            updated_at: thread.updated_at,
        }
    }
}

impl From<BuilderMessage> for BuilderMessageOut {
    fn from(message: BuilderMessage) -> Self {
        let tools = message.tools.into_iter().map(|tool| BuilderToolOut { name: tool.name, ok: tool.ok });
        Self {
            id: message.id.into(),
            role: message.role,
            content: message.content,
            images: message.images,
            tools: tools.collect(),
            created_at: message.created_at,
        }
    }
}

impl BuilderActionOut {
    fn new(app: &App, action: Action) -> Self {
        Self {
            action_id: action.id.into(),
            status: action.standing(app.now()),
            reason: action.lapsed(app.now()),
            action: action.tool,
            summary: action.summary,
            arguments: action.arguments,
            agent_id: action.agent_id.into(),
            revision: action.revision,
            created_at: action.created_at,
            expires_at: action.expires_at,
            decided_at: action.decided_at,
            decided_by: action.decided_by.as_deref().map(actor),
        }
    }
}

async fn list_builder_threads(
    State(app): State<App>,
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<BuilderThreadOut>>> {
    let (cursor, limit) = query.read("builder_threads")?;
    let page = builder::list(&app, &call.caller, cursor.as_ref(), limit).await?;
    Ok(Json(ListOut::page("builder_threads", page.map(|thread| BuilderThreadOut::new(&app, thread)))))
}

async fn find_builder_thread(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Text<BuilderThread>>,
) -> Result<Json<BuilderThreadDetailOut>> {
    let Detail { thread, messages, actions } = builder::find(&app, &call.caller, id.0).await?;
    Ok(Json(BuilderThreadDetailOut {
        listed: BuilderThreadOut::new(&app, thread),
        messages: messages.into_iter().map(BuilderMessageOut::from).collect(),
        actions: actions.into_iter().map(|action| BuilderActionOut::new(&app, action)).collect(),
    }))
}

async fn delete_builder_thread(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Text<BuilderThread>>,
) -> Result<NoContent> {
    call.run(&app, || builder::clear(&app, &call.caller, id.0), |()| ()).await
}

/// What became of a wish to stop.
#[derive(Debug, Serialize, JsonSchema)]
struct BuilderStopOut {
    /// Whether a run was at work.
    stopping: bool,
}

async fn stop_builder(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Text<BuilderThread>>,
) -> Result<Json<BuilderStopOut>> {
    Ok(Json(BuilderStopOut { stopping: builder::stop(&app, &call.caller, id.0).await? }))
}

/// A decision.
#[derive(Debug, Deserialize, JsonSchema)]
struct DecisionIn {
    /// Whether it is to happen.
    approve: bool,
    /// The `revision` that the action was shown with. When it is another one by now, a confirmation is a 409
    /// (`action_changed`) and the action goes on waiting; without it, the action is confirmed as it is.
    #[serde(default)]
    revision: Option<u32>,
}

async fn decide_builder_action(
    State(app): State<App>,
    call: Call,
    Path((thread, action)): Path<(Text<BuilderThread>, Text<Action>)>,
    Json(body): Json<DecisionIn>,
) -> Result<Done<BuilderActionOut>> {
    let decision = Decision { approve: body.approve, shown: body.revision };
    let decide = || builder::decide(&app, &call.caller, call.address, thread.0, action.0, decision);
    call.run(&app, decide, |action| BuilderActionOut::new(&app, action)).await
}
