"use strict";
const POLL_MS = 1000, GIVE_UP_MS = 3000, PAST_MS = 240_000, GAP_MS = 4000, CHANGES = 6, NONE = "–";
const token = new URLSearchParams(location.search).get("token");
const byId = (id) => document.getElementById(id);
const shown = new Map();   // replica's name → its row on the page, its past and its last state
let seenAt = null;

// Figures as text: [value, unit]. What is not known is a dash.

const number = (value, digits = 0) => value === null || value === undefined ? [NONE]
  : [value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits})];
const rate = (value) => number(value, value !== null && value > 0 && value < 100 ? 1 : 0);

function duration(s) {
  if (s === null || s === undefined) return [NONE];
  return s < 0.01 ? [(s * 1000).toFixed(1), "ms"] : s < 1 ? [(s * 1000).toFixed(0), "ms"] : [s.toFixed(2), "s"];
}

function uptime(s) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = units.find(([size]) => s >= 2 * size) ?? units[3];
  return `${Math.floor(s / size)} ${unit}`;
}

// Elements. Text only, so that a name from a config or a replica can never become markup.

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function write(node, [text, unit]) {
  const whole = `${text} ${unit ?? ""}`;
  if (node.dataset.text === whole) return;   // keeps a selection, and screen readers quiet
  node.dataset.text = whole;
  node.classList.toggle("unknown", text === NONE);
  node.replaceChildren(text, ...(unit ? [element("small", {}, unit)] : []));
}

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Curves over the last minutes; a gap where nothing is known.

function curve(node, past, value, text, label) {
  const now = Date.now(), known = past.filter((point) => point[value] !== null);
  const top = Math.max(...known.map((point) => point[value]), 1e-9);
  const lines = [];
  let line = [], last = 0;
  for (const point of past) {
    if ((point[value] === null || point.at - last > GAP_MS) && line.length) lines.push(line), line = [];
    if (point[value] !== null) {
      const x = 104 * (1 - (now - point.at) / PAST_MS), y = 24 - 22 * point[value] / top;
      line.push(`${x.toFixed(1)},${y.toFixed(1)}`);
    }
    last = point.at;
  }
  lines.push(line);
  const drawn = lines.filter((points) => points.length > 1).map((points) => svg("polyline", {points: points.join(" ")}));
  node.replaceChildren(svg("line", {x1: 0, x2: 104, y1: 25.5, y2: 25.5}), ...drawn);
  node.setAttribute("aria-label", known.length ? `${label}, up to ${text(top).join(" ")}` : `${label}: nothing known yet`);
}

// One column of the table each: title, class, and how a cell starts (make) and follows a replica (fill).

const plain = (title, value, text, className = "") => ({
  title, className, fill: (cell, replica) => write(cell, text(value(replica))),
});
const sparkline = (title, className, value, text) => ({
  title, className: `spark ${className}`,
  make: (cell) => cell.append(svg("svg", {viewBox: "0 0 104 26", preserveAspectRatio: "none", role: "img"})),
  fill: (cell, replica, row) => curve(cell.firstChild, row.past, value, text, title),
});

const COLUMNS = [
  {
    title: "State", className: "left states", make: (cell) => cell.append(element("span", {class: "pill"})),
    fill: (cell, replica) => {
      cell.firstChild.textContent = replica.state;
      cell.firstChild.className = "pill";
      if (/^[a-z]+$/.test(replica.state)) cell.firstChild.classList.add(replica.state);
    },
  },
  {
    title: "In flight", className: "in-flight",
    make: (cell) => {
      const bar = element("span", {class: "bar", "aria-hidden": "true"}, element("i"));
      cell.append(element("span", {class: "load"}, bar, element("b")));
    },
    fill: (cell, replica, row, busiest) => {
      write(cell.querySelector("b"), number(replica.in_flight));
      cell.querySelector("i").style.width = `${busiest ? 100 * (replica.in_flight ?? 0) / busiest : 0}%`;
    },
  },
  sparkline("In flight, 4 min", "loads kept", "load", number),
  plain("TTFT p50", (replica) => replica.ttft_p50_s, duration),
  plain("TTFT p95", (replica) => replica.ttft_p95_s, duration),
  sparkline("TTFT p50, 4 min", "", "ttft", duration),
  plain("TPOT p50", (replica) => replica.tpot_p50_s, duration),
  plain("Tokens/s", (replica) => replica.tokens_per_s, rate),
  {
    title: "KV cache", fill: (cell, replica) => {   // red and named while it is short of room
      const engine = replica.engine, usage = engine?.kv_usage_ratio ?? null;
      write(cell, usage === null ? [NONE] : [(100 * usage).toFixed(0), `% ${engine.kv_pressure ?? ""}`.trim()]);
      cell.classList.toggle("failing", Boolean(engine?.kv_pressure));
    },
  },
  {
    title: "Slow-down", fill: (cell, replica) => {   // red where people are told; why is in the tooltip
      const used = replica.slowdown?.used ?? null;
      const reasons = (replica.gpus ?? []).flatMap((gpu) => (gpu.throttled_by ?? []).map((why) => `${gpu.name}: ${why}`));
      write(cell, used === null ? [NONE] : [used.toFixed(1), "×"]);
      cell.classList.toggle("failing", used > 1.3);
      cell.title = replica.gpu_lost ? "a GPU is lost" : reasons.join(", ");
    },
  },
  plain("Requests/s", (replica) => replica.requests_per_s, rate),
  plain("Requests", (replica) => replica.requests, number, "kept"),
  {
    title: "Failed", fill: (cell, replica) => {
      write(cell, number(replica.failures));
      cell.classList.toggle("failing", replica.failures > 0);
    },
  },
];

