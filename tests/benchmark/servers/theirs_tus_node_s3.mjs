// @tus/server with @tus/s3-store as their READMEs start them; run where they are installed.
import { S3Store } from "@tus/s3-store"
import { Server } from "@tus/server"

const datastore = new S3Store({
  partSize: 8 * 1024 * 1024,
  s3ClientConfig: {
    bucket: process.env.BUCKET,
    endpoint: process.env.ENDPOINT,
    forcePathStyle: true,
    region: process.env.AWS_REGION,
    credentials: {
      accessKeyId: process.env.AWS_ACCESS_KEY_ID,
      secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    },
  },
})
new Server({ path: "/files", datastore }).listen({ host: "127.0.0.1", port: Number(process.env.PORT) })
