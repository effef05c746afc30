//go:build integration

package objects_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/record"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// killed starts the child again and again, and kills it at one of its requests, each
// time perhaps at a later one, until it is done, and returns how often that was.
func killed(t *testing.T, server *s3test.Server, random *rand.Rand, what string, paths []string, after func()) int {
	t.Helper()
	for kills := range 200 {
		cmd := childOf(t, server, what, paths...)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var requests atomic.Int64
		last := int64(1 + kills/4 + random.IntN(6))
		server.SetScript(func(s3test.Request) s3test.Fault {
			if requests.Add(1) == last {
				_ = cmd.Process.Kill()
			}
			return s3test.Fault{}
		})
		err := cmd.Wait()
		if server.SetScript(nil); err == nil {
			return kills
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
			t.Fatalf("the child ended by itself: %v: %s", err, said.String())
		}
		after()
	}
	t.Fatal("killed 200 times, and not there")
	return 0
}

// remember adds the parts that the state files record as done.
func remember(done map[string]int, paths []string, requests int) {
	for _, path := range paths {
		state, _ := os.ReadFile(path + ".state") // it exists only during an upload in parts
		for line := range bytes.Lines(state) {
			var p struct {
				Number *int `json:"part"`
			}
			if !record.Decode(line, &p) || p.Number == nil {
				continue // the first line, or one that was being written
			}
			if part := fmt.Sprintf("%s#%d", filepath.Base(path), *p.Number+1); done[part] == 0 {
				done[part] = requests
			}
		}
	}
}

// hidden removes the parts of uploads that a store may have been completing at a kill: versitygw then returns neither
// the upload nor the object, and a child that does not wait long sends everything again.
func hidden(done map[string]int, requests []s3test.Request) {
	for _, r := range requests {
		if r.Operation == "CompleteMultipartUpload" && r.Status != http.StatusOK {
			maps.DeleteFunc(done, func(part string, _ int) bool { return strings.HasPrefix(part, filepath.Base(r.Path)+"#") })
		}
	}
}

// Files of 1 B to 64 MiB are uploaded and downloaded while the process is killed again and again: no recorded part is
// sent again, nothing is lost, and AbortUploads removes uploads whose process was killed before it recorded their ID.
func TestTransfersOutliveTheirProcess(t *testing.T) {
	const part, largest = 8 * mib, 64 * mib
	seed := testseed.Of(t, 5)
	o := s3test.Options{Faults: s3test.Faults{
		Seed: seed, Slow: 0.5, SlowTime: 50 * time.Millisecond, SlowDown: 0.05, Reset: 0.05, LostResponse: 0.03, CutBody: 0.05,
	}}
	bothServers(t, o, func(t *testing.T, server *s3test.Server) {
		t.Helper()
		random := rand.New(rand.NewPCG(seed, 0))
		var paths []string
		parts := 0
		for i, size := range sizes(random, 12) {
			paths = append(paths, filepath.Join(t.TempDir(), fmt.Sprint("file", i)))
			write(t, paths[i], size)
			if size > part {
				parts += int((size + part - 1) / part)
			}
		}
		done := map[string]int{} // parts that are written down, with the number of requests at that time
		kills := killed(t, server, random, "sent", paths, func() {
			requests := server.Requests()
			remember(done, paths, len(requests))
			hidden(done, requests)
		})
		sent := len(sentParts(server))
		t.Logf("killed %d times: %d parts sent for %d, %d of them were written down at a kill", kills, sent, parts, len(done))
		if sent < parts || sent > parts+kills*largest/part {
			t.Errorf("killed %d times: %d parts sent, want %d and at most those of a file at each kill", kills, sent, parts)
		}
		for n, r := range server.Requests() {
			if part := filepath.Base(r.Path) + "#" + r.Query.Get("partNumber"); r.Operation == "UploadPart" && done[part] > 0 && n >= done[part] {
				t.Errorf("part %s was sent again by request %d, and was written down before request %d", part, n, done[part])
			}
		}
		store := open(t, server, objects.Options{})
		if _, err := store.AbortUploads(t.Context(), bucket, "", -time.Minute); err != nil {
			t.Errorf("AbortUploads: %v", err)
		}
		left, err := store.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
		if err != nil || len(left.Uploads) > 0 {
			t.Fatalf("uploads are left after AbortUploads: %+v, %v, want none", left, err)
		}
		server.Reset()
		kills = killed(t, server, random, "fetched", paths, func() {})
		asked := server.Count("GET", "")
		t.Logf("killed %d times: %d requests", kills, asked)
		if most := 2*(parts+len(paths)) + 10*kills; asked > most {
			t.Errorf("killed %d times: %d requests, want at most %d", kills, asked, most)
		}
		for _, path := range paths {
			if sumOf(t, path+".fetched") != sumOf(t, path) {
				t.Errorf("%s has come back as another file", filepath.Base(path))
			}
			if there, _ := os.ReadDir(filepath.Dir(path)); len(there) != 3 {
				t.Errorf("%v are there, want the file, the mark that it was sent, and its copy", there)
			}
		}
	})
}
