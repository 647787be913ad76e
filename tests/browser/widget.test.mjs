// The widget in a real browser, on a page of another origin with a strict policy.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { pause, startStage, until } from "./stage.mjs";

const shots = path.join(path.dirname(fileURLToPath(import.meta.url)), "shots");
mkdirSync(shots, { recursive: true });

let stage;
let browser;
const contexts = [];

before(async () => {
  stage = await startStage();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
});
after(async () => {
  await browser?.close();
  stage?.close();
});
afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
  stage.proxy.heal();
  stage.model.reply = (text) => `You said: ${text}`;
  stage.model.pause = 15;
});

// What docs/WIDGET.md tells a site to allow, and nothing else; its own style sheet is the page's.
const policy = () =>
  `default-src 'none'; style-src 'self'; script-src ${stage.proxy.url}; connect-src ${stage.proxy.url}; ` +
  "require-trusted-types-for 'script'; trusted-types 'none'";

const tag = (attributes = "", more = "async") =>
  `<script src="${stage.proxy.url}/widget.js" data-agent="${stage.owner.slug}" ${attributes} ${more}></script>`;

/** Loads the shop. `page.problems` has violations of the policy, errors of the console and of scripts. */
async function visit({ html, script = tag(), context = {}, init, clock, ...options } = {}) {
  const own = await browser.newContext({ locale: "en-US", ...context });
  contexts.push(own);
  const page = await own.newPage();
  page.problems = [];
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("pageerror", (error) => page.problems.push(String(error)));
  await page.exposeFunction("reportViolation", (text) => page.problems.push(text));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  if (init) await page.addInitScript(init);
  if (clock) await page.clock.install();
  stage.site.page = { policy: policy(), body: html ?? script, ...options };
  stage.proxy.seen = [];
  await page.goto(stage.site.url);
  return page;
}

const launch = (page) => page.locator(".launch");
const panel = (page) => page.locator("dialog.panel");
const input = (page) => panel(page).locator("textarea");
const bubbles = (page, from) => panel(page).locator(`.from-${from}:not(.greeting) .bubble`);
const focused = (page) => page.evaluate(() => {
  const inner = document.activeElement?.shadowRoot?.activeElement;
  return inner ? inner.className || inner.localName : document.activeElement?.id || document.activeElement?.localName;
});
const shot = (page, name) => page.screenshot({ path: path.join(shots, `${name}.png`) });
/** Nothing went wrong, but for what the test itself has the network do. */
const clean = (page, expected) => assert.deepEqual(page.problems.filter((problem) => !expected?.test(problem)), []);
const calls = (pattern) => stage.proxy.seen.filter(({ method, path }) => method !== "OPTIONS" && pattern.test(path));

async function opened(options) {
  const page = await visit(options);
  await launch(page).click();
  await input(page).waitFor();
  return page;
}

async function ask(page, text) {
  await input(page).fill(text);
  await input(page).press("Enter");
}

async function answered(page, text, count = 1) {
  await until(`the answer: ${text}`, async () => (await bubbles(page, "agent").allInnerTexts()).filter((said) => said === text).length === count);
  await panel(page).locator(".send:not([disabled])").first().waitFor();
}

/** The conversation as the owner's inbox shows it. */
async function inboxOf(message) {
  const { items } = await stage.owner.call("GET", stage.owner.inbox);
  for (const { id } of items) {
    const detail = await stage.owner.call("GET", `${stage.owner.inbox}/${id}`);
    if (detail.messages.some(({ content }) => content === message)) return detail;
  }
  return null;
}

test("a page makes one request before somebody opens the chat", async () => {
  const page = await visit();
  await launch(page).waitFor();
  await page.waitForLoadState("networkidle");
  assert.deepEqual(stage.proxy.seen.map(({ path }) => path), ["/widget.js"]);
  await shot(page, "launcher");
  clean(page);
});

