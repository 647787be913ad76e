// The public chat page: draws one conversation, sends messages, and asks for what others wrote (an operator, another tab).

const POLL_SECONDS = 20;
const POLL_SECONDS_TAKEOVER = 4;
const POLL_SECONDS_MOST = 300;
const SEND_TIMEOUT_SECONDS = 160; // longer than an answer may take that is followed
const SEND_ATTEMPTS = 8;
// A longer wait than this is said to the visitor instead of being sat out.
const LONGEST_WAIT_SECONDS = 60;
const NEAR_LIMIT = 7500;
// How often a broken connection is taken up again while an answer is written.
const RECONNECTS = 5;

const byId = (id) => document.getElementById(id);
const [root, log, scroller, input, status, suggestions] = [
  document.documentElement,
  byId("log"),
  byId("scroll"),
  byId("input"),
  byId("status"),
  byId("suggestions"),
];

const query = new URLSearchParams(location.search);
const embedded = query.get("embed") === "1";
const slug = slugFromPath();
const api = `/api/public/agents/${encodeURIComponent(slug)}`;

// ---------------------------------------------------------------------------------------------------------------------
// Small tools

function slugFromPath() {
  const segment = location.pathname.split("/").find(Boolean) ?? "";
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// Browsers throw on any use of storage when it is blocked, as it often is in a third-party frame. The page then simply
// lives without a memory across reloads.
const memory = new Map();
const store = {
  get(key) {
    try {
      return localStorage.getItem(`chatia:${slug}:${key}`) ?? memory.get(key) ?? null;
    } catch {
      return memory.get(key) ?? null;
    }
  },
  set(key, value) {
    memory.set(key, value);
    try {
      localStorage.setItem(`chatia:${slug}:${key}`, value);
    } catch {
      /* kept in memory only */
    }
  },
  forget(key) {
    memory.delete(key);
    try {
      localStorage.removeItem(`chatia:${slug}:${key}`);
    } catch {
      /* was never stored */
    }
  },
};

// crypto.randomUUID exists in secure contexts only; a page on plain http still has getRandomValues.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function visitorId() {
  const known = store.get("visitor");
  if (known) return known;
  const fresh = uuid();
  store.set("visitor", fresh);
  return fresh;
}

const seconds = (count) => new Promise((done) => setTimeout(done, count * 1000));

// Resolves for every HTTP status; rejects only when there was no answer.
async function call(path, body, signal) {
  const options = body
    ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal }
    : { signal };
  const response = await fetch(api + path, { ...options, credentials: "omit", cache: "no-store" });
  let data = {};
  try {
    data = (await response.json()) ?? {};
  } catch (error) {
    // An answer that broke off is no answer; an error page that is not JSON still has its status.
    if (response.ok) throw error;
  }
  return { status: response.status, ok: response.ok, data, retryAfter: retryAfter(response.headers) };
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers that are shown while they are written

// Whether this installation streams here at all. One that does not still answers in one piece.
let streams = true;

// As `call("/chat")`, but `onFrame` gets what is told on the way. A connection that breaks is taken up again where it broke:
// the server tells the rest, or that what was shown is not the answer.
async function follow(body, onFrame, signal) {
  let last = null;
  for (let tries = 0; ; tries += 1) {
    try {
      const headers = { "content-type": "application/json", ...(last && { "last-event-id": last }) };
      const options = { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "omit", cache: "no-store" };
      const response = await fetch(`${api}/chat/stream`, options);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return await refusal(response, !last);
      for await (const frame of frames(response.body)) {
        last = frame.id;
        const end = onFrame(frame);
        if (end) return end;
      }
    } catch (error) {
      if (!last || signal.aborted || tries >= RECONNECTS) throw error;
    }
    if (tries >= RECONNECTS) throw new Error("the answer broke off");
    await seconds(tries + 1);
  }
}

async function refusal(response, isFirst) {
  const data = (await response.json().catch(() => null)) ?? {};
  if (!isFirst && response.status >= 500) throw new Error("no answer");
  if (isFirst && (response.ok || data.code === "route_not_found" || [403, 405].includes(response.status))) {
    streams = false;
    return null;
  }
  return { status: response.status, ok: false, data, retryAfter: retryAfter(response.headers) };
}

async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field("data");
      if (data !== undefined) yield { name: field("event"), id: field("id"), data: JSON.parse(data) };
    }
  }
}

