/** What the page believes about an order's life. Only a hint for buttons and guesses: the service decides. */

/** In the order of an order's life. */
export const STATUSES = ["placed", "approved", "invoiced", "processing", "shipped", "delivered", "canceled", "unavailable"];

/** The plot's stack, from the bottom: what is done below, what is still to do above it, what failed on top. */
export const STACK = ["delivered", "shipped", "processing", "invoiced", "approved", "placed", "canceled", "unavailable"];

/** HTTP command → what its button says, and the status it leads to. */
export const COMMANDS = {
  approve: { label: "Approve", to: "approved" },
  invoice: { label: "Invoice", to: "invoiced" },
  process: { label: "Process", to: "processing" },
  ship: { label: "Ship", to: "shipped" },
  deliver: { label: "Deliver", to: "delivered" },
  cancel: { label: "Cancel", to: "canceled", quiet: true },
  return: { label: "Return", to: "canceled", quiet: true, command: "cancel", body: { reason: "returned", asReturn: true } },
  "mark-unavailable": { label: "Unavailable", to: "unavailable", quiet: true },
};

const ALLOWED = {
  placed: ["approve", "cancel", "mark-unavailable"],
  approved: ["invoice", "cancel", "mark-unavailable"],
  invoiced: ["process", "cancel", "mark-unavailable"],
  processing: ["ship", "cancel", "mark-unavailable"],
  shipped: ["deliver", "cancel"],
  delivered: ["return"],
  canceled: [],
  unavailable: [],
};

/** The actions offered for a status; the first that is not quiet is the next step. */
export function actionsFor(status) {
  return ALLOWED[status] ?? [];
}

export function nextStep(status) {
  return actionsFor(status).find((action) => COMMANDS[action].quiet !== true);
}
