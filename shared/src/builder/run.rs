//! One run: the model with its tools, within the bounds of a turn, told as it goes on.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::perform::{self, Actor};
use super::tell::{self, Frames, Place, Teller};
use super::thread::SHOWN;
use super::tools::{self, Needs, Tool};
use super::{Accepted, LEASE, action, prompt, secrets};
use crate::access::Caller;
use crate::app::{App, Draft};
use crate::domain::agent::AgentStatus;
use crate::domain::builder::plan::{self, Step};
use crate::domain::builder::{Action, ActionStatus, BuilderRole, Frame, Run as Lease, StepStatus};
use crate::domain::message::ToolUse;
use crate::domain::text::shorten;
use crate::domain::{BuilderMessage, BuilderThread};
use crate::kernel::{Code, Error, Id, Result, Work, work};
use crate::ports::journal::Kind as Line;
use crate::ports::llm::{self, Completion, Image, Target, ToolCall, Usage};
use crate::store;
use crate::table::{Refusal, Unit};
use crate::turn::{arguments, fenced, fitting, sees};

/// Rounds of model and tools in one run: to build takes more of them than to answer.
const MAX_ROUNDS: u32 = 14;
/// Tool calls in one run.
const MAX_CALLS: u32 = 40;
/// The longest arguments of a tool call, in bytes of JSON: instructions of 32,000 characters fit.
const MAX_ARGUMENTS: usize = 128 * 1024;
/// How many tokens an answer may have at least: instructions are written in the arguments of a call.
const ANSWER_TOKENS: u32 = 8_192;
/// How much of a tool's output is told, in bytes of JSON.
const MAX_OUTPUT: usize = 4 * 1024;
/// How many earlier messages the model reads.
const WINDOW: usize = 40;
/// How long text is gathered before it is told.
const GATHERED: Duration = Duration::from_millis(300);
/// How often an effect is tried that meets another one.
const TRIES: u32 = 4;
/// The longest message of the builder that is stored, in characters.
const MAX_CONTENT: usize = 16_000;
/// What is said at the end of the bounds.
const SPENT: &str = "I have done as much as one message may take. Write to me to go on.";

/// Begins a run: a task of its own, which nobody has to wait for.
pub(super) fn start(app: &App, caller: &Caller, address: IpAddr, accepted: Accepted, images: Vec<Image>) -> Frames {
    let (teller, frames) = Teller::new(app, accepted.place(), accepted.first.clone());
    let work = Work::new(work::request_id().unwrap_or_default());
    let actor = Actor { caller: caller.clone(), address, thread: accepted.thread.id };
    let app = app.clone();
    tokio::spawn(async move {
        let outcome = work.run(Box::pin(run(&app, actor, accepted, images, teller))).await;
        work.note("service", "builder");
        work.note("operation", "run");
        work.note("outcome", if outcome.is_ok() { "done" } else { "failed" });
        app.journal.write(Line::Turn, app.now(), &work);
        if let Err(error) = outcome {
            tracing::error!(%error, "a run of the builder did not end as it should");
        }
    });
    frames
}

/// How a run ended.
enum Ended {
    Done,
    Stopped,
    Failed(Error),
    /// The thread is somebody else's.
    Lost,
}

async fn run(app: &App, actor: Actor, accepted: Accepted, images: Vec<Image>, teller: Teller) -> Result<()> {
    work::note("tenant", actor.caller.workspace_id);
    let (place, budget) = (accepted.place(), app.config.stream_budget);
    let mut run = Run::new(app, actor, accepted, teller);
    let watch = Watch { app, place };
    let ended = tokio::select! {
        ended = tokio::time::timeout(budget, run.think(images)) => match ended {
            Ok(Ok(())) => Ended::Done,
            Ok(Err(error)) if is_lost(&error) => Ended::Lost,
            Ok(Err(error)) => Ended::Failed(error),
            Err(_) => Ended::Failed(Error::with_message(Code::Timeout, "The run took too long. What it did is kept: write again to go on.")),
        },
        ended = watch.interrupted() => ended,
    };
    // What was at work when it was interrupted may have been stored.
    run.teller.catch_up().await?;
    run.end(ended).await
}

struct Run<'a> {
    app: &'a App,
    actor: Actor,
    place: Place,
    thread: BuilderThread,
    message: BuilderMessage,
    teller: Teller,
    usage: Usage,
    calls: u32,
    used: Vec<ToolUse>,
}

