/** The page at `/`, and the policy under which it runs. */
import { fileURLToPath } from "node:url";
import helmet from "@fastify/helmet";
import files from "@fastify/static";
import type { HttpServer } from "./schemas.ts";

const self = ["'self'"];
const none = ["'none'"];

export async function pageRoutes(server: HttpServer): Promise<void> {
  await server.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: none, scriptSrc: self, styleSrc: self, imgSrc: self, connectSrc: self, baseUri: none, formAction: none, frameAncestors: none },
    },
    // Encryption is the proxy's business, and so is telling browsers to insist on it.
    strictTransportSecurity: false,
  });
  await server.register(files, { root: fileURLToPath(new URL("../page/", import.meta.url)), wildcard: false, schemaHide: true });
}
