// One policy file in onnxruntime-node or onnxruntime-web: its probe, and the time of each call.
// In Node: node runners.mjs READER ORT WASM FILE CALLS; a page imports measure().

export async function measure(ort, { Policy, verify }, bytes, calls) {
  const policy = await Policy.load(ort, bytes), proof = await verify(policy);
  const { observation, probe } = policy.contract, camera = observation.entries?.camera;
  const rows = camera
    ? [{ camera: Uint8Array.from({ length: camera.shape.reduce((one, two) => one * two) },
        (_, place) => Math.imul(place, 2654435761) >>> 24) }]
    : probe.observation.map((row) => Float32Array.from(row));
  const times = new Float64Array(calls);
  for (let call = -calls; call < calls; ++call) { // as many calls before, to warm up
    const row = rows[(call + calls) % rows.length], start = performance.now();
    await policy.act(row);
    if (call >= 0) times[call] = 1000 * (performance.now() - start);
  }
  times.sort();
  return { ...proof, p50: times[calls >> 1], p99: times[Math.floor(0.99 * calls)] };
}

if (globalThis.process?.argv[1]?.endsWith("runners.mjs")) {
  const { readFileSync } = await import("node:fs");
  const { pathToFileURL } = await import("node:url");
  const load = (path) => import(pathToFileURL(path).href);
  const [reader, ortPath, wasm, file, calls] = process.argv.slice(2);
  const found = await load(ortPath), ort = found.InferenceSession ? found : found.default;
  if (wasm) {
    ort.env.wasm.wasmPaths = pathToFileURL(`${wasm}/`).href;
    ort.env.wasm.numThreads = 1;
  }
  const parts = { ...(await load(`${reader}/policy.mjs`)), ...(await load(`${reader}/verify.mjs`)) };
  const report = await measure(ort, parts, readFileSync(file), Number(calls));
  process.stdout.write(JSON.stringify(report));
}