test("it opens and closes by keyboard, and the focus goes where it should", async () => {
  const page = await visit();
  await launch(page).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "own");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "launch");
  assert.equal(await launch(page).getAttribute("aria-expanded"), "false");
  await page.keyboard.press("Enter");
  await input(page).waitFor();
  await until("the focus is in the field", async () => (await focused(page)) === "textarea");
  assert.equal(await launch(page).getAttribute("aria-expanded"), "true");
  assert.equal(await page.getByRole("dialog", { name: "Luna" }).count(), 1);
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "send", "beside the page nothing is trapped: on to the next control");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "launch");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Escape");
  await panel(page).waitFor({ state: "hidden" });
  assert.equal(await focused(page), "launch");
  await page.locator("#own").focus();
  await page.evaluate(() => window.Chatia.open());
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "own", "the focus returns to where it was");
  clean(page);
});

test("a reply appears while it is written, and is announced once it is complete", async () => {
  stage.model.pause = 120;
  const page = await opened();
  await until("the agent's name and questions are there", () => panel(page).locator(".suggestions button").count());
  await panel(page).evaluate((node) => Promise.all(node.getAnimations().map((animation) => animation.finished)));
  await shot(page, "opened");
  await ask(page, "one two three four five six");
  const whole = "You said: one two three four five six";
  const seen = new Set();
  await until("the reply is complete", async () => {
    const text = (await bubbles(page, "agent").allInnerTexts()).at(-1) ?? "";
    if (text) seen.add(text);
    return text === whole;
  });
  assert.ok(seen.size > 3, `it came piece by piece: ${[...seen]}`);
  await until("it is announced", async () => (await panel(page).locator(".middle > [role=status]").textContent()) === `Assistant: ${whole}`);
  assert.equal(calls(/\/chat\/stream$/).length, 1);
  assert.equal(calls(/\/chat$/).length, 0);
  clean(page);
});

test("a reload keeps the conversation", async () => {
  const page = await opened();
  await ask(page, "remember me");
  await answered(page, "You said: remember me");
  await page.reload();
  await launch(page).click();
  await answered(page, "You said: remember me");
  assert.deepEqual(await bubbles(page, "visitor").allInnerTexts(), ["remember me"]);
  clean(page);
});

test("a reload while a reply is written shows the reply, once", async () => {
  stage.model.pause = 150;
  const page = await opened();
  await ask(page, "reload in the middle of these words please");
  await bubbles(page, "agent").waitFor();
  await page.reload();
  await launch(page).click();
  await answered(page, "You said: reload in the middle of these words please");
  assert.equal((await inboxOf("reload in the middle of these words please")).messages.length, 2);
  clean(page);
});

for (const [how, init] of [
  ["throws", () => Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } })],
  ["is not there", () => Object.defineProperty(window, "localStorage", { value: undefined })],
]) {
  test(`where storage ${how}, the conversation lives as long as the page`, async () => {
    const page = await opened({ init });
    await ask(page, "first");
    await answered(page, "You said: first");
    await ask(page, "second");
    await answered(page, "You said: second");
    const [first, second] = calls(/\/chat\/stream$/);
    assert.ok(first && second);
    assert.equal((await inboxOf("second")).messages.length, 4, "one conversation");
    clean(page);
  });
}

test("a dropped connection is taken up again without loss or repeat", async () => {
  stage.model.pause = 60;
  const page = await opened();
  stage.proxy.cut(4);
  stage.proxy.cut(1);
  const text = "a b c d e f g h i j k l m n o p";
  await ask(page, text);
  await answered(page, `You said: ${text}`);
  const streams = calls(/\/chat\/stream$/);
  assert.equal(streams.length, 3);
  assert.equal(streams[0].headers["last-event-id"], undefined);
  assert.ok(streams[1].headers["last-event-id"] && streams[2].headers["last-event-id"]);
  assert.equal((await inboxOf(text)).messages.length, 2);
  clean(page, /net::ERR_/);
});

test("where nothing streams, the reply comes in one piece", async () => {
  stage.proxy.fail(/\/chat\/stream$/, 404);
  const page = await opened();
  await ask(page, "in one piece");
  await answered(page, "You said: in one piece");
  assert.equal(calls(/\/chat$/).length, 1);
  clean(page, /status of 404/);
});

