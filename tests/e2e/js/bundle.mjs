// node bundle.mjs FOLDER FILE…: each FILE as a page's script and style sheet in FOLDER/newest and FOLDER/previous, with
// the packages of that major version, and the page that loads them. Of `FILE.js`, all are called by its name.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const [folder, ...files] = process.argv.slice(2)
const here = fileURLToPath(new URL('.', import.meta.url))
const page = readFileSync(join(here, 'browser', 'page.html'), 'utf8')
const options = { bundle: true, format: 'esm', logLevel: 'warning', define: { 'process.env.NODE_ENV': '"production"' } }

for (const [release, resolveDir] of [['newest', here], ['previous', join(here, 'previous')]])
  for (const file of files) {
    const path = join(folder, release, basename(file, '.js'))
    // Given as text, the script finds packages from `resolveDir`, and not from where it lies.
    const stdin = { contents: readFileSync(file, 'utf8'), resolveDir }
    await build({ ...options, stdin, outfile: `${path}.js` })
    writeFileSync(`${path}.html`, page.replaceAll('NAME', basename(path)))
  }
