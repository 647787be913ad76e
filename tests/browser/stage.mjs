// What the browser tests stand on: the program, a model that answers as it is told, a proxy before the program that can
// break connections, and a page of another origin with a strict policy. All of it on free loopback ports.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const SOURCES = path.join(here, "../../functions/studio/assets");

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Looks until something holds, and says what did not. */
export async function until(what, holds, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await pause(50);
  }
}

const listen = (server) =>
  new Promise((done) => server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));

/** A model that speaks Chat Completions: it answers what `model.reply` gives for the last message, word by word. */
async function startModel() {
  const model = { reply: (text) => `You said: ${text}`, pause: 15 };
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    const { messages = [] } = JSON.parse(body || "{}");
    const last = messages.findLast((message) => message.role === "user")?.content ?? "";
    const words = model.reply(typeof last === "string" ? last : JSON.stringify(last)).split(/(?<= )/);
    response.writeHead(200, { "content-type": "text/event-stream" });
    const frame = (choices, more) =>
      response.write(`data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "told", choices, ...more })}\n\n`);
    for (const content of words) {
      frame([{ index: 0, delta: { role: "assistant", content }, finish_reason: null }]);
      await pause(model.pause);
    }
    frame([{ index: 0, delta: {}, finish_reason: "stop" }]);
    frame([], { usage: { prompt_tokens: 5, completion_tokens: words.length, total_tokens: 5 + words.length } });
    response.end("data: [DONE]\n\n");
  });
  model.url = await listen(server);
  model.close = () => server.closeAllConnections?.() ?? server.close();
  return model;
}

/** The program on a free port with a data directory of its own. */
async function startProgram(model) {
  const data = mkdtempSync(path.join(tmpdir(), "chatia-browser-"));
  const port = await new Promise((done) => {
    const probe = http.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
  const program = process.env.CHATIA_PROGRAM;
  const child = spawn(program, ["--port", port, "--data-dir", data, "--ephemeral", "--no-demo"], {
    env: {
      ...process.env,
      CHATIA_PROVIDER: "openai",
      CHATIA_MODEL: "told",
      OPENAI_API: "chat",
      OPENAI_BASE_URL: `${model.url}/v1`,
      OPENAI_API_KEY: "none",
    },
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (log += text));
  const url = `http://127.0.0.1:${port}`;
  await until("the program serves", async () => {
    if (child.exitCode !== null) throw new Error(`the program ended: ${log}`);
    return (await fetch(`${url}/health`).catch(() => null))?.ok;
  });
  const close = () => {
    child.kill();
    rmSync(data, { recursive: true, force: true });
  };
  return { url, close, log: () => log };
}

/**
 * Stands before the program under another port. `proxy.seen` lists the requests. `proxy.cut(n)` breaks the next stream after n
 * frames; `proxy.fail(pattern, status)` answers what matches itself, 0 breaks the connection; `proxy.heal()` ends that.
 * With CHATIA_SOURCES=1 the files come from the sources, so that they can be worked on without building the program.
 */
async function startProxy(program) {
  const proxy = { seen: [], delay: 0 };
  let failures = [];
  let cuts = [];
  proxy.fail = (pattern, status) => failures.push({ pattern, status });
  proxy.cut = (frames) => cuts.push(frames);
  proxy.heal = () => {
    [failures, cuts, proxy.delay] = [[], [], 0];
  };
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    proxy.seen.push({ method: request.method, path: request.url, headers: request.headers });
    const failure = failures.find(({ pattern }) => pattern.test(request.url) && request.method !== "OPTIONS");
    if (failure) {
      if (!failure.status) return request.socket.destroy();
      response.writeHead(failure.status, { "content-type": "application/json", "access-control-allow-origin": "*" });
      return response.end('{"detail":"out of order","code":"route_not_found"}');
    }
    if (proxy.delay) await pause(proxy.delay);
    const own = /^\/(?:assets\/)?([\w-]+\.(?:js|css))$/.exec(pathname);
    if (process.env.CHATIA_SOURCES && own) {
      const kind = own[1].endsWith(".js") ? "text/javascript; charset=utf-8" : "text/css; charset=utf-8";
      const headers = { "content-type": kind, "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" };
      response.writeHead(200, headers);
      return response.end(readFileSync(path.join(SOURCES, own[1])));
    }
    const to = new URL(request.url, program.url);
    const headers = { ...request.headers, host: to.host };
    const onward = http.request(to, { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      const isStream = answer.headers["content-type"]?.startsWith("text/event-stream");
      const cutAfter = isStream ? cuts.shift() : undefined;
      let frames = 0;
      answer.on("data", (piece) => {
        if (response.destroyed) return;
        if (cutAfter === undefined) return response.write(piece);
        // Frame by frame, the last one in the middle.
        for (const frame of piece.toString().split(/(?<=\n\n)/)) {
          if (frames >= cutAfter) {
            response.write(frame.slice(0, 9));
            onward.destroy();
            return setTimeout(() => response.destroy(), 20);
          }
          frames += 1;
          response.write(frame);
        }
      });
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
    response.on("close", () => onward.destroy());
  });
  proxy.url = await listen(server);
  proxy.close = () => server.closeAllConnections?.() ?? server.close();
  return proxy;
}

/** A site of another origin; what its page is like is said for each load in `site.page`. */
async function startSite() {
  const site = { page: {}, reports: [] };
  const server = http.createServer(async (request, response) => {
    if (request.url.startsWith("/slow.js")) {
      await pause(1500);
      response.writeHead(200, { "content-type": "text/javascript" });
      return response.end("window.slow = true;");
    }
    if (request.url === "/style.css") {
      response.writeHead(200, { "content-type": "text/css" });
      return response.end(site.page.css ?? "");
    }
    if (request.url !== "/") return response.writeHead(204).end();
    const { policy, head = "", body = "", lang = "en", headers = {} } = site.page;
    response.writeHead(200, {
      "content-type": "text/html; charset=utf-8",
      ...(policy && { "content-security-policy": policy }),
      ...headers,
    });
    response.end(`<!doctype html><html lang="${lang}"><head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<link rel="stylesheet" href="/style.css">${head}</head>
<body><h1>A shop</h1><p><button id="own">A button of the page</button></p>${body}</body></html>`);
  });
  site.url = await listen(server);
  site.close = () => server.closeAllConnections?.() ?? server.close();
  return site;
}

async function json(url, method, token, body) {
  const response = await fetch(url, {
    method,
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** An owner with a published agent. */
async function startOwner(program) {
  const account = { email: "owner@example.com", password: "correct horse battery staple" };
  const session = await json(`${program.url}/api/auth/register`, "POST", null, account);
  const token = session.access_token;
  const call = (method, rest, body) => json(program.url + rest, method, token, body);
  const agent = await call("POST", "/api/agents", {
    name: "Luna",
    description: "Answers questions of the shop.",
    greeting_message: "Hello, I am **Luna**. How can I help?",
    widget: { accent: "#7c3aed", suggested_questions: ["When do you open?", "Where are you?"] },
    publish: true,
  });
  const inbox = `/api/clients/me/agents/${agent.id}/conversations`;
  return { call, agent, slug: agent.public_slug, inbox };
}

export async function startStage() {
  const model = await startModel();
  const program = await startProgram(model);
  const [proxy, site] = [await startProxy(program), await startSite()];
  const owner = await startOwner(program);
  const close = () => [program, proxy, site, model].forEach((part) => part.close());
  return { model, program, proxy, site, owner, close };
}
