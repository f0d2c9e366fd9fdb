/** 404 for a path that nothing answers, 405 for one that takes other methods. */
import { HttpProblem } from "./problem.ts";
import type { HttpServer } from "./schemas.ts";

/** Must be registered before the routes that it is to know. */
export function notFoundHandler(server: HttpServer): void {
  const routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  server.addHook("onRoute", ({ url, method }) => {
    const pattern = new RegExp(`^${url.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll(/:[^/]+/g, "[^/]+")}$`);
    routes.push({ pattern, methods: [method].flat() });
  });
  server.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?", 1)[0] ?? "";
    const allowed = new Set(routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods));
    if (allowed.size === 0) throw new HttpProblem(404, "NotFound", "there is nothing at this path");
    const methods = [...allowed].join(", ");
    void reply.header("allow", methods);
    throw new HttpProblem(405, "MethodNotAllowed", `this path takes ${methods}`);
  });
}
