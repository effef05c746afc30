//go:build integration

package objects_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// killed starts the child again and again, and kills it at random, each time
// perhaps a little later, until it is done, and returns how often that was.
func killed(t *testing.T, server *s3test.Server, random *rand.Rand, what, path string) int {
	t.Helper()
	for kills := range 200 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "PERDURE_CHILD="+what, "PERDURE_FILE="+path, "PERDURE_ENDPOINT="+server.URL(),
			"PERDURE_ACCESS="+server.AccessKey, "PERDURE_SECRET="+server.SecretKey)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(100+20*kills+random.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		killer.Stop()
		if err == nil {
			return kills
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
	t.Fatal("killed 200 times, and not there")
	return 0
}

// An upload whose process is killed again and again gets there, and does not send
// twice what it has written down as sent.
func TestUploadOutlivesItsProcess(t *testing.T) {
	seed := seedOf(t, 5)
	path := filepath.Join(t.TempDir(), "big")
	write(t, path, 160*mib)
	const parts, parallel = 20, 4
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: seed, Slow: 0.9, SlowTime: 100 * time.Millisecond, SlowDown: 0.05, Reset: 0.05}})
	kills := killed(t, server, rand.New(rand.NewPCG(seed, 0)), "resume", path)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, server, objects.Options{}).Clean(t.Context(), bucket, "", -time.Minute); err != nil {
		t.Errorf("Clean: %v", err)
	}
	stored(t, server, "big", want)
	sent := len(sentParts(server))
	t.Logf("killed %d times: %d parts sent for %d", kills, sent, parts)
	if sent > parts+kills*parallel {
		t.Errorf("killed %d times: %d parts sent, want at most %d and those under way at a kill", kills, sent, parts)
	}
	if _, err := os.Stat(path + ".state"); err == nil {
		t.Error("the state is still there")
	}
}

// The same for a download: a piece that is there is not fetched again.
func TestDownloadOutlivesItsProcess(t *testing.T) {
	seed := seedOf(t, 6)
	dir := t.TempDir()
	path := filepath.Join(dir, "big")
	write(t, path, 160*mib)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: seed, Slow: 0.9, SlowTime: 100 * time.Millisecond, SlowDown: 0.05, CutBody: 0.05}})
	if err := server.Store(bucket, "big", want); err != nil {
		t.Fatal(err)
	}
	kills := killed(t, server, rand.New(rand.NewPCG(seed, 0)), "refetch", path)
	asked := server.Count("GET", "")
	t.Logf("killed %d times: %d requests", kills, asked)
	if sumOf(t, path+".back") != sumOf(t, path) {
		t.Error("the file is another")
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%v are there, want the file and its copy", left)
	}
	if most := 2*20 + 10*kills; asked > most {
		t.Errorf("killed %d times: %d requests, want at most %d", kills, asked, most)
	}
}

func TestListOfAHundredThousandKeys(t *testing.T) {
	const count = 100_000
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	for i := range count {
		if err := server.Store(bucket, fmt.Sprintf("%06d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	requests := 0
	server.Script(func(s3test.Request) s3test.Fault {
		if requests++; requests%11 == 10 { // every tenth page, once
			return s3test.InternalError()
		}
		return s3test.Fault{}
	})
	next := 0
	for o, err := range store.List(t.Context(), bucket, "") {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%06d", next); o.Key != want {
			t.Fatalf("key %d is %s, want %s", next, o.Key, want)
		}
		next++
	}
	if next != count {
		t.Errorf("%d keys, want %d", next, count)
	}
}
