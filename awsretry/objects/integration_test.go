//go:build integration

package objects_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const (
	big    = 256 * mib
	memory = 64 * mib // that a process may need for it
)

// TestMain is also the child process of TestMemory: it moves one object, and
// tells how much memory that took.
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
		Region: "us-east-1", BaseEndpoint: aws.String(os.Getenv("PERDURE_ENDPOINT")),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("PERDURE_ACCESS"), os.Getenv("PERDURE_SECRET"), ""),
	}, objects.Options{Policy: quick()})
	if err != nil {
		return err
	}
	path := os.Getenv("PERDURE_FILE")
	ctx := context.Background() //nolint:forbidigo // this is a main function
	switch what {
	case "put":
		_, err = store.PutFile(ctx, bucket, "big", path, objects.PutOptions{})
	case "stream":
		f, failed := os.Open(path)
		if failed != nil {
			return failed
		}
		_, err = store.Put(ctx, bucket, "big", stream{f}, objects.PutOptions{})
	case "resume":
		_, err = store.PutFile(ctx, bucket, "big", path, objects.PutOptions{State: path + ".state"})
	case "refetch":
		_, err = store.GetFile(ctx, bucket, "big", path+".back", objects.GetOptions{State: path + ".state"})
	case "get":
		_, err = store.GetFile(ctx, bucket, "big", path+".back", objects.GetOptions{})
	}
	if err != nil {
		return err
	}
	peak, err := peakMemory()
	fmt.Fprintln(os.Stdout, "peak", peak)
	return err
}

// peakMemory returns the most memory that this process has had, in bytes.
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

// write makes a file of n bytes that differ from place to place.
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

// Every tenth request fails while a large file goes there and back.
func TestMemoryOfALargeFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc, which only Linux has")
	}
	path := filepath.Join(t.TempDir(), "big")
	write(t, path, big)
	server := start(t, s3test.Options{Faults: s3test.Faults{Seed: 1, SlowDown: 0.03, Reset: 0.02, LostAnswer: 0.02, CutRequest: 0.02, CutBody: 0.1}})
	for _, what := range []string{"put", "get", "stream", "get"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "PERDURE_CHILD="+what, "PERDURE_FILE="+path, "PERDURE_ENDPOINT="+server.URL(),
			"PERDURE_ACCESS="+server.AccessKey, "PERDURE_SECRET="+server.SecretKey)
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

// A gateway is versitygw, an S3 server of others, in a process of its own.
type gateway struct {
	url            string
	access, secret string
}

func startGateway(t *testing.T) gateway {
	t.Helper()
	binary := os.Getenv("PERDURE_TEST_VERSITYGW")
	if binary == "" {
		t.Skip("PERDURE_TEST_VERSITYGW does not name the versitygw binary (`make integration` installs it)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	g := gateway{url: "http://" + address, access: "access", secret: "a-secret-of-no-one"}
	cmd := exec.CommandContext(t.Context(), binary, "--port", address, "--access", g.access, "--secret", g.secret, "--keep-alive", "--quiet",
		"posix", "--sidecar", filepath.Join(root, "meta"), filepath.Join(root, "data"))
	if err := os.Mkdir(filepath.Join(root, "meta"), 0o755); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("versitygw: %s", said.String())
		}
	})
	g.await(t, address)
	if _, err := g.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	return g
}

// await returns when the gateway listens.
func (g gateway) await(t *testing.T, address string) {
	t.Helper()
	for range 500 {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("versitygw does not listen")
}

func (g gateway) config(endpoint string) aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(g.access, g.secret, ""),
	}
}

func (g gateway) client() *s3.Client {
	return s3.NewFromConfig(g.config(g.url), func(o *s3.Options) { o.UsePathStyle = true })
}

// storms puts a server of faults before the gateway: the address of the server.
func (g gateway) storms(t *testing.T, seed uint64) string {
	t.Helper()
	upstream, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = upstream.Scheme, upstream.Host // and the Host header, which is signed, stays
	}}
	s := &storm{next: proxy, random: rand.New(rand.NewPCG(seed, 0))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String()
}

// A storm fails every fourth request, at most three times in a row.
type storm struct {
	next http.Handler

	mu     sync.Mutex
	random *rand.Rand
	run    int
}

func (s *storm) draw() (int, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, share := s.random.IntN(16), s.random.Float64()
	if s.run++; kind > 3 || s.run > 3 {
		s.run = 0
		return -1, 0
	}
	return kind, share
}

func (s *storm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, share := s.draw()
	switch kind {
	case 0:
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
	case 1: // cut within the request
		_, _ = io.CopyN(io.Discard, r.Body, int64(share*float64(max(r.ContentLength, 0))))
		reset(w)
	case 2: // cut within the answer, or before it
		s.next.ServeHTTP(&cut{ResponseWriter: w, share: share}, r)
		reset(w)
	default:
		s.next.ServeHTTP(w, r)
	}
}

type cut struct {
	http.ResponseWriter

	share float64
	left  int64
}

func (c *cut) WriteHeader(status int) {
	length, _ := strconv.ParseFloat(c.Header().Get("Content-Length"), 64)
	c.left = int64(length * c.share)
	c.ResponseWriter.WriteHeader(status)
}

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if n < len(p) && err == nil {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		err = io.ErrShortWrite
	}
	return n, err
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func TestGatewayRoundTripsThroughFaults(t *testing.T) {
	g := startGateway(t)
	seed := seedOf(t, 11)
	store, err := objects.New(g.config(g.storms(t, seed)), objects.Options{Policy: quick(), PartSize: 5 * mib})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]int{}
	var mu sync.Mutex
	each(200, func(i int) {
		size := 1 << (i % 17)
		if i%20 == 0 {
			size = 5*mib + i*50_000
		}
		body, key := content(uint64(i), size), fmt.Sprintf("k%d", i)
		var r io.Reader = bytes.NewReader(body)
		if i%3 == 0 {
			r = stream{r}
		}
		put, err := store.Put(t.Context(), bucket, key, r, objects.PutOptions{ContentType: "text/csv"})
		if err != nil {
			t.Errorf("Put %d of %d bytes: %v", i, size, err)
			return
		}
		var out bytes.Buffer
		got, err := store.Get(t.Context(), bucket, key, &out, objects.GetOptions{})
		if err != nil || !bytes.Equal(out.Bytes(), body) || got.ContentType != "text/csv" {
			t.Errorf("Get %d: %d bytes of %s, %v, want the %d that were put", i, out.Len(), got.ContentType, err, size)
		}
		mu.Lock()
		defer mu.Unlock()
		by["put "+put.Verified]++
		by["get "+got.Verified]++
	})
	t.Logf("verified by %v", by)
	keys, err := collect(store.List(t.Context(), bucket, ""))
	if err != nil || len(keys) != 200 {
		t.Errorf("List: %d keys, %v, want 200", len(keys), err)
	}
	for _, key := range keys {
		if err := store.Delete(t.Context(), bucket, key); err != nil {
			t.Errorf("Delete %s: %v", key, err)
		}
	}
	if _, err := store.Get(t.Context(), bucket, "k1", io.Discard, objects.GetOptions{}); err == nil {
		t.Error("k1 is there after it was deleted")
	}
	if err := store.Delete(t.Context(), bucket, "k1"); err != nil {
		t.Errorf("Delete of what is not there: %v", err)
	}
}
