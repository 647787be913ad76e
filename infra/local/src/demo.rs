//! The demo: an account with a published agent and a developer key, so that the first start has something to show. It is
//! kept in a file for the next start. Each step looks for what an earlier start has done, so a start that was cut off
//! half-way is finished by the next one.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::access::Caller;
use shared::app::agent::{Changes, Create, Detail};
use shared::app::api_key::Mint;
use shared::app::auth::Register;
use shared::app::{App, agent, api_key, auth};
use shared::domain::agent::Widget;
use shared::domain::api_key::KeyKind;
use shared::domain::plan::PlanKey;
use shared::domain::tool::Builtin;
use shared::kernel::{Code, Error, Id, Limit, Patch, Result, Secret};
use shared::store;

use crate::data::write_private;

const EMAIL: &str = "demo@example.com";
const AGENT_NAME: &str = "Luna Dental";
const KEY_NAME: &str = "Demo";
/// Five random bits a character.
const PASSWORD_CHARS: usize = 20;

const PROMPT: &str = "You are Luna, the assistant of Luna Dental, a dental practice in Lisbon. Be warm and brief.

## Instructions
Never give a diagnosis: offer an appointment instead.
Ask for a name and a phone number or an e-mail when somebody wants to be called back.

## FAQ
Q: What are your opening hours? A: Monday to Friday from 9:00 to 19:00, and Saturday from 10:00 to 14:00.
Q: Where are you? A: At Rua das Flores 12 in Lisbon, two minutes from the metro station Baixa-Chiado.
Q: How much is a check-up? A: A check-up with cleaning is 60 €, and the first one is half price.
Q: Do you take emergencies? A: Yes, the same day: call +351 210 000 000 before 16:00.
Q: Which insurances do you accept? A: Médis, Multicare and AdvanceCare.
Q: Do you treat children? A: Yes, from three years on. Dr. Inês Rocha is our dentist for children.
Q: Is there parking? A: There is a public garage at Praça Luís de Camões, five minutes away on foot.
Q: How can I pay? A: By card, MB Way or cash, and in up to six instalments above 500 €.";

/// The demo, as the first screen shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demo {
    /// For the log-in.
    pub email: String,
    /// For the log-in.
    pub password: String,
    /// What the agent is called.
    pub agent_name: String,
    /// The agent, as studio writes ids.
    pub agent_id: u64,
    /// Where its page is.
    pub slug: String,
    /// A developer key.
    pub api_key: String,
}

impl Demo {
    /// The agent's page.
    #[must_use]
    pub fn page_url(&self, base_url: &str) -> String {
        format!("{base_url}/{}", self.slug)
    }
}

/// What is kept for the next start.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    email: String,
    password: String,
    #[serde(default)]
    agent_id: Option<u64>,
    #[serde(default)]
    api_key: Option<String>,
}

/// The file, or nothing for a run whose table is gone when it ends.
#[derive(Clone, Copy)]
struct Memory<'a>(Option<&'a Path>);

impl Memory<'_> {
    fn read(self) -> Result<Option<Kept>> {
        let Some(path) = self.0.filter(|path| path.exists()) else { return Ok(None) };
        let kept = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
        let why = || format!("{} does not read; move it away to have a new demo made.", path.display());
        kept.map(Some).ok_or_else(|| Error::with_message(Code::NotConfigured, why()))
    }

    fn write(self, kept: &Kept) -> Result<()> {
        let Some(path) = self.0 else { return Ok(()) };
        let text = serde_json::to_string_pretty(kept).map_err(Error::internal)?;
        write_private(path, &format!("{text}\n")).map_err(|error| {
            Error::with_message(Code::NotConfigured, format!("{} cannot be written: {error}", path.display()))
        })
    }
}

/// Makes sure that the demo is there. `file` keeps it; without one it lasts as long as the table.
///
/// # Errors
/// When the file does not read, or the table cannot be reached.
pub async fn ensure(app: &App, file: Option<&Path>) -> Result<Demo> {
    let memory = Memory(file);
    let kept = memory.read()?;
    if let Some(kept) = &kept
        && let Some(demo) = find(app, kept).await?
    {
        return Ok(demo);
    }
    let (mut kept, caller) = sign_in(app, memory, kept).await?;
    raise_plan(app, &caller).await?;
    let detail = find_or_make_agent(app, &caller, kept.agent_id).await?;
    kept.agent_id = Some(detail.agent.id.int());
    memory.write(&kept)?;
    let api_key = mint(app, &caller).await?;
    kept.api_key = Some(api_key.clone());
    memory.write(&kept)?;
    Ok(demo(&kept, detail, api_key))
}

fn demo(kept: &Kept, detail: Detail, api_key: String) -> Demo {
    Demo {
        email: kept.email.clone(),
        password: kept.password.clone(),
        agent_id: detail.agent.id.int(),
        slug: detail.agent.public_slug.unwrap_or_default(),
        agent_name: detail.agent.name,
        api_key,
    }
}

