import type { App, AppOptions } from "./app.ts";

/** Opens an app. */
export declare function tidemark(options: AppOptions): Promise<App>;
