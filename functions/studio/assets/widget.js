// One floating button that opens an agent's chat page in a frame:
//   <script async src="https://…/widget.js" data-agent="my-agent"></script>
// Optional: data-position="left", data-accent="#rrggbb", data-label="Chat with us".
(() => {
  "use strict";

  // currentScript is known only while the script runs for the first time: read everything now.
  const script = document.currentScript;
  const slug = script?.dataset.agent?.trim();
  if (!slug) {
    console.warn("Chatia widget: the script tag needs data-agent with the agent's public slug.");
    return;
  }
  const { origin } = new URL(script.src, location.href);
  const side = script.dataset.position === "left" ? "left" : "right";
  const ownLabel = script.dataset.label?.trim();
  const ownAccent = colour(script.dataset.accent);

  const STYLE = `
    :host {
      all: initial !important;
      position: fixed !important; z-index: 2147483000 !important;
      bottom: calc(1rem + env(safe-area-inset-bottom)) !important;
      font: 16px/1.4 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important;
      color-scheme: light dark !important;
    }
    :host([data-side="right"]) { right: calc(1rem + env(safe-area-inset-right)) !important; }
    :host([data-side="left"]) { left: calc(1rem + env(safe-area-inset-left)) !important; }
    * { box-sizing: border-box; }
    button { margin: 0; padding: 0; border: 0; font: inherit; cursor: pointer; }
    /* Two rings, one light and one dark: one of them shows on any page. */
    button:focus-visible { outline: 2px solid #fff; outline-offset: 1px; box-shadow: 0 0 0 5px #111; }
    .launch {
      display: grid; place-items: center; width: 3.5rem; height: 3.5rem; border-radius: 50%;
      background: var(--accent); color: var(--on-accent);
      box-shadow: 0 1px 3px rgb(0 0 0 / .2), 0 6px 20px rgb(0 0 0 / .2);
      transition: transform .15s ease;
    }
    .launch:hover { transform: scale(1.05); }
    .launch svg { grid-area: 1 / 1; }
    .launch[aria-expanded="true"] .bubble, .launch[aria-expanded="false"] .cross { display: none; }
    .panel {
      position: fixed; inset: auto; margin: 0; padding: 0; border: 0; overflow: hidden;
      bottom: calc(5.5rem + env(safe-area-inset-bottom));
      width: 25rem; max-width: calc(100vw - 2rem);
      height: 40rem; max-height: calc(100dvh - 7rem);
      border-radius: 1rem; background: Canvas; color: CanvasText;
      box-shadow: 0 0 0 1px rgb(0 0 0 / .08), 0 12px 48px rgb(0 0 0 / .28);
    }
    .panel[open] { display: flex; flex-direction: column; animation: rise .18s ease-out; }
    :host([data-side="right"]) .panel { right: calc(1rem + env(safe-area-inset-right)); }
    :host([data-side="left"]) .panel { left: calc(1rem + env(safe-area-inset-left)); }
    .bar {
      display: flex; align-items: center; justify-content: space-between; gap: .5rem; flex: none;
      padding: .4rem .4rem .4rem 1rem; background: var(--accent); color: var(--on-accent);
    }
    .bar span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 600; }
    .bar button { display: grid; place-items: center; flex: none; width: 2.5rem; height: 2.5rem; border-radius: 50%; background: none; color: inherit; }
    .bar button:focus-visible { outline-color: currentColor; outline-offset: -3px; box-shadow: none; }
    iframe { flex: 1; width: 100%; min-height: 0; border: 0; }
    @keyframes rise { from { opacity: 0; transform: translateY(.5rem); } }
    @media (max-width: 30rem), (max-height: 30rem) {
      .panel, :host([data-side]) .panel {
        inset: 0; width: 100%; max-width: none; height: 100dvh; max-height: none; border-radius: 0; box-shadow: none;
      }
      .bar { padding-top: calc(.4rem + env(safe-area-inset-top)); }
    }
    @media (prefers-reduced-motion: reduce) { .launch, .panel[open] { transition: none; animation: none; } }
    @media print { :host { display: none !important; } }
  `;
  const SMALL = matchMedia("(max-width: 30rem), (max-height: 30rem)");

  function colour(value) {
    return /^#[0-9a-f]{6}$/i.test(value?.trim() ?? "") ? value.trim() : null;
  }

  // Black or white, whichever reads better on a colour.
  function readableOn(hex) {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    return 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 ? "#fff" : "#000";
  }

  function icon(name, path) {
    const make = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return node;
    };
    const svg = make("svg", {
      class: name,
      viewBox: "0 0 24 24",
      width: "26",
      height: "26",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": "2",
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
    });
    svg.append(make("path", { d: path }));
    return svg;
  }

  function mount() {
    // The element itself is the mark that this agent is on the page already; no global is needed for it.
    if (document.querySelector(`[data-chatia-agent="${CSS.escape(slug)}"]`)) return;

    const host = document.createElement("div");
    host.dataset.chatiaAgent = slug;
    host.dataset.side = side;
    const shadow = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];

    const paint = (accent) => {
      host.style.setProperty("--accent", accent);
      host.style.setProperty("--on-accent", readableOn(accent));
    };
    paint(ownAccent ?? "#0f6b5c");

    const launch = document.createElement("button");
    launch.className = "launch";
    launch.type = "button";
    launch.setAttribute("aria-haspopup", "dialog");
    launch.setAttribute("aria-controls", "panel");
    launch.append(
      icon("bubble", "M7 4h10a4 4 0 0 1 4 4v6a4 4 0 0 1-4 4h-5l-5 4v-4a4 4 0 0 1-4-4V8a4 4 0 0 1 4-4z"),
      icon("cross", "M6 6l12 12M18 6L6 18"),
    );

    const title = document.createElement("span");
    const close = document.createElement("button");
    close.type = "button";
    close.setAttribute("aria-label", "Close chat");
    close.append(icon("cross", "M6 6l12 12M18 6L6 18"));
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(title, close);

    const panel = document.createElement("dialog");
    panel.className = "panel";
    panel.id = "panel";
    panel.append(bar);

    let frame = null;
    const name = (text) => {
      title.textContent = text;
      panel.setAttribute("aria-label", text);
      if (frame) frame.title = text;
    };
    name(ownLabel || "Chat");

    const state = () => {
      launch.setAttribute("aria-expanded", String(panel.open));
      launch.setAttribute("aria-label", panel.open ? "Close chat" : ownLabel || "Open chat");
    };
    state();

    function open() {
      if (!frame) {
        // Not before the first opening: most visitors never open it, and their page should not pay for it.
        frame = document.createElement("iframe");
        frame.src = `${origin}/${encodeURIComponent(slug)}?embed=1${ownAccent ? `&accent=${ownAccent.slice(1)}` : ""}`;
        frame.title = title.textContent;
        frame.allow = "clipboard-write";
        panel.append(frame);
      }
      // Over the whole screen it is modal: the browser then keeps the focus inside and the page behind inert.
      if (SMALL.matches) panel.showModal();
      else panel.show();
      state();
      frame.focus();
    }

    // Where the window crosses the small size while open, modal and not must follow.
    SMALL.addEventListener("change", () => {
      if (!panel.open) return;
      panel.close();
      open();
    });

    panel.addEventListener("close", () => {
      if (panel.open) return; // the event comes late: it was opened again meanwhile
      state();
      launch.focus();
    });
    close.addEventListener("click", () => panel.close());
    launch.addEventListener("click", () => (panel.open ? panel.close() : open()));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && panel.open && !event.defaultPrevented) panel.close();
    });

    // Keys pressed inside the frame stay there; the chat page tells of Escape, and of the agent's own name and colour.
    window.addEventListener("message", (event) => {
      if (!frame || event.source !== frame.contentWindow || event.origin !== origin) return;
      if (event.data?.chatia === "close" && panel.open) panel.close();
      if (event.data?.chatia === "hello") {
        const accent = colour(String(event.data.accent ?? ""));
        if (!ownAccent && accent) paint(accent);
        if (!ownLabel && event.data.name) name(String(event.data.name));
      }
    });

    shadow.append(panel, launch);
    document.body.append(host);
  }

  // With async the script may run before there is a body.
  if (document.body) mount();
  else document.addEventListener("DOMContentLoaded", mount);
})();
