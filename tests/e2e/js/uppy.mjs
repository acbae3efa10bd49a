// Files by Uppy and its Tus plugin, which use tus-js-client. The scenario is a JSON object in argv: packages (a
// package.json; that Uppy is meant which belongs to it), endpoint, files (name, type, path), options (of the plugin).
// Reports are JSON lines on stdout.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const scenario = JSON.parse(process.argv[2])
const installed = createRequire(scenario.packages)
const { default: Uppy } = await import(installed.resolve('@uppy/core'))
const { default: Tus } = await import(installed.resolve('@uppy/tus'))
const report = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)

const uppy = new Uppy({ meta: { team: 'Straße 7' } }).use(Tus, { endpoint: scenario.endpoint, ...scenario.options })
for (const { name, type, path } of scenario.files) {
  const data = readFileSync(path)
  // On Node, tus-js-client takes a Buffer where Uppy has a Blob, which knows its size.
  uppy.addFile({ name, type, data: Object.defineProperty(data, 'size', { value: data.length }) })
}
const { successful, failed } = await uppy.upload()
for (const file of failed) report('error', { message: file.error })
for (const file of successful) report('success', { name: file.name, url: file.uploadURL })