/// What came of a call.
struct Outcome {
    unit: Unit,
    then: Vec<(crate::ports::queue::QueueName, crate::ports::queue::Outgoing)>,
    ok: bool,
    output: Value,
    /// The agent that the thread is about from now on.
    agent: Option<Id<crate::domain::Agent>>,
    change: Option<Change>,
}

/// What beside its output is told of a call.
enum Change {
    Plan(Vec<Step>),
    Step(Step),
    Asked(Box<Action>),
}

impl Outcome {
    fn told(output: Value) -> Self {
        Self { unit: Unit::new(), then: Vec::new(), ok: true, output, agent: None, change: None }
    }

    fn refused(why: &str) -> Self {
        Self { ok: false, ..Self::told(json!({"error": why})) }
    }
}

impl<'a> Run<'a> {
    fn new(app: &'a App, actor: Actor, accepted: Accepted, teller: Teller) -> Self {
        let place = accepted.place();
        let Accepted { thread, message, .. } = accepted;
        let (usage, used) = (Usage::default(), Vec::new());
        Self { app, actor, place, thread, message, teller, usage, calls: 0, used }
    }

    async fn request(&self, images: Vec<Image>) -> Result<llm::Request> {
        let (workspace, table) = (self.place.workspace, &self.app.table);
        let mut stored = store::builder::messages(table, workspace, self.place.thread, WINDOW).await?;
        stored.retain(|message| message.id != self.message.id);
        stored.push(self.message.clone());
        let agent = match self.thread.agent_id {
            // It may have been deleted.
            Some(agent) => store::agent::get(table, workspace, agent).await.ok(),
            None => None,
        };
        let (provider, model) = self.app.config.builder();
        Ok(llm::Request {
            target: Target { provider, model, api_key: None, base_url: None },
            system: prompt::system(&self.thread, agent.as_ref().map(|agent| &agent.body), self.app.now()),
            messages: prompt::messages(&stored, images),
            tools: tools::offered(),
            max_tokens: self.app.config.reply_tokens.max(ANSWER_TOKENS),
            temperature: None,
        })
    }

    async fn think(&mut self, images: Vec<Image>) -> Result<()> {
        let mut request = self.request(images).await?;
        for _ in 0..MAX_ROUNDS {
            if self.usage.total() >= self.app.config.turn_tokens {
                break;
            }
            let completion = self.ask(&mut request).await?;
            self.usage += completion.usage;
            self.teller.flush().await?;
            if completion.tool_calls.is_empty() {
                let is_silent = completion.content.trim().is_empty() && self.used.is_empty();
                return if is_silent { Err(Error::new(Code::UpstreamError)) } else { Ok(()) };
            }
            request.messages.push(llm::Message::Assistant {
                content: completion.content,
                tool_calls: completion.tool_calls.clone(),
                kept: completion.kept,
            });
            for call in &completion.tool_calls {
                let result = self.call(call).await?;
                request.messages.push(result);
            }
        }
        let text = self.teller.text();
        text.begin();
        text.complete(SPENT);
        self.teller.flush().await
    }

    /// Takes the images back from a model that does not see, and says so: to the person, since they count on it, and to
    /// the model, so that it does not guess.
    async fn keep_from_blind(&mut self, request: &mut llm::Request) -> Result<()> {
        if sees(&request.target) {
            return Ok(());
        }
        let images_of = |message: &mut llm::Message| match message {
            llm::Message::User { images, .. } => std::mem::take(images).len(),
            llm::Message::Assistant { .. } | llm::Message::ToolResult { .. } => 0,
        };
        let count = request.messages.iter_mut().map(images_of).sum();
        if count == 0 {
            return Ok(());
        }
        request.system += &prompt::unseen(count);
        let text = self.teller.text();
        text.begin();
        text.complete(prompt::unseen_told(&self.message.content));
        self.teller.flush().await
    }

    /// Asks the model, and another one if it fails before it said anything.
    async fn ask(&mut self, request: &mut llm::Request) -> Result<Completion> {
        self.keep_from_blind(request).await?;
        match self.ask_once(request).await {
            Err(error) if error.kind() == crate::kernel::Kind::Upstream && !self.teller.text().is_begun() => {
                let other = self.app.config.fallback_model.clone();
                let current = (request.target.provider.clone(), request.target.model.clone());
                let Some((provider, model)) = other.filter(|other| *other != current) else { return Err(error) };
                tracing::warn!(failed = current.1, asked = model, %error, "another model is asked");
                (request.target.provider, request.target.model) = (provider, model);
                self.keep_from_blind(request).await?;
                self.ask_once(request).await
            }
            completion => completion,
        }
    }