test("what was not sent is shown, survives a reload, and is sent once", async () => {
  const page = await opened();
  stage.proxy.fail(/\/chat(\/stream)?$/, 0);
  await ask(page, "lost and found");
  const retry = panel(page).getByRole("button", { name: "Retry" });
  await retry.waitFor({ timeout: 30_000 });
  assert.match(await panel(page).locator(".fate").innerText(), /Not sent/);
  await shot(page, "not-sent");
  await page.reload();
  await launch(page).click();
  await retry.waitFor();
  stage.proxy.heal();
  await retry.click();
  await answered(page, "You said: lost and found");
  assert.equal(await retry.count(), 0);
  assert.equal((await inboxOf("lost and found")).messages.length, 2);
  await page.reload();
  await launch(page).click();
  await answered(page, "You said: lost and found");
  assert.equal(await retry.count(), 0);
  clean(page, /net::ERR_/);
});

test("a person who takes over is seen, and told of when the chat is closed", async () => {
  const page = await opened();
  await ask(page, "a person please");
  await answered(page, "You said: a person please");
  const { id } = await inboxOf("a person please");
  await stage.owner.call("POST", `${stage.owner.inbox}/${id}/messages`, { content: "Hello, this is **Olivia**." });
  await until("her message", async () => (await bubbles(page, "operator").allInnerTexts()).includes("Hello, this is **Olivia**.".replaceAll("*", "")), 30);
  await until("the state", async () => (await panel(page).locator(".status").innerText()) === "A person is answering");
  await shot(page, "operator");
  await panel(page).getByRole("button", { name: "Close chat" }).click();
  await stage.owner.call("POST", `${stage.owner.inbox}/${id}/messages`, { content: "Are you there?" });
  await until("the badge", async () => (await launch(page).getAttribute("aria-label")) === "Open chat (1 new message)", 60);
  await shot(page, "badge");
  await launch(page).click();
  assert.equal(await bubbles(page, "operator").count(), 2);
  assert.equal(await launch(page).locator(".badge").isVisible(), false);
  clean(page);
});

test("what others wrote is asked for while the chat is open, and not for long after it was closed", async () => {
  const page = await opened({ clock: true });
  await ask(page, "and then nothing");
  await answered(page, "You said: and then nothing");
  const polls = () => calls(/\/messages\?/).length;
  const next = async (seconds) => {
    const before = polls();
    await page.clock.fastForward(seconds * 1000);
    await pause(400);
    return polls() - before;
  };
  assert.equal(await next(10), 0);
  assert.equal(await next(6), 1, "every fifteen seconds");
  await panel(page).getByRole("button", { name: "Close chat" }).click();
  assert.equal(await next(50), 0, "closed, seldom");
  assert.equal(await next(11), 1);
  for (let minute = 0; minute < 10; minute += 1) await next(61);
  assert.equal(await next(3_600), 0, "and no more after ten minutes");
  const before = polls();
  await launch(page).click();
  await until("at once when it is opened again", () => polls() === before + 1);
  clean(page);
});

test("on a phone it takes the whole screen and keeps the focus", async () => {
  const context = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, reducedMotion: "reduce" };
  const page = await visit({ context });
  await launch(page).tap();
  await input(page).waitFor();
  const box = await panel(page).evaluate((node) => {
    const { x, y, width, height } = node.getBoundingClientRect();
    return [x, y, width, height, node.matches(":modal")];
  });
  assert.deepEqual(box, [0, 0, 390, 844, true]);
  assert.equal(await focused(page), "close", "no keyboard over half of the screen before the visitor taps");
  for (let at = 0; at < 12; at += 1) {
    await page.keyboard.press("Tab");
    assert.notEqual(await focused(page), "own", "the page behind is out of reach");
  }
  assert.ok(await page.evaluate(() => {
    const { fontSize } = getComputedStyle(document.querySelector("[data-chatia-agent]").shadowRoot.querySelector("textarea"));
    return Number.parseFloat(fontSize) >= 16;
  }), "a smaller field would be zoomed into");
  await ask(page, "from my phone");
  await answered(page, "You said: from my phone");
  await page.waitForTimeout(400);
  await shot(page, "phone");
  // The keyboard leaves less of the screen.
  await page.setViewportSize({ width: 390, height: 500 });
  await until("it fits", async () => (await panel(page).evaluate((node) => node.getBoundingClientRect().height)) === 500);
  await page.keyboard.press("Escape");
  await panel(page).waitFor({ state: "hidden" });
  clean(page);
});

