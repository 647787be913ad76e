// The chat button of a page:
//   <script src="https://…/widget.js" data-agent="my-agent" async></script>
// This file is all that a page loads before somebody opens the chat; docs/WIDGET.md has the attributes and the rest.
(() => {
  "use strict";

  const before = window.Chatia;
  if (before?.open) return; // loaded twice
  // currentScript is null in modules, and a tag manager's own where that runs us.
  const tags = [document.currentScript, ...document.querySelectorAll('script[data-agent][src*="widget.js"]')];
  const script = tags.find((tag) => tag?.dataset?.agent?.trim());
  if (!script) {
    console.warn("Chatia: the script tag needs data-agent with the agent's public slug.");
    return;
  }
  const given = { ...script.dataset };
  const slug = given.agent.trim();
  const base = new URL(".", script.src).href;
  const ownAccent = /^#[0-9a-f]{6}$/i.exec(given.accent?.trim())?.[0];

  const TEXTS = {
    en: ["Open chat", "Loading the chat…", "The chat could not be loaded.", "Try again"],
    es: ["Abrir el chat", "Cargando el chat…", "No se pudo cargar el chat.", "Reintentar"],
    pt: ["Abrir o chat", "Carregando o chat…", "Não foi possível carregar o chat.", "Tentar de novo"],
  };
  // The tag's own wish, else the page's language, else the browser's.
  const wishes = [given.language, document.documentElement.lang, ...(navigator.languages ?? [])];
  const language = wishes.map((wish) => (wish ?? "").toLowerCase().split("-")[0]).find((tag) => tag in TEXTS) ?? "en";
  const [OPEN, LOADING, FAILED, AGAIN] = TEXTS[language];

  // Important rules of a shadow root win over any rule of the page.
  const STYLE = `
    :host {
      all: initial !important;
      display: block !important;
      position: fixed !important; z-index: 2147483000 !important;
      bottom: calc(1.25rem + env(safe-area-inset-bottom)) !important;
      font: 16px/1.45 system-ui, sans-serif !important;
      color-scheme: light dark !important;
    }
    :host([data-side="right"]) { right: calc(1.25rem + env(safe-area-inset-right)) !important; }
    :host([data-side="left"]) { left: calc(1.25rem + env(safe-area-inset-left)) !important; }
    :host([data-theme="light"]) { color-scheme: light !important; }
    :host([data-theme="dark"]) { color-scheme: dark !important; }
    * { box-sizing: border-box; }
    button { margin: 0; padding: 0; border: 0; background: none; color: inherit; font: inherit; cursor: pointer; }
    /* Two rings, one light and one dark: one of them shows on any page. */
    .launch:focus-visible { outline: 2px solid #fff; outline-offset: 1px; box-shadow: 0 0 0 5px #111; }
    .launch {
      position: relative; display: grid; place-items: center; width: 3.75rem; height: 3.75rem; border-radius: 50%;
      background: radial-gradient(circle at 32% 24%, rgb(255 255 255 / .28), transparent 46%), var(--accent);
      color: var(--on-accent); transition: transform .2s;
      box-shadow: inset 0 -.3rem .8rem rgb(0 0 0 / .16), 0 1px 3px rgb(0 0 0 / .2), 0 .5rem 1.5rem rgb(0 0 0 / .25);
    }
    .launch:hover { transform: translateY(-2px); }
    [hidden] { display: none !important; }
    .launch[aria-busy]::after {
      content: ""; position: absolute; inset: -5px; border: 3px solid; border-color: var(--accent) transparent transparent;
      border-radius: 50%; animation: turn .8s linear infinite;
    }
    @keyframes turn { to { transform: rotate(1turn); } }
    .failure {
      position: absolute; bottom: calc(100% + .75rem); width: 15rem; padding: .75rem 1rem; border-radius: .9rem;
      background: Canvas; color: CanvasText; box-shadow: 0 0 0 1px rgb(128 128 128 / .3), 0 .5rem 2rem rgb(0 0 0 / .25);
    }
    .failure:empty { display: none; }
    :host([data-side="right"]) .failure { right: 0; }
    .failure button { display: block; margin-top: .5rem; text-decoration: underline; }
    @media (prefers-reduced-motion: reduce) { .launch, .launch::after { transition: none; animation: none; } }
    @media print { :host { display: none !important; } }
  `;

  // Black or white, whichever reads better on a colour.
  function readableOn(hex) {
    const [red, green, blue] = [1, 3, 5].map((at) => (Number.parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18 ? "#fff" : "#000";
  }

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (tag === "button") node.type = "button";
    node.append(...children);
    return node;
  }

  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  function icon(d) {
    const create = (tag, attributes) => set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
    const svg = create("svg", { viewBox: "0 0 24 24", width: 26, fill: "none", stroke: "currentColor", "aria-hidden": true });
    svg.append(create("path", { d, "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round" }));
    return svg;
  }

  // The elements

  const host = document.createElement("div");
  host.dataset.chatiaAgent = slug;
  host.dataset.side = given.position === "left" ? "left" : "right";
  host.dataset.theme = given.theme ?? "";
  const shadow = host.attachShadow({ mode: "open" });
  const [sheet, colours] = [new CSSStyleSheet(), new CSSStyleSheet()];
  sheet.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [sheet, colours];

  function paint(accent) {
    colours.replaceSync(`.launch, .panel { --accent: ${accent}; --on-accent: ${readableOn(accent)}; }`);
  }
  paint(ownAccent ?? "#0f6b5c");

  const label = given.label?.trim() || OPEN;
  const launch = make("button", "launch", icon("M8 4h8a5 5 0 0 1 5 5v4a5 5 0 0 1-5 5h-4l-5 3.5V18a5 5 0 0 1-4-5V9a5 5 0 0 1 5-5z"));
  set(launch, { "aria-haspopup": "dialog", "aria-expanded": false, "aria-label": label });
  const failure = set(make("div", "failure"), { role: "alert" });
  shadow.append(launch, failure);

  // Events

  const handlers = Object.fromEntries(["ready", "open", "close", "message", "error"].map((event) => [event, new Set()]));

  // A handler that throws is the page's fault: it is reported as such, and the others are called all the same.
  function call(handler, detail) {
    try {
      handler(detail);
    } catch (error) {
      reportError(error);
    }
  }

  function tell(event, detail) {
    for (const handler of [...handlers[event]]) call(handler, detail);
  }

  // Loading the panel

  let chat = null; // the panel, once it is there
  let loading = null;
  let tries = 0;
  let isWanted = false;
  let isReady = false;
  let identity;

  // Browsers remember a module that could not be had, by its address; so another try has another one.
  function load() {
    if (loading) return loading;
    failure.replaceChildren();
    set(launch, { "aria-busy": true, "aria-label": LOADING });
    const files = ["widget-panel", "chat-core", "chat-view", "chat-texts"];
    loading = Promise.all(files.map((file) => import(`${base}assets/${file}.js${tries ? `?${tries}` : ""}`)))
      .then(([panel, ...shared]) => {
        chat = panel.start({ shared, given, language, slug, base, host, shadow, launch, label, make, set, icon, tell, paint, ownAccent });
        if (identity !== undefined) chat.identify(identity);
        return chat;
      })
      .catch((error) => {
        [loading, tries] = [null, tries + 1];
        const again = make("button", "", AGAIN);
        again.addEventListener("click", open);
        failure.replaceChildren(FAILED, again);
        tell("error", { code: "load_failed", message: `${error}` });
      })
      .finally(() => {
        launch.removeAttribute("aria-busy");
        set(launch, { "aria-label": label });
      });
    return loading;
  }

  async function open() {
    mount();
    isWanted = true;
    await load();
    if (isWanted) chat?.open();
    return Boolean(chat);
  }

  function close() {
    isWanted = false;
    chat?.close();
  }

  launch.addEventListener("click", () => (chat?.isOpen() ? close() : open()));

  // A page that replaces its body takes us away; the next opening brings us back.
  function mount() {
    if (!host.isConnected) (document.body ?? document.documentElement).append(host);
  }

  // What the page may call

  const Chatia = {
    open,
    close,
    send: async (text) => (await open()) && chat.send(String(text)),
    identify(who) {
      if (who && !(who.user_id && who.signature)) {
        return tell("error", { code: "identity_incomplete", message: "identify() needs user_id and signature" });
      }
      identity = who ? { ...who, user_id: String(who.user_id) } : null;
      chat?.identify(identity);
    },
    on(event, handler) {
      if (!handlers[event]) throw new TypeError(`Chatia has no event "${event}"`);
      handlers[event].add(handler);
      if (event === "ready" && isReady) queueMicrotask(() => call(handler));
      return () => handlers[event].delete(handler);
    },
    // As an array that calls were pushed into before we came.
    push: (...calls) => calls.forEach(([method, ...values]) => Chatia[method](...values)),
  };
  window.Chatia = Chatia;

  function begin() {
    if (Array.isArray(before)) Chatia.push(...before);
    mount();
    isReady = true;
    tell("ready");
  }
  // With async the script may run before there is a body.
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin, { once: true });
})();
