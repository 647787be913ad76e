// The public chat page of an agent.

import * as core from "./chat-core.js";
import { choose, texts } from "./chat-texts.js";
import { drawAvatar, markdown, showChat } from "./chat-view.js";

const byId = (id) => document.getElementById(id);
const root = document.documentElement;

// The name, the description and the greeting came with the page in the agent's own words; the rest is ours.
const language = choose(navigator.languages ?? []);
const say = texts(language);
root.lang = language;
for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
byId("input").placeholder = say("placeholder");

function slugFromPath() {
  const segment = location.pathname.split("/").find(Boolean) ?? "";
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

const slug = slugFromPath();
const names = ["log", "scroller", "form", "input", "send", "stop", "status", "suggestions", "typing", "latest"];
const parts = [...names, "restart", "keys", "left", "announcer"].map((name) => [name, byId(name)]);
const shown = showChat({
  converse: core.converse,
  say,
  parts: Object.fromEntries(parts),
  api: `/api/public/agents/${encodeURIComponent(slug)}`,
  store: core.storage(`chatia:${slug}:`),
});

async function loadAgent() {
  const name = byId("name").textContent;
  drawAvatar(byId("avatar"), name, null);
  let answer;
  try {
    answer = await shown.chat.agent();
  } catch {
    return; // the page came with name and greeting; the rest is ornament
  }
  if (answer.status === 404) shown.gone();
  if (!answer.ok) return;
  const agent = answer.data;
  if (core.isColour(agent.accent)) {
    root.style.setProperty("--accent", agent.accent);
    root.style.setProperty("--on-accent", core.readableOn(agent.accent));
  }
  drawAvatar(byId("avatar"), agent.name ?? name, agent.avatar);
  byId("offline").hidden = !agent.offline;
  byId("powered").hidden = !agent.show_powered_by;
  shown.suggest(agent.suggested_questions ?? []);
}

// The greeting came as text; it may be Markdown like any answer.
const greeting = byId("greeting").querySelector(".bubble");
greeting.replaceChildren(markdown(greeting.textContent.trim()));

const looks = () => shown.chat.look(document.hidden ? "hidden" : "shown");
document.addEventListener("visibilitychange", looks);

// iOS lays its keyboard over the page instead of shrinking it. While zoomed in, the viewport says something else.
const viewport = window.visualViewport;
viewport?.addEventListener("resize", () => {
  if (viewport.scale > 1.01) return;
  const scroller = byId("scroller");
  const isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 90;
  root.style.setProperty("--height", `${viewport.height}px`);
  if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
});

shown.load();
loadAgent();
shown.focusInput();