test("it is dark and light as the system, or the tag, says", async () => {
  const shade = (page) => panel(page).evaluate((node) => getComputedStyle(node).backgroundColor);
  for (const [colorScheme, theme, expected] of [
    ["light", "", "rgb(255, 255, 255)"],
    ["dark", "", "rgb(23, 25, 28)"],
    ["dark", 'data-theme="light"', "rgb(255, 255, 255)"],
    ["light", 'data-theme="dark"', "rgb(23, 25, 28)"],
  ]) {
    const page = await opened({ context: { colorScheme }, script: tag(theme) });
    assert.equal(await shade(page), expected, `${colorScheme} ${theme}`);
    clean(page);
  }
});

const LONG = [
  "## Plans",
  "We have **three** plans, see [the list](https://example.com/plans):",
  "1. *Free*, for a try\n2. Team, for up to ten people\n   - chat\n   - mail\n3. Enterprise",
  "Call it from a shell:",
  "```sh\ncurl -X POST https://api.example.com/v1/orders -H 'content-type: application/json' -d '{\"plan\": \"team\"}'\n```",
  "Then set `PLAN=team` and you are done. <img src=x onerror=alert(1)> [bad](javascript:alert(1))",
].join("\n\n");

for (const colorScheme of ["light", "dark"]) {
  test(`a long reply is readable Markdown and nothing else (${colorScheme})`, async () => {
    stage.model.reply = () => LONG;
    stage.model.pause = 1;
    const page = await opened({ context: { colorScheme } });
    await ask(page, `Which plans are there? (${colorScheme})`);
    await until("the reply", async () => (await bubbles(page, "agent").locator("pre").count()) === 1 && (await panel(page).locator(".draft").count()) === 0);
    const bubble = bubbles(page, "agent");
    assert.equal(await bubble.locator("ol > li").count(), 3);
    assert.equal(await bubble.locator("img, script").count(), 0);
    assert.deepEqual(await bubble.locator("a").evaluateAll((links) => links.map((link) => link.getAttribute("href"))), ["https://example.com/plans"]);
    assert.ok((await bubble.innerText()).includes("<img src=x onerror=alert(1)>"));
    await shot(page, `long-${colorScheme}`);
    await panel(page).locator(".scroll").evaluate((node) => (node.scrollTop = node.scrollHeight));
    await shot(page, `long-${colorScheme}-end`);
    clean(page);
  });
}

test("it speaks the language of the tag, else of the page, else of the browser", async () => {
  for (const [script, lang, locale, expected] of [
    [tag(), "en", "en-US", ["Open chat", "Write a message"]],
    [tag('data-language="es"'), "en", "en-US", ["Abrir el chat", "Escribe un mensaje"]],
    [tag(), "pt-BR", "en-US", ["Abrir o chat", "Escreva uma mensagem"]],
    [tag(), "fr", "es-MX", ["Abrir el chat", "Escribe un mensaje"]],
    [tag(), "fr", "fr-FR", ["Open chat", "Write a message"]],
  ]) {
    const page = await visit({ script, lang, context: { locale } });
    assert.equal(await launch(page).getAttribute("aria-label"), expected[0]);
    await launch(page).click();
    assert.equal(await input(page).getAttribute("placeholder"), expected[1]);
    clean(page);
  }
});

test("loaded twice, there is one", async () => {
  const page = await visit({ html: tag() + tag("", "defer") + tag() });
  await page.waitForLoadState("networkidle");
  assert.equal(await page.locator("[data-chatia-agent]").count(), 1);
  await launch(page).click();
  await input(page).waitFor();
  clean(page);
});

for (const more of ["", "async", "defer", 'type="module"']) {
  test(`the script tag may be ${more || "plain"}`, async () => {
    for (const place of ["head", "body"]) {
      const page = await visit({ html: place === "body" ? tag("", more) : "", head: place === "head" ? tag("", more) : "" });
      await launch(page).click();
      await input(page).waitFor();
      clean(page);
    }
  });
}