/// The demo of an earlier start, if all of it is still there.
async fn find(app: &App, kept: &Kept) -> Result<Option<Demo>> {
    let (Some(api_key), Some(agent_id)) = (&kept.api_key, kept.agent_id.and_then(Id::from_int)) else {
        return Ok(None);
    };
    let Some(caller) = auth::recognise(app, api_key, KeyKind::Developer).await? else { return Ok(None) };
    let detail = present(agent::detail(app, &caller, agent_id).await)?;
    Ok(detail.map(|detail| demo(kept, detail, api_key.clone())))
}

fn present<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Registers the demo's user, or logs it in. The password is kept before the user is made: else a start that is cut off
/// in between would leave a user that nobody can log in as.
async fn sign_in(app: &App, memory: Memory<'_>, kept: Option<Kept>) -> Result<(Kept, Caller)> {
    let fresh = |email: String| Kept { email, password: app.rng.text(PASSWORD_CHARS), agent_id: None, api_key: None };
    let mut kept = kept.unwrap_or_else(|| fresh(EMAIL.into()));
    memory.write(&kept)?;
    let logged_in = match register(app, &kept).await {
        Err(error) if error.code() == Code::EmailAlreadyRegistered => {
            match auth::log_in(app, &kept.email, &Secret::new(&kept.password), None).await {
                Ok(draft) => app.complete(draft).await?,
                // Somebody lost the file or changed the password: that account is theirs now.
                Err(error) if matches!(error.code(), Code::InvalidCredentials | Code::Forbidden) => {
                    kept = fresh(format!("demo-{}@example.com", app.rng.text(6)));
                    memory.write(&kept)?;
                    register(app, &kept).await?
                }
                Err(error) => return Err(error),
            }
        }
        other => other?,
    };
    let caller = auth::recognise(app, &logged_in.token, KeyKind::Developer).await?;
    Ok((kept, caller.ok_or_else(|| Error::internal("a session that was just opened is not there"))?))
}

async fn register(app: &App, kept: &Kept) -> Result<auth::LoggedIn> {
    let password = Secret::new(&kept.password);
    let command = Register { email: kept.email.clone(), password, name: Some("Demo".into()) };
    app.complete(auth::register_trusted(app, &command).await?).await
}

/// The free plan has one published agent, which is the demo's own, and a trial that a few tries use up. Who tries the
/// platform should be able to publish another one.
async fn raise_plan(app: &App, caller: &Caller) -> Result<()> {
    let mut account = store::billing::get(&app.table, caller.billing_account_id).await?;
    if account.plan == PlanKey::Free && account.granted_plan.is_none() {
        // As staff give one: nobody pays for it.
        (account.granted_plan, account.updated_at) = (Some(PlanKey::Agency), app.now());
        store::billing::overwrite(&app.table, &account).await?;
    }
    Ok(())
}

async fn find_or_make_agent(app: &App, caller: &Caller, known: Option<u64>) -> Result<Detail> {
    let known = match known.and_then(Id::from_int) {
        Some(known) => Some(known),
        None => {
            let page = agent::list(app, caller, None, Limit::new(Some(100))?).await?;
            page.items.iter().find(|(agent, _)| agent.name == AGENT_NAME).map(|(agent, _)| agent.id)
        }
    };
    if let Some(known) = known
        && let Some(found) = present(agent::detail(app, caller, known).await)?
    {
        return Ok(found);
    }
    app.complete(agent::create(app, caller, &wanted()).await?).await
}

fn wanted() -> Create {
    let questions = ["What are your opening hours?", "How much is a check-up?", "I would like an appointment"];
    let changes = Changes {
        name: Some(AGENT_NAME.into()),
        description: Patch::Set("The assistant of a dental practice in Lisbon.".into()),
        system_prompt: Some(PROMPT.into()),
        greeting_message: Patch::Set("Hello! I am Luna. How can I help you?".into()),
        widget: Some(Widget { suggested_questions: questions.map(str::to_owned).to_vec(), ..Widget::default() }),
        ..Changes::default()
    };
    let tools = [Builtin::CaptureLead, Builtin::SendWhatsappHandoff, Builtin::ScheduleAppointment];
    Create { changes, tools: tools.map(|tool| tool.name().to_owned()).to_vec(), publish: true }
}

/// A new key. Those that earlier starts made and lost are revoked.
async fn mint(app: &App, caller: &Caller) -> Result<String> {
    for key in api_key::list(app, caller).await?.into_iter().filter(|key| key.name == KEY_NAME) {
        app.complete(api_key::revoke(app, caller, key.id).await?).await?;
    }
    let wish = Mint { name: KEY_NAME.into(), scopes: None, expires_at: None };
    let minted = app.complete(api_key::mint(app, caller, &wish).await?).await?;
    Ok(minted.raw.expose().to_owned())
}