    async fn ask_once(&mut self, request: &llm::Request) -> Result<Completion> {
        let text = self.teller.text();
        text.begin();
        let asking = self.app.llm.complete(request, text.as_ref());
        tokio::pin!(asking);
        loop {
            tokio::select! {
                completion = &mut asking => {
                    let completion = completion?;
                    text.complete(&completion.content);
                    return Ok(completion);
                }
                () = tokio::time::sleep(GATHERED) => self.teller.flush().await?,
            }
        }
    }

    /// Makes a call; only faults of ours are errors, everything else is told to the model.
    async fn call(&mut self, call: &ToolCall) -> Result<llm::Message> {
        self.calls += 1;
        let (number, name) = (self.calls, shorten(&call.name, 64));
        let too_large = call.arguments.to_string().len() > MAX_ARGUMENTS;
        let arguments = if too_large { Value::Null } else { secrets::without(call.arguments.clone()) };
        let tool = Tool::find(&call.name);
        // The plan has frames of its own.
        let is_shown = tool.is_none_or(|tool| tool.needs(&arguments) != Needs::Nothing);
        if is_shown {
            let frame = Frame::ToolCalled { call: number, name: name.clone(), arguments: arguments.clone() };
            self.teller.tell(frame).await?;
        }
        let (ok, output) = match tool {
            _ if number > MAX_CALLS => {
                self.tell(number, &name, is_shown, Outcome::refused("Too many tool calls. Say what you have done."))
                    .await?
            }
            _ if too_large => {
                self.tell(number, &name, is_shown, Outcome::refused("The arguments are too long.")).await?
            }
            None => self.tell(number, &name, is_shown, Outcome::refused(&format!("There is no tool {name}."))).await?,
            Some(tool) => self.try_tool(number, tool, is_shown, &arguments).await?,
        };
        if is_shown {
            self.used.push(ToolUse { name: name.clone(), arguments, ok });
        }
        let text = output.to_string();
        let is_foreign = matches!(tool, Some(Tool::FindAgent | Tool::ListAgents));
        let content = if is_foreign { fenced(&name, &text) } else { text };
        Ok(llm::Message::ToolResult { call_id: call.id.clone(), name: call.name.clone(), content, is_error: !ok })
    }

    async fn try_tool(&mut self, number: u32, tool: Tool, is_shown: bool, given: &Value) -> Result<(bool, Value)> {
        for _ in 0..TRIES {
            let outcome = match self.outcome(tool, given).await {
                Ok(outcome) => outcome,
                Err(error) if error.is_fault() => return Err(error),
                Err(error) => Outcome::refused(error.message()),
            };
            match self.tell(number, tool.name(), is_shown, outcome).await {
                Err(error) if error.code() == Code::ConcurrentChange => {}
                told => return told,
            }
        }
        self.tell(
            number,
            tool.name(),
            is_shown,
            Outcome::refused("Somebody else changed it at the same time. Try again."),
        )
        .await
    }

    /// Carries out what came of a call, with the frames that tell of it, if the thread is still ours.
    async fn tell(&mut self, number: u32, name: &str, is_shown: bool, outcome: Outcome) -> Result<(bool, Value)> {
        let Outcome { mut unit, then, ok, output, agent, change } = outcome;
        let mut update = store::builder::update(self.place.workspace, self.place.thread);
        let (mut frames, mut thread) = (Vec::new(), self.thread.clone());
        thread.agent_id = agent.or(thread.agent_id);
        match change {
            Some(Change::Plan(steps)) => {
                thread.plan.clone_from(&steps);
                frames.push(Frame::PlanCreated { steps });
            }
            Some(Change::Step(step)) => {
                thread
                    .plan
                    .iter_mut()
                    .filter(|known| known.number == step.number)
                    .for_each(|known| known.clone_from(&step));
                frames.push(Frame::PlanStepUpdated { step });
            }
            Some(Change::Asked(action)) => {
                store::builder::create_action(&mut unit, self.place.workspace, &action)?;
                frames.push(Frame::ExternalAction(action));
            }
            None => {}
        }
        if is_shown {
            frames.push(Frame::ToolOutput { call: number, name: name.to_owned(), ok, output: shown(&output) });
        }
        if !unit.is_empty() || thread != self.thread {
            update = update.set("agent_id", thread.agent_id).set("plan", &thread.plan);
            let held = store::builder::is_held_by(self.place.run);
            unit.update(update, held, Error::new(Code::BuilderBusy));
        }
        self.teller.commit(unit, frames).await?;
        self.app.send_after(then).await;
        self.thread = thread;
        Ok((ok, output))
    }