test("it waits for no slow script of the page", async () => {
  const own = `${policy().replace("script-src ", "script-src 'self' ")}`;
  const page = await visit({ policy: own, html: `${tag()}<script src="/slow.js" defer></script>` });
  await launch(page).click();
  await input(page).waitFor();
  clean(page);
});

test("hostile style sheets do not reach it", async () => {
  const css = "* { all: unset; display: none !important; opacity: 0 !important; transform: scale(0) !important } html, body { display: block !important; opacity: 1 !important; transform: none !important }";
  const page = await visit({ css });
  const box = await launch(page).boundingBox();
  assert.deepEqual([box.width, box.height], [60, 60]);
  await launch(page).click();
  await ask(page, "still here");
  await answered(page, "You said: still here");
  assert.ok((await panel(page).boundingBox()).width > 300);
  await shot(page, "hostile");
  clean(page);
});

test("it works on an isolated page", async () => {
  const headers = { "cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin" };
  const page = await opened({ headers });
  assert.equal(await page.evaluate(() => window.crossOriginIsolated), true);
  await ask(page, "isolated");
  await answered(page, "You said: isolated");
  clean(page);
});

test("a panel that cannot be loaded is said, and can be had again", async () => {
  const page = await visit();
  stage.proxy.fail(/widget-panel|chat-core/, 0);
  await launch(page).click();
  const again = page.locator(".failure button");
  await again.waitFor();
  await shot(page, "failure");
  assert.match(await page.locator(".failure").innerText(), /could not be loaded/);
  assert.equal(await launch(page).getAttribute("aria-label"), "Open chat");
  stage.proxy.heal();
  await again.click();
  await input(page).waitFor();
  assert.equal(await page.locator(".failure").isVisible(), false);
  clean(page, /net::ERR_/);
});

test("while it loads, the button says so", async () => {
  const page = await visit();
  await launch(page).waitFor();
  stage.proxy.delay = 700;
  await launch(page).click();
  assert.equal(await launch(page).getAttribute("aria-busy"), "true");
  assert.equal(await launch(page).getAttribute("aria-label"), "Loading the chat…");
  await shot(page, "loading");
  await input(page).waitFor();
  assert.equal(await launch(page).getAttribute("aria-busy"), null);
  clean(page);
});

