//go:build integration

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestManySmallObjects copies 10,000 small files to a store, once more, and
// back: each is one request, and a skipped one is none.
func TestManySmallObjects(t *testing.T) {
	const n = 10_000
	s := startTestServers(t)
	from, back := t.TempDir(), filepath.Join(t.TempDir(), "back")
	fill(t, from, n)
	for _, c := range []struct {
		name, method string
		from, to     string
		objects      int // requests
		pages        int // of listings
	}{
		{"up", "PUT", from, "s3://bikes/raw", n, 1},
		{"up again", "PUT", from, "s3://bikes/raw", 0, 10},
		{"down", "GET", "s3://bikes/raw", back, n, 10},
		{"down again", "GET", "s3://bikes/raw", back, 0, 10},
	} {
		s.store.Reset()
		begun := time.Now()
		code, log := inProcess(t, s, "copy", "-r", c.from, c.to)
		took := time.Since(begun)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s", c.name, code, log)
		}
		all, objects := len(s.store.Requests()), s.store.Count(c.method, "/bikes/raw/")
		t.Logf("%-10s %5.1f s, %6.0f files a second; %d requests for objects, %d in all", c.name, took.Seconds(), n/took.Seconds(), objects, all)
		if objects != c.objects || all != c.objects+c.pages {
			t.Errorf("%s: %d requests for objects, %d in all; want %d and %d", c.name, objects, all, c.objects, c.objects+c.pages)
		}
		if !strings.Contains(log, " 0 failed") {
			t.Errorf("%s: it says\n%s", c.name, log)
		}
	}
	sameTrees(t, from, back, n)
	besideTheSDK(t, s, from, n)
}

// besideTheSDK prints how fast the files go to the store by copy -r and by a loop
// around the SDK, in turn.
func besideTheSDK(t *testing.T, s *testServers, from string, n int) {
	t.Helper()
	var ours, sdk []time.Duration
	for i := range 3 {
		s.store.Reset()
		begun := time.Now()
		if code, log := inProcess(t, s, "copy", "-r", from, fmt.Sprintf("s3://bikes/round-%d", i)); code != 0 {
			t.Fatalf("exit code %d\n%s", code, log)
		}
		ours = append(ours, time.Since(begun))
		s.store.Reset()
		sdk = append(sdk, sdkLoop(t, s, from, fmt.Sprintf("sdk-%d", i)))
	}
	for _, row := range []struct {
		name string
		took []time.Duration
	}{{"copy -r", ours}, {"the SDK in a loop, as many at a time", sdk}} {
		slices.Sort(row.took)
		t.Logf("%6.0f files a second, of %v: %s", float64(n)/row.took[1].Seconds(), row.took, row.name)
	}
}

// sdkLoop puts the files of a directory below prefix by the AWS SDK alone, 16 at
// a time, and returns how long that took.
func sdkLoop(t *testing.T, s *testServers, dir, prefix string) time.Duration {
	t.Helper()
	client := s.client()
	paths := make(chan string)
	begun := time.Now()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for path := range paths {
				f, err := os.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: aws.String(prefix + path), Body: f})
				if err := errors.Join(err, f.Close()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths <- path
		}
		return err
	})
	close(paths)
	group.Wait()
	if err != nil {
		t.Error(err)
	}
	return time.Since(begun)
}
