// Builds dist/: index.html and dist/assets/* with hashed names. "--watch" builds again on changes; "--tests" builds the
// unit tests to build/tests/ instead.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { watch } from "node:fs";
import { basename } from "node:path";
import { build } from "esbuild";

const shared = {
  bundle: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
};

async function bundle(entry, name, define = {}) {
  const { outputFiles, metafile } = await build({
    ...shared,
    entryPoints: [entry],
    minify: true,
    write: false,
    metafile: true,
    define,
  });
  const content = outputFiles[0].contents;
  return { name: hashed(name, content), content, inputs: Object.keys(metafile.inputs) };
}

function hashed(name, content) {
  const [stem, extension] = name.split(".");
  return `${stem}-${createHash("sha256").update(content).digest("hex").slice(0, 10)}.${extension}`;
}

// What the authors of the packages in the bundle want to go with it.
async function licences(inputs) {
  const packages = new Set(inputs.map((path) => /.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path)?.[0]).filter(Boolean));
  const texts = await Promise.all(
    [...packages].sort().map(async (folder) => {
      const { name, version } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
      const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
      if (!file) throw new Error(`${name} has no licence in its package: say in build.mjs what it is`);
      return `${name} ${version}\n\n${(await readFile(`${folder}/${file}`, "utf8")).trim()}\n`;
    }),
  );
  const content = texts.join(`\n${"-".repeat(80)}\n\n`);
  return { name: hashed("licences.txt", content), content };
}

async function buildPage() {
  const worker = await bundle("src/digest.worker.ts", "digest.js");
  const script = await bundle("src/main.tsx", "page.js", { DIGEST_WORKER: JSON.stringify(worker.name) });
  const style = await bundle("src/page.css", "page.css");
  const licence = await licences([worker, script].flatMap(({ inputs }) => inputs));
  const html = (await readFile("src/index.html", "utf8"))
    .replace("page.css", style.name)
    .replace("page.js", script.name)
    .replace("licences.txt", licence.name);
  await rm("dist", { recursive: true, force: true });
  await mkdir("dist/assets", { recursive: true });
  await Promise.all([worker, script, style, licence].map((each) => writeFile(`dist/assets/${each.name}`, each.content)));
  await writeFile("dist/index.html", html);
}

async function buildTests() {
  const names = (await readdir("test")).filter((name) => name.endsWith(".test.ts"));
  await rm("build/tests", { recursive: true, force: true });
  await build({
    ...shared,
    entryPoints: names.map((name) => `test/${name}`),
    outdir: "build/tests",
    outExtension: { ".js": ".mjs" },
    platform: "node",
  });
}

if (process.argv.includes("--tests")) {
  await buildTests();
} else {
  await buildPage();
}

if (process.argv.includes("--watch")) {
  let timer;
  watch("src", { recursive: true }, (_, file) => {
    clearTimeout(timer);
    timer = setTimeout(() => buildPage().then(() => console.log("built after", basename(file ?? "")), console.error), 100);
  });
}
