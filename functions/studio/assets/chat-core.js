// The conversation with the server, for the chat page and the widget's panel: sending, following a reply, fetching what
// others wrote; and what they keep. It draws nothing: a view (chat-view.js) is told what there is.

const POLL_SECONDS = { shown: 15, hidden: 60, closed: 60 };
// While a person answers, a page that is shown waits at the server for what they write.
const POLL_SECONDS_TAKEOVER = { shown: 1, hidden: 20, closed: 20 };
const WAIT_SECONDS = 20;
const POLL_SECONDS_MOST = 300;
const LOOK_SOON_SECONDS = 4;
// A chat that was closed is looked after for a while, since a person may still be about to answer.
const POLL_CLOSED_FOR_SECONDS = 600;
const SEND_TIMEOUT_SECONDS = 160; // longer than an answer may take that is followed
const SEND_ATTEMPTS = 8;
// A longer wait than this is said to the visitor instead of being sat out.
const LONGEST_WAIT_SECONDS = 60;
// How often a connection is taken up again, with pauses that grow, before anything came of it and while a reply is written.
const RECONNECTS = { unheard: 2, begun: 6 };
// Something comes every ten seconds; a connection that is silent for longer is as good as broken.
const SILENCE_SECONDS = 35;

// ---------------------------------------------------------------------------------------------------------------------
// Small tools

// Browsers throw on any use of storage when it is blocked, and a sandboxed page has none. Then the conversation lives as
// long as the page.
export function storage(prefix) {
  const memory = new Map();
  const stored = (use) => {
    try {
      return use(window.localStorage);
    } catch {
      return undefined;
    }
  };
  return {
    get: (key) => stored((local) => local.getItem(prefix + key)) ?? memory.get(key) ?? null,
    set(key, value) {
      memory.set(key, value);
      stored((local) => local.setItem(prefix + key, value));
    },
    forget(key) {
      memory.delete(key);
      stored((local) => local.removeItem(prefix + key));
    },
  };
}

// crypto.randomUUID exists in secure contexts only; a page on plain http still has getRandomValues.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const seconds = (count) => new Promise((done) => setTimeout(done, count * 1000));

// A pause that ends early when the device is back on line.
const pause = (count) =>
  new Promise((done) => {
    const timer = setTimeout(done, count * 1000);
    addEventListener("online", () => done(clearTimeout(timer)), { once: true });
  });

// ---------------------------------------------------------------------------------------------------------------------
// Colours

export const isColour = (value) => /^#[0-9a-f]{6}$/i.test(value ?? "");

// Black or white, whichever reads better: one of the two always reaches a contrast of 4.5.
export function readableOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 ? "#fff" : "#000";
}

// ---------------------------------------------------------------------------------------------------------------------
// The wire

// Retry-After is a number of seconds or a date.
function retryAfter(headers) {
  const value = headers.get("retry-after");
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(1, Math.ceil(wait)) : null;
}

function client(api) {
  // Whether this installation streams here at all. One that does not still answers in one piece.
  let streams = true;

  const request = (path, body, signal, headers) =>
    fetch(api + path, {
      ...(body && { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } }),
      signal,
      credentials: "omit",
      cache: "no-store",
    });

  // Resolves for every HTTP status; rejects only when there was no answer.
  async function call(path, body, signal) {
    const response = await request(path, body, signal);
    let data = {};
    try {
      data = (await response.json()) ?? {};
    } catch (error) {
      // An answer that broke off is no answer; an error page that is not JSON still has its status.
      if (response.ok) throw error;
    }
    return { status: response.status, ok: response.ok, data, retryAfter: retryAfter(response.headers) };
  }

  // As `call("/chat")`, but `onFrame` gets what is told on the way, and says what the end is. A connection that breaks is
  // taken up again where it broke: the server tells the rest, or that what was shown is not the reply.
  async function follow(body, onFrame, signal) {
    let last = null;
    for (let tries = 0; streams; ) {
      const silence = watch(signal);
      try {
        const response = await request("/chat/stream", body, silence.signal, last && { "last-event-id": last });
        if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return await refusal(response, !last);
        for await (const frame of frames(response.body, silence.heard)) {
          if (last !== frame.id) tries = 0;
          last = frame.id;
          const end = onFrame(frame);
          if (end) return end;
        }
      } catch (error) {
        if (signal.aborted) throw error;
      } finally {
        silence.end();
      }
      if (tries >= (last ? RECONNECTS.begun : RECONNECTS.unheard)) {
        if (last) throw new Error("the reply broke off");
        return null;
      }
      tries += 1;
      await pause(tries);
      if (signal.aborted) throw new Error("given up");
    }
    return null;
  }

  // An answer that is no stream: what was wrong, or null where this installation does not stream.
  async function refusal(response, isFirst) {
    const data = (await response.json().catch(() => null)) ?? {};
    if (!isFirst && response.status >= 500) throw new Error("no answer");
    const unknown = data.code === "route_not_found" || (!data.code && [403, 404, 405].includes(response.status));
    if (isFirst && (response.ok || unknown)) {
      streams = false;
      return null;
    }
    return { status: response.status, ok: false, data, retryAfter: retryAfter(response.headers) };
  }

  const send = async (body, onFrame, signal) => (await follow(body, onFrame, signal)) ?? (await call("/chat", body, signal));
  return { call, send };
}