    /// What a call does, not carried out yet.
    async fn outcome(&self, tool: Tool, given: &Value) -> Result<Outcome> {
        match tool.needs(given) {
            Needs::Nothing => self.plan(tool, given),
            Needs::Reading => {
                let given = fitting(tool.parameters(), given)?;
                let caller = &self.actor.caller;
                Ok(Outcome::told(match tool {
                    Tool::FindAgent => perform::find(self.app, caller, &given).await?,
                    _ => perform::list(self.app, caller).await?,
                }))
            }
            Needs::Plan | Needs::Confirmation if self.thread.plan.is_empty() => {
                Ok(Outcome::refused("Make a plan first, with make_plan."))
            }
            Needs::Plan => self.change(tool, given).await,
            Needs::Confirmation => self.ask_for(tool, given).await,
        }
    }

    fn plan(&self, tool: Tool, given: &Value) -> Result<Outcome> {
        #[derive(serde::Deserialize)]
        struct Steps {
            steps: Vec<String>,
        }
        #[derive(serde::Deserialize)]
        struct Update {
            step: u32,
            status: StepStatus,
        }
        let given = fitting(tool.parameters(), given)?;
        if tool == Tool::MakePlan {
            let steps = plan::plan(&arguments::<Steps>(&given)?.steps)?;
            let output = json!({"steps": steps.len()});
            return Ok(Outcome { change: Some(Change::Plan(steps)), ..Outcome::told(output) });
        }
        let Update { step, status } = arguments(&given)?;
        let known = self.thread.plan.iter().find(|known| known.number == step);
        let Some(known) = known else { return Ok(Outcome::refused("The plan has no step of that number.")) };
        let step = Step { status, ..known.clone() };
        Ok(Outcome { change: Some(Change::Step(step)), ..Outcome::told(json!({"ok": true})) })
    }

    /// A change of a draft happens at once; one of an agent that is live waits for a confirmation.
    async fn change(&self, tool: Tool, given: &Value) -> Result<Outcome> {
        let Draft { unit, value, then } = perform::perform(self.app, &self.actor, tool, given).await?;
        if tool != Tool::CreateAgent {
            // Read after the draft, whose writes hold only for what the agent was before: a publication in between fails
            // them.
            let agent = store::agent::get(&self.app.table, self.place.workspace, value.agent_id).await?.body;
            if agent.status == AgentStatus::Published {
                return Ok(asked(action::ask(self.app, &self.actor, tool, &agent, given)));
            }
        }
        Ok(Outcome { unit, then, agent: Some(value.agent_id), ..Outcome::told(value.output) })
    }

    /// A call that a person has to confirm: it is tried, and nothing of it is carried out.
    async fn ask_for(&self, tool: Tool, given: &Value) -> Result<Outcome> {
        let given = fitting(tool.parameters(), given)?;
        let id = perform::agent_of(&given)?;
        if tool != Tool::DeleteAgent {
            perform::perform(self.app, &self.actor, tool, &given).await?;
        }
        let agent = store::agent::get(&self.app.table, self.place.workspace, id).await?.body;
        Ok(asked(action::ask(self.app, &self.actor, tool, &agent, &given)))
    }

    /// What waits for a confirmation in the thread. As it is stored: what a run that broke off asked for waits too.
    async fn waiting(&self) -> Result<Vec<Id<Action>>> {
        let (Place { workspace, thread, .. }, now) = (self.place, self.app.now());
        let actions = store::builder::actions(&self.app.table, workspace, thread, SHOWN).await?;
        let waiting = actions.iter().filter(|action| action.standing(now) == ActionStatus::Pending);
        Ok(waiting.map(|action| action.id).collect())
    }

