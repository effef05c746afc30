//go:build integration

package objects_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const (
	big    = 256 * mib
	memory = 64 * mib // that a process may need for it
)

// TestMain is also the child process of other tests: it transfers files, and prints its peak memory.
func TestMain(m *testing.M) {
	if what := os.Getenv("PERDURE_CHILD"); what != "" {
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(what string) error {
	store, err := objects.New(aws.Config{
		Region: region, BaseEndpoint: aws.String(os.Getenv("PERDURE_ENDPOINT")),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("PERDURE_ACCESS"), os.Getenv("PERDURE_SECRET"), ""),
	}, objects.Options{Policy: quick()})
	if err != nil {
		return err
	}
	ctx := context.Background() //nolint:forbidigo // this is a main function
	for path := range strings.SplitSeq(os.Getenv("PERDURE_FILES"), ":") {
		if err := move(ctx, store, what, path); err != nil {
			return err
		}
	}
	peak, err := peakMemory()
	fmt.Fprintln(os.Stdout, "peak", peak)
	return err
}

// move transfers one file, unless an earlier child has done so.
func move(ctx context.Context, store *objects.Store, what, path string) (err error) {
	key := filepath.Base(path)
	if _, err := os.Stat(path + "." + what); err == nil {
		return nil
	}
	switch what {
	case "put":
		_, err = store.PutFile(ctx, bucket, key, path, objects.PutOptions{})
	case "stream":
		f, failed := os.Open(path)
		if failed != nil {
			return failed
		}
		_, err = store.Put(ctx, bucket, key, stream{f}, objects.PutOptions{})
	case "get":
		_, err = store.GetFile(ctx, bucket, key, path+".back", objects.GetOptions{})
	case "sent":
		if _, err = store.PutFile(ctx, bucket, key, path, objects.PutOptions{State: path + ".state"}); err == nil {
			err = os.WriteFile(path+".sent", nil, 0o600)
		}
	case "fetched":
		_, err = store.GetFile(ctx, bucket, key, path+".fetched", objects.GetOptions{})
	}
	return err
}

// childOf returns a command for a child process.
func childOf(t *testing.T, server *s3test.Server, what string, paths ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "PERDURE_CHILD="+what, "PERDURE_FILES="+strings.Join(paths, ":"), "PERDURE_ENDPOINT="+server.URL,
		"PERDURE_ACCESS="+server.AccessKey, "PERDURE_SECRET="+server.SecretKey)
	return cmd
}

// peakMemory returns the peak memory of this process in bytes.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/self/status")
}

// write makes a file of n pseudorandom bytes.
func write(t *testing.T, path string, n int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, io.LimitReader(rand.NewChaCha8([32]byte{1}), n)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every tenth request fails during the upload and the download of a large file.
func TestMemoryOfALargeFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc, which only Linux has")
	}
	path := filepath.Join(t.TempDir(), "big")
	write(t, path, big)
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: 1, SlowDown: 0.03, Reset: 0.02, LostResponse: 0.02, CutRequest: 0.02, CutBody: 0.1}})
	for _, what := range []string{"put", "get", "stream", "get"} {
		cmd := childOf(t, server, what, path)
		start := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", what, err, out)
		}
		var peak int64
		if _, err := fmt.Sscanf(string(out), "peak %d", &peak); err != nil {
			t.Fatalf("%s: no peak in %q", what, out)
		}
		t.Logf("%s of %d MiB: %d MiB of memory at most, %v", what, big/mib, peak/mib, time.Since(start).Round(time.Millisecond))
		if peak > memory {
			t.Errorf("%s of %d MiB: %d MiB of memory, want at most %d", what, big/mib, peak/mib, memory/mib)
		}
		if what == "get" && sumOf(t, path) != sumOf(t, path+".back") {
			t.Error("the file that came back is another")
		}
	}
}
