// Uppy's Dashboard with its Tus plugin. The test sets `scenario` before the page loads: options (of the plugin).
// Reports are in `events`.
import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import Tus from '@uppy/tus'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'

window.events = []
const report = (event, fields = {}) => window.events.push({ event, ...fields })

const uppy = new Uppy({ meta: { team: 'Straße 7' } })
  .use(Dashboard, { inline: true, target: '#page' })
  .use(Tus, {
    ...window.scenario.options,
    onAfterResponse: (request, response) => {
      const offset = response.getHeader('Upload-Offset')
      report('answer', {
        method: request.getMethod(),
        url: request.getURL(),
        status: response.getStatus(),
        offset: offset === null ? null : Number(offset),
      })
    },
  })
uppy.on('upload-success', (file, { uploadURL }) => report('success', { name: file.name, url: uploadURL }))
uppy.on('upload-error', (file, error) => report('error', { name: file.name, message: error.message }))
uppy.on('complete', () => report('complete'))
report('ready')
