// The API reference: fetches an OpenAPI 3.1 document and draws it. The page brings the address of the document in
// data-spec, and a <select> where there are several.

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
const DEEPEST = 6;

const byId = (id) => document.getElementById(id);
const [main, toc, sidebar, menu, filter, picker] = ["main", "toc", "sidebar", "menu", "filter", "spec"].map(byId);

let spec = {};
let entries = []; // { operation, section, item, words } of every operation drawn, for the filter

// Children may be nodes, text, arrays of them, or nothing.
function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// ---------------------------------------------------------------------------------------------------------------------
// Text: the little Markdown that descriptions use

function prose(text) {
  return (text ?? "")
    .trim()
    .split(/\n\s*\n/)
    .filter(Boolean)
    .map((block) => {
      const lines = block.split("\n");
      const bullets = lines.filter((line) => /^\s*[-*] /.test(line));
      if (bullets.length === lines.length)
        return h(
          "ul",
          {},
          lines.map((line) => h("li", {}, phrase(line.replace(/^\s*[-*] /, "")))),
        );
      // Hard-wrapped source: line ends inside a paragraph mean nothing.
      return h("p", {}, phrase(lines.map((line) => line.replace(/^#+ /, "")).join(" ")));
    });
}

function phrase(text) {
  const pieces = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^()\s]+\))/);
  return pieces.map((piece, index) => {
    if (index % 2 === 0) return piece;
    if (piece[0] === "`") return h("code", {}, piece.slice(1, -1));
    if (piece[0] === "*") return h("strong", {}, piece.slice(2, -2));
    const [, label, target] = /^\[(.+)\]\((.+)\)$/.exec(piece);
    return /^(https?:|mailto:|\/|#)/.test(target) ? h("a", { href: target, rel: "noopener" }, label) : label;
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Schemas

function lookup(pointer) {
  if (!pointer.startsWith("#/")) return {};
  const steps = pointer
    .slice(2)
    .split("/")
    .map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((place, step) => place?.[step], spec) ?? {};
}

// A schema with what stands in the way of reading it taken out: references followed, allOf merged, "or null" folded into
// a flag. `component` is the name it has among the components.
function resolve(schema) {
  let current = schema && typeof schema === "object" ? schema : {};
  let component;
  let nullable = false;
  for (let hops = 0; current.$ref && hops < 20; hops += 1) {
    const { $ref, ...beside } = current;
    component ??= $ref.split("/").at(-1);
    current = { ...lookup($ref), ...beside };
  }
  for (const part of (current.allOf ?? []).map(resolve)) {
    const { allOf, ...own } = current;
    current = {
      ...part,
      ...own,
      allOf,
      properties: { ...part.properties, ...own.properties },
      required: [...(part.required ?? []), ...(own.required ?? [])],
    };
    component ??= part.component;
    nullable ||= part.nullable;
  }
  for (const key of ["anyOf", "oneOf"]) {
    const rest = current[key]?.filter((choice) => choice.type !== "null");
    if (!rest) continue;
    nullable ||= rest.length < current[key].length;
    const { [key]: _, ...own } = current;
    if (rest.length === 1) {
      const only = resolve(rest[0]);
      component ??= only.component;
      nullable ||= only.nullable;
      current = { ...only, ...own };
    } else if (rest.every((choice) => choice.const !== undefined || choice.enum)) {
      // An enumeration whose values are described one by one.
      current = {
        type: "string",
        ...own,
        enum: rest.flatMap((choice) => choice.enum ?? [choice.const]),
        meanings: rest,
      };
    } else {
      const types = new Set(rest.map((choice) => resolve(choice).type));
      current = {
        ...(types.size === 1 && { type: [...types][0] }),
        ...own,
        choices: [...(own.choices ?? []), ...rest],
      };
    }
  }
  if (Array.isArray(current.type)) {
    const types = current.type.filter((type) => type !== "null");
    nullable ||= types.length < current.type.length;
    current = { ...current, type: types.length > 1 ? types.join(" or ") : types[0] };
  }
  if (current.enum?.includes(null)) {
    nullable = true;
    current = { ...current, enum: current.enum.filter((value) => value !== null) };
  }
  return { ...current, component, nullable };
}

const isMap = (schema) => schema.additionalProperties && typeof schema.additionalProperties === "object";

function typeOf(schema, depth = 0) {
  let label =
    schema.type ??
    (schema.properties
      ? "object"
      : schema.choices
        ? "one of several"
        : schema.const !== undefined
          ? typeof schema.const
          : schema.enum
            ? typeof schema.enum[0]
            : "any");
  if (schema.type === "array" || schema.items)
    label = depth < 3 ? `array of ${typeOf(resolve(schema.items), depth + 1)}` : "array";
  else if (label === "object" && isMap(schema) && !schema.properties && depth < 3)
    label = `map of ${typeOf(resolve(schema.additionalProperties), depth + 1)}`;
  else if (
    schema.format &&
    !["int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64", "float", "double"].includes(schema.format)
  )
    label += ` (${schema.format})`;
  return schema.nullable ? `${label} or null` : label;
}

function limits(schema) {
  const range = (low, high, unit) => {
    if (low === undefined && high === undefined) return null;
    if (low === high) return `exactly ${low}${unit}`;
    if (high === undefined) return `at least ${low}${unit}`;
    return low === undefined ? `at most ${high}${unit}` : `${low} to ${high}${unit}`;
  };
  const examples = schema.examples ?? (schema.example === undefined ? [] : [schema.example]);
  const parts = [
    range(schema.minLength, schema.maxLength, " characters"),
    range(schema.minItems, schema.maxItems, " items"),
    range(schema.minimum, schema.maximum, ""),
    schema.exclusiveMinimum !== undefined && `more than ${schema.exclusiveMinimum}`,
    schema.exclusiveMaximum !== undefined && `less than ${schema.exclusiveMaximum}`,
    schema.uniqueItems && "no value twice",
    schema.pattern && ["matches ", h("code", {}, schema.pattern)],
    schema.readOnly && "read only",
    schema.writeOnly && "write only",
    schema.default !== undefined &&
      schema.default !== null && ["default ", h("code", {}, JSON.stringify(schema.default))],
    !schema.properties && examples[0] !== undefined && ["for example ", h("code", {}, JSON.stringify(examples[0]))],
  ].filter(Boolean);
  return (
    parts.length > 0 &&
    h(
      "p",
      { class: "limits" },
      parts.map((part, index) => [index ? " · " : null, part]),
    )
  );
}

function values(schema) {
  if (schema.const !== undefined) return h("p", {}, "Always ", h("code", {}, JSON.stringify(schema.const)));
  if (schema.meanings?.some((choice) => choice.description)) {
    return schema.meanings.map((choice) =>
      h(
        "p",
        {},
        (choice.enum ?? [choice.const]).map((value) => h("code", {}, String(value))),
        " ",
        phrase(choice.description ?? ""),
      ),
    );
  }
  return (
    schema.enum &&
    h(
      "p",
      {},
      "One of ",
      schema.enum.map((value, index) => [index ? ", " : null, h("code", {}, String(value))]),
    )
  );
}

function row(name, schema, { where, required, depth = 0, note } = {}) {
  const under = [
    where,
    required && h("span", { class: "required" }, "required"),
    schema.deprecated && "deprecated",
  ].filter(Boolean);
  const line = h(
    "tr",
    { role: "row", class: depth && "nested" },
    h(
      "th",
      { scope: "row", role: "rowheader" },
      h("code", {}, name),
      under.length > 0 &&
        h(
          "span",
          { class: "where" },
          under.map((part, index) => [index ? ", " : null, part]),
        ),
    ),
    h("td", { class: "type", role: "cell" }, typeOf(schema)),
    h(
      "td",
      { role: "cell" },
      prose(schema.description),
      values(schema.items ? resolve(schema.items) : schema),
      limits(schema),
      note && h("p", { class: "limits" }, note),
    ),
  );
  line.style.setProperty("--depth", depth);
  return line;
}

function choiceRow(label, depth) {
  const line = h(
    "tr",
    { role: "row", class: "choice nested" },
    h("th", { scope: "rowgroup", role: "rowheader", colspan: 3 }, label),
  );
  line.style.setProperty("--depth", depth);
  return line;
}

// The rows of what is inside a schema. `path` holds the components above, so that one that contains itself ends.
function inside(schema, depth, path) {
  if (depth > DEEPEST) return [];
  const rows = [];
  const { choices, ...own } = schema;
  if (schema.items) return inside(resolve(schema.items), depth, path);
  for (const [name, raw] of Object.entries(own.properties ?? {})) {
    const child = resolve(raw);
    const component = child.items ? resolve(child.items).component : child.component;
    const again = component && path.includes(component);
    rows.push(
      row(name, child, {
        required: own.required?.includes(name),
        depth,
        note: again ? `The same fields again: ${component}` : null,
      }),
    );
    if (!again) rows.push(...inside(child, depth + 1, component ? [...path, component] : path));
  }
  if (isMap(own)) {
    const child = resolve(own.additionalProperties);
    if (child.properties || child.choices || Object.keys(own.properties ?? {}).length) {
      rows.push(row("any other name", child, { depth }), ...inside(child, depth + 1, path));
    }
  }
  (choices ?? []).forEach((raw, index) => {
    const choice = resolve(raw);
    const title = choice.title ?? choice.component ?? typeOf(choice);
    rows.push(choiceRow(`${index ? "or" : "Either"} ${title}`, depth));
    if (path.includes(choice.component)) return;
    rows.push(...inside(choice, depth, choice.component ? [...path, choice.component] : path));
  });
  return rows;
}

function table(caption, rows) {
  // Explicit roles: on a narrow screen the style sheet stacks the cells, and a stacked table is no table to some readers.
  return h(
    "table",
    { class: "fields", role: "table" },
    h("caption", { class: "visually-hidden" }, caption),
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        ["Field", "Type", "Meaning"].map((title) => h("th", { scope: "col", role: "columnheader" }, title)),
      ),
    ),
    h("tbody", { role: "rowgroup" }, rows),
  );
}

function shape(caption, raw) {
  const schema = resolve(raw);
  const component = schema.items ? resolve(schema.items).component : schema.component;
  const rows = inside(schema, 0, component ? [component] : []);
  const kind = typeOf(schema);
  return [
    (kind !== "object" || !rows.length) &&
      h("p", { class: "muted" }, `${kind[0].toUpperCase()}${kind.slice(1)}`, rows.length ? ":" : ""),
    schema.description && rows.length > 0 && h("div", { class: "prose" }, prose(schema.description)),
    rows.length > 0 ? table(caption, rows) : [values(schema), limits(schema)],
  ];
}

// An example value: what the document gives, else the smallest that fits.
function sample(raw, depth = 0) {
  const schema = resolve(raw);
  const given = schema.example ?? schema.examples?.[0] ?? schema.const ?? schema.default ?? schema.enum?.[0];
  if (given !== undefined && given !== null) return given;
  if (depth > DEEPEST) return null;
  if (schema.properties) {
    const all = Object.entries(schema.properties).filter(([, child]) => !resolve(child).readOnly);
    const shown = ([name, child]) =>
      schema.required?.includes(name) || resolve(child).example !== undefined || resolve(child).examples?.length;
    const chosen = all.some(shown) ? all.filter(shown) : all.slice(0, 2);
    return {
      ...Object.fromEntries(chosen.map(([name, child]) => [name, sample(child, depth + 1)])),
      ...(schema.choices ? sample(schema.choices[0], depth + 1) : {}),
    };
  }
  if (schema.choices) return sample(schema.choices[0], depth + 1);
  if (schema.items) return [sample(schema.items, depth + 1)];
  if (/^(integer|number)/.test(schema.type)) return schema.minimum ?? 1;
  if (schema.type === "boolean") return true;
  if (/^string/.test(schema.type)) {
    const formats = {
      email: "you@example.com",
      uri: "https://example.com",
      url: "https://example.com",
      uuid: "7f1c0a52-3b1e-4c0e-9a51-0d6f6f0e8f11",
      "date-time": "2026-01-31T12:00:00Z",
      date: "2026-01-31",
      password: "a long passphrase",
    };
    return formats[schema.format] ?? "text";
  }
  return {};
}

// ---------------------------------------------------------------------------------------------------------------------
// Operations

const schemeOf = (name) => resolve(spec.components?.securitySchemes?.[name]);

// Each alternative as the list of scheme names it takes; an empty list is "no credential".
function credentials(operation) {
  const security = operation.security ?? spec.security ?? [];
  return security.length ? security.map((alternative) => Object.keys(alternative)) : [[]];
}

// What the document says of a credential beyond the standard: x-chatia-role, x-role and the like.
function extensions(operation) {
  const found = Object.entries(operation).filter(
    ([key, value]) => key.startsWith("x-") && value !== null && value !== false,
  );
  const order = ["role", "scope", "scopes", "rate-class"];
  const rank = (key) => (order.includes(key) ? order.indexOf(key) : order.length);
  return found
    .map(([key, value]) => [key.replace(/^x-(chatia-)?/, ""), value])
    .sort(([one], [other]) => rank(one) - rank(other))
    .map(([key, value]) => [
      key.replaceAll("-", " "),
      [value]
        .flat()
        .map((part) => (typeof part === "object" ? JSON.stringify(part) : String(part)))
        .join(", "),
    ]);
}

function facts(operation) {
  const ways = credentials(operation).map((names) => names.join(" and ") || "none");
  return h(
    "ul",
    { class: "facts", "aria-label": "Access" },
    operation.deprecated && h("li", { class: "warn" }, "Deprecated"),
    h("li", {}, h("b", {}, "Credential "), ways.join(" or ")),
    extensions(operation).map(([key, value]) =>
      h("li", {}, h("b", {}, `${key[0].toUpperCase()}${key.slice(1)} `), value),
    ),
  );
}

function pathNode(path) {
  return h(
    "code",
    {},
    path.split(/(\{[^}]+\})/).map((part, index) => (index % 2 ? h("span", { class: "param" }, part) : [part])),
  );
}

// The type of content to show: JSON where there is a choice.
function pickContent(content) {
  const types = Object.keys(content ?? {});
  const type = types.find((each) => /json/.test(each)) ?? types[0];
  return type ? { type, types, ...content[type] } : null;
}

const variable = (name) =>
  `$${name
    .replace(/[^A-Za-z0-9]+/g, "_")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toUpperCase()}`;

function curl(operation) {
  const parameters = operation.parameters.map((each) => ({ ...each, schema: resolve(each.schema) }));
  const given = (parameter) =>
    parameter.example ?? parameter.schema.example ?? parameter.schema.examples?.[0] ?? parameter.schema.const;
  const path = operation.path.replace(/\{([^}]+)\}/g, (_, name) => {
    const value = given(parameters.find((each) => each.in === "path" && each.name === name) ?? { schema: {} });
    return value === undefined ? variable(name) : encodeURIComponent(value);
  });
  const query = parameters
    .filter((each) => each.in === "query" && each.required)
    .map(
      (each) =>
        `${encodeURIComponent(each.name)}=${given(each) === undefined ? variable(each.name) : encodeURIComponent(given(each))}`,
    );
  const lines = [
    `curl${operation.method === "get" ? "" : ` -X ${operation.method.toUpperCase()}`} "$CHATIA_API${path}${query.length ? `?${query.join("&")}` : ""}"`,
  ];

  // Of several ways in, an API key is the one that suits a script.
  const ways = credentials(operation);
  for (const name of ways.find((names) => names.some((each) => /key/i.test(each))) ?? ways[0]) {
    const scheme = schemeOf(name);
    if (scheme.type === "apiKey" && scheme.in === "header") lines.push(`-H "${scheme.name}: $CHATIA_API_KEY"`);
    else if (scheme.scheme === "basic") lines.push('-u "$CHATIA_API_KEY:"');
    else lines.push('-H "Authorization: Bearer $CHATIA_API_KEY"');
  }
  for (const each of parameters.filter((one) => one.in === "header" && one.required))
    lines.push(`-H "${each.name}: ${given(each) ?? variable(each.name)}"`);
  const body = pickContent(resolve(operation.requestBody).content);
  if (body) {
    const example = body.example ?? Object.values(body.examples ?? {})[0]?.value ?? sample(body.schema);
    const text = typeof example === "string" ? example : JSON.stringify(example, null, 2).replaceAll("\n", "\n  ");
    lines.push(`-H "Content-Type: ${body.type}"`, `-d '${text.replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function copyButton(text, what) {
  const label = h("span", {}, "Copy");
  const button = h(
    "button",
    { class: "copy", type: "button" },
    label,
    h("span", { class: "visually-hidden" }, ` ${what}`),
  );
  const said = h("span", { class: "visually-hidden", role: "status" });
  button.addEventListener("click", async () => {
    const done = await copy(text);
    label.textContent = done ? "Copied" : "Copy failed";
    said.textContent = label.textContent;
    setTimeout(() => {
      label.textContent = "Copy";
      said.textContent = "";
    }, 2000);
  });
  return [button, said];
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Outside a secure context there is no clipboard object; the old command still works there.
    const area = h("textarea", { class: "visually-hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function response(status, raw) {
  const answer = resolve(raw);
  const body = pickContent(answer.content);
  const headers = Object.entries(answer.headers ?? {});
  const head = [
    h("span", { class: `code${/^[23]/.test(status) ? " ok" : ""}` }, status),
    h("span", {}, phrase(answer.description ?? "")),
  ];
  if (!body?.schema && !headers.length) return h("div", { class: "response plain" }, head);
  const details = h("details", { class: "response" }, h("summary", {}, head));
  // Drawn on first opening: a reference has hundreds of these, and most stay closed.
  details.addEventListener(
    "toggle",
    () => {
      details.append(
        h(
          "div",
          { class: "inside" },
          headers.length > 0 &&
            table(
              `Headers of ${status}`,
              headers.map(([name, header]) => {
                const { schema, ...rest } = resolve(header);
                return row(name, { ...resolve(schema), ...rest }, { where: "header" });
              }),
            ),
          body && !/json/.test(body.type) && h("p", { class: "muted" }, h("code", {}, body.type)),
          body?.schema && shape(`Body of ${status}`, body.schema),
        ),
      );
    },
    { once: true },
  );
  return details;
}

function drawOperation(operation) {
  const { id, method, path } = operation;
  const body = resolve(operation.requestBody);
  const content = pickContent(body.content);
  const parameters = operation.parameters;
  const command = curl(operation);
  return h(
    "section",
    { class: "operation", id, "aria-labelledby": `${id}--title` },
    h(
      "h3",
      { id: `${id}--title`, tabindex: -1 },
      h("a", { href: `#${id}` }, operation.summary || `${method.toUpperCase()} ${path}`),
    ),
    h("p", { class: "endpoint" }, h("span", { class: `method ${method}` }, method), pathNode(path)),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        {},
        h("div", { class: "prose" }, prose(operation.description)),
        facts(operation),
        parameters.length > 0 && [
          h("h4", {}, "Parameters"),
          table(
            "Parameters",
            parameters.map((each) => {
              const { schema, ...rest } = each;
              return row(
                each.name,
                {
                  ...resolve(schema),
                  ...(rest.description && { description: rest.description }),
                  ...(rest.deprecated && { deprecated: true }),
                },
                { where: each.in, required: each.required },
              );
            }),
          ),
        ],
        content && [
          h(
            "h4",
            {},
            "Request body",
            !body.required && h("span", { class: "muted" }, " (optional)"),
            !/json/.test(content.type) && h("span", { class: "muted" }, ` (${content.type})`),
          ),
          prose(body.description),
          shape("Request body", content.schema),
        ],
        h("h4", {}, "Responses"),
        Object.entries(operation.responses ?? {}).map(([status, raw]) => response(status, raw)),
      ),
      h(
        "div",
        { class: "example" },
        h(
          "header",
          {},
          h("span", {}, "Example"),
          h("span", {}, copyButton(command, `the example of ${operation.summary ?? path}`)),
        ),
        h("pre", { tabindex: 0, "aria-label": "Example request" }, h("code", {}, command)),
      ),
    ),
  );
}

