//! The offline model as a builder of agents: it reads a description by rules and calls the builder's tools as a language
//! model would: a plan, then one round of calls for each of its steps, then a summary that says that it is offline.

mod wish;

use serde_json::{Value, json};

use super::phrases::Lang;
use super::{Message, Request, ToolCall, offered};
use crate::domain::text::shorten;
use wish::{Does, Wish};

/// The tool by whose offer it knows that it is to build.
const MAKE_PLAN: &str = "make_plan";
/// How much of a name stands in a step of the plan.
const NAME: usize = 60;

/// One step of the plan, with its calls. Those that name an agent get its id when it is known.
struct Task {
    name: String,
    calls: Vec<(&'static str, Value)>,
    /// Whether it is to ask for something: it is done when that waits for a confirmation.
    asks: bool,
}

/// What to say or to call next; `None` when it is not asked to build.
pub(super) fn answer(request: &Request) -> Option<(String, Vec<ToolCall>)> {
    offered(request, MAKE_PLAN)?;
    let said = request.messages.iter().rposition(|message| matches!(message, Message::User { .. }))?;
    let Message::User { content, images } = &request.messages[said] else { return None };
    let open = &request.messages[said + 1..];
    let wish = Wish::read(content, thread_agent(&request.system));
    let tasks = tasks(&wish);
    let rounds = open.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
    let calls = next(&tasks, open, rounds, made(open).or(wish.agent));
    if calls.is_empty() {
        return Some((summary(&wish, &tasks, open, !images.is_empty()), Vec::new()));
    }
    let call = |(number, (name, arguments)): (usize, (&str, Value))| ToolCall {
        id: format!("offline_{rounds}_{number}"),
        name: name.to_owned(),
        arguments,
    };
    Some((String::new(), calls.into_iter().enumerate().map(call).collect()))
}

/// The calls of a round: the plan first; then how the task of the round before stands, and the next one. None when there is
/// nothing left to do.
fn next(tasks: &[Task], open: &[Message], rounds: usize, agent: Option<u64>) -> Vec<(&'static str, Value)> {
    if tasks.is_empty() {
        return Vec::new();
    }
    let Some(at) = rounds.checked_sub(1) else {
        return vec![(MAKE_PLAN, json!({"steps": tasks.iter().map(|task| &task.name).collect::<Vec<_>>()}))];
    };
    let step = |at: usize, status: &str| ("update_plan", json!({"step": at + 1, "status": status}));
    let last = open.iter().rposition(|message| matches!(message, Message::Assistant { .. })).map_or(0, |last| last + 1);
    let done = at.checked_sub(1).filter(|done| *done < tasks.len());
    if !failures(open).is_empty() {
        // Told in the round behind the failure, and then no more is done.
        let failed = done.filter(|_| !failures(&open[last..]).is_empty());
        return failed.map(|failed| step(failed, "failed")).into_iter().collect();
    }
    // What waits for a confirmation has not happened.
    let done = done.filter(|done| tasks[*done].asks || !waits(&open[last..], ""));
    let task = tasks.get(at).into_iter().flat_map(|task| {
        let calls = task.calls.iter().map(|(name, arguments)| (*name, with_agent(name, arguments, agent)));
        [step(at, "in_progress")].into_iter().chain(calls).collect::<Vec<_>>()
    });
    done.map(|done| step(done, "completed")).into_iter().chain(task).collect()
}

/// Whether calls of a tool, or of any, wait for a confirmation.
fn waits(open: &[Message], tool: &str) -> bool {
    open.iter().any(|message| match message {
        Message::ToolResult { name, content, is_error: false, .. } if tool.is_empty() || name == tool => {
            let told: Value = serde_json::from_str(content).unwrap_or_default();
            told["status"] == "waiting_for_confirmation"
        }
        Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => false,
    })
}

fn with_agent(tool: &str, arguments: &Value, agent: Option<u64>) -> Value {
    let mut arguments = arguments.clone();
    if tool != "create_agent" {
        arguments["agent_id"] = json!(agent);
    }
    arguments
}

/// The agent that the builder's prompt says this thread is about.
fn thread_agent(system: &str) -> Option<u64> {
    let id = system.lines().rev().find_map(|line| line.strip_prefix("agent_id: "))?;
    id.trim().parse().ok()
}

/// The agent that was made in this turn.
fn made(open: &[Message]) -> Option<u64> {
    open.iter().find_map(|message| match message {
        Message::ToolResult { name, content, is_error: false, .. } if name == "create_agent" => {
            serde_json::from_str::<Value>(content).ok()?["agent_id"].as_u64()
        }
        Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => None,
    })
}

/// What went wrong in this turn, as the tools say it.
fn failures(open: &[Message]) -> Vec<String> {
    let failure = |message: &Message| match message {
        Message::ToolResult { content, is_error: true, .. } => {
            let told: Value = serde_json::from_str(content).unwrap_or_default();
            Some(told["error"].as_str().unwrap_or(content).to_owned())
        }
        Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => None,
    };
    open.iter().filter_map(failure).collect()
}

/// One of three texts.
const fn in_language(lang: Lang, [en, es, pt]: [&'static str; 3]) -> &'static str {
    match lang {
        Lang::En => en,
        Lang::Es => es,
        Lang::Pt => pt,
    }
}

fn tasks(wish: &Wish) -> Vec<Task> {
    let say = |texts: [&'static str; 3]| in_language(wish.lang, texts);
    let mut tasks = Vec::new();
    let mut task = |name: String, calls: Vec<(&'static str, Value)>, asks: bool| tasks.push(Task { name, calls, asks });
    if wish.does == Does::Create {
        let fields = json!({
            "name": wish.name(), "description": wish.purpose(), "system_prompt": wish.instructions(),
            "greeting_message": wish.greeting(), "fallback_message": wish.fallback(), "tools": wish.tools,
        });
        let name = say(["Create the agent", "Crear el agente", "Criar o agente"]);
        task(format!("{name} {}", shorten(&wish.name(), NAME)), vec![("create_agent", fields)], false);
    }
    if wish.does == Does::Change {
        if let Some(name) = &wish.named {
            let text = say(["Rename the agent to", "Cambiar el nombre a", "Mudar o nome para"]);
            task(format!("{text} {}", shorten(name, NAME)), vec![("update_agent", json!({"name": name}))], false);
        }
        if !wish.tools.is_empty() {
            let calls = wish.tools.iter().map(|tool| ("attach_tool", json!({"name": tool}))).collect();
            let text = say(["Give the agent its tools", "Añadir las herramientas", "Adicionar as ferramentas"]);
            task(text.into(), calls, false);
        }
    }
    if !wish.faqs.is_empty() {
        let call = |(question, answer): &(String, String)| ("add_faq", json!({"question": question, "answer": answer}));
        let text = say([
            "Add the questions and answers",
            "Añadir las preguntas y respuestas",
            "Adicionar as perguntas e respostas",
        ]);
        task(text.into(), wish.faqs.iter().map(call).collect(), false);
    }
    if wish.publishes {
        let text = say(["Ask to publish the agent", "Pedir la publicación del agente", "Pedir a publicação do agente"]);
        task(text.into(), vec![("publish_agent", json!({}))], true);
    }
    if wish.does == Does::Unpublish {
        let text = say([
            "Ask to take the agent off the air",
            "Pedir que el agente deje de estar publicado",
            "Pedir que o agente saia do ar",
        ]);
        task(text.into(), vec![("unpublish_agent", json!({}))], true);
    }
    if wish.does == Does::Delete {
        let text = say(["Ask to delete the agent", "Pedir la eliminación del agente", "Pedir a exclusão do agente"]);
        task(text.into(), vec![("delete_agent", json!({}))], true);
    }
    tasks
}

fn summary(wish: &Wish, tasks: &[Task], open: &[Message], shows: bool) -> String {
    let say = |texts: [&'static str; 3]| in_language(wish.lang, texts).to_owned();
    let (failures, agent) = (failures(open), made(open).or(wish.agent));
    let mut said = Vec::new();
    if !failures.is_empty() {
        let intro = say(["That did not work:", "No ha funcionado:", "Não funcionou:"]);
        said.push(format!("{intro} {}", failures.join(" ")));
    } else if tasks.is_empty() {
        said.push(say([
            "Describe the agent that you want: whom it is for, what it knows and what it should do. Lines such as \"Q: … A: …\" become questions that it answers.",
            "Describe el agente que quieres: para quién es, qué sabe y qué debe hacer. Las líneas como «Pregunta: … Respuesta: …» serán preguntas que contesta.",
            "Descreva o agente que você quer: para quem é, o que sabe e o que deve fazer. Linhas como «Pergunta: … Resposta: …» serão perguntas que ele responde.",
        ]));
    } else {
        if wish.does == Does::Create {
            let made = say([
                "I made this agent, as a draft:",
                "He creado este agente, como borrador:",
                "Criei este agente, como rascunho:",
            ]);
            said.push(format!("{made} {}.", wish.name()));
        }
        if !wish.faqs.is_empty() && !waits(open, "add_faq") {
            let added = say(["Questions that it knows now:", "Preguntas que ya conoce:", "Perguntas que já conhece:"]);
            said.push(format!("{added} {}.", wish.faqs.len()));
        }
        if waits(open, "") {
            said.push(say([
                "Part of it waits for your confirmation, and has not happened yet.",
                "Una parte espera tu confirmación y todavía no ha ocurrido.",
                "Uma parte espera a sua confirmação e ainda não aconteceu.",
            ]));
        } else if agent.is_some() {
            said.push(say([
                "Write \"publish it\" when it should go live.",
                "Escribe «publícalo» cuando deba salir al aire.",
                "Escreva «publique» quando ele deva ir ao ar.",
            ]));
        }
    }
    if shows {
        said.push(say(["I cannot see images.", "No puedo ver imágenes.", "Não consigo ver imagens."]));
    }
    said.push(say([
        "(I work offline, by rules and without a language model: I took your words as they are.)",
        "(Trabajo sin conexión, con reglas y sin un modelo de lenguaje: he tomado tus palabras tal cual.)",
        "(Trabalho offline, com regras e sem um modelo de linguagem: usei suas palavras como estão.)",
    ]));
    said.join(" ")
}
