//! The plan of a builder: tasks whose names say what is done. "Step 1" says nothing, so such names are refused.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::text::fold;
use crate::kernel::{Error, Result};

/// The most steps of a plan.
pub const MAX_STEPS: usize = 12;
/// The longest name of a step, in characters.
pub const MAX_NAME: usize = 120;

/// Words that number a task instead of naming it, without accents.
const LABELS: &str = "\
    paso pasos passo passos step steps etapa etapas etape stage stages schritt schritte fase fases phase phasen tarea \
    tareas tarefa tarefas task tasks aufgabe aufgaben tache punto puntos ponto pontos point points punkt parte partes \
    part parts teil item items stap krok steg adim shag шаг этап 步骤 ステップ";
/// Words that count, without accents.
const COUNTS: &str = "\
    one two three four five six seven eight nine ten first second third fourth fifth next last final another uno una dos \
    tres cuatro cinco seis siete ocho nueve diez primer primero primera segundo segunda tercer tercero tercera cuarto \
    cuarta quinto quinta siguiente ultimo ultima um uma dois duas quatro sete oito nove dez primeiro primeira terceiro \
    terceira quarta proximo proxima eins zwei drei vier funf sechs sieben acht neun zehn erster erste erstes zweiter \
    zweite zweites dritter dritte nachster nachste letzter letzte un deux trois quatre premiere premier deuxieme i ii \
    iii iv v vi vii viii ix x xi xii";
/// Words that say nothing between them.
const FILLERS: &str =
    "el la los las the o os as a der die das le de del do da of no nr num number numero nummer y e and und";

/// A task of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Counts from 1.
    pub number: u32,
    /// What is done.
    pub name: String,
    /// How it stands.
    pub status: StepStatus,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// At work.
    InProgress,
    /// Done.
    Completed,
    /// Given up.
    Failed,
}

/// A plan of these tasks, none of them begun.
///
/// # Errors
/// `validation_error` that says what to write instead: names that only number a task, empty or repeated ones, and plans
/// that are empty or too long.
pub fn plan(names: &[String]) -> Result<Vec<Step>> {
    let refused = |code, message: String| Error::field("steps", code, message);
    if names.is_empty() || names.len() > MAX_STEPS {
        return Err(refused("too_many", format!("A plan has 1 to {MAX_STEPS} steps.")));
    }
    let mut seen = HashSet::new();
    let step = |(at, name): (usize, &String)| {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            return Err(refused("required", "A step needs a name that says what is done.".into()));
        }
        if name.chars().count() > MAX_NAME {
            return Err(refused("too_long", format!("The name of a step may have {MAX_NAME} characters.")));
        }
        if !is_descriptive(&name) {
            let message = format!(
                "\"{name}\" only numbers the step. Say what is done, without a number or a word like step, such as \
                 \"Write the greeting\"."
            );
            return Err(refused("not_descriptive", message));
        }
        if !seen.insert(words(&name).join(" ")) {
            return Err(refused("duplicate", format!("Two steps are called \"{name}\". Say what is different.")));
        }
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        Ok(Step { number, name, status: StepStatus::Pending })
    };
    names.iter().enumerate().map(step).collect()
}

/// Whether a name says what is done: it does not begin with a numbered label, and has a word beside labels and numbers.
fn is_descriptive(name: &str) -> bool {
    let words = words(name);
    let is_in = |list: &str, word: &str| list.split_whitespace().any(|known| known == word);
    let counts = |word: &String| is_in(COUNTS, word) || word.chars().all(char::is_numeric);
    let labels = |word: &String| is_in(LABELS, word);
    let meaning = words.iter().filter(|word| !is_in(FILLERS, word));
    let numbered = match meaning.clone().take(2).collect::<Vec<_>>()[..] {
        [one, two] => (labels(one) && counts(two)) || (counts(one) && labels(two)),
        _ => false,
    };
    let says = |word: &&String| !counts(word) && !labels(word) && is_word(word);
    !numbered && meaning.filter(says).count() > 0
}

/// Whether it can be a word: of three letters, or of one where a character is more than a letter.
fn is_word(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 3 || word.chars().any(|c| c.is_alphabetic() && u32::from(c) >= 0x2e80)
}

/// The words of a name: lower case, without accents, digits apart from letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = None;
    for c in fold(name).chars() {
        let kind = (c.is_alphabetic(), c.is_numeric());
        if before.is_some_and(|before| before != kind) {
            words.push(String::new());
        }
        before = Some(kind);
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Vec<Step>> {
        plan(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_that_only_number_a_task_are_refused_in_any_language() {
        let numbering = [
            "Paso 1",
            "PASO 2:",
            "paso1",
            "Paso uno",
            "Primer paso",
            "El primer paso",
            "Último paso",
            "Step 1",
            "step-3",
            "Step #4",
            "STEP IV",
            "First step",
            "Next step",
            "Etapa 2",
            "Schritt 3",
            "Erster Schritt",
            "Passo 1",
            "Fase II",
            "Phase 2",
            "Étape 1",
            "Task 5",
            "Tarea nº 2",
            "Tarefa 3",
            "Aufgabe 1",
            "1",
            "2.",
            "#3",
            "1) Paso",
            "Paso",
            "Step",
            "Part 1 of 3",
            "Шаг 1",
            "步骤 1",
            "Paso 1 / Step 1",
            "..",
            "ok",
        ];
        for name in numbering {
            let error = of(&[name]).expect_err(name);
            assert!(error.message().contains("Say what is done"), "{name}: {error}");
        }
        for labelled in ["Paso 1: Crear el agente", "Step 2 - Write the greeting", "1. Schritt: Namen finden"] {
            assert!(of(&[labelled]).is_err(), "{labelled}");
        }
    }

    #[test]
    fn names_that_say_what_is_done_are_taken_and_counted() {
        let names = [
            "Crear el agente",
            "Write the first greeting",
            "Publicar",
            "FAQ: hours",
            "Add the step-by-step guide",
            "Den Agenten anlegen",
            "3 preguntas frecuentes",
            "作成する",
            "Conectar WhatsApp",
        ];
        let steps = of(&names).unwrap();
        assert_eq!(steps.len(), names.len());
        assert_eq!((steps[0].number, steps[8].number, steps[8].status), (1, 9, StepStatus::Pending));
        assert_eq!(of(&["  Write \n the greeting "]).unwrap()[0].name, "Write the greeting");
    }

    #[test]
    fn a_plan_is_neither_empty_nor_endless_nor_repeats_itself() {
        assert!(of(&[]).is_err() && of(&[""]).is_err() && of(&["Create it", " "]).is_err());
        assert!(of(&["Write the greeting", "write the GREETING!"]).unwrap_err().message().contains("Two steps"));
        assert!(of(&["Write"; MAX_STEPS + 1]).is_err());
        assert!(of(&["x".repeat(MAX_NAME + 1).as_str()]).is_err());
    }
}