    /// Stores the last message and the last frame, and lets go of the thread.
    async fn end(mut self, ended: Ended) -> Result<()> {
        let (failure, stopped) = match ended {
            Ended::Lost => {
                self.teller.whisper(tell::broken_off());
                return Ok(());
            }
            Ended::Failed(error) => (Some(error), false),
            Ended::Stopped => (None, true),
            Ended::Done => (None, false),
        };
        match self.teller.flush().await {
            Err(error) if is_lost(&error) => {
                self.teller.whisper(tell::broken_off());
                return Ok(());
            }
            told => told?,
        }
        if let Some(error) = &failure {
            tracing::warn!(%error, thread = self.place.thread.text(), "a run of the builder failed");
        }
        let message = BuilderMessage {
            id: self.app.ids().id_after(self.message.id),
            role: BuilderRole::Assistant,
            content: shorten(self.teller.said(), MAX_CONTENT),
            images: 0,
            tools: std::mem::take(&mut self.used).into_iter().map(without_long_arguments).collect(),
            run_id: Some(self.place.run),
            created_at: self.app.now(),
        };
        let frame = match &failure {
            Some(error) => tell::failed(error),
            None => Frame::Done {
                message_id: message.id,
                agent_id: self.thread.agent_id,
                pending: self.waiting().await?,
                stopped,
                tokens: (self.usage.tokens_in, self.usage.tokens_out),
            },
        };
        let Place { workspace, thread, run } = self.place;
        let mut unit = Unit::new();
        if !message.content.is_empty() || !message.tools.is_empty() {
            store::builder::add_message(&mut unit, workspace, thread, &message)?;
        }
        let update = store::builder::update(workspace, thread).remove("run").remove("stop");
        unit.update(update, store::builder::is_held_by(run), Error::new(Code::BuilderBusy));
        match self.teller.commit(unit, vec![frame]).await {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.teller.whisper(tell::broken_off());
                Err(refusal.into())
            }
        }
    }
}

/// Whether the thread is not this run's any more: another one has it, or it was deleted.
fn is_lost(error: &Error) -> bool {
    error.code() == Code::BuilderBusy
}

fn asked(action: Action) -> Outcome {
    let output = json!({
        "status": "waiting_for_confirmation", "action_id": action.id.text(), "summary": action.summary,
        "message": "Nothing has happened yet. The person confirms or declines it in the dashboard.",
    });
    Outcome { agent: Some(action.agent_id), change: Some(Change::Asked(Box::new(action))), ..Outcome::told(output) }
}

/// An output as it is told: whoever wants all of it reads the agent.
fn shown(output: &Value) -> Value {
    let text = output.to_string();
    if text.len() <= MAX_OUTPUT { output.clone() } else { json!({"shortened": shorten(&text, MAX_OUTPUT / 4)}) }
}

/// A message is an item, and items have a limit: what was long is in the agent.
fn without_long_arguments(tool: ToolUse) -> ToolUse {
    let arguments = shown(&tool.arguments);
    ToolUse { arguments, ..tool }
}

/// Looks from time to time whether a run may go on, and keeps its hold of the thread.
struct Watch<'a> {
    app: &'a App,
    place: Place,
}

impl Watch<'_> {
    /// Comes back when it may not.
    async fn interrupted(&self) -> Ended {
        loop {
            tokio::time::sleep(self.app.config.watch_every).await;
            match self.look().await {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                // The next commit asks again.
                Err(error) => tracing::warn!(%error, "a run was not looked after"),
            }
        }
    }

    async fn look(&self) -> Result<Option<Ended>> {
        let Place { workspace, thread, run } = self.place;
        let now = self.app.now();
        let head = match store::builder::get(&self.app.table, workspace, thread, now).await {
            Err(error) if error.kind() == crate::kernel::Kind::NotFound => return Ok(Some(Ended::Lost)),
            head => head?,
        };
        if head.run.is_none_or(|held| held.id != run) {
            return Ok(Some(Ended::Lost));
        }
        if head.stop == Some(run) {
            return Ok(Some(Ended::Stopped));
        }
        self.renew(run, head.run, now).await
    }

    /// Holds the thread on, when half of the time is over.
    async fn renew(&self, run: Uuid, held: Option<Lease>, now: crate::kernel::Time) -> Result<Option<Ended>> {
        if held.is_some_and(|held| held.until > (now + LEASE / 2).millis()) {
            return Ok(None);
        }
        let update = store::builder::update(self.place.workspace, self.place.thread);
        let update = update.set("run.until", (now + LEASE).millis());
        let held = Some(store::builder::is_held_by(run));
        match self.app.table.update(update, held, Error::new(Code::BuilderBusy)).await {
            Ok(_) => Ok(None),
            Err(Refusal::Conditions(_)) => Ok(Some(Ended::Lost)),
            Err(Refusal::Error(error)) => Err(error),
        }
    }
}