// Draws what is told of an answer; gives what to do once it has ended, as `call` would have given it.
function drafter(message) {
  let draft = null;
  let text = "";
  let drawing = 0;
  const drop = () => {
    cancelAnimationFrame(drawing);
    draft?.remove();
    [draft, text] = [null, ""];
    byId("typing").hidden = !session.sending || session.takeover;
  };
  const redraw = () => {
    const stay = atBottom();
    draft.querySelector(".bubble").replaceChildren(markdown(text));
    if (stay) show(draft);
  };
  const onFrame = ({ name, data }) => {
    if (name === "start") {
      remember(data.conversation_id);
      message.reached = true;
      byId("stop").hidden = false;
      byId("send").hidden = true;
    } else if (name === "token") {
      text += data.text;
      byId("typing").hidden = true;
      if (!draft) {
        draft = draw("agent", "");
        draft.setAttribute("aria-busy", "true"); // read out once, when it is complete
      }
      cancelAnimationFrame(drawing);
      drawing = requestAnimationFrame(redraw);
    } else if (name === "discard") {
      drop();
      if (data.final) return { status: 200, ok: true, data: { human_takeover: data.reason === "human_takeover" } };
    } else if (name === "done") {
      cancelAnimationFrame(drawing);
      if (draft && data.message_id) {
        text = data.reply;
        redraw();
        draft.removeAttribute("aria-busy");
        session.drawn.add(data.message_id);
      }
      return { status: 200, ok: true, data };
    } else if (name === "error") {
      drop();
      const status = data.code === "conversation_busy" ? 409 : 500;
      return { status, ok: false, data, retryAfter: null };
    }
    return null;
  };
  return { onFrame, drop };
}

function stop() {
  if (!session.handle) return;
  byId("stop").disabled = true;
  const again = () => {
    byId("stop").disabled = false;
  };
  call(`/conversations/${encodeURIComponent(session.handle)}/stop`, {}).then((answer) => {
    if (!answer.data.stopping) again();
  }, again);
}

// Retry-After is a number of seconds or a date.
function retryAfter(headers) {
  const value = headers.get("retry-after");
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(1, Math.ceil(wait)) : null;
}

function duration(count) {
  const [amount, unit] = count < 90 ? [count, "second"] : [Math.ceil(count / 60), "minute"];
  return `${amount} ${unit}${amount === 1 ? "" : "s"}`;
}

// ---------------------------------------------------------------------------------------------------------------------
// Markdown: a small, safe subset, built as nodes. Text that is no known mark stays text, so markup can never get in.

const FENCE = /^\s*(```|~~~)/;
const LIST_ITEM = /^(\s*)([-*+]|\d{1,3}[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
// In order: code, bold, italic, a link with a text, a bare address.
const INLINE = new RegExp(
  [
    "(`+)(?!`)([^]*?[^`])\\1(?!`)",
    "\\*\\*(?=\\S)((?:[^*]|\\*(?!\\*))+)\\*\\*",
    "\\*(?=[^\\s*])([^*\\n]*[^\\s*])\\*(?!\\*)",
    "\\[([^\\[\\]\\n]+)\\]\\(([^()\\s]+(?:\\([^()\\s]*\\))?[^()\\s]*)\\)",
    '(https?:\\/\\/[^\\s<>"`]+)',
  ].join("|"),
  "g",
);

function markdown(text) {
  const out = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;
  while (at < lines.length) {
    const fence = FENCE.exec(lines[at]);
    const heading = HEADING.exec(lines[at]);
    if (!lines[at].trim()) {
      at += 1;
    } else if (fence) {
      const start = at + 1;
      do at += 1;
      while (at < lines.length && lines[at].trim() !== fence[1]);
      const block = element("pre", "", element("code", "", lines.slice(start, at).join("\n")));
      block.tabIndex = 0; // so that a wide block can be scrolled from the keyboard
      out.append(block);
      at += 1;
    } else if (heading) {
      // A heading inside a bubble would break the page's outline; bold says as much.
      const strong = element("strong");
      inline(strong, heading[1]);
      out.append(element("p", "", strong));
      at += 1;
    } else if (LIST_ITEM.test(lines[at])) {
      at = list(out, lines, at);
    } else {
      const start = at;
      const opens = (line) => !line.trim() || FENCE.test(line) || HEADING.test(line) || LIST_ITEM.test(line);
      do at += 1;
      while (at < lines.length && !opens(lines[at]));
      const paragraph = element("p");
      inline(paragraph, lines.slice(start, at).join("\n"));
      out.append(paragraph);
    }
  }
  return out;
}

