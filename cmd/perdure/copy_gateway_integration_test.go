//go:build integration && unix

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// behindGateway returns servers whose store is versitygw, behind the faults of
// ours.
func behindGateway(t *testing.T, faults s3test.Faults) *testServers {
	t.Helper()
	g := versitygwtest.Start(t, "us-east-1", "bikes")
	return &testServers{store: s3test.Start(t, s3test.Options{Upstream: g.URL, AccessKey: g.Access, SecretKey: g.Secret, Faults: faults})}
}

// killedByTheClock runs copy until it ends by itself, and kills it each time at
// some instant, which comes a little later each time.
func killedByTheClock(t *testing.T, random *rand.Rand, environ []string, from, to string) (kills int) {
	t.Helper()
	for kills = range 60 {
		var log bytes.Buffer
		c := command(t, environ, "copy", "--parallel", "2", from, to)
		c.Stderr = &log
		start(t, c)
		killer := time.AfterFunc(time.Duration(20+80*kills+random.IntN(200))*time.Millisecond, func() { _ = c.Process.Kill() })
		err := c.Wait()
		killer.Stop()
		if err == nil {
			return kills
		}
		if c.ProcessState.Exited() {
			t.Fatalf("it ended by itself: %v\n%s", err, &log)
		}
	}
	t.Fatal("killed 60 times, and not there")
	return 0
}

// A large file goes to another's store and comes back through faults, a slow line
// and kills at any instant: whole, and with nothing left.
func TestGatewayOutlivesKills(t *testing.T) {
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 0))
	s := behindGateway(t, s3test.Faults{Seed: seed, SlowDown: 0.05, Reset: 0.03, LostResponse: 0.03, CutBody: 0.05})
	line := startLine(t, s.store.URL)
	dir, home := t.TempDir(), t.TempDir()
	s.web = startTestServers(t).web
	environ := append(s.environ(home), "AWS_ENDPOINT_URL="+line.URL, "PERDURE_MAX_ATTEMPTS=10")
	content := generated(64<<20 + 1)
	from, back := filepath.Join(dir, "large.bin"), filepath.Join(dir, "back.bin")
	write(t, from, content)
	up := killedByTheClock(t, random, environ, from, "s3://bikes/large.bin")
	sent := line.passed.Swap(0)
	down := killedByTheClock(t, random, environ, "s3://bikes/large.bin", back)
	t.Logf("seed %d: %d kills and %.0f MiB up, %d kills and %.0f MiB down, of %d", seed, up, float64(sent)/(1<<20),
		down, float64(line.passed.Load())/(1<<20), len(content)>>20)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
		t.Errorf("seed %d: %d other bytes came back (%v)", seed, len(got), err)
	}
	if up < 3 || down < 3 {
		t.Errorf("seed %d: killed %d and %d times, want 3 at least", seed, up, down)
	}
	cleaned(t, environ, "0")
	var left *s3.ListMultipartUploadsOutput
	err := errors.New("not listed")
	for tries := 0; tries < 10 && err != nil; tries++ { // it goes through the same faults, and resumes no body
		left, err = s.client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("bikes")})
	}
	if err != nil || len(left.Uploads) > 0 {
		t.Errorf("seed %d: uploads are left: %v (%v)", seed, left, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("seed %d: %v are there, want the file and its copy", seed, files)
	}
	if names, _ := filepath.Glob(filepath.Join(home, "state", "uploads", "*")); len(names) > 0 {
		t.Errorf("seed %d: state is left: %s", seed, strings.Join(names, " "))
	}
}
