// How the chat page and the widget's panel show a conversation: the same behaviour on elements that each of them has, and
// the same safe Markdown.

const NEAR_LIMIT = 7500;

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// `parts` are the elements: log, scroller, form, input, send, stop, status, suggestions, typing, latest, restart, keys,
// left, announcer. `told` may have `final(message)`, `error(error)` and `state(chat)`.
export function showChat({ converse, say, parts, api, store, told = {} }) {
  const { log, scroller, form, input, status, suggestions, latest } = parts;
  const nodes = new WeakMap(); // message -> its element
  const touch = matchMedia("(pointer: coarse)").matches;
  let ready = Promise.resolve();
  let hasGone = false;

  // -------------------------------------------------------------------------------------------------------------------
  // Messages

  const body = ({ author, text }) => (author === "visitor" ? text : markdown(text)); // a visitor's words are no Markdown

  const view = {
    add(message) {
      const { author } = message;
      const stay = author !== "visitor" && !atBottom();
      const label = element("span", author === "operator" ? "author" : "visually-hidden", say(author));
      const node = element("div", `message from-${author}`, label, element("div", "bubble", body(message)));
      nodes.set(message, node);
      if (message.draft) node.hidden = true; // until there is something to see
      log.append(node);
      suggestions.hidden = true;
      parts.restart.hidden = false;
      if (message.draft) return;
      if (stay) latest.hidden = false;
      else scrollTo(node);
    },

    update(message) {
      const node = nodes.get(message);
      const stay = atBottom();
      node.hidden = false;
      node.classList.toggle("draft", Boolean(message.draft));
      node.querySelector(".bubble").replaceChildren(body(message));
      view.state();
      if (stay) scrollTo(node);
    },

    remove(message) {
      nodes.get(message)?.remove();
      view.state();
    },

    // What became of a message, under it; nothing when all went well.
    fate(message, said) {
      const node = nodes.get(message);
      node.classList.toggle("failed", Boolean(said));
      node.querySelector(".fate")?.remove();
      if (!said) return;
      const retry = element("button", "", say("retry"));
      retry.type = "button";
      retry.addEventListener("click", () => {
        focusInput();
        chat.retry(message);
      });
      node.append(element("p", "fate", element("span", "", say(...said)), retry));
      announce(say(...said));
      scrollTo(node);
    },

    say(said, forSeconds, action) {
      clearTimeout(view.timer);
      // What is said for a while gives way to the lasting state.
      const isPerson = !said && chat?.takeover;
      const text = isPerson ? say("person") : said ? say(...said) : navigator.onLine === false ? say("offLine") : "";
      status.classList.toggle("person", isPerson);
      // The same words again would be read out again.
      if (status.textContent !== text || action) status.replaceChildren(...(text ? [element("span", "", text)] : []));
      if (action) status.append(action);
      if (forSeconds) view.timer = setTimeout(() => view.say(null), forSeconds * 1000);
    },

    state() {
      const isWriting = chat.sending && !chat.takeover && !log.lastElementChild?.matches(".draft");
      const was = parts.typing.hidden;
      const stay = atBottom();
      parts.typing.hidden = !isWriting;
      if (was && isWriting && stay) scroller.scrollTop = scroller.scrollHeight;
      parts.send.disabled = chat.sending || hasGone;
      parts.send.hidden = chat.stoppable;
      parts.stop.hidden = !chat.stoppable;
      for (const button of log.querySelectorAll(".fate button")) button.disabled = chat.sending;
      if (chat.takeover !== view.takeover) {
        view.takeover = chat.takeover;
        if (chat.takeover) view.say(null);
      }
      told.state?.(chat);
    },

    // A message that will not change any more: it is read out once, complete.
    final(message) {
      if (message.author !== "visitor") announce(`${say(message.author)}: ${nodes.get(message).querySelector(".bubble").textContent}`);
      told.final?.(message);
    },

    clear() {
      for (const node of log.querySelectorAll(".message:not(.greeting)")) node.remove();
      suggestions.hidden = !suggestions.childElementCount;
      parts.restart.hidden = true;
      latest.hidden = true;
    },

    gone() {
      hasGone = true;
      view.say(["gone"]);
      input.disabled = true;
      suggestions.hidden = true;
      view.state();
    },

    error: (error) => told.error?.(error),
  };

  function announce(text) {
    parts.announcer.replaceChildren(element("p", "", text));
  }

  const atBottom = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 90;

  // To the end, except that a reply taller than the screen is shown from its beginning.
  function scrollTo(node) {
    const isTall = node && node.offsetHeight > scroller.clientHeight - 40;
    const top = node && node.getBoundingClientRect().top - scroller.getBoundingClientRect().top + scroller.scrollTop;
    scroller.scrollTop = isTall ? top - 12 : scroller.scrollHeight;
  }

  const chat = converse({ api, store, view });

  // -------------------------------------------------------------------------------------------------------------------
  // The composer

  // On a touch screen, focus brings up the keyboard over half of the page; there only the visitor's own tap should.
  function focusInput() {
    if (!touch) input.focus();
  }

  function fit() {
    input.style.setProperty("height", "auto");
    if (input.scrollHeight) input.style.setProperty("height", `${input.scrollHeight}px`); // 0 while it is not shown
    const isNear = input.value.length >= NEAR_LIMIT;
    parts.keys.hidden = isNear;
    parts.left.textContent = isNear ? say("left", { left: input.maxLength - input.value.length }) : "";
  }

  async function send(text) {
    await ready; // what is typed before the history is drawn belongs below it
    return !hasGone && chat.say(text);
  }

  input.addEventListener("input", fit);
  input.addEventListener("keydown", (event) => {
    // Enter that ends an input-method composition picks a word; it sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    input.focus();
    const text = input.value;
    if (!(await send(text))) return;
    // What was typed on while the page was still loading stays.
    if (input.value === text) input.value = "";
    fit();
  });
  // A press on Send must not take the focus: on a phone the keyboard would close and open again.
  parts.send.addEventListener("pointerdown", (event) => event.preventDefault());
  parts.stop.addEventListener("click", () => {
    chat.stop();
    focusInput();
  });
  latest.addEventListener("click", () => {
    scroller.scrollTop = scroller.scrollHeight;
    focusInput();
  });
  const seen = () => {
    if (atBottom()) latest.hidden = true;
  };
  scroller.addEventListener("scroll", seen, { passive: true });

  // The handle is the only thread to the conversation before, so there is a way back for a moment.
  parts.restart.addEventListener("click", () => {
    const goBack = chat.restart();
    focusInput();
    if (!goBack) return;
    const back = element("button", "", say("goBack"));
    back.type = "button";
    back.addEventListener("click", goBack);
    view.say(["restarted"], 15, back);
  });

  for (const event of ["online", "offline"]) addEventListener(event, () => view.say(null));

  fit();
  view.state();

  return {
    chat,
    send,
    focusInput,

    // The history; what is typed before it is there waits for it.
    load() {
      ready = chat.loadHistory().then(() => {
        suggestions.hidden ||= log.querySelector(".message:not(.greeting)") !== null;
        scrollTo(log.lastElementChild);
      });
      return ready;
    },

    suggest(questions) {
      const chips = questions.map((question) => {
        const button = element("button", "", question);
        button.type = "button";
        button.addEventListener("click", () => {
          focusInput();
          send(question);
        });
        return button;
      });
      suggestions.replaceChildren(...chips);
      suggestions.hidden = !chips.length || hasGone || log.querySelector(".message:not(.greeting)") !== null;
    },

    gone: view.gone,
  };
}

// A letter, until the picture is there; it stays when the picture cannot be had.
export function drawAvatar(place, name, address) {
  place.replaceChildren(Array.from(name.trim())[0]?.toUpperCase() ?? "");
  if (!/^(https:|data:image\/|\/(?!\/))/.test(address ?? "")) return;
  const image = new Image();
  image.alt = "";
  image.referrerPolicy = "no-referrer";
  image.addEventListener("load", () => place.replaceChildren(image));
  image.src = address;
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

export function markdown(text) {
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
