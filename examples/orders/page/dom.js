/** Small helpers around the DOM. Text always goes in as text nodes: nothing on this page parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

/** Makes an element; `on…` props are listeners, others attributes; strings become text. */
export function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Everything outside an open modal dialog is inert and behind it: messages move into the dialog, and back when it closes. */
function raiseMessages() {
  const home = document.querySelector("dialog[open]") ?? document.body;
  const messages = byId("messages");
  if (messages.parentElement !== home) home.append(messages);
}
document.addEventListener("close", raiseMessages, true);

/** Says it to screen readers, politely. */
export function announce(text) {
  raiseMessages();
  byId("announcer").textContent = text;
}

/** Shows a message for a while; errors stay longer and are read out at once. */
export function toast({ kind = "info", code, text }) {
  const box = el(
    "div",
    { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status", "data-code": code },
    code === undefined ? undefined : el("code", {}, code),
    el("p", {}, text),
    el("button", { type: "button", class: "quiet icon", "aria-label": "Dismiss", onclick: () => box.remove() }, "✕"),
  );
  raiseMessages();
  const toasts = byId("toasts");
  toasts.append(box);
  while (toasts.childElementCount > 4) toasts.firstElementChild?.remove();
  setTimeout(() => box.remove(), kind === "error" ? 9000 : 4500);
}

const moneyFormat = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const countFormat = new Intl.NumberFormat("en");
const timeFormat = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dateFormat = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const momentFormat = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** @param {number | undefined} cents */
export const money = (cents) => moneyFormat.format((cents ?? 0) / 100);
export const count = (n) => countFormat.format(n);
/** A moment in few words: the time when it was today, else the date. */
export function when(iso) {
  const at = new Date(iso);
  if (iso === undefined || iso === null || Number.isNaN(at.getTime())) return "";
  return Date.now() - at.getTime() < 86_400_000 && at.getTime() <= Date.now() + 60_000 ? timeFormat.format(at) : dateFormat.format(at);
}
export function moment(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? String(iso) : momentFormat.format(at);
}

/** Resolves after `ms`, or at once when the signal aborts. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** An id that needs no secure context (crypto.randomUUID does). */
export function randomId(bytes = 10) {
  const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => alphabet[byte % 32]).join("");
}
