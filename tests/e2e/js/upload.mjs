// One upload by tus-js-client. The scenario is a JSON object in argv, reports are JSON lines on stdout, and lines on
// stdin are commands: `abort` leaves the upload as it is, `terminate` has the server remove it.
//
// Scenario: packages (a package.json; that tus-js-client is meant which belongs to it), endpoint, file, options (of
// tus-js-client), asStream (read the file as a stream of unknown length), urlStorage (a file that remembers upload
// URLs), resume (go on with what is remembered), abortAfterBytes.
import { createReadStream } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'

const scenario = JSON.parse(process.argv[2])
const { FileUrlStorage, Upload } = createRequire(scenario.packages)('tus-js-client')
const report = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)
const numberOrNull = (text) => (text === undefined ? null : Number(text))
const source = createReadStream(scenario.file)

const upload = new Upload(scenario.asStream ? source.pipe(new PassThrough()) : source, {
  endpoint: scenario.endpoint,
  ...(scenario.urlStorage && { urlStorage: new FileUrlStorage(scenario.urlStorage) }),
  ...scenario.options,
  onProgress: (sent, total) => report('progress', { sent, total }),
  onChunkComplete: (chunk, offset) => {
    report('chunk', { chunk, offset })
    if (scenario.abortAfterBytes !== undefined && offset >= scenario.abortAfterBytes) end('abort')
  },
  onUploadUrlAvailable: () => report('url', { url: upload.url }),
  onAfterResponse: (request, response) =>
    report('answer', {
      method: request.getMethod(),
      url: request.getURL(),
      status: response.getStatus(),
      offset: numberOrNull(response.getHeader('Upload-Offset')),
    }),
  onSuccess: () => {
    report('success', { url: upload.url })
    commands.close()
  },
  onError: (error) => {
    report('error', { message: String(error) })
    process.exitCode = 1
    commands.close()
  },
})

async function end(command) {
  try {
    await upload.abort(command === 'terminate')
    report('ended', { url: upload.url })
  } catch (error) {
    report('error', { message: String(error) })
  }
  commands.close()
}

const commands = createInterface({ input: process.stdin })
commands.on('line', end)

if (scenario.resume) {
  const previous = await upload.findPreviousUploads()
  report('found', { uploads: previous })
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
}
upload.start()