// Ends a connection on which nothing is heard.
function watch(outer) {
  const inner = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(end, SILENCE_SECONDS * 1000);
  };
  const end = () => {
    clearTimeout(timer);
    outer.removeEventListener("abort", end);
    inner.abort();
  };
  outer.addEventListener("abort", end);
  heard();
  return { signal: inner.signal, heard, end };
}

async function* frames(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
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

// ---------------------------------------------------------------------------------------------------------------------
// The conversation
//
// Everything that belongs to one lives in `session`; a new one replaces it, and whatever still runs for the old one sees
// that it is no longer the session and stops.
//
// The view has `add(message)`, `update(message)`, `remove(message)`, `fate(message, said)`, `say(said, forSeconds)`,
// `state()`, `final(message)`, `clear()`, `gone()` and `error({ code, message })`. A message has `author` (visitor, agent, operator), `text` and, while
// a reply is written, `draft`. What is said is `[key, values]` of the texts, or null.

export function converse({ api, store, view }) {
  const { call, send } = client(api);
  let who = null;
  let session = begin(store.get("conversation"));

  function begin(handle) {
    return {
      handle,
      cursor: null, // the last message the server listed; only a listing moves it, so nothing between is missed
      drawn: new Set(), // message ids that the view has
      own: new Map(), // client_message_id -> message sent from here
      listed: new Map(), // client_message_id -> message that the server listed
      sending: false,
      stoppable: false,
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

  function visitorId() {
    const known = store.get("visitor") ?? uuid();
    store.set("visitor", known);
    return known;
  }

  const path = (rest) => `/conversations/${encodeURIComponent(session.handle)}/${rest}`;

  function set(changes) {
    Object.assign(session, changes);
    view.state();
  }

  function setTakeover(on) {
    if (on === undefined || on === session.takeover) return;
    set({ takeover: on });
    view.say(on ? null : ["back"], 10);
  }

  function add(author, text, more) {
    const message = { author, text, ...more };
    view.add(message);
    return message;
  }

  function fail(message, said) {
    message.failed = Boolean(said);
    view.fate(message, said);
  }

  // What has no outcome yet outlives the page, so that a reload loses nothing that was typed.
  function keepOpen() {
    const open = [...session.own.values()].filter((message) => message.failed || message.open);
    if (open.length) store.set("unsent", JSON.stringify(open.map(({ id, text }) => ({ id, text }))));
    else store.forget("unsent");
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Sending

  // Takes a text if nothing else is being sent. Says whether it did.
  function say(text) {
    if (session.sending || !text.trim()) return false;
    const message = add("visitor", text.trim(), { id: uuid() });
    session.own.set(message.id, message);
    deliver(message);
    return true;
  }

  async function deliver(message) {
    const mine = session;
    if (mine.sending) return;
    fail(message, null);
    message.open = true;
    keepOpen();
    set({ sending: true });
    const fate = await attempt(message, mine);
    message.open = false;
    if (mine !== session) return;
    set({ sending: false, stoppable: false });
    fail(message, fate);
    keepOpen();
    if (!fate) view.final(message);
    // A message that failed on the way may have arrived all the same; look soon.
    schedule(fate ? LOOK_SOON_SECONDS : pollSeconds());
  }

  // Sends one message until there is an outcome; gives what to write under it. Every try carries the same
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
        if (who) body.identity = who;
        const onFrame = (frame) => (mine === session ? drafts.onFrame(frame) : { status: 0, ok: false, data: {} });
        answer = await send(body, onFrame, mine.abort.signal);
      } catch {
        if (mine === session) drafts.drop();
        return ["notSent"];
      } finally {
        clearTimeout(late);
      }
      if (mine !== session) return null;
      if (!answer.ok) drafts.drop();
      const { status: code, data } = answer;

      if (answer.ok) {
        received(message, data);
        return null;
      }
      if (code === 402) {
        remember(data.conversation_id);
        return ["kept"];
      }
      if ((code === 404 || data.code === "identity_other_user") && mine.handle && !fresh) {
        // The conversation may have ended while the page was open. Once more without it tells that from an agent that is
        // gone.
        fresh = true;
        forget();
        continue;
      }
      if (code === 404) {
        view.gone();
        return ["notSent"];
      }
      const busy = code === 409 && data.code === "conversation_busy";
      if (!busy && code !== 429) {
        view.error({ code: data.code ?? "failed", message: data.detail ?? "" });
        const isTheirs = code < 500 && data.detail && !data.code?.startsWith("identity"); // that is for the site's maker
        return isTheirs ? ["notSentFor", { why: data.detail }] : ["notSent"];
      }

      const wait = answer.retryAfter ?? (busy ? 2 : 10);
      if (tries >= SEND_ATTEMPTS || wait > LONGEST_WAIT_SECONDS) {
        return busy ? ["notSent"] : ["tooMany", { wait }];
      }
      view.say(busy ? ["busy"] : ["tooManyWait", { wait }]);
      await seconds(wait);
      if (mine !== session) return null;
      view.say(null);
    }
  }

  // Has what is told of a reply drawn; gives what to do once it has ended, as an answer in one piece would have.
  function drafter(message) {
    let draft = null;
    let drawing = 0;
    const drop = () => {
      cancelAnimationFrame(drawing);
      if (draft) view.remove(draft);
      draft = null;
    };
    const onFrame = ({ name, data }) => {
      if (name === "start") {
        remember(data.conversation_id);
        message.reached = true;
        set({ stoppable: true });
      } else if (name === "token") {
        draft ??= add("agent", "", { draft: true });
        draft.text += data.text;
        cancelAnimationFrame(drawing);
        const shown = draft;
        drawing = requestAnimationFrame(() => view.update(shown));
      } else if (name === "discard") {
        drop();
        if (data.final) return { status: 200, ok: true, data: { human_takeover: data.reason === "human_takeover" } };
      } else if (name === "done") {
        cancelAnimationFrame(drawing);
        if (draft && data.message_id) {
          draft.text = data.reply;
          draft.draft = false;
          view.update(draft);
          view.final(draft);
          session.drawn.add(data.message_id);
        }
        return { status: 200, ok: true, data };
      } else if (name === "error") {
        drop();
        return { status: data.code === "conversation_busy" ? 409 : 500, ok: false, data, retryAfter: null };
      }
      return null;
    };
    return { onFrame, drop };
  }

  function received(message, data) {
    remember(data.conversation_id);
    message.reached = true;
    setTakeover(Boolean(data.human_takeover));
    if (!data.reply || session.drawn.has(data.message_id)) return;
    if (data.message_id) session.drawn.add(data.message_id);
    view.final(add("agent", data.reply));
  }

  async function stop() {
    if (!session.handle || !session.stoppable) return;
    set({ stoppable: false });
    const answer = await call(path("stop"), {}).catch(() => null);
    if (!answer?.data.stopping && session.sending) set({ stoppable: true });
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What the server has that the view has not: the history at first, later what others wrote.

  // Throws what was wrong as { status, retryAfter }.
  async function sync(isHistory) {
    const mine = session;
    let last = null;
    for (let more = true; more; ) {
      const range = new URLSearchParams({ limit: "50" });
      if (mine.cursor) range.set("after", mine.cursor);
      if (mine.cursor && mine.takeover && mode === "shown" && !isHistory) range.set("wait", String(WAIT_SECONDS));
      const answer = await call(path(`messages?${range}`));
      if (mine !== session || !mine.handle) return last;
      if (!answer.ok) throw answer;
      const { items = [], next_cursor: next, human_takeover: takeover } = answer.data;
      setTakeover(Boolean(takeover));
      for (const item of items) take(item, isHistory);
      last = items.at(-1) ?? last;
      mine.cursor = last?.id ?? mine.cursor;
      more = Boolean(next) && items.length > 0;
    }
    return last;
  }

  function take(item, isHistory) {
    const own = item.role === "user" && session.own.get(item.client_message_id);
    if (own) own.reached = true;
    // A message marked as failed keeps its Retry until something came of it: that it is stored does not mean it will be
    // answered.
    const answered = item.role !== "user" || session.takeover;
    for (const message of answered ? session.own.values() : []) {
      if (message.failed && message.reached) {
        fail(message, null);
        keepOpen();
      }
    }
    if (session.drawn.has(item.id)) return;
    session.drawn.add(item.id);
    if (own || !item.content) return;
    const author = item.role === "user" ? "visitor" : item.author === "operator" ? "operator" : "agent";
    const message = add(author, item.content, { id: item.client_message_id });
    if (message.id) session.listed.set(message.id, message);
    if (!isHistory) view.final(message);
  }

  let pollTimer;
  let polling = false;
  let failures = 0;
  let mode = "shown";
  let closedAt = 0;

  const pollSeconds = () => (session.takeover ? POLL_SECONDS_TAKEOVER : POLL_SECONDS)[mode];

  function schedule(wait) {
    clearTimeout(pollTimer);
    const over = mode === "closed" && Date.now() - closedAt > POLL_CLOSED_FOR_SECONDS * 1000;
    if (session.handle && !over) pollTimer = setTimeout(poll, wait * 1000);
  }

  async function poll() {
    if (polling || session.sending || !session.handle) return;
    polling = true;
    let wait = 0;
    const began = Date.now();
    try {
      await sync();
      failures = 0;
      // Where too many wait, the answer comes at once.
      if (session.takeover && Date.now() - began < 1000) wait = LOOK_SOON_SECONDS;
    } catch (error) {
      failures += 1;
      wait = error.retryAfter ?? 0;
      if (error.status === 404) forget(); // the next message starts another conversation
    }
    polling = false;
    schedule(Math.max(wait, Math.min(pollSeconds() * 2 ** failures, POLL_SECONDS_MOST)));
  }

  // How often to look: `shown`, `hidden` (another tab is in front) or `closed`.
  function look(how) {
    if (how === mode) return;
    if (how === "closed") closedAt = Date.now();
    mode = how;
    if (mode === "shown") poll();
    else schedule(pollSeconds());
  }

  async function loadHistory() {
    let last = null;
    try {
      if (session.handle) last = await sync(true);
    } catch (error) {
      if (error.status === 404) forget();
      else view.say(["historyLater"], 10);
    }
    takeUp(last);
    schedule(pollSeconds());
  }

  // What had no outcome when the page was left: what the server does not have is shown as not sent, and the reply to what
  // it has is followed again.
  function takeUp(last) {
    let open = [];
    try {
      open = JSON.parse(store.get("unsent") ?? "[]");
    } catch {
      /* somebody else's */
    }
    const mine = session;
    for (const { id, text } of Array.isArray(open) ? open : []) {
      if (typeof id !== "string" || typeof text !== "string" || mine.own.has(id)) continue;
      const known = mine.listed.get(id);
      if (known && last?.client_message_id !== id) continue; // it has its reply
      const message = known ?? add("visitor", text, { id });
      mine.own.set(id, message);
      if (known) deliver(message);
      else fail(message, ["notSent"]);
    }
    keepOpen();
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Another conversation

  function switchTo(handle) {
    session.abort?.abort();
    session = begin(handle);
    if (handle) store.set("conversation", handle);
    else store.forget("conversation");
    store.forget("unsent");
    clearTimeout(pollTimer);
    view.clear();
    view.state();
    view.say(null);
  }

  // Who the visitor is from now on. What another user said is not theirs to read.
  function identify(identity) {
    const [known, user] = [store.get("user"), identity?.user_id ?? null];
    who = identity;
    if (known && known !== user) switchTo(null);
    if (user) store.set("user", user);
    else store.forget("user");
  }

  return {
    say,
    retry: deliver,
    stop,
    look,
    loadHistory,
    identify,
    // Begins anew; gives a way back to the conversation there was, if there was one.
    restart() {
      const { handle } = session;
      switchTo(null);
      return handle && (() => (switchTo(handle), loadHistory()));
    },
    agent: () => call(""),
    get sending() {
      return session.sending;
    },
    get stoppable() {
      return session.stoppable;
    },
    get takeover() {
      return session.takeover;
    },
  };
}
