/** Fenced code blocks of a Markdown document. */
export interface CodeBlock {
  readonly language: string;
  readonly code: string;
  /** Named by a first line such as `// src/room.ts`. */
  readonly file: string | undefined;
  /** Line of the fence, from 1. */
  readonly line: number;
}

/** All blocks in order. */
export function codeBlocks(markdown: string): readonly CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { language: string; line: number; lines: string[] } | undefined;
  markdown.split("\n").forEach((text, index) => {
    const fence = /^```(\w*)$/.exec(text);
    if (open === undefined) {
      if (fence !== null) open = { language: fence[1] ?? "", line: index + 1, lines: [] };
    } else if (text === "```") {
      const { language, line, lines } = open;
      blocks.push({ language, line, code: `${lines.join("\n")}\n`, file: /^\/\/ ([\w./-]+\.\w+)$/.exec(lines[0] ?? "")?.[1] });
      open = undefined;
    } else {
      open.lines.push(text);
    }
  });
  if (open !== undefined) throw new Error(`the code block of line ${open.line} has no end`);
  return blocks;
}
