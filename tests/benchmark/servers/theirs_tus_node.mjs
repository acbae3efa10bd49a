// @tus/server with @tus/file-store as their READMEs start them; run where they are installed.
import { FileStore } from "@tus/file-store"
import { Server } from "@tus/server"

const datastore = new FileStore({ directory: process.env.UPLOAD_DIR })
new Server({ path: "/files", datastore }).listen({ host: "127.0.0.1", port: Number(process.env.PORT) })
