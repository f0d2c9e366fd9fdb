/** A self-signed certificate for localhost and 127.0.0.1, made here: X.509 in DER, as RFC 5280 has it, with an Ed25519 key. */
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

const ED25519 = der(0x30, oid(1, 3, 101, 112));

export function selfSigned(): { readonly cert: string; readonly key: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const name = der(0x30, der(0x31, der(0x30, Buffer.concat([oid(2, 5, 4, 3), der(0x0c, Buffer.from("localhost"))]))));
  const validity = der(0x30, Buffer.concat([time("20200101000000Z"), time("20990101000000Z")]));
  const names = der(0x30, Buffer.concat([der(0x82, Buffer.from("localhost")), der(0x87, Buffer.from([127, 0, 0, 1]))]));
  const extensions = der(
    0xa3,
    der(0x30, Buffer.concat([extension(oid(2, 5, 29, 17), names), extension(oid(2, 5, 29, 19), der(0x30, der(0x01, Buffer.from([0xff]))), true)])),
  );
  const body = der(
    0x30,
    Buffer.concat([
      der(0xa0, der(0x02, Buffer.from([2]))),
      der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      ED25519,
      name,
      validity,
      name,
      publicKey.export({ type: "spki", format: "der" }),
      extensions,
    ]),
  );
  const signature = der(0x03, Buffer.concat([Buffer.from([0]), sign(null, body, privateKey)]));
  const certificate = der(0x30, Buffer.concat([body, ED25519, signature]));
  const base64 = certificate.toString("base64").replaceAll(/.{64}/g, "$&\n");
  return { cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`, key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
}

function extension(id: Buffer, value: Buffer, critical = false): Buffer {
  return der(0x30, Buffer.concat([id, critical ? der(0x01, Buffer.from([0xff])) : Buffer.alloc(0), der(0x04, value)]));
}

function time(text: string): Buffer {
  return der(0x18, Buffer.from(text));
}

function oid(first: number, second: number, ...rest: readonly number[]): Buffer {
  return der(0x06, Buffer.from([first * 40 + second, ...rest]));
}

function der(tag: number, content: Buffer): Buffer {
  const length = content.length < 128 ? [content.length] : content.length < 256 ? [0x81, content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}
