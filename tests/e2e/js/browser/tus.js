// The file of a page's input by tus-js-client. The test sets `scenario` before the page loads: options (of
// tus-js-client), asStream (read the file as a stream of unknown length), checksums (one for each chunk). Reports are
// in `events`.
import { Upload } from 'tus-js-client'

document.getElementById('page').innerHTML = `<input type="file" id="file"> <button id="pause">Pause</button>
  <button id="resume">Resume</button> <button id="terminate">Terminate</button>`

const { options, asStream, checksums } = window.scenario
window.events = []
window.isChecksumWrong = false
const report = (event, fields = {}) => window.events.push({ event, ...fields })
const on = (id, event, act) => document.getElementById(id).addEventListener(event, act)
let upload

on('file', 'change', async ({ target: { files: [file] } }) => {
  upload = new Upload(asStream ? file.stream().getReader() : file, {
    metadata: { filename: file.name, filetype: file.type },
    ...options,
    onBeforeRequest: (request) => checksums && request.getMethod() === 'PATCH' && addChecksum(request, file),
    onAfterResponse: (request, response) => {
      const offset = response.getHeader('Upload-Offset') // null where CORS hides it
      report('answer', {
        method: request.getMethod(),
        url: request.getURL(),
        status: response.getStatus(),
        offset: offset === null ? null : Number(offset),
      })
    },
    onUploadUrlAvailable: () => report('url', { url: upload.url }),
    onProgress: (sent, total) => report('progress', { sent, total }),
    onSuccess: () => report('success', { url: upload.url }),
    onError: (error) => report('error', { message: String(error) }),
  })
  const previous = await upload.findPreviousUploads()
  report('found', { uploads: previous.length })
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
  upload.start()
})
on('pause', 'click', () => upload.abort().then(() => report('paused')))
on('resume', 'click', () => upload.start())
on('terminate', 'click', () => upload.abort(true).then(() => report('terminated')))

async function addChecksum(request, file) {
  const offset = Number(request.getHeader('Upload-Offset'))
  const chunk = await file.slice(offset, offset + options.chunkSize).arrayBuffer()
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-1', chunk))
  if (window.isChecksumWrong) digest[0] ^= 1
  request.setHeader('Upload-Checksum', `sha1 ${btoa(String.fromCharCode(...digest))}`)
}
