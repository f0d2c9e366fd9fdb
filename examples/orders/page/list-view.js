/** The list as an ARIA grid: one stop for Tab, arrows inside. Rows are kept and updated, so that focus and hover survive reads. */

import { announce, byId, count, el, money, when } from "./dom.js";
import { actionsFor, COMMANDS, nextStep } from "./lifecycle.js";

/** @param {{ onAct: (id: string, action: string) => void, onOpen: (id: string) => void }} hooks */
export function createListView(hooks) {
  const grid = byId("grid");
  const heldButton = byId("held");
  const elements = new Map();
  let activeId;
  let latest = { rows: [], loaded: false };
  let release = false;

  const engaged = () => grid.matches(":hover") || grid.contains(document.activeElement);

  heldButton.addEventListener("click", () => {
    release = true;
    render(latest);
    heldButton.blur();
  });
  grid.addEventListener("mouseleave", () => render(latest));
  grid.addEventListener("focusout", () => setTimeout(() => render(latest)));

  /** New orders of others wait behind a button while someone is at work in the list: rows must not move under the pointer. */
  function render(model) {
    latest = model;
    const hold = engaged() && !release && elements.size > 0;
    release = false;
    const shown = model.rows.filter((row) => !hold || row.phase !== "read" || elements.has(row.id) || model.keepAll);
    const waiting = model.rows.length - shown.length;
    heldButton.hidden = waiting === 0;
    heldButton.textContent = waiting === 1 ? "1 new order" : `${count(waiting)} new orders`;

    const ids = new Set(shown.map((row) => row.id));
    for (const [id, entry] of elements) {
      if (ids.has(id)) continue;
      const hadFocus = entry.node.contains(document.activeElement);
      const neighbour = entry.node.nextElementSibling ?? entry.node.previousElementSibling;
      entry.node.remove();
      elements.delete(id);
      if (hadFocus && neighbour !== null) focusRow(neighbour.dataset.id);
    }
    let before = grid.firstElementChild;
    for (const row of shown) {
      let entry = elements.get(row.id);
      if (entry === undefined) elements.set(row.id, (entry = { node: el("div", { role: "row", class: "row", tabindex: "-1", "data-id": row.id }), drawn: "" }));
      draw(entry, row);
      if (entry.node === before) before = before.nextElementSibling;
      else keepFocus(entry.node, () => grid.insertBefore(entry.node, before));
    }
    if (activeId === undefined || !elements.has(activeId)) activeId = shown[0]?.id;
    for (const [id, entry] of elements) entry.node.tabIndex = id === activeId ? 0 : -1;
    const empty = byId("empty");
    empty.hidden = shown.length > 0;
    empty.textContent = model.loaded ? (model.filtered ? "No order matches." : "No orders yet. Place the first one.") : "Reading the orders…";
    byId("more").hidden = !model.hasMore;
  }

  function keepFocus(node, move) {
    const focused = node.contains(document.activeElement) ? document.activeElement : undefined;
    move();
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }

  function draw(entry, row) {
    const drawn = JSON.stringify([row.status, row.phase, row.version, row.readVersion, row.writtenVersion, row.customer, row.totalCents, row.anomalies, row.lateDelivery]);
    if (drawn === entry.drawn) return;
    entry.drawn = drawn;
    const focusedAction = entry.node.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
    const hadFocus = entry.node.contains(document.activeElement);
    const actions = actionsFor(row.status);
    entry.node.dataset.status = row.status;
    entry.node.dataset.phase = row.phase;
    entry.node.setAttribute("aria-busy", String(row.phase === "sending" || row.phase === "pending"));
    entry.node.replaceChildren(
      el("div", { role: "gridcell", class: "who" }, el("b", { title: row.id }, row.id), el("span", { title: row.customer }, row.customer ?? "")),
      el("div", { role: "gridcell", class: "what" }, el("span", { class: "status" }, row.status), phase(row), ...marks(row)),
      el("div", { role: "gridcell", class: "sum" }, el("b", {}, row.items?.length === 0 ? "" : money(row.totalCents)), el("time", { datetime: row.placedAt }, when(row.placedAt))),
      el(
        "div",
        { role: "gridcell", class: "do" },
        ...actions.map((action) => button(row.id, action, COMMANDS[action].label, COMMANDS[action].quiet ? "quiet small" : "small")),
        el("button", { type: "button", tabindex: "-1", class: "quiet small", "data-action": "history", "aria-label": `History of ${row.id}`, onclick: () => hooks.onOpen(row.id) }, "History"),
      ),
    );
    if (hadFocus) (entry.node.querySelector(`[data-action="${focusedAction}"]`) ?? entry.node).focus({ preventScroll: true });
  }

  const button = (id, action, label, classes) => el("button", { type: "button", tabindex: "-1", class: classes, "data-action": action, "aria-label": `${label} ${id}`, onclick: () => hooks.onAct(id, action) }, label);

  function phase(row) {
    if (row.phase === "sending") return el("span", { class: "phase" }, "sending");
    if (row.phase === "settled") return el("span", { class: "phase" }, `settled in ${row.tookMs < 1000 ? `${Math.round(row.tookMs)} ms` : `${(row.tookMs / 1000).toFixed(1)} s`}`);
    if (row.phase !== "pending") return el("span", { class: "version" }, `v${row.version}`);
    const list = row.readVersion === 0 ? "not in the list yet" : `the list has v${row.readVersion}`;
    return el("span", { class: "phase" }, `v${row.writtenVersion} written, ${list}`);
  }

  function marks(row) {
    const anomalies = Array.isArray(row.anomalies) ? row.anomalies : [];
    return [
      row.lateDelivery === true ? el("span", { class: "mark" }, "late") : undefined,
      anomalies.length === 0 ? undefined : el("span", { class: "mark", title: anomalies.map((kind) => kind.kind ?? kind).join(", ") }, anomalies.length === 1 ? "anomaly" : `${anomalies.length} anomalies`),
    ];
  }

  // ---- keyboard

  function focusRow(id) {
    const entry = elements.get(id);
    if (entry === undefined) return;
    const before = elements.get(activeId);
    if (before !== undefined) before.node.tabIndex = -1;
    activeId = id;
    entry.node.tabIndex = 0;
    entry.node.focus();
    entry.node.scrollIntoView({ block: "nearest" });
  }

  grid.addEventListener("focusin", (event) => {
    const row = event.target.closest(".row");
    if (row === null) return;
    const before = elements.get(activeId);
    if (before !== undefined) before.node.tabIndex = -1;
    activeId = row.dataset.id;
    row.tabIndex = 0;
  });

  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest(".row");
    if (row === null) return;
    const rows = [...grid.children];
    const at = rows.indexOf(row);
    const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
    const buttons = [...row.querySelectorAll("button")];
    if (to !== undefined) focusRow(rows[Math.max(0, Math.min(rows.length - 1, to))].dataset.id);
    else if (event.key === "ArrowRight") (buttons[buttons.indexOf(document.activeElement) + 1] ?? buttons.at(-1)).focus();
    else if (event.key === "ArrowLeft") (buttons[buttons.indexOf(document.activeElement) - 1] ?? row).focus();
    else if (event.key === "Enter" && event.target === row) hooks.onOpen(row.dataset.id);
    else if (event.key === "p" && nextStep(row.dataset.status) !== undefined) hooks.onAct(row.dataset.id, nextStep(row.dataset.status));
    else if (event.key === "p") announce("This order has no next step.");
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return { render, focus: (id) => focusRow(id ?? activeId) };
}
