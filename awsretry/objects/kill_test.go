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

// An upload whose process is killed again and again, at random, gets there, and
// does not send twice what it has written down as sent.
func TestUploadOutlivesItsProcess(t *testing.T) {
	seed := seedOf(t, 5)
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "big")
	write(t, path, 160*mib)
	const parts, parallel = 20, 4
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: seed, Slow: 0.9, SlowTime: 100 * time.Millisecond, SlowDown: 0.05, Reset: 0.05}})
	kills := 0
	for ; ; kills++ {
		if kills == 100 {
			state, _ := os.ReadFile(path + ".state")
			ops := map[string]int{}
			for _, r := range server.Requests() {
				ops[r.Operation+" "+r.Fault.String()]++
			}
			t.Fatalf("killed 100 times, and not there: %s; requests %v", state, ops)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "PERDURE_CHILD=resume", "PERDURE_FILE="+path, "PERDURE_ENDPOINT="+server.URL(),
			"PERDURE_ACCESS="+server.AccessKey, "PERDURE_SECRET="+server.SecretKey)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(100+random.IntN(400)+10*kills)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		killer.Stop()
		if err == nil {
			break
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
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
