// The contract of a policy file, read without a library. An ONNX file is one protocol buffer
// message; its metadata (field 14) holds the contract, and everything else is what was hashed.

const KEY = "hindsight.contract";
const METADATA = 14;
const VERSIONS = [1, 2, 3];

export class ContractError extends Error {}

/** Return the contract of a policy file, and the sha256 that its graph and weights have.
 *
 * @param {Uint8Array} bytes The whole file.
 * @returns {Promise<object>} The contract.
 * @throws {ContractError} It is no policy file, of an unknown version, or was changed.
 */
export async function readContract(bytes) {
  const texts = [], parts = [];
  for (const field of fields(bytes)) {
    if (field.number !== METADATA) parts.push(field.raw);
    else {
      const [key, text] = pair(field.value);
      if (key === KEY) texts.push(text);
    }
  }
  if (texts.length !== 1) {
    throw new ContractError(`the file holds ${texts.length} entries '${KEY}', and a policy has one`);
  }
  const contract = JSON.parse(texts[0]);
  if (!VERSIONS.includes(contract.version)) {
    throw new ContractError(`version ${contract.version}, and this reader knows ${VERSIONS}`);
  }
  const found = await sha256(parts);
  if (found !== null && found !== contract.model_hash) {
    throw new ContractError(
      `graph or weights changed after the export: they hash to ${found}, and the contract says ` +
        contract.model_hash,
    );
  }
  return contract;
}

/** Yield the fields of a message: number, value (bytes, or null for numbers), raw bytes. */
function* fields(bytes) {
  let at = 0;
  while (at < bytes.length) {
    const start = at;
    let key, value = null;
    [key, at] = varint(bytes, at);
    const wire = key & 7;
    if (wire === 0) at = varint(bytes, at)[1];
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      let size;
      [size, at] = varint(bytes, at);
      value = bytes.subarray(at, at + size);
      at += size;
    } else throw new ContractError(`byte ${start}: not an ONNX file`);
    if (at > bytes.length) throw new ContractError(`byte ${start}: the file is cut off`);
    yield { number: Math.floor(key / 8), value, raw: bytes.subarray(start, at) };
  }
}

/** Return a number of variable length, and the position after it. */
function varint(bytes, at) {
  let value = 0, scale = 1;
  for (let count = 0; count < 10; ++count, scale *= 128) {
    if (at >= bytes.length) break;
    const byte = bytes[at++];
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
  throw new ContractError(`byte ${at}: not an ONNX file`);
}

function pair(bytes) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const found = ["", ""];
  for (const field of fields(bytes)) {
    if (field.number <= 2 && field.value) found[field.number - 1] = decoder.decode(field.value);
  }
  return found;
}

/** Return "sha256:..." of some bytes; null where the page is not secure and has no digest. */
async function sha256(parts) {
  if (!globalThis.crypto?.subtle) return null;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  return `sha256:${[...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