// ---------------------------------------------------------------------------------------------------------------------
// The page

function collect() {
  const operations = [];
  for (const [path, rawItem] of Object.entries(spec.paths ?? {})) {
    const item = resolve(rawItem);
    for (const method of METHODS.filter((each) => item[each])) {
      const operation = item[method];
      // A parameter of the operation replaces the path's of the same name.
      const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
      const unique = [...new Map(parameters.map((each) => [`${each.in} ${each.name}`, each])).values()];
      const id = operation.operationId ?? `${method}${path.replace(/[^A-Za-z0-9]+/g, "-")}`;
      operations.push({ ...operation, id, method, path, parameters: unique, tag: operation.tags?.[0] ?? "Other" });
    }
  }
  return operations;
}

function intro() {
  const { info = {} } = spec;
  const server = spec.servers?.[0]?.url ?? "/";
  const base = new URL(server, location.origin).href.replace(/\/$/, "");
  const setup = `export CHATIA_API=${base}\nexport CHATIA_API_KEY=your-key`;
  const schemes = Object.keys(spec.components?.securitySchemes ?? {});
  return h(
    "div",
    { class: "intro" },
    h("h1", {}, info.title ?? "API reference"),
    h(
      "p",
      { class: "muted" },
      info.version && `Version ${info.version} · `,
      h("a", { href: currentUrl() }, "OpenAPI document"),
    ),
    h("div", { class: "prose" }, prose(info.description)),
    h("h2", {}, "Before you try an example"),
    h(
      "div",
      { class: "example prose" },
      h("header", {}, h("span", {}, "Shell"), h("span", {}, copyButton(setup, "the set-up"))),
      h("pre", { tabindex: 0 }, h("code", {}, setup)),
    ),
    schemes.length > 0 && [
      h("h2", {}, "Credentials"),
      h(
        "ul",
        { class: "prose" },
        schemes.map((name) => {
          const scheme = schemeOf(name);
          const how =
            scheme.type === "apiKey"
              ? `${scheme.in} ${scheme.name}`
              : scheme.scheme === "bearer"
                ? "Authorization: Bearer …"
                : (scheme.scheme ?? scheme.type);
          return h("li", {}, h("strong", {}, name), " (", h("code", {}, how), ") ", phrase(scheme.description ?? ""));
        }),
      ),
    ],
  );
}

