/** The form that places an order. It checks what a browser can check; the service checks again. */

import { byId, el, money, randomId } from "./dom.js";

const SKUS = [["tea-oolong", 12.5], ["mug-blue", 9.9], ["kettle-1l", 49], ["filter-100", 4.2], ["scale-2kg", 24.5]];
const MAX_ITEMS = 20;

/** @param {{ onPlace: (id: string, body: object) => void }} hooks */
export function createPlaceForm(hooks) {
  const form = byId("place");
  const items = byId("items");
  const error = byId("place-error");
  let turn = 0;

  function addItem(focus) {
    if (items.childElementCount >= MAX_ITEMS) return;
    const [sku, price] = SKUS[turn % SKUS.length];
    turn += 1;
    const row = el(
      "div",
      { class: "item" },
      el("label", {}, el("span", { class: "label" }, "SKU"), el("input", { name: "sku", required: true, maxlength: "64", value: sku, autocomplete: "off", spellcheck: "false" })),
      el("label", {}, el("span", { class: "label" }, "Quantity"), el("input", { name: "quantity", type: "number", inputmode: "numeric", min: "1", max: "9999", step: "1", required: true, value: "1" })),
      el("label", {}, el("span", { class: "label" }, "Unit price"), el("input", { name: "price", type: "number", inputmode: "decimal", min: "0", max: "99999", step: "0.01", required: true, value: price.toFixed(2) })),
      el("button", { type: "button", class: "quiet icon", "aria-label": `Remove the item ${sku}`, onclick: () => removeItem(row) }, "✕"),
    );
    items.append(row);
    total();
    if (focus) row.querySelector("input").select();
  }

  function removeItem(row) {
    if (items.childElementCount === 1) return;
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    total();
    neighbour?.querySelector("input")?.focus();
  }

  const values = () =>
    [...items.children].map((row) => {
      const value = (name) => row.querySelector(`[name=${name}]`).value;
      return { sku: value("sku").trim(), quantity: Number(value("quantity")), unitPriceCents: Math.round(Number(value("price")) * 100) };
    });

  function total() {
    byId("total").textContent = money(values().reduce((sum, item) => sum + item.quantity * item.unitPriceCents || 0, 0));
    for (const button of items.querySelectorAll("button")) button.disabled = items.childElementCount === 1;
  }

  function reset() {
    items.replaceChildren();
    byId("customer").value = `c-${1 + Math.floor(Math.random() * 40)}`;
    addItem(false);
  }

  form.addEventListener("input", total);
  byId("add-item").addEventListener("click", () => addItem(true));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const invalid = form.querySelector(":invalid:not(fieldset)");
    if (invalid !== null) {
      error.textContent = `${invalid.closest("label")?.textContent?.trim() ?? "A field"}: ${invalid.validationMessage}`;
      invalid.setAttribute("aria-invalid", "true");
      invalid.addEventListener("input", () => (invalid.removeAttribute("aria-invalid"), (error.textContent = "")), { once: true });
      invalid.focus();
      return;
    }
    error.textContent = "";
    const promised = byId("promised").value;
    hooks.onPlace(`web-${randomId(8)}`, {
      customer: byId("customer").value.trim(),
      items: values(),
      ...(promised === "" ? {} : { promisedAt: `${promised}T00:00:00.000Z` }),
    });
    reset();
  });

  byId("promised").value = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);
  reset();
  return {
    focus() {
      byId("place").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
      byId("customer").focus({ preventScroll: true });
      byId("customer").select();
    },
  };
}
