// The panel of the widget: loaded by widget.js when the chat is opened for the first time, into its shadow root.

const LIGHT = "--bg: #fff; --surface: #f3f2ef; --sunken: #e9e7e2; --ink: #1c1e21; --muted: #5d626b; --line: #e3e0d9; --edge: #8b8f96; --warn: #9a3412;";
const DARK = "--bg: #17191c; --surface: #24272b; --sunken: #101214; --ink: #eceae6; --muted: #a3a8b0; --line: #2f3337; --edge: #767c84; --warn: #fdba74;";

const STYLE = `
  .panel { ${LIGHT} }
  @media (prefers-color-scheme: dark) { :host(:not([data-theme="light"])) .panel { ${DARK} } }
  :host([data-theme="dark"]) .panel { ${DARK} }
  .launch[aria-expanded="true"] .speech, .launch[aria-expanded="false"] .cross { display: none; }
  .launch svg { grid-area: 1 / 1; }
  .badge {
    position: absolute; top: -.25rem; inset-inline-end: -.25rem; min-width: 1.5rem; padding: 0 .3rem; border: 2px solid #fff;
    border-radius: 1rem; background: #c81e1e; color: #fff; font-size: .75rem; line-height: 1.25rem; font-weight: 700; text-align: center;
  }
  .panel {
    position: fixed; inset: auto; margin: 0; padding: 0; border: 0; overflow: hidden; overscroll-behavior: contain;
    bottom: calc(6rem + env(safe-area-inset-bottom));
    width: 25rem; max-width: calc(100vw - 2.5rem);
    height: 42rem; max-height: calc(100dvh - 7.5rem);
    border-radius: 1.15rem; background: var(--bg); color: var(--ink); text-align: start;
    box-shadow: 0 0 0 1px rgb(128 128 128 / .22), 0 1rem 3.5rem rgb(0 0 0 / .28);
  }
  .panel[open] { display: flex; flex-direction: column; animation: rise .2s ease-out; }
  .panel::backdrop { background: none; }
  :host([data-side="right"]) .panel { right: calc(1.25rem + env(safe-area-inset-right)); }
  :host([data-side="left"]) .panel { left: calc(1.25rem + env(safe-area-inset-left)); }
  @keyframes rise { from { opacity: 0; transform: translateY(.75rem); } }

  h2, p, ul, ol, pre { margin: 0; }
  button, textarea { font: inherit; color: inherit; }
  button { cursor: pointer; }
  .panel :focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
  .visually-hidden {
    position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
  }

  .bar { display: flex; align-items: center; gap: .7rem; flex: none; padding: .75rem .6rem .75rem .9rem; background: var(--accent); color: var(--on-accent); }
  .avatar {
    display: grid; place-items: center; flex: none; width: 2.4rem; height: 2.4rem; overflow: hidden; border-radius: 50%;
    background: color-mix(in srgb, var(--on-accent) 18%, transparent); font-weight: 650;
  }
  .avatar img { width: 100%; height: 100%; object-fit: cover; }
  .bar h2 { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: 1.0625rem; font-weight: 650; }
  .bar button { display: grid; place-items: center; flex: none; width: 2.5rem; height: 2.5rem; border-radius: 50%; }
  .bar button + button { margin-inline-start: -.5rem; }
  .bar button:hover { background: color-mix(in srgb, currentColor 16%, transparent); }
  .bar button:focus-visible { outline-color: currentColor; outline-offset: -4px; }

  .middle { position: relative; flex: 1; min-height: 0; display: flex; flex-direction: column; }
  .note { padding: .4rem 1rem; background: var(--surface); color: var(--muted); font-size: .8125rem; text-align: center; text-wrap: balance; }
  .scroll { flex: 1; min-height: 0; overflow-y: auto; overscroll-behavior: contain; display: flex; flex-direction: column; }
  .panel .scroll:focus-visible { outline-offset: -3px; }
  .thread { margin-top: auto; padding: 1.1rem 1rem; }
  .log { display: flex; flex-direction: column; gap: .7rem; }
  .message { display: flex; flex-direction: column; align-items: flex-start; max-width: 88%; }
  .bubble { max-width: 100%; padding: .6rem .85rem; border-radius: 1.1rem; border-end-start-radius: .35rem; background: var(--surface); overflow-wrap: anywhere; }
  .from-visitor { align-self: flex-end; align-items: flex-end; }
  .from-visitor .bubble { border-radius: 1.1rem; border-end-end-radius: .35rem; background: var(--accent); color: var(--on-accent); white-space: pre-wrap; box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--on-accent) 16%, transparent); }
  .from-visitor.failed .bubble { background: none; color: inherit; box-shadow: none; outline: 1px dashed var(--edge); outline-offset: -1px; }
  .from-operator .bubble { box-shadow: inset 0 0 0 1px var(--edge); }
  .author { margin: 0 0 .2rem .2rem; color: var(--muted); font-size: .8125rem; font-weight: 600; }
  .fate { display: flex; flex-wrap: wrap; align-items: center; justify-content: flex-end; gap: .25rem .6rem; margin-top: .3rem; color: var(--warn); font-size: .875rem; text-align: end; }

  .bubble > * + * { margin-top: .6rem; }
  .bubble ul, .bubble ol { padding-inline-start: 1.35rem; }
  .bubble li + li { margin-top: .2rem; }
  .bubble a { color: inherit; text-decoration-thickness: 1px; text-underline-offset: .15em; }
  .bubble code { padding: .1em .3em; border-radius: .3em; background: var(--sunken); font: .875em/1.5 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace; }
  .bubble pre { padding: .7rem .8rem; overflow-x: auto; border-radius: .6rem; background: var(--sunken); white-space: pre; overflow-wrap: normal; }
  .bubble pre code { padding: 0; background: none; }

  .suggestions { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: 1rem; }
  .suggestions button, .fate button, .status button { padding: .45rem .85rem; border: 1px solid var(--edge); border-radius: 1.2rem; font-size: .9375rem; line-height: 1.35; text-align: start; }
  .suggestions button:hover, .fate button:hover, .status button:hover { border-color: var(--ink); background: var(--surface); }
  .fate button, .status button { padding: .15rem .7rem; color: var(--ink); font-size: .875rem; }

  .typing { margin-top: .7rem; color: var(--muted); font-size: .875rem; }
  .dots { display: inline-flex; gap: .3rem; padding: .85rem .95rem; border-radius: 1.1rem; border-end-start-radius: .35rem; background: var(--surface); }
  .dots i { width: .45rem; height: .45rem; border-radius: 50%; background: var(--muted); animation: breathe 1.3s ease-in-out infinite; }
  .dots i:nth-child(2) { animation-delay: .16s; }
  .dots i:nth-child(3) { animation-delay: .32s; }
  @keyframes breathe { 0%, 70%, 100% { opacity: .3; } 35% { opacity: 1; } }
  .latest { position: absolute; bottom: .6rem; left: 50%; transform: translateX(-50%); padding: .35rem .9rem; border: 1px solid var(--edge); border-radius: 1.2rem; background: var(--bg); font-size: .875rem; box-shadow: 0 2px 10px rgb(0 0 0 / .15); }

  .foot { flex: none; padding: 0 .8rem calc(.55rem + env(safe-area-inset-bottom)); }
  .status { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem .6rem; padding: 0 .25rem .5rem; color: var(--muted); font-size: .875rem; }
  .status:empty { padding: 0; }
  .status.person::before { content: ""; width: .5rem; height: .5rem; border-radius: 50%; background: #16a34a; }
  .composer { display: flex; align-items: flex-end; gap: .4rem; padding: .35rem; border: 1px solid var(--edge); border-radius: 1.6rem; }
  .composer:focus-within { border-color: var(--ink); box-shadow: 0 0 0 1px var(--ink); }
  .panel textarea { flex: 1; min-width: 0; margin: 0; max-height: calc(5 * 1.5em + .9rem); padding: .45rem .25rem .45rem .75rem; border: 0; outline: 0; resize: none; background: none; font-size: 1rem; line-height: 1.5; }
  .panel textarea:focus-visible { outline: 0; } /* the composer around it shows the focus */
  textarea::placeholder { color: var(--muted); opacity: 1; }
  .send { display: grid; place-items: center; flex: none; width: 2.45rem; height: 2.45rem; border-radius: 50%; background: var(--accent); color: var(--on-accent); box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--on-accent) 16%, transparent); }
  .send:disabled { background: var(--surface); color: var(--muted); cursor: default; }
  .below { display: flex; justify-content: space-between; gap: .75rem; min-height: .3rem; padding: .35rem .4rem 0; color: var(--muted); font-size: .75rem; }
  .below:not(:has(:not([hidden]):not(:empty))) { padding: 0; }

  @media (max-width: 30rem), (max-height: 30rem) {
    .panel, :host([data-side]) .panel { inset: var(--top, 0) 0 auto 0; width: 100%; max-width: none; height: var(--height, 100dvh); max-height: none; border-radius: 0; box-shadow: none; }
    .bar { padding-top: calc(.75rem + env(safe-area-inset-top)); }
    .bar, .thread, .foot { padding-inline: max(.9rem, env(safe-area-inset-left)) max(.7rem, env(safe-area-inset-right)); }
  }
  @media (prefers-reduced-motion: reduce) {
    .panel[open] { animation: none; }
    .dots { display: none; }
    .typing .visually-hidden { position: static; width: auto; height: auto; clip-path: none; }
  }
  @media (forced-colors: active) { .bubble, .send, .bar, .launch { border: 1px solid CanvasText; } }
`;