function render() {
  const operations = collect();
  const described = (spec.tags ?? []).map((tag) => tag.name);
  const tags = [...new Set([...described, ...operations.map((each) => each.tag)])].filter((tag) =>
    operations.some((each) => each.tag === tag),
  );
  entries = [];
  const lists = [];
  const sections = tags.map((tag) => {
    const id = `tag-${tag.replace(/[^A-Za-z0-9]+/g, "-").toLowerCase()}`;
    const items = [];
    const drawn = operations
      .filter((each) => each.tag === tag)
      .map((operation) => {
        const section = drawOperation(operation);
        const item = h(
          "li",
          {},
          h(
            "a",
            { href: `#${operation.id}` },
            h("span", { class: `method ${operation.method}` }, operation.method),
            h("span", {}, operation.summary || operation.path),
          ),
        );
        items.push(item);
        entries.push({
          operation,
          section,
          item,
          words: [operation.method, operation.path, operation.summary, operation.id, tag].join(" ").toLowerCase(),
        });
        return section;
      });
    lists.push(h("div", { class: "group" }, h("h2", {}, h("a", { href: `#${id}` }, tag)), h("ul", {}, items)));
    return h(
      "section",
      { class: "tag", id, "aria-label": tag },
      h("h2", {}, tag),
      h("div", { class: "prose muted" }, prose(spec.tags?.find((each) => each.name === tag)?.description)),
      drawn,
    );
  });
  toc.replaceChildren(...lists);
  main.replaceChildren(intro(), ...sections);
  main.removeAttribute("aria-busy");
  document.title = spec.info?.title ?? document.title;
  applyFilter();
  watch();
  follow();
}

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { section, item, words: known } of entries) {
    const hit = words.every((word) => known.includes(word));
    section.hidden = !hit;
    item.hidden = !hit;
    shown += hit ? 1 : 0;
  }
  for (const group of [...toc.children, ...main.querySelectorAll(".tag")]) {
    group.hidden = !group.querySelector(":scope > .operation:not([hidden]), :scope > ul > li:not([hidden])");
  }
  main.querySelector(".intro").hidden = words.length > 0;
  byId("count").textContent = !words.length
    ? ""
    : shown
      ? `${shown} of ${entries.length} operations`
      : "No operation matches";
}

