/** Puts the page together: switches, shortcuts, and what happens on a change. */

import * as api from "./api.js";
import { announce, byId, el, toast } from "./dom.js";
import { createHistory } from "./history.js";
import { COMMANDS, STATUSES } from "./lifecycle.js";
import { createListView } from "./list-view.js";
import { connect } from "./live.js";
import { createOrders } from "./orders.js";
import { createPlaceForm } from "./place-form.js";
import { createStats } from "./stats.js";

const READS_SHOWN = 5;
const DELAYS = [["0.5 s", 500], ["2 s", 2000], ["5 s", 5000]];

/** Runs at most once per `ms`, and once more at the end when asked meanwhile. */
function throttled(ms, run) {
  let timer;
  let again = false;
  return function call() {
    if (timer !== undefined) {
      again = true;
      return;
    }
    run();
    timer = setTimeout(() => {
      timer = undefined;
      if (again) {
        again = false;
        call();
      }
    }, ms);
  };
}

// ---- orders and their list

const orders = createOrders({ onChange: render, onRead: showRead, onRefused: showRefusal, onSettled: showSettled, onToken: showToken });
const history = createHistory({ onAct: act });
const list = createListView({ onAct: act, onOpen: (id) => void history.open(id) });
const form = createPlaceForm({ onPlace: place });
const stats = createStats({ withToken: () => orders.withToken, onStatus: filterByStatus });
const refreshStats = throttled(700, () => void stats.refresh());
const refreshList = throttled(400, () => void orders.refresh());
let filtersChanged = true;

function render() {
  const { status, customer } = orders.filter;
  list.render({ rows: orders.visible(), loaded: orders.loaded, filtered: status !== "" || customer !== "", hasMore: orders.hasMore, keepAll: filtersChanged });
  filtersChanged = false;
}

function act(id, action) {
  announce(`${COMMANDS[action].label} ${id}: sent`);
  void orders.act(id, action).then(() => void history.refresh());
}

function place(id, body) {
  announce(`Order ${id} sent`);
  void orders.place(id, body);
  list.focus(id);
}

function showRefusal({ id, command, code, text, actual, status }) {
  const changed = status === 412 ? ` Someone was faster${actual === undefined ? "" : `: it is at version ${actual}`}. Look again and decide.` : "";
  toast({ kind: "error", code, text: `${command} ${id}: ${text}${changed}` });
}

function showSettled({ id, version }) {
  announce(`${id} settled at version ${version}`);
  refreshStats();
}

function showToken(token) {
  byId("token-note").replaceChildren("Token of your last write ", el("code", { title: token }, token.length > 28 ? `${token.slice(0, 28)}…` : token));
}

// ---- the reads, and whether they were fresh

const reads = [];

function showRead(read) {
  const at = reads.findIndex((known) => known.number === read.number);
  if (at >= 0) reads[at] = read;
  else reads.unshift(read);
  if (read.state === "dropped") reads.splice(reads.indexOf(read), 1);
  reads.splice(READS_SHOWN);
  byId("reads").replaceChildren(...reads.map(readLine));
  if (read.state === "reading" || read.state === "dropped") return;
  const verdict = byId("verdict");
  verdict.dataset.verdict = read.state;
  verdict.textContent = read.state === "stale" && read.text !== undefined ? `stale: ${read.text}` : read.state;
}

function readLine(read) {
  const what = { reading: read.token ? "waiting for the tide" : "reading", fresh: "fresh", stale: "stale", failed: "failed" }[read.state];
  const why = read.text ?? (read.missed > 0 ? `misses ${read.missed} of your writes` : "");
  return el(
    "li",
    { "data-verdict": read.state, "data-token": read.token, "data-read": read.number },
    el("span", { class: "how" }, read.token ? "token" : "no token"),
    el("span", { class: "verdict" }, what),
    el("span", { class: "why", title: why }, why),
    el("span", { class: "ms" }, read.ms === undefined ? "" : `${Math.round(read.ms)} ms`),
  );
}

// ---- switches and filters

const useToken = byId("use-token");
useToken.addEventListener("change", () => {
  void orders.setWithToken(useToken.checked);
  announce(useToken.checked ? "Reads carry the token" : "Reads leave the token out");
});

const useDelay = byId("use-delay");
const delayMs = byId("delay-ms");
for (const [label, ms] of DELAYS) delayMs.append(el("option", { value: String(ms), selected: ms === 2000 }, label));
async function setDelay() {
  const ms = await api.projectionDelay(useDelay.checked ? Number(delayMs.value) : 0);
  if (ms === undefined) toast({ kind: "error", code: "demo-only", text: "The service does not take a delay." });
  else announce(ms === 0 ? "The projection runs at full speed" : `The projection is ${ms} milliseconds late`);
}
useDelay.addEventListener("change", () => void setDelay());
delayMs.addEventListener("change", () => useDelay.checked && void setDelay());
void api.projectionDelay().then((ms) => {
  byId("delay-row").hidden = ms === undefined;
  useDelay.checked = ms > 0;
  if (DELAYS.some(([, known]) => known === ms)) delayMs.value = String(ms);
});

const filterStatus = byId("filter-status");
filterStatus.append(el("option", { value: "" }, "any status"), ...STATUSES.map((status) => el("option", { value: status }, status)));
function filterByStatus(status) {
  filtersChanged = true;
  filterStatus.value = status;
  stats.select(status);
  void orders.setFilter({ status });
}
filterStatus.addEventListener("change", () => filterByStatus(filterStatus.value));
const filterCustomer = byId("filter-customer");
let typing;
filterCustomer.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    filtersChanged = true;
    void orders.setFilter({ customer: filterCustomer.value.trim() });
  }, 250);
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => {
  filtersChanged = true;
  void orders.showMore();
});
byId("new-order").addEventListener("click", () => form.focus());

// ---- keyboard

const helpDialog = byId("help-dialog");
byId("help").addEventListener("click", () => helpDialog.showModal());
byId("help-close").addEventListener("click", () => helpDialog.close());
helpDialog.addEventListener("click", (event) => event.target === helpDialog && helpDialog.close());

const SHORTCUTS = {
  n: () => form.focus(),
  l: () => list.focus(),
  j: () => list.focus(),
  t: () => useToken.click(),
  d: () => byId("delay-row").hidden || useDelay.click(),
  "/": () => filterCustomer.focus(),
  "?": () => helpDialog.showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null) return;
  if (event.target.matches("input:not([type=checkbox],[type=radio]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const run = SHORTCUTS[event.key];
  if (run === undefined) return;
  event.preventDefault();
  run();
});

// ---- live

connect({
  onOpen() {
    refreshList();
    refreshStats();
  },
  onChange(change) {
    refreshList();
    refreshStats();
    if (change.id !== undefined && history.isOpen(change.id)) void history.refresh();
  },
});
render();
void orders.refresh();
void stats.refresh();