// Draws the list that starts at a line, nested ones included; returns the line after it.
function list(out, lines, at) {
  const levels = [];
  for (; at < lines.length; at += 1) {
    const item = LIST_ITEM.exec(lines[at]);
    if (item) {
      const indent = item[1].length;
      const tag = /\d/.test(item[2]) ? "ol" : "ul";
      while (levels.length > 1 && indent < levels.at(-1).indent) levels.pop();
      const level = levels.at(-1);
      if (!level || (indent >= level.indent + 2 && levels.length < 6)) {
        const node = element(tag);
        if (tag === "ol") node.start = Number.parseInt(item[2], 10);
        (level ? level.node.lastElementChild : out).append(node);
        levels.push({ indent, node });
      } else if (levels.length === 1 && level.node.localName !== tag) {
        break; // bullets after numbers: another list
      }
      const entry = element("li");
      inline(entry, item[3]);
      levels.at(-1).node.append(entry);
    } else if (/^\s+\S/.test(lines[at]) && !FENCE.test(lines[at])) {
      const entry = levels.at(-1).node.lastElementChild;
      entry.append(element("br"));
      inline(entry, lines[at].trim());
    } else if (lines[at].trim() || !LIST_ITEM.test(lines[at + 1] ?? "")) {
      break;
    }
  }
  return at;
}

function inline(parent, text) {
  let done = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, , code, bold, italic, label, target, bare] = match;
    let node;
    let length = whole.length;
    if (code !== undefined) {
      node = element("code", "", code.trim() || code);
    } else if (bold !== undefined) {
      node = element("strong");
      inline(node, bold);
    } else if (italic !== undefined) {
      node = element("em");
      inline(node, italic);
    } else if (bare !== undefined) {
      const address = trimAddress(bare);
      length = address.length;
      node = link(address, address);
    } else {
      node = link(target, label);
    }
    if (!node) continue;
    plain(parent, text.slice(done, match.index));
    parent.append(node);
    done = match.index + length;
  }
  plain(parent, text.slice(done));
}