const luminance = (red, green, blue) => {
  const [r, g, b] = [red, green, blue].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

test("the text on the accent is readable, whichever it is", async () => {
  for (const accent of ["#10b981", "#ffe600", "#1e3a8a", "#777777", "#ff0000", "#0080ff"]) {
    const page = await visit({ script: tag(`data-accent="${accent}" data-position="left"`) });
    const style = await launch(page).evaluate((node) => [getComputedStyle(node).color, getComputedStyle(node).getPropertyValue("--accent").trim()]);
    assert.equal(style[1], accent);
    const text = luminance(...style[0].match(/\d+/g).map(Number));
    const ground = luminance(...[1, 3, 5].map((at) => Number.parseInt(accent.slice(at, at + 2), 16)));
    const [low, high] = [text, ground].toSorted((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    assert.ok(ratio >= 4.5, `${accent}: ${style[0]} has a contrast of ${ratio}`);
    assert.ok((await launch(page).boundingBox()).x < 100, "on the left");
    clean(page);
  }
});

test("who wants less motion gets none", async () => {
  const page = await opened({ context: { reducedMotion: "reduce" } });
  assert.equal(await panel(page).evaluate((node) => getComputedStyle(node).animationName), "none");
  assert.equal(await launch(page).evaluate((node) => getComputedStyle(node).transitionDuration), "0s");
  clean(page);
});

test("a page may call it before it is there", async () => {
  // As a page's own script would; the policy of the shop allows none inline, so the browser runs it.
  const page = await visit({
    init: () => {
      window.heard = [];
      window.Chatia = [
        ["on", "ready", () => window.heard.push("ready")],
        ["on", "open", () => window.heard.push("open")],
        ["on", "message", ({ author, text }) => window.heard.push(`${author}: ${text}`)],
        ["on", "close", () => window.heard.push("close")],
        ["send", "queued"],
      ];
    },
  });
  await answered(page, "You said: queued");
  await page.evaluate(() => {
    const unsubscribe = window.Chatia.on("close", () => window.heard.push("never"));
    unsubscribe();
    window.Chatia.on("ready", () => window.heard.push("ready again"));
    window.Chatia.close();
  });
  const heard = await page.evaluate(() => window.heard);
  assert.deepEqual(heard.toSorted(), ["agent: You said: queued", "close", "open", "ready", "ready again", "visitor: queued"].toSorted());
  assert.equal(heard[0], "ready");
  clean(page);
});

test("a handler that throws breaks nothing but itself", async () => {
  const page = await visit();
  await launch(page).waitFor();
  await page.evaluate(() => {
    window.Chatia.on("open", () => { throw new Error("of the page"); });
    window.Chatia.open();
  });
  await input(page).waitFor();
  await until("it is reported", () => page.problems.length);
  assert.match(page.problems.join(), /of the page/);
});

test("a new conversation, and the way back", async () => {
  const page = await opened();
  await ask(page, "the old one");
  await answered(page, "You said: the old one");
  await panel(page).getByRole("button", { name: "New conversation" }).click();
  assert.equal(await bubbles(page, "visitor").count(), 0);
  await panel(page).getByRole("button", { name: "Go back" }).click();
  await answered(page, "You said: the old one");
  clean(page);
});

test("a reply can be stopped", async () => {
  stage.model.pause = 200;
  const page = await opened();
  await ask(page, "x ".repeat(60).trim());
  await until("something is written", async () => (await bubbles(page, "agent").allInnerTexts()).join("").length > 15);
  await panel(page).getByRole("button", { name: "Stop the answer" }).click();
  await panel(page).getByRole("button", { name: "Send message" }).waitFor();
  assert.ok((await bubbles(page, "agent").innerText()).length < 100);
  clean(page);
});

test("a signed user is known, another one is not believed", async () => {
  const { secret } = await stage.owner.call("POST", `/api/agents/${stage.owner.agent.id}/identity-secret`);
  const sign = (user) => createHmac("sha256", secret).update(user).digest("hex");
  await pause(5_500); // what the program keeps of the agent is as old as that
  const page = await opened();
  await ask(page, "who am I");
  await answered(page, "You said: who am I");
  assert.equal((await inboxOf("who am I")).identity, null);
  await page.evaluate((signature) => window.Chatia.identify({ user_id: "user-42", name: "Ana Pérez", email: "Ana@example.com", signature }), sign("user-42"));
  await ask(page, "it is me");
  await answered(page, "You said: it is me");
  const known = await inboxOf("it is me");
  assert.deepEqual(known.identity, { user_id: "user-42", name: "Ana Pérez", email: "ana@example.com", phone: null });
  assert.equal(known.messages.length, 4, "the conversation goes on");

  // Somebody else on the same computer does not see it.
  await page.evaluate((signature) => window.Chatia.identify({ user_id: "user-43", signature }), sign("user-43"));
  assert.equal(await bubbles(page, "visitor").count(), 0);
  await ask(page, "I am another");
  await answered(page, "You said: I am another");
  assert.equal((await inboxOf("I am another")).identity.user_id, "user-43");

  // Nor is a wrong signature believed.
  const error = page.evaluate(() => new Promise((done) => {
    window.Chatia.on("error", done);
    window.Chatia.identify({ user_id: "boss", signature: "0".repeat(64) });
    window.Chatia.send("let me in");
  }));
  assert.equal((await error).code, "identity_refused");
  await panel(page).locator(".fate").waitFor();
  assert.equal(await inboxOf("let me in"), null);
  clean(page, /status of 403/);
});

test("the chat page shows the same conversation", async () => {
  const context = await browser.newContext({ locale: "es-ES" });
  contexts.push(context);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(`${stage.proxy.url}/${stage.owner.slug}`);
  await page.locator("#suggestions button").first().waitFor();
  assert.equal(await page.locator("#input").getAttribute("placeholder"), "Escribe un mensaje");
  await page.locator("#input").fill("on the page");
  await page.keyboard.press("Enter");
  await page.getByText("You said: on the page", { exact: true }).first().waitFor();
  await shot(page, "chat-page");
  await page.reload();
  await page.getByText("You said: on the page", { exact: true }).first().waitFor();
  assert.deepEqual(problems, []);
});
