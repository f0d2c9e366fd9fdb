/** Whether the attacks that take long, or brokers of their own, run too: `npm run soak -- --kafka-attacks`. */
export const allAttacks = process.env["TIDEMARK_KAFKA_ATTACKS"] === "all";
