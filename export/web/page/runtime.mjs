// onnxruntime-web from the folder ort/ beside this file. Nothing comes from anywhere else.

/** Return the module onnxruntime-web, set up for one thread.
 *
 * @returns {Promise<object>} The module.
 * @throws {Error} The folder does not have it.
 */
export async function runtime() {
  const folder = new URL("ort/", import.meta.url);
  const ort = await import(new URL("ort.wasm.bundle.min.mjs", folder).href);
  // By name: given a folder, the bundle would look there for the module that it holds.
  ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", folder).href };
  ort.env.wasm.numThreads = 1; // threads need further headers, and small networks gain nothing
  return ort;
}

/** Return the bytes of a file beside the page.
 *
 * @param {string|URL} place Its address.
 * @returns {Promise<Uint8Array>} The bytes.
 * @throws {Error} It is not there.
 */
export async function bytesOf(place) {
  const answer = await fetch(place, { cache: "no-store" }); // exported again, it is another one
  if (!answer.ok) throw new Error(`${place}: the server answers ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}