const CROSS = "M6 6l12 12M18 6L6 18";
const PEN = "M12 5H7a3 3 0 0 0-3 3v9a3 3 0 0 0 3 3h9a3 3 0 0 0 3-3v-5M10 14l1-3.5L18.5 3a1.8 1.8 0 0 1 2.5 2.5L13.5 13z";
const SMALL = matchMedia("(max-width: 30rem), (max-height: 30rem)");

export function start({ shared, given, language, slug, base, host, shadow, launch, label, make, set, icon, tell, paint, ownAccent }) {
  const [{ converse, isColour, storage }, { drawAvatar, markdown, showChat }, { texts }] = shared;
  const say = texts(language);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [...shadow.adoptedStyleSheets, sheet];

  // -------------------------------------------------------------------------------------------------------------------
  // The elements

  function button(className, key, path) {
    const node = make("button", className, icon(path));
    node.setAttribute("aria-label", say(key));
    node.title = say(key);
    return node;
  }

  const part = (tag, className, attributes, ...children) => set(make(tag, className, ...children), attributes);

  const badge = part("span", "badge", { hidden: "" });
  launch.firstElementChild.classList.add("speech");
  const cross = icon(CROSS);
  cross.classList.add("cross");
  launch.append(cross, badge);

  const avatar = part("span", "avatar", { "aria-hidden": true });
  const title = make("h2");
  const restart = button("restart", "restart", PEN);
  const close = button("close", "close", CROSS);
  const greeting = part("div", "message from-agent greeting", { hidden: "" }, make("div", "bubble"));
  const log = part("div", "log", { role: "log", "aria-live": "off", "aria-label": say("messages") }, greeting);
  const suggestions = part("div", "suggestions", { role: "group", "aria-label": say("suggestions"), hidden: "" });
  const dots = part("span", "dots", { "aria-hidden": true }, make("i"), make("i"), make("i"));
  const typing = part("div", "typing", { hidden: "" }, dots, make("span", "visually-hidden", say("writing")));
  const thread = make("div", "thread", log, suggestions, typing);
  const scroller = part("div", "scroll", { tabindex: 0, role: "region", "aria-label": say("conversation") }, thread);
  const latest = part("button", "latest", { hidden: "" }, say("latest"));
  const announcer = part("div", "visually-hidden", { role: "status" });
  const note = part("p", "note", { hidden: "" }, say("offline"));
  const status = part("p", "status", { role: "status" });
  const input = part("textarea", "", {
    rows: 1, maxlength: 8000, enterkeyhint: "send", placeholder: say("placeholder"), "aria-label": say("input"),
  });
  const send = button("send", "send", "M12 19V5M5.5 11.5 12 5l6.5 6.5");
  send.type = "submit";
  const stop = button("send", "stop", "M7.5 7.5h9v9h-9z");
  stop.hidden = true;
  const form = part("form", "composer", { autocomplete: "off" }, input, send, stop);
  const left = make("span");
  const powered = part("span", "", { hidden: "" }, say("powered"));
  const panel = make(
    "dialog",
    "panel",
    make("div", "bar", avatar, title, restart, close),
    make("div", "middle", note, scroller, latest, announcer),
    make("div", "foot", status, form, make("div", "below", left, powered)),
  );
  restart.hidden = true;
  shadow.insertBefore(panel, launch);

  function name(text) {
    title.textContent = text;
    panel.setAttribute("aria-label", text);
  }
  name(given.label?.trim() || say("chat"));

  // -------------------------------------------------------------------------------------------------------------------
  // The conversation

  let unread = 0;
  const chat = showChat({
    converse,
    say,
    parts: { log, scroller, form, input, send, stop, status, suggestions, typing, latest, restart, keys: make("i"), left, announcer },
    api: `${base}api/public/agents/${encodeURIComponent(slug)}`,
    store: storage(`chatia:${slug}:`),
    told: {
      final({ author, text }) {
        if (author !== "visitor" && !panel.open) unread += 1;
        state();
        tell("message", { author, text });
      },
      error: (error) => tell("error", error),
    },
  });

  async function loadAgent() {
    const answer = await chat.chat.agent().catch(() => null);
    if (answer?.status === 404) chat.gone();
    if (!answer?.ok) return;
    const agent = answer.data;
    if (!given.label?.trim()) name(agent.name);
    if (!ownAccent && isColour(agent.accent)) paint(agent.accent);
    drawAvatar(avatar, agent.name, given.avatar === "off" ? null : agent.avatar);
    note.hidden = !agent.offline;
    powered.hidden = !agent.show_powered_by;
    if (agent.greeting) {
      greeting.firstElementChild.replaceChildren(markdown(agent.greeting.trim()));
      greeting.hidden = false;
    }
    chat.suggest(agent.suggested_questions ?? []);
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Opening and closing

  let returnTo = null;
  let isLoaded = false;
  let isShown = false;

  function state() {
    launch.setAttribute("aria-expanded", panel.open);
    const closed = unread ? `${label} (${say("unread", { n: unread })})` : label;
    launch.setAttribute("aria-label", panel.open ? say("close") : closed);
    badge.hidden = !unread;
    badge.textContent = unread;
  }

  function look() {
    chat.chat.look(!panel.open ? "closed" : document.hidden ? "hidden" : "shown");
  }

  // Over the whole screen it is modal: the browser then keeps the focus inside and the page behind inert.
  function show() {
    if (SMALL.matches) panel.showModal();
    else panel.show();
    if (SMALL.matches && matchMedia("(pointer: coarse)").matches) close.focus();
    else input.focus();
    follow();
  }

  function open() {
    if (isShown) return;
    isShown = true;
    const active = document.activeElement;
    returnTo = active && active !== host && active !== document.body ? active : launch;
    show();
    unread = 0;
    state();
    look();
    if (!isLoaded) {
      isLoaded = true;
      chat.load();
      loadAgent();
    }
    tell("open");
  }

  // The focus goes back only if it was here: a page that closes the panel may have it elsewhere.
  function shut() {
    if (!isShown) return;
    isShown = false;
    const hadFocus = panel.contains(shadow.activeElement);
    panel.close();
    state();
    look();
    if (hadFocus) (returnTo.isConnected ? returnTo : launch).focus();
    tell("close");
  }

  // Where the window crosses the small size while open, modal and not must follow.
  SMALL.addEventListener("change", () => {
    if (!panel.open) return;
    panel.close();
    show();
  });
  // Where it is modal the browser may close it: by Escape, or a phone's way back. The event of our own closing comes late.
  panel.addEventListener("close", () => {
    if (!panel.open) shut();
  });
  const escape = (event) => {
    if (event.key !== "Escape" || event.isComposing || !panel.open) return;
    event.preventDefault();
    event.stopPropagation();
    shut();
  };
  shadow.addEventListener("keydown", escape);
  close.addEventListener("click", shut);
  document.addEventListener("visibilitychange", look);

  // iOS lays its keyboard over the page instead of shrinking it. While zoomed in, the viewport says something else.
  const viewport = window.visualViewport;
  function follow() {
    if (!viewport || !panel.open || viewport.scale > 1.01) return;
    panel.style.setProperty("--height", `${viewport.height}px`);
    panel.style.setProperty("--top", `${viewport.offsetTop}px`);
  }
  for (const event of ["resize", "scroll"]) viewport?.addEventListener(event, follow);

  drawAvatar(avatar, title.textContent, null);
  return { open, close: shut, isOpen: () => isShown, send: chat.send, identify: chat.chat.identify };
}
