/** The drawer with an order's events and its state at any version. States of the past never change, so each is read once. */

import * as api from "./api.js";
import { announce, byId, el, moment, money } from "./dom.js";
import { COMMANDS } from "./lifecycle.js";

/** @param {{ onAct: (id: string, action: string) => void }} hooks */
export function createHistory(hooks) {
  const drawer = byId("history");
  const slider = byId("at");
  let id;
  let events = [];
  let states = new Map();
  let shown = 0;

  byId("history-close").addEventListener("click", () => drawer.close());
  drawer.addEventListener("click", (event) => event.target === drawer && drawer.close());
  drawer.addEventListener("close", () => (id = undefined));
  slider.addEventListener("input", () => void travel(Number(slider.value)));
  for (const [action, { label }] of Object.entries(COMMANDS)) {
    byId("any-buttons").append(el("button", { type: "button", class: "quiet small", "data-any": action, onclick: () => id !== undefined && hooks.onAct(id, action) }, label));
  }

  async function open(orderId) {
    id = orderId;
    events = [];
    states = new Map();
    shown = 0;
    byId("history-title").textContent = orderId;
    byId("history-sub").textContent = "Reading…";
    byId("state").replaceChildren();
    byId("events").replaceChildren();
    if (!drawer.open) drawer.showModal();
    await refresh(true);
  }

  /** Reads the events again; stays at the version shown unless that was the newest. */
  async function refresh(jump = false) {
    const asked = id;
    if (asked === undefined) return;
    const answer = await api.read(api.historyPath(asked), { token: true });
    if (asked !== id) return;
    if (!answer.ok) {
      byId("history-sub").textContent = answer.text;
      return;
    }
    const wasNewest = shown === (events.at(-1)?.version ?? 0);
    events = answer.body.events;
    const first = events[0]?.version ?? 1;
    const last = events.at(-1)?.version ?? 1;
    slider.min = String(first);
    slider.max = String(last);
    byId("at-first").textContent = `v${first}`;
    byId("at-last").textContent = `v${last}, now`;
    byId("history-sub").textContent = events.length === 1 ? "1 event" : `${events.length} events`;
    drawEvents();
    if (jump || wasNewest) await travel(last);
    else mark();
  }

  function drawEvents() {
    byId("events").replaceChildren(
      ...events.map((event) =>
        el(
          "li",
          { "data-version": event.version },
          el("button", { type: "button", onclick: () => void travel(event.version) }, el("span", { class: "v" }, `v${event.version}`), el("b", {}, event.type), el("time", { datetime: event.recordedAt }, moment(event.recordedAt))),
          Object.keys(event.data ?? {}).length === 0 ? undefined : el("pre", {}, JSON.stringify(event.data, undefined, 1).replaceAll("\n", " ").replaceAll(/ {2,}/g, " ")),
        ),
      ),
    );
  }

  async function stateAt(version) {
    if (version < 1) return undefined;
    if (!states.has(version)) {
      const answer = await api.read(api.historyPath(id, version), { token: true });
      if (!answer.ok) return undefined;
      states.set(version, answer.body.state);
    }
    return states.get(version);
  }

  async function travel(version) {
    const asked = id;
    shown = version;
    slider.value = String(version);
    mark();
    const [state, before] = await Promise.all([stateAt(version), stateAt(version - 1)]);
    if (asked !== id || shown !== version) return; // the slider has moved on
    if (state === undefined) {
      byId("state").replaceChildren(el("div", {}, el("dt", {}, "unknown"), el("dd", {}, "The service did not answer.")));
      return;
    }
    byId("state").dataset.version = String(version);
    byId("state").replaceChildren(
      ...Object.entries(state).map(([key, value]) => el("div", { class: before === undefined || JSON.stringify(before[key]) === JSON.stringify(value) ? undefined : "changed" }, el("dt", {}, named(key)), el("dd", {}, text(key, value)))),
    );
    announce(`Version ${version}: ${state.status ?? ""}`);
  }

  function mark() {
    const event = events.find((candidate) => candidate.version === shown);
    byId("at-label").textContent = event === undefined ? `version ${shown}` : `version ${shown}, ${moment(event.recordedAt)}`;
    slider.setAttribute("aria-valuetext", event === undefined ? `version ${shown}` : `version ${shown}, ${event.type}`);
    for (const item of byId("events").children) {
      const version = Number(item.dataset.version);
      item.classList.toggle("future", version > shown);
      if (version === shown) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
  }

  return { open, refresh, isOpen: (orderId) => id === orderId };
}

function text(key, value) {
  if (typeof value === "number" && key.endsWith("Cents")) return money(value);
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) return moment(value);
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((entry) => (typeof entry === "object" ? inline(entry) : String(entry))).join("\n");
  return typeof value === "object" ? Object.entries(value).map(([name, entry]) => `${named(name)} ${text(name, entry)}`).join("\n") : String(value);
}

/** Amounts are shown in whole units, so their names lose the cents. */
const named = (key) => key.replace(/Cents$/, "");

const inline = (entry) =>
  Object.entries(entry ?? {})
    .map(([key, value]) => `${named(key)} ${typeof value === "object" ? JSON.stringify(value) : text(key, value)}`)
    .join(", ");