function heading() {
  const titles = [{title: "Replica"}, ...COLUMNS];
  byId("columns").replaceChildren(...titles.map(({title, className = ""}) =>
    element("th", {scope: "col", role: "columnheader", class: className}, title)));
}

function newRow() {
  const name = element("span"), detail = element("span", {class: "detail"});
  const tr = element("tr", {role: "row"}, element("th", {scope: "row", role: "rowheader"}, name, detail));
  const cells = COLUMNS.map((column) => {
    const cell = element("td", {role: "cell", class: column.className ?? "", "data-label": column.title});
    column.make?.(cell);
    tr.append(cell);
    return cell;
  });
  return {tr, name, detail, cells, past: [], state: null};
}

function showReplica(replica, busiest) {
  let row = shown.get(replica.name);
  if (!row) shown.set(replica.name, row = newRow());
  const models = replica.models === null ? "models not known" : replica.models.join(", ") || "no models";
  write(row.name, [replica.name]);
  write(row.detail, [models]);
  row.detail.title = `${replica.url} — ${models}`;
  row.past.push({at: Date.now(), load: replica.in_flight, ttft: replica.ttft_p50_s});
  while (Date.now() - row.past[0].at > PAST_MS) row.past.shift();
  if (row.state !== null && row.state !== replica.state) note(`${replica.name}: ${row.state} → ${replica.state}`);
  row.state = replica.state;
  COLUMNS.forEach((column, i) => column.fill(row.cells[i], replica, row, busiest));
  return row.tr;
}

function showReplicas(replicas) {
  const names = new Set(replicas.map((replica) => replica.name));
  for (const name of shown.keys()) if (!names.has(name)) note(`${name} left the fleet`), shown.delete(name);
  const busiest = Math.max(0, ...replicas.map((replica) => replica.in_flight ?? 0));
  const rows = replicas.map((replica) => showReplica(replica, busiest)), body = byId("replicas");
  if (rows.length !== body.children.length || rows.some((tr, i) => body.children[i] !== tr)) body.replaceChildren(...rows);
  const ready = replicas.filter((replica) => replica.state === "ready").length;
  write(byId("summary"), [replicas.length ? `${ready} of ${replicas.length} ready` : "none configured"]);
  document.title = `${ready}/${replicas.length} ready · vllm-gateway`;
}

function showTotals(state) {
  const totals = [
    ["In flight", number(state.in_flight)], ["Requests/s", rate(state.requests_per_s)],
    ["Tokens/s", rate(state.tokens_per_s)], ["TTFT p50", duration(state.ttft_p50_s)],
    ["TTFT p95", duration(state.ttft_p95_s)], ["Requests", number(state.requests)], ["Failed", number(state.failures)],
  ];
  const list = byId("totals");
  if (!list.children.length) {
    list.append(...totals.map(([label]) => element("div", {}, element("dt", {}, label), element("dd"))));
  }
  totals.forEach(([, text], i) => write(list.children[i].lastChild, text));
  list.lastChild.lastChild.classList.toggle("failing", state.failures > 0);
}

function note(text) {
  const list = byId("changes"), at = new Date();
  list.querySelector(".none")?.remove();
  list.prepend(element("li", {}, element("time", {datetime: at.toISOString()}, at.toLocaleTimeString()), text));
  while (list.children.length > CHANGES) list.lastChild.remove();
}

// Contact with the gateway.

function found(state) {
  write(byId("about"), [`${state.version} · policy ${state.policy} · up ${uptime(state.uptime_s)}`]);
  byId("draining").hidden = !state.draining;
  showTotals(state);
  showReplicas(state.replicas);
  if (!byId("lost").hidden) note("contact again");
  seenAt = new Date();
  byId("lost").hidden = true;
  write(byId("contact"), ["live"]);
  byId("contact").className = "live";
  document.body.classList.remove("stale");
}

function lost(error) {
  const why = error.name === "TimeoutError" ? "no answer in time" : error.message;
  const text = seenAt
    ? `No contact since ${seenAt.toLocaleTimeString()} (${why}). The figures below are from then.`
    : `No contact with the gateway yet (${why}).`;
  if (byId("lost").hidden && seenAt) note("contact lost");
  if (byId("lost").textContent !== text) byId("lost").textContent = text;   // else an alert would be read out each second
  byId("lost").hidden = false;
  write(byId("contact"), ["no contact"]);
  byId("contact").className = "lost";
  document.title = "no contact · vllm-gateway";
  document.body.classList.add("stale");
}

async function ask() {
  const headers = token ? {authorization: `Bearer ${token}`} : {};
  const answer = await fetch("/dashboard/state.json", {headers, cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS)});
  if (!answer.ok) throw new Error(answer.status === 401 ? "the token is not, or no longer, right" : `status ${answer.status}`);
  return answer.json();
}

async function poll() {
  try {
    found(await ask());
  } catch (error) {
    lost(error);
  }
  setTimeout(poll, POLL_MS);
}

heading();
byId("changes").append(element("li", {class: "none"}, "none so far"));
poll();