// Marks in the sidebar what is being read.
let watcher;
function watch() {
  watcher?.disconnect();
  watcher = new IntersectionObserver(
    (seen) => {
      for (const { target } of seen.filter((each) => each.isIntersecting)) {
        for (const { section, item } of entries) {
          const link = item.firstElementChild;
          if (section !== target) link.removeAttribute("aria-current");
          else {
            link.setAttribute("aria-current", "true");
            reveal(link);
          }
        }
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  for (const { section } of entries) watcher.observe(section);
}

// scrollIntoView would scroll the page along with the sidebar.
function reveal(link) {
  const [box, view] = [link.getBoundingClientRect(), sidebar.getBoundingClientRect()];
  if (box.top < view.top + 20 || box.bottom > view.bottom - 20)
    sidebar.scrollTop += box.top - view.top - view.height / 3;
}

// The sections come after the page: the browser could not follow the address's fragment by itself.
function follow() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (!target || !main.contains(target)) return;
  if (target.closest("[hidden]")) {
    filter.value = "";
    applyFilter();
  }
  target.scrollIntoView();
  byId(`${target.id}--title`)?.focus({ preventScroll: true });
}

function openMenu(open) {
  sidebar.classList.toggle("open", open);
  menu.setAttribute("aria-expanded", String(open));
  if (open) filter.focus();
}

function currentUrl() {
  return picker ? picker.value : main.dataset.spec;
}

async function load() {
  main.setAttribute("aria-busy", "true");
  const wanted = currentUrl();
  try {
    const answer = await fetch(wanted, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const loaded = await answer.json();
    if (wanted !== currentUrl()) return; // another one was chosen meanwhile
    spec = loaded;
    render();
  } catch (error) {
    const again = h("button", { class: "copy", type: "button" }, "Try again");
    again.addEventListener("click", load);
    main.replaceChildren(
      h("h1", {}, "The reference could not be loaded"),
      h("p", { role: "alert" }, h("a", { href: wanted }, wanted), ` (${error.message})`),
      again,
    );
    main.removeAttribute("aria-busy");
  }
}

// ?spec=<name> makes an operation of any of the documents linkable; only a listed one is ever fetched.
const named = new URLSearchParams(location.search).get("spec");
for (const option of picker?.options ?? []) {
  if (option.textContent.trim() === named) picker.value = option.value;
}
picker?.addEventListener("change", () => {
  const name = picker.selectedOptions[0].textContent.trim();
  history.replaceState(null, "", `?spec=${encodeURIComponent(name)}`);
  filter.value = "";
  scrollTo(0, 0);
  load();
});

filter.addEventListener("input", applyFilter);
filter.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  const first = entries.find((each) => !each.item.hidden);
  first?.item.firstElementChild.click();
});
menu.addEventListener("click", () => openMenu(!sidebar.classList.contains("open")));
toc.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  openMenu(false);
  if (link.hash === location.hash) follow(); // no hashchange comes for the same address
});
window.addEventListener("hashchange", follow);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && sidebar.classList.contains("open")) {
    openMenu(false);
    menu.focus();
  }
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (menu.offsetParent) openMenu(true);
  else filter.focus();
});

load();
