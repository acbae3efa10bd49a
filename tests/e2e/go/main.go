// One file by tusgo. Reports are JSON lines on stdout.
//
//	upload create ENDPOINT FILE                        an empty upload for it
//	upload deferred ENDPOINT                           one of unknown length
//	upload with-data ENDPOINT FILE                     all of it in the creation
//	upload join ENDPOINT FILE                          in two parts, which are joined
//	upload resume URL FILE CHUNK_BYTES [ALGORITHM]     over cuts; 0: in one request, with the checksum in a trailer
//	upload delete URL
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/bdragon300/tusgo"
)

const mostCuts = 5

var metadata = map[string]string{"filename": "Übung 日本語.bin"}

type watched struct{}

func (watched) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err == nil {
		fields := map[string]any{"method": request.Method, "status": answer.StatusCode, "url": request.URL.String()}
		offset, missing := strconv.ParseInt(answer.Header.Get("Upload-Offset"), 10, 64)
		if fields["offset"] = offset; missing != nil {
			fields["offset"] = nil
		}
		report("answer", fields)
	}
	return answer, err
}

func report(event string, fields map[string]any) {
	fields["event"] = event
	line, _ := json.Marshal(fields)
	fmt.Println(string(line))
}

func main() {
	defer func() {
		// tusgo panics where a refusal has fewer than 256 bytes to say.
		if reason := recover(); reason != nil {
			report("error", map[string]any{"message": fmt.Sprint("panic: ", reason)})
			os.Exit(1)
		}
	}()
	location, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		report("error", map[string]any{"message": err.Error()})
		os.Exit(1)
	}
	report("success", map[string]any{"url": location})
}

func run(command string, place string, rest []string) (string, error) {
	endpoint, err := url.Parse(place)
	if err != nil {
		return "", err
	}
	client := tusgo.NewClient(&http.Client{Transport: watched{}}, endpoint)
	if command != "delete" && command != "resume" {
		if _, err := client.UpdateCapabilities(); err != nil {
			return "", err
		}
	}
	upload := tusgo.Upload{Location: place}
	switch command {
	case "create":
		var size int64
		if size, err = sizeOf(rest[0]); err == nil {
			_, err = client.CreateUpload(&upload, size, false, metadata)
		}
	case "deferred":
		_, err = client.CreateUpload(&upload, tusgo.SizeUnknown, false, metadata)
	case "with-data":
		var data []byte
		if data, err = os.ReadFile(rest[0]); err == nil {
			_, _, err = client.CreateUploadWithData(&upload, data, int64(len(data)), false, metadata)
		}
	case "join":
		err = join(client, &upload, rest[0])
	case "resume":
		err = resume(client, place, rest)
	case "delete":
		client.Capabilities = &tusgo.ServerCapabilities{Extensions: []string{"termination"}}
		_, err = client.DeleteUpload(upload)
	default:
		err = errors.New("see the top of main.go")
	}
	if err != nil {
		return "", err
	}
	where, err := endpoint.Parse(upload.Location)
	return where.String(), err
}

func join(client *tusgo.Client, final *tusgo.Upload, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var parts []tusgo.Upload
	for _, piece := range [][]byte{data[:len(data)/3], data[len(data)/3:]} {
		part := tusgo.Upload{}
		if _, err := client.CreateUpload(&part, int64(len(piece)), true, nil); err != nil {
			return err
		}
		if _, err := tusgo.NewUploadStream(client, &part).Write(piece); err != nil {
			return err
		}
		parts = append(parts, part)
	}
	_, err = client.ConcatenateUploads(final, parts, metadata)
	return err
}

// Goes on where the server is, until all is there, as its users are told to: Sync, then copy the rest.
func resume(client *tusgo.Client, place string, rest []string) error {
	source, err := os.Open(rest[0])
	if err != nil {
		return err
	}
	defer source.Close()
	size, err := sizeOf(rest[0])
	if err != nil {
		return err
	}
	chunk, err := strconv.ParseInt(rest[1], 10, 64)
	if err != nil {
		return err
	}
	upload := tusgo.Upload{}
	if _, err := client.GetUpload(&upload, place); err != nil {
		return err
	}
	isDeferred := upload.RemoteSize == 0 && size > 0
	upload.Location, upload.RemoteSize = place, size
	for cuts := 0; ; cuts++ {
		stream := tusgo.NewUploadStream(client, &upload)
		if len(rest) > 2 {
			client.Capabilities = &tusgo.ServerCapabilities{Extensions: []string{"checksum", "checksum-trailer"}}
			stream = stream.WithChecksumAlgorithm(rest[2])
		}
		stream.ChunkSize, stream.SetUploadSize = chunk, isDeferred
		if _, err = stream.Sync(); err == nil {
			if _, err = source.Seek(stream.Tell(), io.SeekStart); err != nil {
				return err
			}
			_, err = io.Copy(stream, source)
		}
		if err == nil || cuts == mostCuts {
			return err
		}
		report("cut", map[string]any{"message": err.Error()})
	}
}

func sizeOf(file string) (int64, error) {
	about, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return about.Size(), nil
}
