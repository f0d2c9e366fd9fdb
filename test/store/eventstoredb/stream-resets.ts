/** Counts the RST_STREAM frames that a client sends over one HTTP/2 connection without TLS, from its first byte on. */
const PREFACE_BYTES = 24;
const HEADER_BYTES = 9;
const RST_STREAM = 3;

export function streamResets(): { readonly count: number; read(bytes: Buffer): void } {
  let rest = Buffer.alloc(0);
  let skip = PREFACE_BYTES;
  let count = 0;
  return {
    get count() {
      return count;
    },
    read(bytes) {
      rest = Buffer.concat([rest, bytes]);
      for (;;) {
        const skipped = Math.min(skip, rest.length);
        rest = rest.subarray(skipped);
        skip -= skipped;
        if (skip > 0 || rest.length < HEADER_BYTES) return;
        if (rest[3] === RST_STREAM) count++;
        skip = HEADER_BYTES + rest.readUIntBE(0, 3);
      }
    },
  };
}