// A full stop or bracket after an address belongs to the sentence.
function trimAddress(address) {
  const trimmed = address.replace(/[.,;:!?*_'\])]+$/, "");
  return trimmed.includes("(") && address[trimmed.length] === ")" ? `${trimmed})` : trimmed;
}

function link(target, label) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return null;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  const node = element("a", "", label);
  node.href = url.href;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

function plain(parent, text) {
  text.split("\n").forEach((line, index) => {
    if (index) parent.append(element("br"));
    if (line) parent.append(line);
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// The conversation. Everything that belongs to one lives in `session`; "New conversation" replaces it, and whatever
// still runs for the old one sees that it is no longer the session and stops.

let session = newSession(store.get("conversation"));

function newSession(handle) {
  return {
    handle,
    cursor: null, // the last message the server listed; only a listing moves it, so nothing between is missed
    drawn: new Set(), // message ids on the page
    own: new Map(), // client_message_id -> message sent from this page
    sending: false,
    takeover: false,
    abort: null, // ends the request under way
  };
}

function remember(handle) {
  if (!handle || handle === session.handle) return;
  session.handle = handle;
  store.set("conversation", handle);
}

function forget() {
  session.handle = null;
  session.cursor = null;
  store.forget("conversation");
}

// ---------------------------------------------------------------------------------------------------------------------
// Drawing

const AUTHORS = { visitor: "You", agent: "Assistant", operator: "Team member" };

function draw(author, content) {
  const stay = author !== "visitor" && !atBottom();
  const label = element("span", author === "operator" ? "author" : "visually-hidden", AUTHORS[author]);
  // A visitor's words are shown as typed: they are no Markdown.
  const bubble = element("div", "bubble", author === "visitor" ? content : markdown(content));
  const message = element("div", `message from-${author}`, label, bubble);
  log.append(message);
  suggestions.hidden = true;
  byId("afresh").hidden = false;
  if (stay) byId("latest").hidden = false;
  else show(message);
  return message;
}

const atBottom = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 90;

// To the end, except that an answer taller than the screen is shown from its beginning.
function show(message) {
  const tall = message && message.offsetHeight > scroller.clientHeight - 40;
  scroller.scrollTop = tall ? message.offsetTop - log.offsetTop : scroller.scrollHeight;
}

// One status line. What is said for a while gives way to the lasting state, a person answering.
let statusTimer;
function say(text, { forSeconds, action } = {}) {
  clearTimeout(statusTimer);
  const person = !text && session.takeover;
  const words = person ? "A person is answering" : text;
  status.classList.toggle("person", person);
  // The same words again would be read out again.
  if (status.textContent !== words || action) status.replaceChildren(...(words ? [element("span", "", words)] : []));
  if (action) status.append(action);
  if (forSeconds) statusTimer = setTimeout(() => say(""), forSeconds * 1000);
}

function setTakeover(on) {
  if (on === undefined || on === session.takeover) return;
  session.takeover = on;
  if (on) say("");
  else say("The assistant is back", { forSeconds: 10 });
}

function setSending(on) {
  session.sending = on;
  byId("typing").hidden = !on || session.takeover;
  byId("send").disabled = on;
  byId("send").hidden = false;
  byId("stop").hidden = true;
  byId("stop").disabled = false;
  for (const button of log.querySelectorAll(".fate button")) button.disabled = on;
  if (on) show();
}

// What became of a message, under it; nothing when all went well.
function setFate(message, text) {
  message.failed = Boolean(text);
  message.element.classList.toggle("failed", message.failed);
  message.element.querySelector(".fate")?.remove();
  if (!text) return;
  const retry = element("button", "", "Retry");
  retry.type = "button";
  retry.addEventListener("click", () => {
    input.focus();
    deliver(message);
  });
  message.element.append(element("p", "fate", element("span", "", text), retry));
  show();
}

// ---------------------------------------------------------------------------------------------------------------------
// Sending

async function send(text) {
  await ready; // what is typed before the history is drawn belongs below it
  if (session.sending || !text.trim()) return false;
  const message = { id: uuid(), text, failed: false, reached: false, element: draw("visitor", text) };
  session.own.set(message.id, message);
  deliver(message);
  return true;
}

async function deliver(message) {
  const mine = session;
  if (mine.sending) return;
  setFate(message, "");
  setSending(true);
  const fate = await attempt(message, mine);
  if (mine !== session) return;
  setSending(false);
  setFate(message, fate);
  // A message that failed on the way may have arrived all the same; look soon.
  schedule(fate ? POLL_SECONDS_TAKEOVER : pollSeconds());
}

// Sends one message until there is an outcome; returns what to write under it. Every try carries the same
// client_message_id, so the server takes the message once however often it arrives.
async function attempt(message, mine) {
  let fresh = false;
  for (let tries = 1; ; tries += 1) {
    let answer;
    mine.abort = new AbortController();
    const late = setTimeout(() => mine.abort.abort(), SEND_TIMEOUT_SECONDS * 1000);
    const drafts = drafter(message);
    try {
      const body = { message: message.text, visitor_id: visitorId(), client_message_id: message.id };
      if (mine.handle) body.conversation_id = mine.handle;
      const onFrame = (frame) => (mine === session ? drafts.onFrame(frame) : { status: 0, ok: false, data: {} });
      answer = streams ? await follow(body, onFrame, mine.abort.signal) : null;
      answer ??= await call("/chat", body, mine.abort.signal);
    } catch {
      if (mine === session) drafts.drop();
      return "Not sent";
    } finally {
      clearTimeout(late);
    }
    if (mine !== session) return "";
    if (!answer.ok) drafts.drop();
    const { status: code, data } = answer;

    if (answer.ok) {
      received(message, data);
      return "";
    }
    if (code === 402) {
      remember(data.conversation_id);
      return "This assistant cannot answer right now. Your message was kept.";
    }
    if (code === 404 && mine.handle && !fresh) {
      // The conversation may have ended while the page was open. Once more without it tells that from an agent that is gone.
      fresh = true;
      forget();
      continue;
    }
    if (code === 404) {
      unavailable();
      return "Not sent";
    }
    const busy = code === 409 && data.code === "conversation_busy";
    if (!busy && code !== 429) return code < 500 && data.detail ? `Not sent: ${data.detail}` : "Not sent";

    const wait = answer.retryAfter ?? (busy ? 2 : 10);
    if (tries >= SEND_ATTEMPTS || wait > LONGEST_WAIT_SECONDS) {
      return busy ? "Not sent" : `Too many messages. Try again in ${duration(wait)}.`;
    }
    say(busy ? "Still answering the message before" : `Too many messages. Sending again in ${duration(wait)}.`);
    await seconds(wait);
    if (mine !== session) return "";
    say("");
  }
}

function received(message, data) {
  remember(data.conversation_id);
  message.reached = true;
  setTakeover(Boolean(data.human_takeover));
  byId("typing").hidden = true; // before the answer is drawn: the two would jump
  if (session.drawn.has(data.message_id)) return;
  if (data.message_id && data.reply) session.drawn.add(data.message_id);
  if (data.reply) draw("agent", data.reply);
}

function unavailable() {
  say("This assistant is not available.");
  input.disabled = true;
  byId("send").disabled = true;
  suggestions.hidden = true;
}

// ---------------------------------------------------------------------------------------------------------------------
// What the server has that the page has not: the history on load, later what others wrote.

// Throws what was wrong as { status, retryAfter }.
async function sync() {
  const mine = session;
  for (let more = true; more;) {
    const range = new URLSearchParams({ limit: "50" });
    if (mine.cursor) range.set("after", mine.cursor);
    const answer = await call(`/conversations/${encodeURIComponent(mine.handle)}/messages?${range}`);
    if (mine !== session || !mine.handle) return;
    if (!answer.ok) throw answer;
    const { items = [], next_cursor: next, human_takeover: takeover } = answer.data;
    setTakeover(Boolean(takeover));
    items.forEach(take);
    mine.cursor = items.at(-1)?.id ?? mine.cursor;
    more = Boolean(next) && items.length > 0;
  }
}

function take(item) {
  const own = item.role === "user" && session.own.get(item.client_message_id);
  if (own) own.reached = true;
  // A message marked as failed keeps its Retry until something came of it: that it is stored does not mean it will be
  // answered.
  const answered = item.role !== "user" || session.takeover;
  for (const message of answered ? session.own.values() : []) {
    if (message.failed && message.reached) setFate(message, "");
  }
  if (session.drawn.has(item.id)) return;
  session.drawn.add(item.id);
  if (own || !item.content) return;
  const author = item.role === "user" ? "visitor" : item.author === "operator" ? "operator" : "agent";
  draw(author, item.content);
}

let pollTimer;
let polling = false;
let failures = 0;

const pollSeconds = () => (session.takeover ? POLL_SECONDS_TAKEOVER : POLL_SECONDS);

function schedule(wait) {
  clearTimeout(pollTimer);
  if (session.handle && !document.hidden) pollTimer = setTimeout(poll, wait * 1000);
}

async function poll() {
  if (polling || session.sending || !session.handle) return;
  polling = true;
  let wait = 0;
  try {
    await sync();
    failures = 0;
  } catch (error) {
    failures += 1;
    wait = error.retryAfter ?? 0;
    if (error.status === 404) forget(); // the next message starts another conversation
  }
  polling = false;
  schedule(Math.max(wait, Math.min(pollSeconds() * 2 ** failures, POLL_SECONDS_MOST)));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(pollTimer);
  else ready.then(poll);
});

async function loadHistory() {
  if (!session.handle) return;
  log.setAttribute("aria-busy", "true"); // an old conversation is not news to be read out
  try {
    await sync();
  } catch (error) {
    if (error.status === 404) forget();
    else say("Earlier messages could not be loaded yet.", { forSeconds: 10 });
  }
  log.removeAttribute("aria-busy");
  show();
  schedule(pollSeconds());
}

// ---------------------------------------------------------------------------------------------------------------------
// The agent's own looks and words

// Black or white, whichever reads better: one of the two always reaches a contrast of 4.5.
function readableOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 ? "#fff" : "#000";
}

// The embedding page may choose another colour (the widget's data-accent); it comes without the "#".
function setAccent(own) {
  const accent = [`#${embedded ? query.get("accent") : ""}`, own].find((each) => /^#[0-9a-f]{6}$/i.test(each ?? ""));
  if (!accent) return;
  root.style.setProperty("--accent", accent);
  root.style.setProperty("--on-accent", readableOn(accent));
}

function drawAvatar(name, address) {
  const place = byId("avatar");
  place.replaceChildren(Array.from(name.trim())[0]?.toUpperCase() ?? "");
  if (!/^(https:|data:image\/|\/(?!\/))/.test(address ?? "")) return;
  const image = new Image();
  image.alt = "";
  image.referrerPolicy = "no-referrer";
  image.addEventListener("load", () => place.replaceChildren(image)); // the letter stays when it cannot be had
  image.src = address;
}

async function loadAgent() {
  const name = byId("name").textContent;
  drawAvatar(name, null);
  let answer;
  try {
    answer = await call("");
  } catch {
    return; // the page came with name and greeting; the rest is ornament
  }
  if (answer.status === 404) unavailable();
  if (!answer.ok) return;
  const agent = answer.data;
  setAccent(agent.accent);
  drawAvatar(agent.name ?? name, agent.avatar);
  byId("offline").hidden = !agent.offline;
  byId("powered").hidden = !agent.show_powered_by;
  suggestions.replaceChildren(
    ...(agent.suggested_questions ?? []).map((question) => {
      const button = element("button", "", question);
      button.type = "button";
      button.addEventListener("click", () => {
        focusInput();
        send(question);
      });
      return button;
    }),
  );
  if (embedded) tellParent({ chatia: "hello", name: agent.name ?? name, accent: agent.accent ?? null });
}

// The greeting came in the page as text; it may be Markdown like any answer.
const greeting = byId("greeting").querySelector(".bubble");
greeting.replaceChildren(markdown(greeting.textContent.trim()));

// ---------------------------------------------------------------------------------------------------------------------
// The composer

const touch = matchMedia("(pointer: coarse)").matches;

// On a touch screen, focus brings up the keyboard over half of the page; there only the visitor's own tap should.
function focusInput() {
  if (!touch) input.focus();
}

function fit() {
  input.style.setProperty("height", "auto");
  input.style.setProperty("height", `${input.scrollHeight}px`);
  const near = input.value.length >= NEAR_LIMIT;
  byId("keys").hidden = near;
  byId("left").textContent = near ? `${input.maxLength - input.value.length} characters left` : "";
}

input.addEventListener("input", fit);
input.addEventListener("keydown", (event) => {
  // Enter that ends an input-method composition picks a word; it sends nothing.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  input.focus();
  const text = input.value;
  if (!(await send(text))) return;
  // What was typed on while the page was still loading stays.
  if (input.value === text) input.value = "";
  fit();
});

// A press on Send must not take the focus: on a phone the keyboard would close and open again.
byId("send").addEventListener("pointerdown", (event) => event.preventDefault());

byId("stop").addEventListener("click", () => {
  stop();
  focusInput();
});

byId("latest").addEventListener("click", () => {
  scroller.scrollTop = scroller.scrollHeight;
  focusInput();
});
scroller.addEventListener(
  "scroll",
  () => {
    if (atBottom()) byId("latest").hidden = true;
  },
  { passive: true },
);

// ---------------------------------------------------------------------------------------------------------------------
// New conversation, with a way back: the handle is the only thread to the old one.

function switchTo(handle) {
  session.abort?.abort();
  session = newSession(handle);
  if (handle) store.set("conversation", handle);
  else store.forget("conversation");
  clearTimeout(pollTimer);
  for (const message of log.querySelectorAll(".message:not(#greeting)")) message.remove();
  suggestions.hidden = !suggestions.childElementCount;
  byId("afresh").hidden = true;
  byId("latest").hidden = true;
  setSending(false);
  say("");
  focusInput();
}

byId("afresh").addEventListener("click", () => {
  const { handle } = session;
  switchTo(null);
  if (!handle) return;
  const back = element("button", "", "Go back");
  back.type = "button";
  back.addEventListener("click", () => {
    switchTo(handle);
    loadHistory();
  });
  say("New conversation", { action: back, forSeconds: 15 });
});

// ---------------------------------------------------------------------------------------------------------------------
// Life inside the widget's frame, and on a phone

// The embedding page may be any; nothing in these messages is secret.
function tellParent(message) {
  if (window.parent !== window) window.parent.postMessage(message, "*");
}

if (embedded) {
  root.classList.add("embedded");
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing) tellParent({ chatia: "close" });
  });
  window.addEventListener("focus", () => {
    if (document.activeElement === document.body) focusInput();
  });
}

// iOS lays its keyboard over the page instead of shrinking it. While zoomed in, the viewport says something else.
const viewport = window.visualViewport;
viewport?.addEventListener("resize", () => {
  if (viewport.scale > 1.01) return;
  const stick = atBottom();
  root.style.setProperty("--height", `${viewport.height}px`);
  if (stick) scroller.scrollTop = scroller.scrollHeight;
});

const ready = Promise.all([loadAgent(), loadHistory()]);
fit();
focusInput();
ready.then(() => {
  suggestions.hidden =
    input.disabled || !suggestions.childElementCount || log.querySelector(".message:not(#greeting)") !== null;
  show();
});
