import io.tus.java.client.ProtocolException;
import io.tus.java.client.TusClient;
import io.tus.java.client.TusExecutor;
import io.tus.java.client.TusURLMemoryStore;
import io.tus.java.client.TusUpload;
import io.tus.java.client.TusUploader;
import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.util.Map;

/**
 * One file by tus-java-client: ENDPOINT FILE REQUEST_BYTES RETRIES [URL]. With URL, that upload goes on. Reports are
 * JSON lines on stdout.
 */
public class Upload {
    public static void main(String[] arguments) throws Exception {
        TusClient client = new TusClient();
        client.setUploadCreationURL(new URL(arguments[0]));
        client.enableResuming(new TusURLMemoryStore());
        TusUpload upload = new TusUpload(new File(arguments[1]));
        upload.setMetadata(Map.of("filename", "Übung 日本語.bin"));

        TusExecutor executor = new TusExecutor() {
            @Override
            protected void makeAttempt() throws ProtocolException, IOException {
                TusUploader uploader = arguments.length > 4
                    ? client.beginOrResumeUploadFromURL(upload, new URL(arguments[4]))
                    : client.resumeOrCreateUpload(upload);
                uploader.setRequestPayloadSize(Integer.parseInt(arguments[2]));
                report("attempt", uploader);
                while (uploader.uploadChunk() > -1) {
                    // Each is a piece of a request.
                }
                uploader.finish();
                report("success", uploader);
            }
        };
        executor.setDelays(new int[Integer.parseInt(arguments[3])]);
        try {
            executor.makeAttempts();
        } catch (ProtocolException error) {
            int status = error.getCausingConnection().getResponseCode();
            System.out.printf(
                "{\"event\": \"error\", \"message\": \"%s\", \"status\": %d}%n", error.getMessage(), status);
        } catch (IOException error) {
            System.out.printf("{\"event\": \"error\", \"message\": \"%s\"}%n", error.getMessage());
        }
    }

    static void report(String event, TusUploader uploader) {
        System.out.printf(
            "{\"event\": \"%s\", \"url\": \"%s\", \"offset\": %d}%n",
            event, uploader.getUploadURL(), uploader.getOffset());
        System.out.flush();
    }
}
